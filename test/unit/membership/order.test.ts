// Orders and the progress of drains as read from the store, which may contain anything.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { parseDrainProgress, parseOrder, readOrders } from '../../../src/membership/order.ts';

const ORDER = { v: 1, order: 'drain', since: '2026-01-01T00:00:00.000Z', deadlineSeconds: 600, by: 'fe1' };
const PROGRESS = { v: 1, state: 'draining', since: ORDER.since, calls: 3, oldestSeconds: 7, leftSeconds: 60 };

describe('an order', () => {
  test('is read as it was written, with and without a deadline', () => {
    assert.deepEqual(parseOrder(ORDER), ORDER);
    const { deadlineSeconds: _, ...without } = ORDER;
    assert.deepEqual(parseOrder({ ...without, order: 'ban', more: 1 }), { ...without, order: 'ban' });
  });

  test('is ignored when it has another shape', () => {
    const changes = [
      { v: 2 },
      { order: 'stop' },
      { since: '' },
      { since: 'x'.repeat(41) },
      { deadlineSeconds: -1 },
      { deadlineSeconds: 86_401 },
      { deadlineSeconds: 1.5 },
      { deadlineSeconds: '60' },
      { by: 'a/b' },
      { by: undefined },
    ];
    for (const change of changes) assert.equal(parseOrder({ ...ORDER, ...change }), undefined, JSON.stringify(change));
    fc.assert(fc.property(fc.anything(), (value) => parseOrder(value) === undefined));
  });

  test('under a key that is no member id is reported and left out', () => {
    const bad: string[] = [];
    const entry = (key: string, value: unknown) => ({ key, value, revision: 1n });
    const orders = readOrders(
      [entry('orders/fe1', ORDER), entry('orders/a/b', ORDER), entry('orders/fe2', {})],
      (key) => bad.push(key),
    );
    assert.deepEqual([[...orders.keys()], bad], [['fe1'], ['orders/a/b', 'orders/fe2']]);
  });
});

test('the progress of a drain is read as it was written, and ignored when it has another shape', () => {
  assert.deepEqual(parseDrainProgress(PROGRESS), PROGRESS);
  for (const change of [{ v: 0 }, { state: 'gone' }, { calls: -1 }, { calls: 2 ** 32 }, { leftSeconds: 86_401 }])
    assert.equal(parseDrainProgress({ ...PROGRESS, ...change }), undefined, JSON.stringify(change));
  fc.assert(fc.property(fc.anything(), (value) => parseDrainProgress(value) === undefined));
});
