// The commits of call records: when one begins, how much it takes, and what becomes of its calls when it fails.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { SipfarmError } from '../../../../src/base/errors.ts';
import { recordKey } from '../../../../src/calls/records/call-record.ts';
import { Flag } from '../../../../src/calls/records/durability.ts';
import { RecordFlush } from '../../../../src/calls/records/record-flush.ts';
import { SELF } from './journal-rig.ts';
import { PartsRig } from './parts-rig.ts';

/** One step of the queue. */
const STEP_MS = 20;
/** Pause after a commit that failed, and a step. */
const RETRY_MS = 520;

let rig: PartsRig;
let flush: RecordFlush;
let state: { blocked: boolean; pending: boolean; wiped: number };

beforeEach(() => {
  rig = new PartsRig();
  state = { blocked: false, pending: true, wiped: 0 };
  flush = new RecordFlush({
    held: rig.held,
    writer: rig.writer,
    blocked: () => state.blocked,
    writePending: () => state.pending,
    wiped: () => state.wiped++,
  });
  rig.work = () => flush.work();
});
afterEach(() => {
  rig.held.queue.close();
  assert.equal(rig.clock.timers, 0);
});

test('calls that wait are written together in the next step, with the sentinel at the first time', async () => {
  for (const entry of [1, 2, 3]) rig.ring(entry);
  await rig.clock.pass(STEP_MS - 1, STEP_MS);
  assert.equal(rig.commits, 0);
  await rig.clock.pass(1);
  assert.deepEqual([rig.commits, rig.keys()], [1, ['pending 1', 'pending 2', 'pending 3']]);
  assert.ok(rig.memory.read(`calls/${SELF}/mark`));
  assert.deepEqual([rig.held.queue.waiting, rig.writer.outcomes.written.n], [0, 3]);
});

test('one commit runs at a time; what comes meanwhile follows it', async () => {
  rig.fault = 'slow';
  const first = rig.ring(1);
  await rig.clock.pass(STEP_MS);
  assert.notEqual(flush.running, undefined);
  rig.ring(2);
  rig.confirm(first);
  await rig.clock.pass(90);
  assert.equal(rig.commits, 1);
  rig.fault = 'none';
  await rig.clock.pass(STEP_MS + 10);
  assert.deepEqual([rig.commits, rig.keys(), flush.running], [2, ['dialog 1', 'pending 2'], undefined]);
  assert.equal(rig.held.packed.has(1), true);
});

test('one step has at most ten commits, and the next step has the others', async () => {
  for (let entry = 1; entry <= 1500; entry++) rig.ring(entry);
  rig.held.queue.prepare(rig.held.prepare, 1500);
  rig.clock.advance(STEP_MS);
  await flush.running;
  assert.equal(rig.commits, 10);
  const { waiting } = rig.held.queue;
  assert.ok(waiting > 0 && waiting < 600, `${waiting} wait`);
  await rig.clock.pass(STEP_MS);
  assert.deepEqual([rig.keys().length, rig.held.queue.waiting], [1500, 0]);
});

describe('nothing is written', () => {
  test('while it is blocked, also not the rest of a step; the calls wait', async () => {
    state.blocked = true;
    const tracked = rig.ring(1);
    await rig.clock.pass(1000);
    assert.deepEqual([rig.commits, rig.held.queue.has(tracked)], [0, true]);
    state.blocked = false;
    for (let entry = 2; entry <= 200; entry++) rig.ring(entry);
    rig.fault = 'slow';
    await rig.clock.pass(STEP_MS);
    state.blocked = true;
    await rig.clock.pass(1000);
    assert.equal(rig.commits, 1);
    rig.fault = 'none';
    state.blocked = false;
    await rig.clock.pass(STEP_MS);
    assert.equal(rig.keys().length, 200);
  });

  test('of calls that ring when only dialogs are written', async () => {
    state.pending = false;
    const tracked = rig.ring(1);
    await rig.clock.pass(STEP_MS);
    assert.deepEqual([rig.commits, rig.held.queue.waiting], [0, 0]);
    rig.confirm(tracked);
    await rig.clock.pass(STEP_MS);
    assert.deepEqual(rig.keys(), ['dialog 1']);
  });
});

describe('a commit without an answer', () => {
  for (const [fault, keys] of [
    ['unheard', []],
    ['answer-lost', ['pending 1', 'pending 2']],
  ] as const)
    test(`(${fault}) leaves its calls in doubt; after half a second they are read, and then written`, async () => {
      rig.fault = fault;
      const [one, two] = [rig.ring(1), rig.ring(2)];
      await rig.clock.pass(STEP_MS);
      assert.deepEqual([one.is(Flag.inDoubt), two.is(Flag.inDoubt), rig.keys()], [true, true, keys]);
      assert.equal(rig.writer.outcomes.failed.n, 1);
      rig.fault = 'none';
      const three = rig.ring(3);
      await rig.clock.pass(RETRY_MS - 2 * STEP_MS);
      assert.deepEqual([rig.commits, rig.held.queue.has(three)], [1, true], 'the others wait with them');
      rig.held.end(one);
      await rig.clock.pass(4 * STEP_MS);
      assert.deepEqual([one.is(Flag.inDoubt), two.is(Flag.inDoubt)], [false, false]);
      assert.deepEqual(rig.keys(), ['pending 2', 'pending 3']);
      assert.deepEqual([rig.held.size, rig.taken], [2, []]);
    });

  test('that is not in the store gives its calls to another member if the seat is lost meanwhile', async () => {
    const one = rig.ring(1);
    await rig.clock.pass(STEP_MS);
    rig.fault = 'unheard';
    rig.confirm(one);
    const two = rig.ring(2);
    await rig.clock.pass(STEP_MS);
    rig.memory.apply([{ key: recordKey(SELF, 'trying', 1), value: undefined }]);
    rig.seated = false;
    rig.fault = 'none';
    await rig.clock.pass(RETRY_MS + STEP_MS);
    assert.deepEqual([rig.taken, rig.held.holds(one), rig.held.holds(two)], [[1, 2], false, false]);
  });
});

describe('a commit that the store refuses', () => {
  test('is tried in halves, one each half second, until one call is refused alone: that one is counted', async () => {
    rig.fault = 'refused';
    for (let entry = 1; entry <= 4; entry++) rig.ring(entry);
    await rig.clock.pass(STEP_MS);
    assert.equal(rig.held.queue.most, 2);
    await rig.clock.pass(RETRY_MS);
    assert.equal(rig.held.queue.most, 1);
    assert.equal(rig.held.drops.size.n, 0);
    await rig.clock.pass(RETRY_MS);
    assert.deepEqual([rig.commits, rig.held.drops.size.n, rig.held.queue.waiting], [3, 1, 3]);
    rig.fault = 'none';
    await rig.clock.pass(RETRY_MS);
    assert.equal(rig.keys().length, 3, 'the others are written');
    assert.ok(rig.held.queue.most > 1);
  });

  test('leaves none of its calls in doubt', async () => {
    rig.fault = 'refused';
    const tracked = rig.ring(1);
    await rig.clock.pass(STEP_MS);
    assert.deepEqual([tracked.is(Flag.inDoubt), tracked.writing, rig.held.holds(tracked)], [false, false, true]);
    assert.equal(rig.writer.outcomes.failed.n, 1);
  });
});

describe('a call whose key is gone', () => {
  /** Writes calls 1 and 2, deletes the record of call 1, and confirms both. */
  const missing = async (): Promise<void> => {
    const [one, two] = [rig.ring(1), rig.ring(2)];
    await rig.clock.pass(STEP_MS);
    rig.memory.apply([{ key: recordKey(SELF, 'trying', 1), value: undefined }]);
    rig.confirm(one);
    rig.confirm(two);
  };

  test('has been adopted if this member has no seat now; the calls beside it are written', async () => {
    await missing();
    rig.seated = false;
    await rig.clock.pass(3 * STEP_MS);
    assert.deepEqual([rig.taken, rig.keys(), state.wiped], [[1], ['dialog 2'], 0]);
  });

  test('is written again if this member has its seat', async () => {
    await missing();
    await rig.clock.pass(3 * STEP_MS);
    assert.deepEqual([rig.taken, rig.keys(), state.wiped], [[], ['dialog 1', 'dialog 2'], 0]);
  });

  test('has not been adopted if the store has lost the sentinel, too; that loss is reported', async () => {
    await missing();
    rig.memory.apply([{ key: `calls/${SELF}/mark`, value: undefined }]);
    rig.seated = false;
    await rig.clock.pass(3 * STEP_MS);
    assert.deepEqual([rig.taken, rig.keys(), state.wiped], [[], ['dialog 1', 'dialog 2'], 1]);
  });

  test('waits when the store does not answer whose it is', async () => {
    await missing();
    const get = rig.store.get.bind(rig.store);
    rig.store.get = () => Promise.reject(new SipfarmError('SF_STORE_UNREACHABLE', 'no answer'));
    await rig.clock.pass(3 * STEP_MS);
    assert.deepEqual([rig.taken, rig.held.has(1), rig.keys()], [[], true, ['dialog 2']]);
    rig.store.get = get;
    await rig.clock.pass(RETRY_MS + 3 * STEP_MS);
    assert.deepEqual([rig.taken, rig.keys()], [[], ['dialog 1', 'dialog 2']]);
  });
});

describe('writing all', () => {
  test('takes what waits, also first writes that are not due, without a step of the queue', async () => {
    for (let entry = 1; entry <= 1100; entry++) rig.held.wait(rig.ring(entry), true);
    await flush.all();
    assert.deepEqual([rig.keys().length, rig.held.queue.waiting], [1100, 0]);
  });

  test('waits for the commit under way, and takes what waits behind it', async () => {
    rig.fault = 'slow';
    rig.ring(1);
    await rig.clock.pass(STEP_MS);
    rig.ring(2);
    rig.fault = 'none';
    const all = flush.all();
    rig.clock.advance(100);
    await all;
    assert.deepEqual([rig.keys(), rig.held.queue.waiting], [['pending 1', 'pending 2'], 0]);
  });

  test('ends when the store accepts nothing, and when there is nothing', async () => {
    await flush.all();
    rig.ring(1);
    rig.fault = 'unheard';
    await flush.all();
    assert.deepEqual([rig.commits, rig.held.queue.waiting], [1, 1]);
  });
});
