// The tables of the packet path: the old ones stay in force until the new ones are complete.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CallTable } from '../../../src/calls/table/call-table.ts';
import { CellFamily } from '../../../src/metrics/counters.ts';
import { RoutingState } from '../../../src/node/routing-state.ts';
import { keyring } from '../../../src/ownership/keyring.ts';
import { buildOwnerTables } from '../../../src/ownership/owner-tables.ts';
import { nextView, type Seat, type View } from '../../../src/ownership/view.ts';
import { FakeClock } from '../../fake/clock.ts';

const SEED = '0f0e0d0c0b0a09080706050403020100';

/** Numbers that other tests do not use, because tables are cached by their shares. */
const seats = (count: number, weight: number): Seat[] =>
  Array.from({ length: count }, (_, i) => ({
    id: `m${i}`,
    number: 7000 + i,
    incarnation: 1,
    weight,
    state: 'active' as const,
  }));

function setUp(): { routing: RoutingState; clock: FakeClock; calls: CallTable } {
  const clock = new FakeClock();
  const evicted = new CellFamily({ name: 'evicted', help: '-', labels: [] }).cell({});
  const calls = new CallTable({ longestCallSeconds: 100, ringingSeconds: 100, evicted });
  return { routing: new RoutingState(keyring(['11'.repeat(32)]), calls, clock), clock, calls };
}

describe('the routing state of a member', () => {
  test('has the tables of a small farm at once', () => {
    const { routing } = setUp();
    const view = nextView(undefined, seats(3, 100), SEED);
    let built = 0;
    routing.become({ number: 7001, incarnation: 1 });
    routing.takeView(view, () => built++);
    assert.equal(built, 1);
    assert.deepEqual(routing.tables, buildOwnerTables(view, 7001, 1));
  });

  test('keeps its tables while those of a large farm are built, and then has only the last view', () => {
    const { routing, clock } = setUp();
    routing.become({ number: 7001, incarnation: 1 });
    const views: View[] = [];
    for (const [i, count] of [160, 161, 162].entries()) views.push(nextView(views.at(-1), seats(count, 10 + i), SEED));
    const built: number[] = [];
    for (const view of views) routing.takeView(view, () => built.push(routing.tables.epoch));
    assert.deepEqual([routing.tables.epoch, built], [0, []]);
    clock.advance(0);
    assert.deepEqual(built, [1, 3], 'the view in between is left out');
    assert.deepEqual(routing.tables, buildOwnerTables(views[2]!, 7001, 1));
    assert.equal(clock.timers, 0);
  });

  test('counts a call as regained if it began before the first view with the seat of this incarnation', () => {
    const { routing, calls } = setUp();
    const [KEY, BEGAN] = [5, 2];
    calls.restore(KEY, false, false, 0, 0, BEGAN);
    const regained: boolean[] = [];
    const step = (): number => regained.push(routing.regained(KEY));
    const views: View[] = [];
    const take = (numbers: readonly number[], incarnation: number): void => {
      const list = seats(3, 100).filter((_, i) => numbers.includes(i));
      const own = list.map((each) => (each.number === 7001 ? { ...each, incarnation } : each));
      views.push(nextView(views.at(-1), own, SEED));
      routing.takeView(views.at(-1)!, step);
    };
    routing.become({ number: 7001, incarnation: 1 });
    step();
    take([0, 1], 1);
    take([0, 1, 2], 1);
    assert.deepEqual(regained, [true, false, false], 'the seat is older than the call');
    routing.become({ number: 7001, incarnation: 2 });
    step();
    take([0, 1], 1);
    take([0], 1);
    take([0, 1], 2);
    assert.deepEqual(regained.slice(3), [true, true, true, true]);
    calls.restore(KEY + 1, false, false, 0, 0, routing.tables.epoch);
    assert.equal(routing.regained(KEY + 1), false, 'begun or adopted with this seat');
  });

  test('has its new incarnation at once when it joins again, also while tables are built', () => {
    const { routing, clock } = setUp();
    routing.become({ number: 7001, incarnation: 1 });
    routing.takeView(nextView(undefined, seats(170, 33), SEED), () => {});
    routing.become({ number: 7001, incarnation: 2 });
    assert.equal(routing.tables.incarnation, 2);
    clock.advance(0);
    assert.deepEqual([routing.tables.epoch, routing.tables.incarnation], [1, 2]);
    routing.become({ number: 7001, incarnation: 3 });
    assert.deepEqual([routing.tables.epoch, routing.tables.incarnation, [...routing.incarnations]], [1, 3, [1, 2, 3]]);
  });
});
