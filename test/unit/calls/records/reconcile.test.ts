// The comparison of a member's calls with its records in the store: after a join, and every 30 s.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { type CallRecord, recordKey } from '../../../../src/calls/records/call-record.ts';
import { Flag } from '../../../../src/calls/records/durability.ts';
import { Reconciler } from '../../../../src/calls/records/reconcile.ts';
import { RecordFlush } from '../../../../src/calls/records/record-flush.ts';
import { SELF } from './journal-rig.ts';
import { PartsRig } from './parts-rig.ts';

const STEP_MS = 20;
const CHECK_MS = 30_000;
const MARK = `calls/${SELF}/mark`;

let rig: PartsRig;
let flush: RecordFlush;
let reconciler: Reconciler;
/** Records that were reported, as `<state> <entry>`. */
let found: string[];

const report = (entry: number, record: CallRecord): void => void found.push(`${record.state} ${entry}`);

beforeEach(() => {
  rig = new PartsRig();
  found = [];
  reconciler = new Reconciler({
    ...{ held: rig.held, writer: rig.writer, store: rig.store, clock: rig.clock },
    self: () => rig.self,
    mayWrite: () => rig.mayWrite,
    flushing: () => flush.running,
  });
  flush = new RecordFlush({
    ...{ held: rig.held, writer: rig.writer },
    blocked: () => reconciler.reading || !rig.mayWrite,
    writePending: () => true,
    wiped: () => reconciler.wiped(),
  });
  rig.work = () => flush.work();
});
afterEach(() => {
  reconciler.close();
  rig.held.queue.close();
  assert.equal(rig.clock.timers, 0);
});

/** Writes calls 1 (a dialog that rests), 2 (a dialog that changes again) and 3 (rings). */
async function three(): Promise<void> {
  await reconciler.regain(report);
  for (const entry of [1, 2]) rig.confirm(rig.ring(entry));
  rig.ring(3);
  await rig.clock.pass(STEP_MS);
  rig.held.unpack(2);
  assert.deepEqual(rig.keys(), ['dialog 1', 'dialog 2', 'pending 3']);
}

const forget = (...keys: string[]): void => void rig.memory.apply(keys.map((key) => ({ key, value: undefined })));
/** Deletes all that the store has of this member. */
const wipe = (): void => forget(...rig.memory.readAll(`calls/${rig.self.number}/`).map(({ key }) => key));

describe('after a join', () => {
  test('the records that are not held here are reported, in order of their keys', async () => {
    await three();
    rig.held.clear();
    await reconciler.regain(report);
    assert.deepEqual(found, ['confirmed 1', 'confirmed 2', 'trying 3']);
  });

  test('the calls that are held and have records stay as they are, and none is reported', async () => {
    await three();
    const commits = rig.commits;
    await reconciler.regain(report);
    await rig.clock.pass(1000);
    assert.deepEqual([found, rig.taken, rig.held.size, rig.commits], [[], [], 3, commits]);
    assert.equal(rig.held.packed.has(1), true);
  });

  test('a call that lost its owner with the seat is reported again if its record is there', async () => {
    await three();
    reconciler.openOwnership();
    await reconciler.regain(report);
    assert.deepEqual(found.sort(), ['confirmed 1', 'confirmed 2', 'trying 3']);
    assert.deepEqual([rig.taken, rig.held.size], [[], 3]);
    found = [];
    await reconciler.regain(report);
    assert.deepEqual(found, [], 'they have an owner again');
  });

  test('a call whose record is missing has been adopted; a call that was never written is given up with the seat', async () => {
    await three();
    reconciler.openOwnership();
    forget(...[1, 2].map((entry) => recordKey(SELF, 'confirmed', entry)), recordKey(SELF, 'trying', 3));
    rig.mayWrite = false;
    rig.ring(4).apply('seatLost');
    rig.mayWrite = true;
    await reconciler.regain(report);
    await rig.clock.pass(1000);
    assert.deepEqual([rig.taken.sort(), rig.held.size, found, rig.keys()], [[1, 2, 3], 0, [], []]);
  });

  test('a call that has begun since then stays, and is written', async () => {
    await three();
    reconciler.openOwnership();
    rig.ring(4);
    await rig.clock.pass(1000);
    assert.deepEqual(rig.keys().includes('pending 4'), false, 'nothing is written before the records are read');
    await reconciler.regain(report);
    await rig.clock.pass(STEP_MS);
    assert.equal(rig.keys().includes('pending 4'), true);
  });

  test('no call has been adopted when the store has lost everything: all are reported, and written again', async () => {
    await three();
    reconciler.openOwnership();
    wipe();
    await reconciler.regain(report);
    assert.deepEqual([found.sort(), rig.taken], [['confirmed 1', 'confirmed 2', 'trying 3'], []]);
    await rig.clock.pass(1000);
    assert.deepEqual(rig.keys(), ['dialog 1', 'dialog 2', 'pending 3']);
    assert.ok(rig.memory.read(MARK));
  });

  test('under another number all calls are written there', async () => {
    await three();
    rig.self.number = SELF + 1;
    rig.memory.apply([{ key: `calls/${SELF + 1}/mark`, value: { v: 1 } }]);
    await reconciler.regain(report);
    await rig.clock.pass(1000);
    assert.deepEqual([rig.keys(), found, rig.taken], [['dialog 1', 'dialog 2', 'pending 3'], [], []]);
  });

  test('a call in doubt is in doubt no longer once its record is read', async () => {
    await three();
    rig.fault = 'answer-lost';
    rig.confirm(rig.held.get(3)!);
    await rig.clock.pass(STEP_MS);
    rig.fault = 'none';
    assert.equal(rig.held.get(3)!.is(Flag.inDoubt), true);
    await reconciler.regain(report);
    assert.equal(rig.held.get(3)!.is(Flag.inDoubt), false);
    await rig.clock.pass(1000);
    assert.deepEqual([rig.keys(), rig.held.packed.has(3)], [['dialog 1', 'dialog 2', 'dialog 3'], true]);
  });
});

describe('the reading', () => {
  test('lasts from the loss of the seat until the store has answered, which is tried every half second', async () => {
    await three();
    rig.store.cut();
    reconciler.openOwnership();
    assert.equal(reconciler.reading, true);
    let done = false;
    void reconciler.regain(report).then(() => {
      done = true;
    });
    await rig.clock.pass(5000);
    assert.deepEqual([reconciler.reading, done, rig.taken], [true, false, []]);
    rig.store.heal();
    await rig.clock.pass(500);
    assert.deepEqual([reconciler.reading, done, found.length], [false, true, 3]);
  });

  test('begins after the commit under way', async () => {
    await reconciler.regain(report);
    rig.fault = 'slow';
    rig.ring(1);
    await rig.clock.pass(STEP_MS);
    let done = false;
    void reconciler.regain(report).then(() => {
      done = true;
    });
    await rig.clock.pass(90);
    assert.deepEqual([done, reconciler.reading], [false, true]);
    await rig.clock.pass(20);
    assert.deepEqual([done, rig.taken, rig.held.size], [true, [], 1]);
  });

  test('of an earlier join ends without a judgement when the next one begins', async () => {
    await three();
    reconciler.openOwnership();
    const page = rig.store.page.bind(rig.store);
    const late = Promise.withResolvers<void>();
    rig.store.page = async (...args) => {
      const records = await page(...args);
      await late.promise;
      return records;
    };
    const first = reconciler.regain(() => assert.fail('it is out of date'));
    await rig.clock.pass(10);
    rig.store.page = page;
    forget(recordKey(SELF, 'confirmed', 1));
    const second = reconciler.regain(report);
    late.resolve();
    await Promise.all([first, second]);
    assert.deepEqual([rig.taken, found.sort(), reconciler.reading], [[1], ['confirmed 2', 'trying 3'], false]);
  });

  test('has no result when the seat is lost meanwhile, and nothing is written before the next one', async () => {
    await three();
    const reading = reconciler.regain(() => assert.fail('it is out of date'));
    reconciler.openOwnership();
    forget(recordKey(SELF, 'confirmed', 1));
    await reading;
    assert.deepEqual([reconciler.reading, rig.taken], [true, []]);
    await reconciler.regain(report);
    assert.deepEqual([rig.taken, found.sort()], [[1], ['confirmed 2', 'trying 3']]);
  });

  test('has no effect after the end', async () => {
    await three();
    reconciler.close();
    assert.equal(rig.clock.timers, 0);
    forget(recordKey(SELF, 'confirmed', 1));
    await reconciler.regain(report);
    reconciler.fallBehind();
    assert.deepEqual([found, rig.taken, reconciler.reading, rig.clock.timers], [[], [], false, 0]);
  });
});

describe('every 30 s', () => {
  test('records that the store has lost are written again', async () => {
    await three();
    wipe();
    await rig.clock.pass(CHECK_MS - 1000, 100);
    assert.deepEqual(rig.keys(), []);
    await rig.clock.pass(2000, 20);
    assert.deepEqual([rig.keys(), rig.taken, found], [['dialog 1', 'dialog 2', 'pending 3'], [], []]);
    const { commits } = rig;
    await rig.clock.pass(2 * CHECK_MS, 100);
    assert.equal(rig.commits, commits);
  });

  test('the store is not read while this member may not write, nor before it has written anything', async () => {
    let reads = 0;
    const get = rig.store.get.bind(rig.store);
    rig.store.get = (key) => {
      reads++;
      return get(key);
    };
    await reconciler.regain(report);
    reads = 0;
    await rig.clock.pass(CHECK_MS, 100);
    assert.equal(reads, 0);
    rig.ring(1);
    await rig.clock.pass(STEP_MS);
    rig.mayWrite = false;
    await rig.clock.pass(CHECK_MS, 100);
    assert.equal(reads, 0);
    rig.mayWrite = true;
    await rig.clock.pass(CHECK_MS, 100);
    assert.equal(reads, 1);
  });

  test('a store that does not answer has lost nothing', async () => {
    await three();
    const { commits } = rig;
    rig.store.cut();
    await rig.clock.pass(CHECK_MS, 100);
    rig.store.heal();
    await rig.clock.pass(1000);
    assert.equal(rig.commits, commits);
  });

  test('a record that the store has refused is tried again', async () => {
    await reconciler.regain(report);
    rig.fault = 'refused';
    rig.ring(1);
    await rig.clock.pass(5000, 20);
    assert.equal(rig.commits, 1);
    rig.fault = 'none';
    await rig.clock.pass(CHECK_MS, 20);
    assert.deepEqual(rig.keys(), ['pending 1']);
  });
});

describe('calls with outdated records', () => {
  const CALLS = 250;
  const waiting = (): number => rig.held.queue.waiting;
  /** Leaves `CALLS` written calls, half of them at rest, whose records the store has lost. */
  const fallBehind = async (): Promise<void> => {
    for (let entry = 1; entry <= CALLS; entry++) {
      const tracked = rig.ring(entry);
      if (entry % 2 === 0) rig.confirm(tracked);
    }
    await flush.all();
    await rig.clock.pass(STEP_MS);
    rig.work = () => {};
    reconciler.wiped();
  };

  test('are queued a hundred at a time, every 100 ms; after the last one no timer runs', async () => {
    await fallBehind();
    const queued = [];
    for (let step = 0; step < 4; step++) {
      rig.clock.advance(100);
      queued.push(waiting());
    }
    assert.deepEqual(queued, [100, 200, CALLS, CALLS]);
    rig.held.clear();
    assert.equal(rig.clock.timers, 0);
  });

  test('wait while the member may not write, while its records are read, and while the queue is half full', async () => {
    await fallBehind();
    rig.mayWrite = false;
    rig.clock.advance(1000);
    assert.equal(waiting(), 0);
    rig.mayWrite = true;
    reconciler.openOwnership();
    rig.clock.advance(1000);
    assert.equal(waiting(), 0);
    await reconciler.regain(() => {});
    for (let entry = 0; entry < 10_001; entry++) rig.held.wait(rig.held.begin(-1 - entry, 'INVITE', 'c'));
    rig.clock.advance(1000);
    assert.equal(waiting(), 10_001);
    rig.held.drop(rig.held.get(-1)!);
    rig.clock.advance(100);
    assert.equal(waiting(), 10_100);
  });

  test('that come during a walk have a walk of their own', async () => {
    await fallBehind();
    rig.clock.advance(100);
    for (const tracked of [...rig.held.tracked()]) rig.held.queue.remove(tracked);
    reconciler.fallBehind();
    rig.clock.advance(1000);
    assert.equal(waiting(), CALLS);
  });

  test('are not those whose records are up to date', async () => {
    await three();
    reconciler.fallBehind();
    rig.clock.advance(100);
    assert.equal(waiting(), 0);
  });

  test('need no walk when none is held', () => {
    reconciler.wiped();
    assert.equal(rig.clock.timers, 0);
  });
});
