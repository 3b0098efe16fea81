// The queue of calls that wait for a write: when they are due, how many it takes, and what it does after a refusal.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MAX_WAITING, RETRY_MS, type Waiting, WriteQueue } from '../../../../src/calls/records/write-queue.ts';
import { MAX_WRITES } from '../../../../src/store/store.ts';
import { FakeClock } from '../../../fake/clock.ts';

class Call implements Waiting {
  due = 0;
}

function rig() {
  const clock = new FakeClock();
  const state = { worked: 0 };
  const queue: WriteQueue<Call> = new WriteQueue(clock, () => {
    state.worked++;
    queue.prepare(() => true);
    queue.arm();
  });
  return { clock, queue, state };
}

test('a first write is ready after 50 ms, a change in the next step of 20 ms', () => {
  const { clock, queue } = rig();
  const [first, changed] = [new Call(), new Call()];
  queue.addFresh(first);
  queue.add(changed);
  clock.advance(20);
  assert.deepEqual([...queue.ready], [changed]);
  clock.advance(29);
  assert.equal(queue.ready.has(first), false);
  clock.advance(20);
  assert.deepEqual([...queue.ready], [changed, first]);
  assert.equal(queue.waiting, 2);
});

test('a first write is due at once when the member stops', () => {
  const { queue } = rig();
  const call = new Call();
  queue.addFresh(call);
  queue.hurry();
  queue.prepare(() => true);
  assert.deepEqual([...queue.ready], [call]);
});

test('a call waits in one place only, and a removed one nowhere', () => {
  const { queue } = rig();
  const call = new Call();
  queue.addFresh(call);
  queue.add(call);
  queue.again(call);
  assert.deepEqual([queue.waiting, queue.ready.size], [1, 0]);
  queue.prepare(() => true);
  queue.addFresh(call);
  assert.deepEqual([queue.waiting, queue.ready.size], [1, 0]);
  queue.remove(call);
  assert.deepEqual([queue.waiting, queue.has(call)], [0, false]);
});

test('a call that needs no write leaves the queue when its texts are made', () => {
  const { queue } = rig();
  const call = new Call();
  queue.add(call);
  queue.prepare(() => false);
  assert.equal(queue.has(call), false);
});

test('one step makes the texts of 500 calls', () => {
  const { clock, queue } = rig();
  for (let n = 0; n < 700; n++) queue.add(new Call());
  clock.advance(20);
  assert.equal(queue.ready.size, 500);
  clock.advance(20);
  assert.equal(queue.ready.size, 700);
});

test('a full queue rejects a call, also one that was in it, until there is room', () => {
  const { queue } = rig();
  const first = new Call();
  queue.add(first);
  for (let n = 1; n < MAX_WAITING; n++) assert.equal(queue.add(new Call()), true);
  const late = new Call();
  assert.equal(queue.add(late), false);
  assert.deepEqual([queue.has(late), queue.waiting], [false, MAX_WAITING]);
  assert.equal(queue.addFresh(first), true, 'its own place is free for it');
  queue.remove(first);
  assert.equal(queue.add(late), true);
});

test('after a failed commit nothing is due for half a second', () => {
  const { clock, queue } = rig();
  queue.add(new Call());
  queue.prepare(() => true);
  assert.equal(queue.isDue, true);
  queue.pause();
  clock.advance(RETRY_MS - 1);
  assert.equal(queue.isDue, false);
  clock.advance(1);
  assert.equal(queue.isDue, true);
});

test('refused commits are halved, down to a call alone, which waits apart until refused calls are tried again', () => {
  const { queue } = rig();
  const calls = Array.from({ length: MAX_WRITES }, () => new Call());
  for (const call of calls) queue.again(call);
  const sizes = [];
  while (!queue.refuse(calls.slice(0, queue.most))) sizes.push(queue.most);
  assert.deepEqual(sizes, [50, 25, 12, 6, 3, 1]);
  assert.deepEqual([queue.has(calls[0]!), queue.waiting], [false, MAX_WRITES - 1]);
  queue.accepted();
  assert.equal(queue.most, MAX_WRITES);
  queue.retryRefused((call) => queue.again(call));
  assert.deepEqual([queue.has(calls[0]!), queue.waiting], [true, MAX_WRITES]);
  queue.retryRefused(() => assert.fail('nothing is refused any more'));
});

test('its timer runs only while something waits, and never after it was closed', () => {
  const { clock, queue, state } = rig();
  queue.arm();
  assert.equal(clock.timers, 0);
  const call = new Call();
  queue.add(call);
  queue.add(call);
  assert.equal(clock.timers, 1);
  queue.remove(call);
  clock.advance(20);
  assert.deepEqual([state.worked, clock.timers], [1, 0]);
  queue.add(call);
  queue.close();
  queue.add(new Call());
  assert.equal(clock.timers, 0);
});
