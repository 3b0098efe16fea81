// The sweep of a dead member: which records it claims, how many at a time, and when it comes back for the rest.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { pino } from 'pino';
import { Claim } from '../../../../src/calls/adoption/claim.ts';
import { DeadMembers, type Gone, GRACE_MS, type KnownRecord } from '../../../../src/calls/adoption/dead-members.ts';
import { Pauses } from '../../../../src/calls/adoption/pauses.ts';
import { Sweep } from '../../../../src/calls/adoption/sweep.ts';
import { recordKey, recordPrefix } from '../../../../src/calls/records/call-record.ts';
import { MemoryFarm } from '../../../../src/store/memory-store.ts';
import { MAX_COMMIT_OCTETS, type Write } from '../../../../src/store/store.ts';
import { FakeClock } from '../../../fake/clock.ts';
import { DEAD, leave, recordOf } from './left-records.ts';

const SELF = 1;

/** A sweep of member 1 with real claims. `acts` has the adopted entries in order: together, or one alone. */
function rig() {
  const clock = new FakeClock();
  const memory = new MemoryFarm(clock);
  const store = memory.open();
  const acts: string[] = [];
  const commits: number[] = [];
  const state = { may: true, owns: (_callId: string) => true, held: new Set<number>(), open: new Set<number>() };
  const commit = store.commit.bind(store);
  store.commit = (writes: readonly Write[]) => {
    commits.push(writes.length);
    return commit(writes);
  };
  const log = pino({ level: 'silent' });
  const pauses = new Pauses(clock);
  const owns = (callId: string): boolean => state.owns(callId);
  const self = () => ({ number: SELF, incarnation: 5, epoch: 7 });
  const mayAdopt = (): boolean => state.may;
  const dead = new DeadMembers({ store, clock, log, pauses, self, owns, decided: () => {}, opened: () => {} });
  const decide = (known: KnownRecord, act: string): void => {
    dead.forget(known);
    known.waiting = undefined;
    acts.push(act);
  };
  const sweep = new Sweep({
    ...{ clock, log, pauses, dead, owns, mayAdopt },
    claim: new Claim({ store, self, mayAdopt }),
    holds: (entry) => state.held.has(entry),
    won: (known) => decide(known, `${known.entry}`),
    takeOne: async (known, maybe) => {
      decide(known, `${known.entry} ${maybe ? 'maybe' : 'alone'}`);
      if (state.open.has(known.entry)) return false;
      memory.apply([{ key: known.key, value: undefined }]);
      return true;
    },
  });
  const close = (): void => {
    dead.close();
    pauses.close();
    assert.equal(clock.timers, 0);
  };
  /** Returns the dead member after its grace. */
  const gone = async (): Promise<Gone> => {
    dead.lose(DEAD, false);
    await clock.pass(GRACE_MS, 1000);
    return dead.get(DEAD)!;
  };
  const keys = (owner: number): string[] => memory.readAll(recordPrefix(owner)).map(({ key }) => key);
  return { clock, memory, store, dead, sweep, acts, commits, state, gone, keys, close };
}

describe('a sweep', () => {
  test('moves all records in the own slots: ringing calls first, then dialogs, many in one transaction', async () => {
    const { clock, store, dead, sweep, acts, commits, gone, keys, close } = rig();
    await leave(store, 'confirmed', 1, 2);
    await leave(store, 'trying', 3, -4);
    commits.length = 0;
    await sweep.sweep(await gone());
    assert.deepEqual(
      [acts, commits],
      [
        ['-4', '3', '1', '2'],
        [4, 4],
      ],
    );
    assert.deepEqual(keys(DEAD), []);
    assert.equal(keys(SELF).length, 4);
    assert.equal(dead.size, 0, 'nothing is left of the member');
    await clock.pass(1000);
    close();
  });

  test('takes 40 records in one transaction, with a pause after each', async () => {
    const { clock, store, sweep, acts, commits, gone, close } = rig();
    await leave(store, 'confirmed', ...Array.from({ length: 90 }, (_, i) => i + 1));
    commits.length = 0;
    void sweep.sweep(await gone());
    await clock.pass(49, 49);
    assert.deepEqual([acts.length, commits], [40, [80]]);
    await clock.pass(50, 50);
    assert.deepEqual([acts.length, commits], [80, [80, 80]]);
    await clock.pass(50, 50);
    assert.deepEqual([acts.length, commits], [90, [80, 80, 20]]);
    close();
  });

  test('takes fewer records that are long, so that no transaction is too large for the store', async () => {
    const { clock, memory, sweep, acts, commits, gone, close } = rig();
    const record = recordOf(1, 'confirmed');
    const legs = Array.from({ length: 8 }, () => ({ ...record.legs[0]!, request: 'x'.repeat(8000) }));
    for (let entry = 1; entry <= 20; entry++)
      memory.apply([{ key: recordKey(DEAD, 'confirmed', entry), value: { ...record, legs } }]);
    void sweep.sweep(await gone());
    await clock.pass(1000, 50);
    assert.equal(acts.length, 20);
    const most = Math.ceil(MAX_COMMIT_OCTETS / 2 / (2 * (8 * 8000 + 2000)));
    assert.deepEqual(commits, [most * 2, most * 2, most * 2, most * 2, most * 2]);
    close();
  });

  test('claims a single record without a transaction of several', async () => {
    const { store, sweep, acts, gone, close } = rig();
    await leave(store, 'confirmed', 1);
    await sweep.sweep(await gone());
    assert.deepEqual(acts, ['1 alone']);
    close();
  });

  test('claims each record alone when another member has taken one of them', async () => {
    const { store, sweep, acts, gone, keys, close } = rig();
    await leave(store, 'confirmed', 1, 2);
    await store.commit([{ key: recordKey(SELF, 'confirmed', 2), value: recordOf(2, 'confirmed') }]);
    await sweep.sweep(await gone());
    assert.deepEqual([acts, keys(DEAD)], [['1 alone', '2 alone'], []]);
    close();
  });

  test('claims each record alone, as perhaps its own already, when the store does not answer a transaction', async () => {
    const { store, sweep, acts, state, gone, close } = rig();
    await leave(store, 'confirmed', 1, 2, 3);
    state.held.add(3);
    store.commit = () => Promise.reject(new Error('no answer'));
    await sweep.sweep(await gone());
    assert.deepEqual(acts, ['1 maybe', '2 maybe', '3 alone'], 'a call held before was not in the transaction');
    close();
  });

  test('reads a ringing call again that was read in the grace, and forgets one whose record is no more', async () => {
    const { memory, store, dead, sweep, acts, gone, keys, close } = rig();
    await leave(store, 'trying', 1, 2, 3);
    const lost = await gone();
    assert.deepEqual([...lost.pending.keys()], [1, 2, 3]);
    const later = { ...recordOf(1, 'early'), epoch: 2 };
    memory.apply([{ key: recordKey(DEAD, 'early', 1), value: later }]);
    memory.apply([{ key: recordKey(DEAD, 'trying', 3), value: undefined }]);
    await sweep.sweep(lost);
    assert.deepEqual([acts, lost.pending.size, dead.size], [['1', '2'], 0, 0]);
    const moved = memory.read(recordKey(SELF, 'early', 1))?.value;
    assert.deepEqual(moved, { ...later, incarnation: 5, epoch: 7 });
    assert.equal(keys(DEAD).length, 0);
    close();
  });

  test('leaves a call alone that a packet is adopting, and comes back for it', async () => {
    const { clock, store, dead, sweep, acts, gone, close } = rig();
    await leave(store, 'trying', 1, 2, 3);
    const lost = await gone();
    lost.pending.get(2)!.waiting = [];
    await sweep.sweep(lost);
    assert.deepEqual([acts, dead.size], [['1', '3'], 1]);
    lost.pending.get(2)!.waiting = undefined;
    await clock.pass(10_000, 1000);
    assert.deepEqual([acts, dead.size], [['1', '3', '2 alone'], 0]);
    close();
  });
});

describe('a sweep comes back', () => {
  test('after 10 s, then after twice the time each, at most 5 min, while others have records to take', async () => {
    const { clock, store, sweep, acts, state, gone, close } = rig();
    await leave(store, 'confirmed', 1);
    state.owns = () => false;
    const lost = await gone();
    const from = clock.now();
    const times: number[] = [];
    const page = store.page.bind(store);
    store.page = (...args) => {
      if (args[0] === recordPrefix(DEAD, 'dialog')) times.push((clock.now() - from) / 1000);
      return page(...args);
    };
    await sweep.sweep(lost);
    await clock.pass(1_200_000, 5000);
    assert.deepEqual(times, [0, 10, 30, 70, 150, 310, 610, 910]);
    assert.deepEqual(acts, []);
    close();
  });

  test('for a record whose owner stayed open, and ends when it is gone', async () => {
    const { clock, store, dead, sweep, acts, state, gone, close } = rig();
    await leave(store, 'confirmed', 1);
    state.open.add(1);
    await sweep.sweep(await gone());
    assert.equal(dead.size, 1);
    state.open.clear();
    await clock.pass(10_000, 1000);
    assert.deepEqual([acts, dead.size], [['1 alone', '1 alone'], 0]);
    close();
  });

  test('when the store has interrupted it, and when this member may not adopt now', async () => {
    const { clock, memory, store, dead, sweep, acts, state, gone, close } = rig();
    await leave(store, 'confirmed', 1);
    const lost = await gone();
    memory.down();
    await sweep.sweep(lost);
    memory.up();
    state.may = false;
    await clock.pass(10_000, 1000);
    assert.deepEqual([acts, dead.size], [[], 1]);
    state.may = true;
    await clock.pass(20_000, 1000);
    assert.deepEqual([acts, dead.size], [['1 alone'], 0]);
    close();
  });

  test('never to a member that has its seat again, and reads nothing more of it', async () => {
    const { clock, store, dead, sweep, acts, gone, close } = rig();
    await leave(store, 'confirmed', ...Array.from({ length: 250 }, (_, i) => i + 1));
    const lost = await gone();
    const page = store.page.bind(store);
    let pages = 0;
    store.page = (...args) => {
      pages++;
      return page(...args);
    };
    void sweep.sweep(lost);
    await clock.pass(20, 20);
    dead.back(DEAD);
    await clock.pass(60_000, 1000);
    assert.deepEqual([acts.length, pages], [40, 2], 'a page of ringing calls, and the first one of dialogs');
    close();
  });

  test('for a call that a packet is adopting, even if its record is no longer in the store', async () => {
    const { memory, store, dead, sweep, gone, close } = rig();
    await leave(store, 'trying', 1);
    const lost = await gone();
    lost.pending.get(1)!.waiting = [];
    memory.apply([{ key: recordKey(DEAD, 'trying', 1), value: undefined }]);
    await sweep.sweep(lost);
    assert.deepEqual([dead.size, [...lost.pending.keys()]], [1, [1]]);
    close();
  });
});

test('one member has one sweep at a time, and a new one begins at once when slots move', async () => {
  const { clock, store, sweep, acts, commits, state, gone, close } = rig();
  await leave(store, 'confirmed', ...Array.from({ length: 41 }, (_, i) => i + 1));
  commits.length = 0;
  const lost = await gone();
  state.owns = (callId) => callId !== 'call-41';
  void sweep.sweep(lost);
  await sweep.sweep(lost);
  assert.deepEqual(commits, [], 'the second has not waited for the first');
  await clock.pass(100, 50);
  assert.deepEqual([acts.length, commits], [40, [80]]);
  state.owns = () => true;
  await sweep.sweep(lost);
  assert.equal(acts.at(-1), '41 alone');
  assert.equal(clock.timers, 0, 'the timer of the earlier sweep is cancelled');
  close();
});
