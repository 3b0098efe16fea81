// The order API, on a store to which other operators write at the same time.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SipfarmError } from '../../../src/base/errors.ts';
import type { Order } from '../../../src/membership/order.ts';
import { StoreOrders } from '../../../src/orders/store-orders.ts';
import { nextView, type Seat } from '../../../src/ownership/view.ts';
import { MemoryFarm } from '../../../src/store/memory-store.ts';
import type { Write } from '../../../src/store/store.ts';
import { FakeClock } from '../../fake/clock.ts';

const BAN: Order = { v: 1, order: 'ban', since: '2026-01-01T00:00:00.000Z', by: 'fe2' };
const seat = (number: number): Seat => ({
  ...{ id: `fe${number}`, number, incarnation: 1 },
  ...{ weight: 100, state: 'active' },
});

/** Returns the order API of fe1. `obeyed` has the orders that fe1 itself received; `before` runs before each commit. */
function orderApi() {
  const clock = new FakeClock();
  const farm = new MemoryFarm(clock);
  const store = farm.open();
  const commit = store.commit.bind(store);
  const routing = { before: (_writes: readonly Write[]): void => {} };
  store.commit = async (writes) => {
    routing.before(writes);
    return commit(writes);
  };
  const obeyed: (string | undefined)[] = [];
  const view = nextView(undefined, [seat(1), seat(2)], '00'.repeat(16));
  const of = new StoreOrders({
    ...{ clock, store, self: 'fe1' },
    view: () => view,
    records: () => [],
    orders: () => new Map(),
    obey: (order) => void obeyed.push(order?.order),
  });
  const stored = (id: string) => farm.read(`orders/${id}`)?.value as Order | undefined;
  const put = (id: string, value: unknown): unknown => farm.apply([{ key: `orders/${id}`, value }]);
  return { clock, of, obeyed, routing, stored, put, farm };
}

describe('an order for the receiving member itself', () => {
  test('takes effect before the store has it', async () => {
    const { of, obeyed, routing } = orderApi();
    routing.before = () => assert.deepEqual(obeyed, ['drain']);
    await of.give('fe1', { order: 'drain' });
    assert.deepEqual(obeyed, ['drain']);
  });

  test('is taken back when the store does not accept it', async () => {
    const { of, obeyed, routing } = orderApi();
    routing.before = () => {
      throw new SipfarmError('SF_STORE_UNREACHABLE', 'away');
    };
    await assert.rejects(of.give('fe1', { order: 'drain' }), { code: 'SF_STORE_UNREACHABLE' });
    assert.deepEqual(obeyed, ['drain', undefined]);
  });

  test('is taken back when a ban was stored first', async () => {
    const { of, obeyed, routing, put, stored } = orderApi();
    routing.before = () => void put('fe1', BAN);
    await assert.rejects(of.give('fe1', { order: 'drain' }), { code: 'SF_ORDER_REFUSED' });
    assert.deepEqual([obeyed, stored('fe1')?.order], [['drain', undefined], 'ban']);
  });

  test('has no effect here when it is for another member', async () => {
    const { of, obeyed, stored } = orderApi();
    await of.give('fe2', { order: 'pause' });
    assert.deepEqual([obeyed, stored('fe2')?.order], [[], 'pause']);
  });
});

test("an order is applied after another operator's change, and gives up when such changes never end", async () => {
  const { of, routing, put, stored } = orderApi();
  let others = 2;
  routing.before = () => void (others-- > 0 && put('fe2', { ...BAN, order: 'pause' }));
  await of.give('fe2', { order: 'drain', deadlineSeconds: 5 });
  assert.equal(stored('fe2')?.deadlineSeconds, 5);
  others = 100;
  await assert.rejects(of.lift('fe2', ['pause', 'drain']), { code: 'SF_STORE_CONFLICT' });
});

test('the report of an earlier drain is not returned for a new one', async () => {
  const { clock, of, farm } = orderApi();
  const first = await of.give('fe2', { order: 'drain' });
  const since = first.order?.since;
  const value = { v: 1, state: 'drained', since, calls: 0, oldestSeconds: 0, leftSeconds: 0 };
  farm.apply([{ key: 'drains/fe2', value }]);
  assert.equal((await of.status('fe2')).progress?.state, 'drained');
  clock.advance(1);
  await of.give('fe2', { order: 'drain' });
  assert.equal((await of.status('fe2')).progress, null);
});
