// The window that keeps replayed datagrams out.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { SequenceWindow } from '../../../src/relay/sequence-window.ts';

test('each number is accepted once, in any order within the window', () => {
  const step = fc.integer({ min: -5000, max: 5000 });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 47 }), fc.array(step, { maxLength: 300 }), (first, steps) => {
      const window = new SequenceWindow(() => 0);
      const seen = new Set<number>();
      let top = -1;
      let last = first;
      for (const change of [0, ...steps]) {
        last = Math.max(0, last + change);
        const expected = !seen.has(last) && (top < 0 || last > top - 4096);
        assert.equal(window.take(last) === null, expected, `${last} with top ${top}`);
        seen.add(last);
        top = Math.max(top, last);
      }
    }),
  );
});

test('an accepted number is refused for ever, however far the top has moved', () => {
  const window = new SequenceWindow(() => 0);
  for (let sequence = 1; sequence < 20_000; sequence += 3) {
    assert.equal(window.take(sequence), null);
    assert.equal(window.take(sequence), 'replayed');
  }
  for (let sequence = 1; sequence < 20_000; sequence += 3) assert.equal(window.take(sequence), 'replayed');
});

test('a reset lets another incarnation count from one again', () => {
  const window = new SequenceWindow(() => 0);
  window.take(100_000);
  assert.equal(window.take(1), 'replayed');
  window.reset();
  assert.equal(window.take(1), null);
  assert.equal(window.take(1), 'replayed');
});

test('a number further ahead than two million frames a second explain is refused and changes nothing', () => {
  let silence = 0;
  const window = new SequenceWindow(() => silence);
  assert.equal(window.take(2 ** 40), null, 'the first may be anywhere');
  for (const ahead of [2_000_001, 2 ** 32, 2 ** 47]) assert.equal(window.take(2 ** 40 + ahead), 'jumped');
  assert.equal(window.take(2 ** 40 + 1), null);
  silence = 60_000;
  assert.equal(window.take(2 ** 40 + 1 + 122_000_001), 'jumped');
  assert.equal(window.take(2 ** 40 + 1 + 122_000_000), null);
  assert.equal(window.take(2 ** 48 - 1, true), null, 'proven to be there');
  assert.equal(window.take(2 ** 40 + 2), 'replayed');
});
