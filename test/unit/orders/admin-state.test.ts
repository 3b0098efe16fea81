// Effect of orders on a member, and its reports.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { pino } from 'pino';
import type { DrainProgress, Order, OrderKind } from '../../../src/membership/order.ts';
import { AdminState } from '../../../src/orders/admin-state.ts';
import { FakeClock } from '../../fake/clock.ts';

let orders = 0;
function order(kind: OrderKind, deadlineSeconds?: number): Order {
  const since = new Date(Date.UTC(2026, 0, 1, 0, 0, orders++)).toISOString();
  return { v: 1, order: kind, since, by: 'fe2', ...(deadlineSeconds !== undefined && { deadlineSeconds }) };
}

/** Returns a member with two calls, and lists of its reports and actions. */
function member() {
  const clock = new FakeClock();
  const calls = { calls: 2, quiet: () => calls.calls === 0, oldestCallSeconds: () => 7 };
  const done: string[] = [];
  const told: (DrainProgress | undefined)[] = [];
  const routing = { heirs: true, storeUp: true };
  const adminState = new AdminState({
    ...{ clock, calls, log: pino({ level: 'silent' }) },
    othersTakeCalls: () => routing.heirs,
    deadlineSeconds: () => 60,
    setState: async (state) => void done.push(state),
    report: async (progress) => {
      if (!routing.storeUp) throw new Error('away');
      told.push(progress);
    },
    redirectClients: () => void done.push('let go'),
  });
  return { clock, calls, done, told, routing, adminState };
}

describe('a drain', () => {
  test('counts its deadline from the order, and does not restart it when the same order is repeated', async () => {
    const { clock, told, adminState } = member();
    const first = order('drain', 10);
    adminState.take(first);
    await clock.pass(8000, 500);
    adminState.take({ ...first });
    assert.equal(told.at(-1)?.leftSeconds, 2);
    // The next order may give it more time or less.
    adminState.take(order('drain', 100));
    assert.equal(told.at(-1)?.leftSeconds, 100);
    await clock.pass(10_000, 500);
    assert.equal(adminState.phase, 'draining');
    adminState.take(order('drain'));
    assert.equal(told.at(-1)?.leftSeconds, 60);
  });

  test('gives up the seat and lets its clients go at its deadline, once', async () => {
    const { clock, done, told, adminState } = member();
    adminState.take(order('drain', 3));
    await clock.pass(6000, 500);
    assert.equal(adminState.phase, 'handed-over');
    assert.deepEqual(done, ['draining', 'away', 'let go']);
    const { state, calls, leftSeconds } = told.at(-1)!;
    assert.deepEqual([state, calls, leftSeconds], ['handed-over', 2, 0]);
  });

  test('keeps its calls after the deadline while no other member can take them', async () => {
    const { clock, calls, done, told, routing, adminState } = member();
    routing.heirs = false;
    adminState.take(order('drain', 3));
    await clock.pass(20_000, 500);
    assert.deepEqual([adminState.phase, done], ['draining', ['draining']]);
    assert.deepEqual([told.at(-1)?.state, told.at(-1)?.leftSeconds], ['draining', 0]);
    routing.heirs = true;
    await clock.pass(1000, 500);
    assert.equal(adminState.phase, 'handed-over');
    const alone = member();
    alone.routing.heirs = false;
    alone.adminState.take(order('drain', 3));
    await alone.clock.pass(5000, 500);
    alone.calls.calls = calls.calls - 2;
    await alone.clock.pass(1000, 500);
    assert.deepEqual([alone.adminState.phase, alone.done], ['drained', ['draining']]);
  });

  test('repeats a report that the store has not accepted, and one that ended with a lease', async () => {
    const { clock, calls, told, routing, adminState } = member();
    routing.storeUp = false;
    adminState.take(order('drain'));
    await clock.pass(3000, 500);
    assert.equal(told.length, 0);
    routing.storeUp = true;
    await clock.pass(1000, 500);
    assert.equal(told.length, 1);
    routing.storeUp = false;
    calls.calls = 0;
    await clock.pass(3000, 500);
    routing.storeUp = true;
    await clock.pass(1000, 500);
    assert.equal(told.at(-1)?.state, 'drained');
    const { length } = told;
    adminState.rejoined();
    assert.equal(told.length, length + 1);
    assert.equal(told.at(-1)?.state, 'drained');
  });

  test('deletes its report when it ends', async () => {
    const { clock, done, told, adminState } = member();
    adminState.take(order('drain'));
    adminState.take(undefined);
    await turn();
    assert.deepEqual([told.at(-1), told.length > 1], [undefined, true]);
    await clock.pass(3000, 500);
    assert.equal(told.at(-1), undefined);
    assert.deepEqual([adminState.phase, done, clock.timers], ['free', ['draining', 'active'], 0]);
  });
});

test('a banned member gives up its seat, lets its clients go, and comes back when the ban ends', () => {
  const { done, adminState } = member();
  adminState.take(order('ban'));
  assert.equal(adminState.phase, 'banned');
  assert.deepEqual(done, ['away', 'let go']);
  adminState.take(undefined);
  assert.deepEqual([adminState.phase, done.at(-1)], ['free', 'active']);
});

test('a paused member keeps its calls', () => {
  const { done, adminState } = member();
  adminState.take(order('pause'));
  assert.deepEqual([adminState.phase, done], ['paused', ['active']]);
});
