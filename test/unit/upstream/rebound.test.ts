// What is remembered of clients that have come back on a new connection is bounded, and of use only for the call, the connection and the tag it is of.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Rebound } from '../../../src/service/upstream/rebound.ts';

const flow = (connection: number, member = 1) => {
  return { member, incarnation: 1, listener: 1, connection, address: '192.0.2.7', port: 5060 };
};

test('the last connection a client came by counts, for its call, its old connection and its tag', () => {
  const rebound = new Rebound();
  assert.equal(rebound.some, false);
  rebound.note(7, 'a', flow(1), flow(2), true);
  rebound.note(7, 'a', flow(1), flow(3), true);
  assert.equal(rebound.wayTo(7, 'a', flow(1), true)?.connection, 3);
  assert.equal(rebound.wayTo(7, 'a', flow(1), false), undefined);
  assert.equal(rebound.wayTo(7, 'b', flow(1), true), undefined);
  assert.equal(rebound.wayTo(7, 'a', flow(1, 2), true), undefined);
  assert.equal(rebound.wayTo(8, 'a', flow(1), true), undefined);
  rebound.failed(7);
  assert.equal(rebound.wayTo(7, 'a', flow(1), false)?.connection, 3);
});

test('a call keeps four connections, and the oldest calls are forgotten when there are too many', () => {
  const rebound = new Rebound();
  for (let connection = 1; connection <= 9; connection++) rebound.note(7, 'a', flow(connection), flow(100), true);
  assert.deepEqual(
    [1, 4, 5].map((connection) => rebound.wayTo(7, 'a', flow(connection), true)?.connection),
    [100, 100, undefined],
  );
  for (let call = 0; call < 20_000; call++) rebound.note(1000 + call, 'a', flow(1), flow(2), true);
  assert.equal(rebound.wayTo(7, 'a', flow(1), true), undefined);
  assert.equal(rebound.wayTo(1000, 'a', flow(1), true)?.connection, 2);
  for (let call = 0; call < 20_000; call++)
    assert.equal(rebound.note(50_000 + call, 'a', flow(1), flow(2), false), false);
  assert.equal(rebound.wayTo(1000, 'a', flow(1), true)?.connection, 2, 'made-up dialogs take no room of others');
});
