// Members that have lost their seats: their grace, and what is read of their records meanwhile.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { pino } from 'pino';
import { DeadMembers, GRACE_MS, RECORDS } from '../../../../src/calls/adoption/dead-members.ts';
import { Pauses } from '../../../../src/calls/adoption/pauses.ts';
import { recordKey } from '../../../../src/calls/records/call-record.ts';
import { MemoryFarm } from '../../../../src/store/memory-store.ts';
import type { Store } from '../../../../src/store/store.ts';
import { FakeClock } from '../../../fake/clock.ts';
import { DEAD, leave, recordOf } from './left-records.ts';

const SELF = 1;
const HOUR_MS = 3_600_000;

/** Returns the dead members as member 1 sees them. `events` has its callbacks, in order. */
function rig(overlay: Partial<Store> = {}) {
  const clock = new FakeClock();
  const memory = new MemoryFarm(clock);
  const store = memory.open();
  const events: string[] = [];
  const pauses = new Pauses(clock);
  const owned = { all: true };
  const dead = new DeadMembers({
    store: Object.assign(store, overlay),
    ...{ clock, pauses },
    log: pino({ level: 'silent' }),
    self: () => ({ number: SELF }),
    owns: (callId) => owned.all || callId === 'call-2',
    decided: (owner) => events.push(owner === RECORDS ? 'records' : `decided ${owner}`),
    opened: ({ number }) => events.push(`opened ${number}`),
  });
  /** Entries of the pending records that have been read, by key. */
  const left = (...keys: number[]): (number | undefined)[] => keys.map((key) => dead.left(key)?.entry);
  const close = (): void => {
    dead.close();
    pauses.close();
    assert.equal(clock.timers, 0);
  };
  return { clock, memory, store, dead, events, owned, left, close };
}

describe('a member that has lost its seat', () => {
  test('is in its grace for five seconds; afterwards its calls are open, and that is reported once', async () => {
    const { clock, dead, events, close } = rig();
    dead.lose(DEAD, false);
    await clock.pass(GRACE_MS - 1, 1000);
    assert.deepEqual([dead.get(DEAD)?.phase, [...dead.open()].length, events], ['grace', 0, ['records']]);
    await clock.pass(1);
    assert.deepEqual([dead.get(DEAD)?.phase, [...dead.open()].map(({ number }) => number)], ['open', [DEAD]]);
    assert.deepEqual(events, ['records', 'records', `decided ${DEAD}`, `opened ${DEAD}`]);
    await clock.pass(60_000, 1000);
    assert.equal(events.length, 4);
    close();
  });

  test('has one grace, however often its loss is reported; this member itself has none', async () => {
    const { clock, dead, events, close } = rig();
    dead.lose(SELF, false);
    assert.equal(dead.size, 0);
    dead.lose(DEAD, false);
    await clock.pass(GRACE_MS - 1000, 1000);
    dead.lose(DEAD, false);
    await clock.pass(1000);
    assert.equal(events.filter((event) => event === `opened ${DEAD}`).length, 1);
    close();
  });

  test('has its ringing calls read in the grace, those in the own slots, from clients and from servers', async () => {
    const { clock, store, dead, owned, left, close } = rig();
    await leave(store, 'trying', 2, 5);
    await leave(store, 'early', -6);
    await leave(store, 'confirmed', 7);
    owned.all = false;
    dead.lose(DEAD, false);
    await clock.pass(10);
    assert.deepEqual(left(2, 5, 6, 7), [2, undefined, undefined, undefined]);
    dead.back(DEAD);
    owned.all = true;
    dead.lose(DEAD, false);
    await clock.pass(10);
    assert.deepEqual(left(2, 5, 6, 7), [2, 5, -6, undefined]);
    assert.deepEqual(dead.left(2)?.record, recordOf(2, 'trying'));
    const dialog = { owner: DEAD, entry: 7, key: recordKey(DEAD, 'confirmed', 7), revision: 1n, waiting: undefined };
    dead.remember(dead.get(DEAD)!, { ...dialog, record: recordOf(7, 'confirmed') });
    assert.deepEqual(left(7), [undefined], 'a dialog that the sweep is moving does not ring');
    close();
  });

  test('that is back in its grace keeps its calls: they are forgotten here, and no grace ends', async () => {
    const { clock, store, dead, events, left, close } = rig();
    await leave(store, 'trying', 2);
    dead.lose(DEAD, false);
    await clock.pass(1000);
    dead.back(DEAD);
    assert.deepEqual([dead.size, left(2)], [0, [undefined]]);
    assert.deepEqual(events, ['records', `decided ${DEAD}`, 'records']);
    await clock.pass(2 * GRACE_MS, 1000);
    assert.equal(events.length, 3);
    dead.back(DEAD);
    assert.equal(events.length, 3, 'it was not gone');
    close();
  });

  test('that is back while its records are read leaves none of them here', async () => {
    const page = Promise.withResolvers<Awaited<ReturnType<Store['page']>>>();
    const { clock, dead, events, left, close } = rig({ page: () => page.promise });
    dead.lose(DEAD, false);
    const lost = dead.get(DEAD)!;
    dead.back(DEAD);
    page.resolve([{ key: recordKey(DEAD, 'trying', 2), value: recordOf(2, 'trying'), revision: 1n }]);
    await clock.pass(100);
    assert.deepEqual([lost.pending.size, left(2), dead.isCurrent(lost)], [0, [undefined], false]);
    assert.deepEqual(events, [`decided ${DEAD}`, 'records']);
    close();
  });
});

describe('while the store does not answer', () => {
  test('packets wait a second for the ringing calls, which are read as soon as the store is back', async () => {
    const { clock, memory, store, dead, events, left, close } = rig();
    await leave(store, 'trying', 2);
    memory.down();
    dead.lose(DEAD, false);
    await clock.pass(999, 27);
    assert.deepEqual([dead.reading, events], [true, []]);
    await clock.pass(1);
    assert.deepEqual([dead.reading, events], [false, ['records']]);
    memory.up();
    await clock.pass(300);
    assert.deepEqual([left(2), events], [[2], ['records', 'records']]);
    close();
  });

  test('the grace ends without the ringing calls, and nobody reads them afterwards', async () => {
    const { clock, memory, store, dead, events, left, close } = rig();
    await leave(store, 'trying', 2);
    memory.down();
    dead.lose(DEAD, false);
    await clock.pass(GRACE_MS, 100);
    memory.up();
    await clock.pass(1000);
    assert.deepEqual([dead.get(DEAD)?.read, left(2)], [true, [undefined]]);
    assert.deepEqual(events, ['records', 'records', `decided ${DEAD}`, `opened ${DEAD}`]);
    close();
  });
});

test('packets wait for the ringing calls no longer than these are read', async () => {
  const { clock, dead, close } = rig();
  assert.equal(dead.reading, false);
  dead.lose(DEAD, false);
  assert.equal(dead.reading, true);
  await clock.pass(10);
  assert.equal(dead.reading, false);
  close();
});

describe('a member that was gone before the first view', () => {
  const NUMBERS = {
    9: { lastSeenAgo: HOUR_MS, found: true },
    8: { lastSeenAgo: 23 * HOUR_MS, found: true },
    7: { lastSeenAgo: 25 * HOUR_MS, found: false },
    6: { lastSeenAgo: HOUR_MS, seated: true, found: false },
    [SELF]: { lastSeenAgo: HOUR_MS, found: false },
  };

  test('is found by its number in the store, unless it has a seat or was last seen more than a day ago', async () => {
    const { clock, memory, dead, events, close } = rig();
    for (const [number, { lastSeenAgo }] of Object.entries(NUMBERS)) {
      const lastSeen = new Date(clock.wall() - lastSeenAgo).toISOString();
      memory.apply([{ key: `numbers/${number}`, value: { v: 1, member: 'x', incarnation: 1, lastSeen } }]);
    }
    memory.apply([{ key: 'numbers/none', value: {} }]);
    await dead.discover((number) => number === 6);
    const expected = Object.entries(NUMBERS).filter(([, { found }]) => found);
    assert.deepEqual(
      Object.keys(NUMBERS).filter((number) => dead.get(Number(number))),
      expected.map(([number]) => number),
    );
    assert.equal(dead.size, expected.length);
    assert.equal(dead.reading, false, 'no packet waits for its records');
    await clock.pass(GRACE_MS);
    assert.deepEqual(events.filter((event) => event.startsWith('opened')).sort(), ['opened 8', 'opened 9']);
    close();
  });

  test('is found as soon as the store answers', async () => {
    const { clock, memory, dead, close } = rig();
    const lastSeen = new Date(clock.wall()).toISOString();
    memory.apply([{ key: `numbers/${DEAD}`, value: { v: 1, member: 'x', incarnation: 1, lastSeen } }]);
    memory.down();
    void dead.discover(() => false);
    await clock.pass(2000, 50);
    assert.equal(dead.size, 0);
    memory.up();
    await clock.pass(300);
    assert.equal(dead.size, 1);
    close();
  });
});

describe('the records in memory', () => {
  /** Answers with `count` pending records of each member, of the largest size if `long`. */
  const storeOf = (count: number, long: boolean): Partial<Store> => ({
    page: async (prefix, after, most) => {
      const owner = Number(prefix.split('/')[1]);
      const from = after === '' ? 1 : Number.parseInt(after.split('/')[3]!, 36) + 1;
      const record = recordOf(1, 'trying');
      const text = 'x'.repeat(long ? 8192 : 1);
      const legs = Array.from({ length: long ? 8 : 1 }, () => ({ ...record.legs[0]!, request: text, answer: text }));
      return Array.from({ length: Math.max(0, Math.min(most, count - from + 1)) }, (_, i) => ({
        key: recordKey(owner, 'trying', from + i),
        value: { ...record, legs },
        revision: 1n,
      }));
    },
  });
  const LIMITS = [
    { title: 'are 20,000', long: false, most: 20_000 },
    { title: 'have 128 MiB of texts', long: true, most: Math.ceil(2 ** 27 / (16 * 8192 + 2000)) },
  ];

  for (const { title, long, most } of LIMITS)
    test(`${title} at most, of all members together; a member that comes back frees its room`, async () => {
      const { clock, dead, close } = rig(storeOf(most - 10, long));
      dead.lose(DEAD, false);
      await clock.pass(200);
      dead.lose(8, false);
      await clock.pass(200);
      const sizes = (): (number | undefined)[] => [DEAD, 8].map((number) => dead.get(number)?.pending.size);
      assert.deepEqual(sizes(), [most - 10, 10]);
      const [first] = dead.get(8)!.pending.values();
      dead.forget(first!);
      dead.forget(first!);
      dead.back(DEAD);
      dead.lose(DEAD, false);
      await clock.pass(200);
      assert.deepEqual(sizes(), [most - 10, 9]);
      dead.back(8);
      dead.lose(8, false);
      await clock.pass(200);
      assert.deepEqual(sizes(), [most - 10, 10]);
      close();
    });
});

test('a closed one has no members and loses none', async () => {
  const { clock, memory, store, dead, events, left, close } = rig();
  await leave(store, 'trying', 2);
  memory.apply([{ key: `numbers/${DEAD}`, value: { lastSeen: new Date(clock.wall()).toISOString() } }]);
  dead.lose(8, false);
  const finding = dead.discover(() => false);
  close();
  await finding;
  await clock.pass(10_000, 100);
  assert.deepEqual([dead.size, left(2), events], [0, [undefined], []]);
});
