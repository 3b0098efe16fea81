// The view to propose, by members, orders, suspicions, the view in force and the one in the store.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { MemberRecord } from '../../../src/membership/member-record.ts';
import type { OrderKind, OrderMap } from '../../../src/membership/order.ts';
import { decideView, decideWithout, type ViewFacts } from '../../../src/membership/view-decision.ts';
import type { View } from '../../../src/ownership/view.ts';
import { memberRecord } from './records.ts';

const SEED = '00112233445566778899aabbccddeeff';

/** Record of node k: member number k, incarnation 1. */
const node = (k: number, changes: Partial<MemberRecord> = {}): MemberRecord => memberRecord(`m${k}`, k, changes);
const relay = (k: number): MemberRecord => node(k, { role: 'relay', weight: 0 });
const order = (kind: OrderKind): OrderMap => ordered({ m1: kind });
const ordered = (kinds: Readonly<Record<string, OrderKind>>): OrderMap =>
  new Map(
    Object.entries(kinds).map(([id, kind]) => [id, { v: 1, order: kind, since: '2026-01-01T00:00:00Z', by: 'm9' }]),
  );
const suspects = (...numbers: readonly number[]): ReadonlyMap<number, number> => new Map(numbers.map((n) => [n, 1]));

const NOTHING: ViewFacts = {
  members: [],
  orders: new Map(),
  suspected: new Map(),
  last: undefined,
  stored: undefined,
  self: 1,
  inFarm: true,
};
const decide = (facts: Partial<ViewFacts>): View | undefined => decideView({ ...NOTHING, ...facts }, () => SEED);

/** Returns the view of these nodes, all seated by an earlier decision. */
function viewOf(...members: readonly MemberRecord[]): View {
  const view = decide({ members });
  assert.ok(view);
  return view;
}

/** Returns the seats of a view as `number state weight`; undefined without a view. */
const seats = (view: View | undefined): readonly string[] | undefined =>
  view?.seats.map(({ number, role, state, weight }) => `${number} ${role ?? state} ${weight}`);

const THREE = [node(1), node(2), node(3)];
const FIVE = [...THREE, node(4), node(5)];
/** The view in force, which is also the one in the store. */
const inForce = (view: View): Pick<ViewFacts, 'last' | 'stored'> => ({ last: view, stored: view });

const CASES: readonly (readonly [title: string, facts: Partial<ViewFacts>, expected: readonly string[] | undefined])[] =
  [
    ['no view of no members', {}, undefined],
    ['a seat for each member', { members: THREE }, ['1 active 100', '2 active 100', '3 active 100']],
    ['a seat of weight 0 for a node outside the farm', { members: [node(1), relay(2)] }, ['1 active 100', '2 relay 0']],
    ['no view while nothing changes', { members: THREE, ...inForce(viewOf(...THREE)) }, undefined],
    ['the end of a seat without a record', { members: [node(1)], ...inForce(viewOf(...THREE)) }, ['1 active 100']],
    ['no seats after the record of the only member has gone', { ...inForce(viewOf(node(1))) }, []],
    ['no seat for a member that is away', { members: [node(1), node(2, { state: 'away' })] }, ['1 active 100']],
    ['no seat under a ban', { members: [node(1), node(2)], orders: order('ban') }, ['2 active 100']],
    [
      'a draining seat under a drain',
      { members: [node(1), node(2)], orders: order('drain') },
      ['1 draining 100', '2 active 100'],
    ],
    ['weight 0 under a pause', { members: [node(1), node(2)], orders: order('pause') }, ['1 active 0', '2 active 100']],
    [
      'the full weights when all members are paused, because each call needs an owner',
      { members: [node(1), node(2)], orders: ordered({ m1: 'pause', m2: 'pause' }) },
      ['1 active 100', '2 active 100'],
    ],
    [
      'the paused weight when the only other member drains',
      { members: [node(1), node(2)], orders: ordered({ m1: 'pause', m2: 'drain' }) },
      ['1 active 100', '2 draining 100'],
    ],
    [
      'no seat for a suspected member',
      { members: THREE, suspected: suspects(3), ...inForce(viewOf(...THREE)) },
      ['1 active 100', '2 active 100'],
    ],
    [
      'the seat of a suspected member that has restarted',
      { members: [node(1), node(2), node(3, { incarnation: 2 })], suspected: suspects(3) },
      ['1 active 100', '2 active 100', '3 active 100'],
    ],
    [
      'no end of half of the members by suspicion',
      { members: [node(1), node(2)], suspected: suspects(2), ...inForce(viewOf(node(1), node(2))) },
      undefined,
    ],
    [
      'the end of two of five members',
      { members: FIVE, suspected: suspects(4, 5), ...inForce(viewOf(...FIVE)) },
      ['1 active 100', '2 active 100', '3 active 100'],
    ],
    [
      'no end of three of five',
      { members: FIVE, suspected: suspects(3, 4, 5), ...inForce(viewOf(...FIVE)) },
      undefined,
    ],
    [
      'no end of a seat by suspicion when only a banned member would make the majority',
      { members: THREE, orders: order('ban'), self: 2, suspected: suspects(3), ...inForce(viewOf(node(2), node(3))) },
      undefined,
    ],
    [
      'the seat of this member, whatever is reported about it',
      { members: THREE, self: 3, suspected: suspects(3), ...inForce(viewOf(...THREE)) },
      undefined,
    ],
    [
      'the seat of a suspected node outside the farm, where only the lease counts',
      { members: [...THREE, relay(4)], suspected: suspects(4), ...inForce(viewOf(...THREE, relay(4))) },
      undefined,
    ],
    ['nothing by a node outside the farm beside a member', { members: THREE, inFarm: false, self: 4 }, undefined],
    [
      'its own seat and the end of dead members by a node outside the farm without members',
      { members: [relay(4)], inFarm: false, self: 4, ...inForce(viewOf(...THREE)) },
      ['4 relay 0'],
    ],
  ];

describe('the decision has', () => {
  for (const [title, facts, expected] of CASES)
    test(title, () => {
      assert.deepEqual(seats(decide(facts)), expected);
    });
});

describe('the epoch', () => {
  test('begins with 1 and the drawn seed, and the next view has the seed of the first', () => {
    const first = viewOf(node(1));
    assert.deepEqual([first.epoch, first.seed], [1, SEED]);
    const second = decideView({ ...NOTHING, members: [node(1), node(2)], ...inForce(first) }, () => 'another');
    assert.deepEqual([second?.epoch, second?.seed], [2, SEED]);
  });

  test('rises when the store has lost the view in force or has an older one', () => {
    const first = viewOf(node(1));
    const last = decide({ members: THREE, ...inForce(first) });
    assert.ok(last);
    for (const stored of [undefined, first])
      assert.deepEqual(decide({ members: THREE, last, stored }), { ...last, epoch: 3 });
  });
});

describe('an evicted seat', () => {
  const evicted = decide({ members: THREE, suspected: suspects(3), ...inForce(viewOf(...THREE)) })!;

  test('is listed, and its incarnation gets no seat again from a member that suspects no peer', () => {
    assert.deepEqual(evicted.out, [{ number: 3, incarnation: 1 }]);
    assert.equal(decide({ members: THREE, ...inForce(evicted) }), undefined);
  });

  test('stays listed in later views while its record lives, and not longer', () => {
    const more = decide({ members: [...THREE, node(4)], ...inForce(evicted) });
    assert.deepEqual(
      [seats(more), more?.out],
      [['1 active 100', '2 active 100', '4 active 100'], [{ number: 3, incarnation: 1 }]],
    );
    const without = decide({ members: [node(1), node(2), node(4)], ...inForce(evicted) });
    assert.equal(without?.out, undefined);
  });

  test('is free for the next incarnation of the member', () => {
    const back = decide({ members: [node(1), node(2), node(3, { incarnation: 2 })], ...inForce(evicted) });
    assert.deepEqual(seats(back), ['1 active 100', '2 active 100', '3 active 100']);
    assert.equal(back?.out, undefined);
  });

  test('does not follow from a suspicion of a member without a seat', () => {
    const view = decide({ members: THREE, suspected: suspects(3), ...inForce(viewOf(node(1))) });
    assert.deepEqual([seats(view), view?.out], [['1 active 100', '2 active 100'], undefined]);
  });
});

describe('a node that leaves', () => {
  const leave = (id: string, facts: Partial<ViewFacts>): View | undefined =>
    decideWithout({ ...NOTHING, ...facts }, id, () => SEED);

  test('takes its seat out of the view', () => {
    assert.deepEqual(seats(leave('m1', { members: THREE, ...inForce(viewOf(...THREE)) })), [
      '2 active 100',
      '3 active 100',
    ]);
  });

  test('changes nothing when it has no seat', () => {
    assert.equal(leave('m1', { members: THREE, ...inForce(viewOf(node(2), node(3))) }), undefined);
  });

  test('gives the paused members their weight back when it was the only one that took calls', () => {
    const orders = ordered({ m2: 'pause' });
    const members = [node(1), node(2)];
    const view = decide({ members, orders })!;
    assert.deepEqual(seats(view), ['1 active 100', '2 active 0']);
    assert.deepEqual(seats(leave('m1', { members, orders, ...inForce(view) })), ['2 active 100']);
  });

  test('removes no other seat when it is outside the farm and a member lives', () => {
    const members = [node(1), relay(4)];
    const view = viewOf(node(1), node(2), relay(4));
    assert.deepEqual(seats(leave('m4', { members, self: 4, inFarm: false, ...inForce(view) })), [
      '1 active 100',
      '2 active 100',
    ]);
  });

  test('removes dead members, too, when it is outside the farm and none lives', () => {
    const members = [relay(4), relay(5)];
    const view = viewOf(node(1), relay(4), relay(5));
    assert.deepEqual(seats(leave('m4', { members, self: 4, inFarm: false, ...inForce(view) })), ['5 relay 0']);
  });
});
