// Successors of a view.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { generationOf, HISTORY_LENGTH, nextView, type Seat, type View } from '../../../src/ownership/view.ts';

const SEED = '000102030405060708090a0b0c0d0e0f';

function seat(number: number, change: Partial<Seat> = {}): Seat {
  return { id: `fe${number}`, number, incarnation: 1, weight: 100, state: 'active', ...change };
}

/** Returns the view after all `steps`. */
function history(...steps: readonly (readonly Seat[])[]): View {
  return steps.reduce<View | undefined>((last, seats) => nextView(last, seats, SEED), undefined)!;
}

describe('the next view', () => {
  test('keeps the shares of other members in its history while one member flaps', () => {
    const down = [seat(1), seat(2, { weight: 0 }), seat(3)];
    const up = [seat(1), seat(2), seat(3)];
    const flapped = history([seat(1), seat(2)], up, down, up, down, up, down, up);
    const shares = flapped.history.map((generation) => generation.shares.map(({ number }) => number).join());
    assert.deepEqual(shares, ['1,3', '1,2,3', '1,2']);
  });

  test('has epoch 1 and the drawn seed in a farm without a view', () => {
    assert.deepEqual(nextView(undefined, [seat(2), seat(1)], SEED), {
      v: 1,
      epoch: 1,
      seed: SEED,
      seats: [seat(1), seat(2)],
      history: [],
    });
  });

  test('is the same one when nothing has changed, whatever the order of seats and fields', () => {
    const last = history([seat(1), seat(2)]);
    const { id, number, incarnation, weight, state } = seat(1);
    assert.equal(nextView(last, [seat(2), { state, weight, incarnation, number, id }], 'other'), last);
  });

  for (const [what, change] of [
    ['incarnation', { incarnation: 2 }],
    ['weight', { weight: 50 }],
    ['state', { state: 'draining' }],
    ['id', { id: 'other' }],
  ] as const)
    test(`has the next epoch and the same seed when the ${what} of a seat changes`, () => {
      const last = history([seat(1), seat(2)]);
      const next = nextView(last, [seat(1), seat(2, change)], 'another seed');
      assert.deepEqual([next.epoch, next.seed, next.seats[1]], [2, SEED, seat(2, change)]);
    });

  test('keeps the replaced shares with their last epoch', () => {
    const view = history([seat(1)], [seat(1), seat(2)], [seat(1), seat(2, { incarnation: 2 })], [seat(1)]);
    assert.deepEqual(view.history, [
      { epoch: 3, shares: [1, 2].map((number) => ({ number, weight: 100 })) },
      { epoch: 1, shares: [{ number: 1, weight: 100 }] },
    ]);
  });

  test('keeps no earlier shares when no slot moves: after a restart, or with a member that takes no calls', () => {
    const view = history(
      [seat(1)],
      [seat(1, { incarnation: 2 })],
      [seat(1), seat(2, { state: 'draining' })],
      [seat(1), seat(3, { weight: 0 })],
    );
    assert.deepEqual([view.epoch, view.history], [4, []]);
  });

  test('keeps no earlier shares without any owner', () => {
    const view = history([seat(1, { state: 'draining' })], [seat(1)]);
    assert.deepEqual(view.history, []);
  });

  test('keeps the newest eight', () => {
    const view = history(...Array.from({ length: 12 }, (_, i) => [seat(i + 1)]));
    assert.equal(view.history.length, HISTORY_LENGTH);
    assert.deepEqual(
      view.history.map(({ epoch }) => epoch),
      [11, 10, 9, 8, 7, 6, 5, 4],
    );
  });

  test('does not change the last one', () => {
    const last = history([seat(1), seat(2)]);
    const copy = structuredClone(last);
    nextView(last, [seat(3)], SEED);
    assert.deepEqual(last, copy);
  });
});

test('slots go to active members with a weight', () => {
  const view = history([seat(1), seat(2, { state: 'draining' }), seat(3, { weight: 0 }), seat(4, { weight: 7 })]);
  assert.deepEqual(generationOf(view), {
    epoch: 1,
    shares: [
      { number: 1, weight: 100 },
      { number: 4, weight: 7 },
    ],
  });
});
