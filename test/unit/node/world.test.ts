// The tables of the hot path: the old ones stay in force until the new ones are whole.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CallTable } from '../../../src/calls/table/call-table.ts';
import { CellFamily } from '../../../src/metrics/counters.ts';
import { World } from '../../../src/node/routing-state.ts';
import { keyring } from '../../../src/ownership/keyring.ts';
import { buildOwnerTables } from '../../../src/ownership/owner-tables.ts';
import { nextView, type Seat, type View } from '../../../src/ownership/view.ts';
import { FakeClock } from '../../fake/clock.ts';

const SEED = '0f0e0d0c0b0a09080706050403020100';

/** Numbers far from those of other tests: tables are remembered by their shares. */
const seats = (count: number, weight: number): Seat[] =>
  Array.from({ length: count }, (_, i) => ({
    id: `m${i}`,
    number: 7000 + i,
    incarnation: 1,
    weight,
    state: 'active' as const,
  }));

function setUp(): { world: World; clock: FakeClock } {
  const clock = new FakeClock();
  const evicted = new CellFamily({ name: 'evicted', help: '-', labels: [] }).cell({});
  const calls = new CallTable({ longestCallSeconds: 100, ringingSeconds: 100, evicted });
  return { world: new World(keyring(['11'.repeat(32)]), calls, clock), clock };
}

describe('the world of a member', () => {
  test('has the tables of a small farm at once', () => {
    const { world } = setUp();
    const view = nextView(undefined, seats(3, 100), SEED);
    let built = 0;
    world.become({ number: 7001, incarnation: 1 });
    world.takeView(view, () => built++);
    assert.equal(built, 1);
    assert.deepEqual(world.tables, buildOwnerTables(view, 7001, 1));
  });

  test('keeps its tables while those of a large farm are built, and then has the last view only', () => {
    const { world, clock } = setUp();
    world.become({ number: 7001, incarnation: 1 });
    const views: View[] = [];
    for (const [i, count] of [160, 161, 162].entries()) views.push(nextView(views.at(-1), seats(count, 10 + i), SEED));
    const built: number[] = [];
    for (const view of views) world.takeView(view, () => built.push(world.tables.epoch));
    assert.deepEqual([world.tables.epoch, built], [0, []]);
    clock.advance(0);
    assert.deepEqual(built, [1, 3], 'the view in between is left out');
    assert.deepEqual(world.tables, buildOwnerTables(views[2]!, 7001, 1));
    assert.equal(clock.timers, 0);
  });

  test('is itself at once when it joins anew, also while tables are built', () => {
    const { world, clock } = setUp();
    world.become({ number: 7001, incarnation: 1 });
    world.takeView(nextView(undefined, seats(170, 33), SEED), () => {});
    world.become({ number: 7001, incarnation: 2 });
    assert.equal(world.tables.incarnation, 2);
    clock.advance(0);
    assert.deepEqual([world.tables.epoch, world.tables.incarnation], [1, 2]);
    world.become({ number: 7001, incarnation: 3 });
    assert.deepEqual([world.tables.epoch, world.tables.incarnation, [...world.incarnations]], [1, 3, [1, 2, 3]]);
  });
});
