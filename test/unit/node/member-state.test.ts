// The table of src/node/member-state.ts: the state of a member by its own phase and by the orders for it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type NodePhase, redirectsClients, stateOf } from '../../../src/node/member-state.ts';
import type { AdminPhase } from '../../../src/orders/admin-state.ts';

const ORDERS: readonly AdminPhase[] = ['free', 'paused', 'draining', 'drained', 'handed-over', 'banned'];

const TABLE: Readonly<Record<NodePhase, string>> = {
  joining: 'joining joining joining joining joining banned',
  active: 'active active draining drained drained banned',
  isolated: 'isolated isolated draining drained drained banned',
  draining: 'draining draining draining draining draining draining',
  stopping: 'stopping stopping stopping stopping stopping stopping',
};

for (const [phase, states] of Object.entries(TABLE))
  test(`a member that is ${phase} has, by its orders, the states ${states}`, () => {
    assert.equal(ORDERS.map((order) => stateOf(phase as NodePhase, order)).join(' '), states);
  });

test('clients on TCP are sent on by a member that gives its calls away, and by no other', () => {
  const states = ['joining', 'active', 'isolated', 'draining', 'drained', 'banned', 'stopping'] as const;
  assert.deepEqual(states.filter(redirectsClients), ['draining', 'drained', 'banned']);
});
