// The Contacts of in-dialog requests that wait for their 2xx.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Targets } from '../../../../src/service/shared/targets.ts';

test('a Contact is taken once, by call, sender and CSeq of its request', () => {
  const targets = new Targets();
  targets.offer(7, 'alice', 2, '<sip:alice@192.0.2.1>');
  targets.offer(7, 'bob', 2, '<sip:bob@192.0.2.2>');
  for (const [entry, from, cseq] of [
    [8, 'alice', 2],
    [-7, 'alice', 2],
    [7, 'alice', 3],
    [7, 'carol', 2],
  ] as const)
    assert.equal(targets.take(entry, from, cseq), undefined);
  assert.equal(targets.take(7, 'alice', 2), '<sip:alice@192.0.2.1>');
  assert.equal(targets.take(7, 'alice', 2), undefined);
  assert.equal(targets.take(7, 'bob', 2), '<sip:bob@192.0.2.2>');
});

test('the oldest of more than 10,000 Contacts is forgotten, and a very long one is not kept', () => {
  const targets = new Targets();
  for (let entry = 1; entry <= 10_000; entry++) targets.offer(entry, 'a', 1, 'x');
  targets.offer(1, 'a', 1, 'again');
  assert.equal(targets.take(2, 'a', 1), 'x');
  targets.offer(10_001, 'a', 1, 'x');
  targets.offer(10_002, 'a', 1, 'x');
  assert.deepEqual([targets.take(1, 'a', 1), targets.take(10_002, 'a', 1)], [undefined, 'x']);
  targets.offer(9, 'a', 2, 'x'.repeat(1025));
  assert.equal(targets.take(9, 'a', 2), undefined);
});
