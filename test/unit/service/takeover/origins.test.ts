// Adopted calls whose first member is back: those with shifted CSeq numbers are handed over, and their media ends later.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { GivenBack } from '../../../../src/calls/adoption/adoption.ts';
import { Origins } from '../../../../src/service/takeover/origins.ts';
import { FakeClock } from '../../../fake/clock.ts';

const OWNER = 3;
const record = (shift?: readonly [number, number]) =>
  ({ state: 'confirmed', legs: [{ from: 'client', request: '', ...(shift && { shift }) }] }) as never;

/** Calls 1 (with shifts) and 2 (without) of the member that is back. */
function rig() {
  const clock = new FakeClock();
  const forgotten: number[] = [];
  const context = {
    calls: { forget: (entry: number) => void forgotten.push(entry) },
    journal: {
      recordOf: (entry: number) => record(entry === 1 ? [1, 0] : undefined),
      over: () => {},
      has: () => false,
    },
  };
  const origins = new Origins(context as never, clock);
  for (const entry of [1, 2]) origins.note(OWNER, entry);
  return { clock, forgotten, origins };
}

test('a call with shifts is handed over at once and forgotten 30 s later, and one without is forgotten at once', () => {
  const { clock, forgotten, origins } = rig();
  const given: GivenBack[] = [];
  origins.seated(
    OWNER,
    () => false,
    (each) => void given.push(...each),
  );
  assert.deepEqual([given.map(({ entry }) => entry), forgotten], [[1], [2]]);
  clock.advance(30_000);
  assert.deepEqual([forgotten, clock.timers], [[2, 1], 0]);
});

test('no call is forgotten after all of them have been given up', () => {
  const { clock, forgotten, origins } = rig();
  origins.seated(
    OWNER,
    () => false,
    () => {},
  );
  origins.clear();
  clock.advance(60_000);
  assert.deepEqual([forgotten, clock.timers], [[2], 0]);
});
