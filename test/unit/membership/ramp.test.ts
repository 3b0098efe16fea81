// The ramp alone; its effect in the farm is tested in ../farm/ramp.test.ts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ramp } from '../../../src/membership/ramp.ts';
import { FakeClock } from '../../fake/clock.ts';

test('a ramp gives a quarter, half and all of a weight, at least 1 of a positive weight and 0 of no weight', () => {
  const clock = new FakeClock();
  const seen: number[] = [];
  const ramp = new Ramp({ clock, seconds: 10, onStep: () => void seen.push(ramp.of(100)) });
  ramp.prepare(true);
  assert.deepEqual([ramp.of(100), ramp.of(1), ramp.of(0)], [25, 1, 0]);
  ramp.begin();
  clock.advance(10_000);
  assert.deepEqual(seen, [50, 100]);
});

test('a stopped ramp takes no further step', () => {
  const clock = new FakeClock();
  for (const before of [1000, 6000]) {
    const ramp = new Ramp({ clock, seconds: 10, onStep: () => {} });
    ramp.prepare(true);
    ramp.begin();
    clock.advance(before);
    ramp.stop();
    assert.equal(clock.timers, 0);
  }
});
