// The claim of a member number: which number a member gets, whose record it may replace, and what it writes.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { NumberRecord } from '../../../src/membership/member-record.ts';
import { claimSeat, LAST_SEEN_MS, type SeatClaim, touchNumber } from '../../../src/membership/seat-claim.ts';
import { MemoryFarm } from '../../../src/store/memory-store.ts';
import type { Lease } from '../../../src/store/store.ts';
import { FakeClock } from '../../fake/clock.ts';
import { memberRecord, numberRecord } from './records.ts';

const DAY_MS = 86_400_000;
const LEASE_SECONDS = 5;
/** Highest incarnation of a number. */
const LAST = 16_777_215;

/** Member fe1 at a store. `leases` has those that it was granted. */
function rig() {
  const clock = new FakeClock();
  const memory = new MemoryFarm(clock);
  const store = memory.open();
  const leases: Lease[] = [];
  const claim = (more: Partial<SeatClaim> = {}): ReturnType<typeof claimSeat> => {
    const { number: _number, incarnation: _incarnation, ...record } = memberRecord('fe1', 1);
    return claimSeat({
      ...{ store, record, wall: clock.wall(), random: () => 0, conflicts: 0, before: undefined, starting: true },
      lease: async () => {
        leases.push(await store.grantLease(LEASE_SECONDS));
        return leases.at(-1)!;
      },
      ...more,
    });
  };
  /** Writes numbers/<n>: the holder, the incarnation and the days since it was last seen. */
  const hold = (number: number, id: string, incarnation = 1, days = 0): void =>
    void memory.apply([
      { key: `numbers/${number}`, value: numberRecord(id, incarnation, clock.wall() - days * DAY_MS) },
    ]);
  /** Writes the record of a living member. */
  const live = (id: string, number: number, more = {}): void =>
    void memory.apply([{ key: `members/${id}`, value: memberRecord(id, number, more) }]);
  return { clock, memory, store, leases, claim, hold, live };
}

type Rig = ReturnType<typeof rig>;

describe('a member gets', () => {
  const reuse = 7 + LAST_SEEN_MS / DAY_MS;
  const CASES: readonly {
    title: string;
    given: readonly [number, number];
    store?: (rig: Rig) => void;
    claim?: Partial<SeatClaim>;
  }[] = [
    { title: 'number 1 in an empty farm', given: [1, 1] },
    {
      title: 'the lowest number that is free',
      store: ({ hold }) => [1, 2, 4].forEach((number) => void hold(number, `m${number}`)),
      given: [3, 1],
    },
    {
      title: 'its own number with the next incarnation, even if a lower number is free',
      store: ({ hold }) => hold(3, 'fe1', 7),
      given: [3, 8],
    },
    {
      title: 'another number when the incarnations of its own are used up',
      store: ({ hold }) => hold(1, 'fe1', LAST),
      given: [2, 1],
    },
    {
      title: 'the number of a member that was last seen seven days and six hours ago, with the next incarnation',
      store: ({ hold }) => hold(1, 'gone', 4, reuse + 0.001),
      given: [1, 5],
    },
    {
      title: 'no number of a member that was seen since then',
      store: ({ hold }) => hold(1, 'gone', 4, reuse),
      given: [2, 1],
    },
    {
      title: 'no number of a member that lives, whenever it was last seen',
      store: ({ hold, live }) => {
        hold(1, 'fe2', 4, 30);
        live('fe2', 1);
      },
      given: [2, 1],
    },
    {
      title: 'no number whose record cannot be read',
      store: ({ memory }) => memory.apply([{ key: 'numbers/1', value: 'nonsense' }]),
      given: [2, 1],
    },
    {
      title: 'the number that it had when the store has lost it',
      claim: { before: { number: 5, incarnation: 2 }, starting: false },
      given: [5, 3],
    },
    {
      title: 'a new number when the one that it had belongs to another member now',
      store: ({ hold }) => hold(5, 'fe2'),
      claim: { before: { number: 5, incarnation: 2 }, starting: false },
      given: [1, 1],
    },
    {
      title: 'a new number when the store has lost the one that it had, and its incarnations are used up',
      claim: { before: { number: 5, incarnation: LAST }, starting: false },
      given: [1, 1],
    },
    {
      title: 'one of the lowest free numbers after conflicts, the more the wider',
      store: ({ hold }) => hold(2, 'fe2'),
      claim: { conflicts: 3, random: () => 0.999 },
      given: [7, 1],
    },
    { title: 'one of the lowest 64 after many', claim: { conflicts: 500, random: () => 0.999 }, given: [64, 1] },
  ];
  for (const {
    title,
    given: [number, incarnation],
    store,
    claim: more,
  } of CASES)
    test(title, async () => {
      const farm = rig();
      store?.(farm);
      assert.deepEqual(await farm.claim(more), { number, incarnation });
      const written = farm.memory.read(`numbers/${number}`)?.value;
      assert.deepEqual(written, numberRecord('fe1', incarnation, farm.clock.wall()));
      assert.deepEqual(farm.memory.read('members/fe1')?.value, { ...memberRecord('fe1', 1), number, incarnation });
    });

  test('none when all are in use, and no lease', async () => {
    const { clock, store, leases, claim } = rig();
    const value = numberRecord('other', 1, clock.wall());
    store.list = async (prefix) =>
      prefix === 'members/'
        ? []
        : Array.from({ length: 65_535 }, (_, i) => ({ key: `numbers/${i + 1}`, value, revision: 1n }));
    await assert.rejects(claim(), { code: 'SF_NUMBERS_EXHAUSTED', message: /fe1/ });
    assert.equal(leases.length, 0);
  });
});

describe('a record under the id of the member', () => {
  const CASES = [
    {
      title: 'of this process is replaced',
      present: { host: 'other', relay: '10.0.0.9:5064' },
      starting: false,
      replaced: true,
    },
    {
      title: 'of this machine and relay address is replaced by a starting process',
      present: { claim: 'x' },
      starting: true,
      replaced: true,
    },
    {
      title: 'of this machine and relay address stays when the process is not starting',
      present: { claim: 'x' },
      starting: false,
      replaced: false,
    },
    { title: 'of another machine stays', present: { claim: 'x', host: 'other' }, starting: true, replaced: false },
    {
      title: 'of another relay address stays',
      present: { claim: 'x', relay: '10.0.0.9:5064' },
      starting: true,
      replaced: false,
    },
    { title: 'that cannot be read stays', present: { weight: -1 }, starting: true, replaced: false },
  ];
  for (const { title, present, starting, replaced } of CASES)
    test(title, async () => {
      const { memory, leases, claim, hold, live } = rig();
      hold(1, 'fe1', 3);
      live('fe1', 1, present);
      const before = memory.readAll('');
      assert.deepEqual(await claim({ starting }), replaced ? { number: 1, incarnation: 4 } : 'taken');
      if (!replaced) assert.deepEqual(memory.readAll(''), before);
      assert.equal(leases.length, replaced ? 1 : 0);
    });

  test('ends with the lease of the member, and the number stays', async () => {
    const { clock, memory, claim } = rig();
    await claim();
    await clock.pass(LEASE_SECONDS * 1000, 1000);
    assert.equal(memory.read('members/fe1'), undefined);
    assert.ok(memory.read('numbers/1'));
  });
});

test('a member without a farm key in common with the living ones gets nothing and writes nothing', async () => {
  const { memory, leases, claim, live } = rig();
  live('fe2', 1, { keys: ['a'.repeat(16)] });
  const before = memory.readAll('');
  const { number: _number, incarnation: _incarnation, ...record } = memberRecord('fe1', 1, { keys: ['b'.repeat(16)] });
  await assert.rejects(claim({ record }), { code: 'SF_KEY_MISMATCH' });
  assert.deepEqual([memory.readAll(''), leases.length], [before, 0]);
});

describe('a claim is a conflict and writes nothing', () => {
  const CASES = [
    { title: 'when another member takes the number first', key: 'numbers/1' },
    { title: 'when another process takes the member id first', key: 'members/fe1' },
  ];
  for (const { title, key } of CASES)
    test(title, async () => {
      const { memory, store, claim } = rig();
      const commit = store.commit.bind(store);
      store.commit = (writes) => {
        memory.apply([{ key, value: 'faster' }]);
        return commit(writes);
      };
      assert.equal(await claim(), 'conflict');
      assert.deepEqual(
        memory.readAll('').map((entry) => [entry.key, entry.value]),
        [[key, 'faster']],
      );
    });
});

describe('the last-seen time', () => {
  const CASES = [
    { title: 'of its own number becomes the present; the incarnation stays as it is', holder: 'fe1', touched: true },
    { title: 'of a number that another member has now stays', holder: 'fe2', touched: false },
    { title: 'of a number that the store has lost is not written', holder: undefined, touched: false },
  ];
  for (const { title, holder, touched } of CASES)
    test(title, async () => {
      const { clock, memory, store, hold } = rig();
      if (holder) hold(4, holder, 9, 1);
      const before = memory.readAll('');
      await touchNumber(store, 'fe1', { number: 4, incarnation: 2 }, clock.wall());
      const after = memory.read('numbers/4')?.value as NumberRecord | undefined;
      if (touched) assert.deepEqual(after, numberRecord('fe1', 9, clock.wall()));
      else assert.deepEqual(memory.readAll(''), before);
    });

  test('is not written over another write of the same moment', async () => {
    const { clock, memory, store, hold } = rig();
    hold(4, 'fe1');
    const commit = store.commit.bind(store);
    store.commit = (writes) => {
      hold(4, 'fe2');
      return commit(writes);
    };
    await touchNumber(store, 'fe1', { number: 4, incarnation: 1 }, clock.wall());
    assert.equal((memory.read('numbers/4')!.value as NumberRecord).member, 'fe2');
  });
});
