// Adoption alone: competing successors, a slow store, lost answers, and members that come back. Each record of a dead
// member is handled by one successor, once.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { pino } from 'pino';
import { SipfarmError } from '../../../../src/base/errors.ts';
import { Adoption, GRACE_MS, RECORDS } from '../../../../src/calls/adoption/adoption.ts';
import { type CallRecord, recordKey, recordPrefix } from '../../../../src/calls/records/call-record.ts';
import { CellFamily } from '../../../../src/metrics/counters.ts';
import { MemoryFarm, type MemoryStore } from '../../../../src/store/memory-store.ts';
import type { Store, Write } from '../../../../src/store/store.ts';
import { FakeClock } from '../../../fake/clock.ts';
import { DEAD, leave, recordOf } from './left-records.ts';

/** Fault of a member's next commits: none, or the answer is lost, or the request is lost. */
type Fault = 'none' | 'answer lost' | 'question lost';

function faulty(store: MemoryStore, clock: FakeClock, faults: Fault[], lateMs: number): Store {
  return new Proxy(store, {
    get(target, name) {
      const value = Reflect.get(target, name) as unknown;
      if (typeof value !== 'function') return value;
      if (name !== 'commit') return value.bind(target);
      return async (writes: readonly Write[]) => {
        const fault = faults.shift() ?? 'none';
        if (lateMs > 0) await new Promise<void>((resolve) => clock.after(lateMs, resolve));
        if (fault === 'question lost') throw new SipfarmError('SF_STORE_UNREACHABLE', 'lost');
        const done = await target.commit(writes);
        if (fault === 'answer lost') throw new SipfarmError('SF_STORE_UNREACHABLE', 'lost');
        return done;
      };
    },
  });
}

interface Rig {
  readonly clock: FakeClock;
  readonly memory: MemoryFarm;
  readonly store: MemoryStore;
  /** Handled entries, each with the number of its successor. */
  readonly acts: string[];
  readonly decided: string[];
  heir(number: number, options?: { owns?: (callId: string) => boolean; faults?: Fault[]; lateMs?: number }): Heir;
}

interface Heir {
  readonly adoption: Adoption;
  readonly held: Map<number, CallRecord>;
  /** True: it may adopt. */
  may: boolean;
  /** True: it has space for records. */
  keeps: boolean;
}

function rig(): Rig {
  const clock = new FakeClock();
  const memory = new MemoryFarm(clock);
  const acts: string[] = [];
  const decided: string[] = [];
  const heir: Rig['heir'] = (number, { owns = () => true, faults = [], lateMs = 0 } = {}) => {
    const held = new Map<number, CallRecord>();
    const made: Heir = {
      held,
      may: true,
      keeps: true,
      adoption: new Adoption({
        store: faulty(memory.open(), clock, faults, lateMs),
        clock,
        log: pino({ level: 'silent' }),
        self: () => ({ number, incarnation: 5, epoch: 7 }),
        owns,
        mayAdopt: () => made.may,
        keeper: {
          has: (entry) => held.has(entry),
          restore: (entry, record) => {
            if (made.keeps) held.set(entry, record);
            return made.keeps;
          },
        },
        successor: {
          adopted: (entry) => {
            acts.push(`${number} ${entry}`);
            return 'ringing';
          },
          seated: () => {},
          decided: (owner) => owner !== RECORDS && decided.push(`${number} ${owner}`),
        },
        adopted: new CellFamily({ name: 'adopted', help: '', labels: ['why', 'outcome'] }),
      }),
    };
    return made;
  };
  return { clock, memory, store: memory.open(), acts, decided, heir };
}

const ALL = new Set([1, 2, DEAD]);
const LEFT = new Set([1, 2]);

describe('adoption from a dead member', () => {
  test('only reads the ringing calls in the grace; afterwards it moves all records under the own number', async () => {
    const { clock, store, acts, heir } = rig();
    await leave(store, 'trying', 5, -6);
    await leave(store, 'confirmed', 7);
    const one = heir(1);
    one.adoption.takeSeats(ALL);
    assert.equal(one.adoption.watching, false);
    one.adoption.takeSeats(LEFT);
    assert.deepEqual([one.adoption.reading, one.adoption.inGrace(DEAD)], [true, true]);
    await clock.pass(GRACE_MS - 100);
    assert.equal(one.adoption.reading, false);
    assert.deepEqual(
      [5, 6, 7].map((key) => one.adoption.left(key)?.entry),
      [5, -6, undefined],
    );
    assert.deepEqual(acts, []);
    await clock.pass(2000);
    assert.deepEqual(acts, ['1 -6', '1 5', '1 7']);
    assert.deepEqual(await store.list(recordPrefix(DEAD)), []);
    const [first] = await store.list(recordPrefix(1, 'dialog'));
    assert.deepEqual(first?.value, { ...recordOf(7, 'confirmed'), incarnation: 5, epoch: 7 });
    await clock.pass(30_000, 1000);
    assert.deepEqual([one.adoption.watching, acts.length], [false, 3]);
    one.adoption.close();
  });

  test('ends when the member is back in the grace, and its records are forgotten', async () => {
    const { clock, store, acts, decided, heir } = rig();
    await leave(store, 'trying', 5);
    const one = heir(1);
    one.adoption.takeSeats(ALL);
    one.adoption.takeSeats(LEFT);
    await clock.pass(1000);
    one.adoption.takeSeats(ALL);
    assert.deepEqual([one.adoption.left(5), decided], [undefined, [`1 ${DEAD}`]]);
    await clock.pass(60_000, 500);
    assert.deepEqual(acts, []);
    one.adoption.close();
  });

  test('takes the calls of the own slots, and the rest when slots move', async () => {
    const { clock, store, acts, heir } = rig();
    await leave(store, 'trying', 1, 2, 3, 4);
    let even = (callId: string): boolean => Number(callId.at(-1)) % 2 === 0;
    const one = heir(1, { owns: (callId) => even(callId) });
    one.adoption.takeSeats(ALL);
    one.adoption.takeSeats(LEFT);
    await clock.pass(GRACE_MS + 1000);
    assert.deepEqual(acts.sort(), ['1 2', '1 4']);
    even = () => true;
    one.adoption.takeSeats(new Set([1]));
    await clock.pass(1000);
    assert.deepEqual(acts.sort(), ['1 1', '1 2', '1 3', '1 4']);
    one.adoption.close();
  });

  test('includes a member that died long before the start, found by its number record', async () => {
    const { clock, store, acts, heir } = rig();
    await leave(store, 'trying', 5);
    const lastSeen = new Date(clock.wall()).toISOString();
    await store.commit([{ key: `numbers/${DEAD}`, value: { v: 1, member: 'x', incarnation: 1, lastSeen } }]);
    const one = heir(1);
    one.adoption.takeSeats(LEFT);
    await clock.pass(GRACE_MS + 1000);
    assert.deepEqual(acts, ['1 5']);
    one.adoption.close();
  });

  test('waits while this member may not adopt', async () => {
    const { clock, store, acts, heir } = rig();
    await leave(store, 'trying', 5);
    const one = heir(1);
    one.may = false;
    one.adoption.takeSeats(ALL);
    one.adoption.takeSeats(LEFT);
    await clock.pass(GRACE_MS + 5000, 50);
    assert.deepEqual(acts, []);
    one.may = true;
    await clock.pass(20_000, 50);
    assert.deepEqual(acts, ['1 5']);
    one.adoption.close();
  });

  test('includes a member that died long before the start, even when the store is down at the start', async () => {
    const { clock, memory, store, acts, heir } = rig();
    await leave(store, 'trying', 5);
    const lastSeen = new Date(clock.wall()).toISOString();
    await store.commit([{ key: `numbers/${DEAD}`, value: { v: 1, member: 'x', incarnation: 1, lastSeen } }]);
    memory.down();
    const one = heir(1);
    one.adoption.takeSeats(LEFT);
    await clock.pass(3000, 50);
    memory.up();
    await clock.pass(GRACE_MS + 1000, 50);
    assert.deepEqual(acts, ['1 5']);
    one.adoption.close();
  });

  test('stops watching the member when others have adopted the rest of an interrupted sweep', async () => {
    const { clock, memory, store, acts, heir } = rig();
    // The first page is read and adopted in part, the second is not read.
    const entries = Array.from({ length: 210 }, (_, i) => i + 1);
    await leave(store, 'confirmed', ...entries);
    const one = heir(1, {
      lateMs: 100,
      owns: (callId) => callId.endsWith('1') || callId.endsWith('2') || callId.endsWith('3'),
    });
    one.adoption.takeSeats(ALL);
    one.adoption.takeSeats(LEFT);
    await clock.pass(GRACE_MS + 120, 10);
    assert.equal(acts.length, 40);
    memory.down();
    await clock.pass(1000, 10);
    for (const { key } of memory.readAll(recordPrefix(DEAD))) memory.apply([{ key, value: undefined }]);
    memory.up();
    await clock.pass(60_000, 100);
    assert.deepEqual([one.adoption.watching, new Set(acts).size], [false, acts.length]);
    one.adoption.close();
  });

  test('overwrites no record under the own number, and leaves no record there that this member cannot keep', async () => {
    const { clock, store, acts, heir } = rig();
    await leave(store, 'confirmed', 5, 6);
    const own = { ...recordOf(6, 'confirmed'), callId: 'another' };
    await store.commit([{ key: recordKey(1, 'confirmed', 6), value: own }]);
    const one = heir(1);
    one.keeps = false;
    one.adoption.takeSeats(ALL);
    one.adoption.takeSeats(LEFT);
    await clock.pass(GRACE_MS + 1000, 50);
    assert.deepEqual(acts, ['1 5']);
    assert.deepEqual(
      (await store.list(recordPrefix(1))).map(({ value }) => value),
      [own],
    );
    one.adoption.close();
  });

  test('lets only eight packets wait for a call while the store is slow', async () => {
    const { clock, store, heir } = rig();
    await leave(store, 'trying', 5);
    const one = heir(1, { lateMs: 500 });
    one.adoption.takeSeats(ALL);
    one.adoption.takeSeats(LEFT);
    await clock.pass(100);
    const left = one.adoption.left(5)!;
    let told = 0;
    for (let i = 0; i < 100; i++) one.adoption.take(left, () => told++);
    await clock.pass(1000);
    assert.equal(told, 8);
    one.adoption.close();
  });

  test('limits the reads for invented dialogs to a few hundred a second, and still finds a real one', async () => {
    const { clock, store, acts, heir, memory } = rig();
    await leave(store, 'confirmed', 5);
    const one = heir(1, { owns: () => false });
    one.adoption.takeSeats(ALL);
    one.adoption.takeSeats(LEFT);
    await clock.pass(GRACE_MS - 100, 50);
    one.adoption.wantDialog(DEAD, 5);
    await clock.pass(300, 50);
    assert.deepEqual(acts, [], 'not in the grace');
    let asked = 0;
    const reads = memory.read.bind(memory);
    memory.read = (key) => {
      asked++;
      return reads(key);
    };
    one.adoption.wantDialog(DEAD, 5);
    for (let i = 0; i < 900; i++) one.adoption.wantDialog(DEAD, 1000 + i);
    await clock.pass(100, 50);
    assert.deepEqual(acts, ['1 5']);
    assert.ok(asked <= 2 * 200, `${asked} questions`);
    await clock.pass(1000, 50);
    asked = 0;
    one.adoption.wantDialog(DEAD, 5);
    await clock.pass(100, 50);
    assert.equal(asked, 0, 'it is known');
    one.adoption.close();
  });

  test('adopts a call that two packets need at once only once, and answers both', async () => {
    const { clock, store, acts, heir } = rig();
    await leave(store, 'trying', 5);
    const one = heir(1);
    one.adoption.takeSeats(ALL);
    one.adoption.takeSeats(LEFT);
    await clock.pass(100);
    const left = one.adoption.left(5)!;
    const told: boolean[] = [];
    for (let i = 0; i < 2; i++) one.adoption.take(left, (won) => told.push(won));
    await clock.pass(100);
    assert.deepEqual([told, acts], [[true, true], ['1 5']]);
    one.adoption.close();
  });
});

test('each record is handled at most once and finally by one successor, whatever faults, races and returns of the dead member occur', async () => {
  const fault = fc.constantFrom<Fault>('none', 'answer lost', 'question lost');
  const plan = fc.record({
    faults: fc.tuple(fc.array(fault, { maxLength: 6 }), fc.array(fault, { maxLength: 6 })),
    late: fc.tuple(fc.integer({ min: 0, max: 700 }), fc.integer({ min: 0, max: 700 })),
    pending: fc.integer({ min: 0, max: 50 }),
    dialogs: fc.integer({ min: 0, max: 50 }),
    needs: fc.array(
      fc.tuple(fc.integer({ min: 0, max: 1 }), fc.integer({ min: 1, max: 50 }), fc.integer({ min: 0, max: 6000 })),
    ),
    back: fc.option(fc.integer({ min: 0, max: 7000 })),
  });
  await fc.assert(
    fc.asyncProperty(plan, async ({ faults, late, pending, dialogs, needs, back }) => {
      const { clock, store, acts, heir } = rig();
      await leave(store, 'trying', ...Array.from({ length: pending }, (_, i) => i + 1));
      await leave(store, 'confirmed', ...Array.from({ length: dialogs }, (_, i) => i + 101));
      // Both treat all slots as their own, because their views differ.
      const heirs = [0, 1].map((i) => heir(i + 1, { faults: [...faults[i]!], lateMs: late[i]! }));
      for (const { adoption } of heirs) {
        adoption.takeSeats(ALL);
        adoption.takeSeats(LEFT);
      }
      for (const [who, entry, when] of needs)
        clock.after(when, () => {
          const { adoption } = heirs[who]!;
          const left = adoption.left(entry);
          if (left) adoption.take(left, () => {});
        });
      if (back !== null) clock.after(back, () => heirs.forEach(({ adoption }) => void adoption.takeSeats(ALL)));
      await clock.pass(90_000, 100);
      const entries = acts.map((act) => act.split(' ')[1]);
      assert.equal(new Set(entries).size, entries.length, 'once');
      const left = (await store.list(recordPrefix(DEAD))).length;
      assert.equal(entries.length + left, pending + dialogs, 'none is lost');
      if (back === null) assert.equal(left, 0);
      for (const { adoption } of heirs) adoption.close();
      assert.equal(clock.timers, 0);
    }),
    {
      numRuns: 200,
      examples: [
        [
          {
            faults: [['none', 'question lost'], []],
            late: [667, 0],
            pending: 3,
            dialogs: 0,
            needs: [[0, 2, 4234]],
            back: null,
          },
        ],
      ],
    },
  );
});
