// The window that keeps replayed datagrams off.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { SequenceWindow } from '../../../src/relay/sequence-window.ts';

test('each number is taken once, in whatever order it comes within the window', () => {
  const step = fc.integer({ min: -5000, max: 5000 });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 47 }), fc.array(step, { maxLength: 300 }), (first, steps) => {
      const window = new SequenceWindow();
      const seen = new Set<number>();
      let top = -1;
      let last = first;
      for (const change of [0, ...steps]) {
        last = Math.max(0, last + change);
        const expected = !seen.has(last) && (top < 0 || last > top - 4096);
        assert.equal(window.take(last), expected, `${last} with top ${top}`);
        seen.add(last);
        top = Math.max(top, last);
      }
    }),
  );
});

test('a number taken before is refused for ever, however far the top has moved', () => {
  const window = new SequenceWindow();
  for (let sequence = 1; sequence < 20_000; sequence += 3) {
    assert.ok(window.take(sequence));
    assert.ok(!window.take(sequence));
  }
  for (let sequence = 1; sequence < 20_000; sequence += 3) assert.ok(!window.take(sequence));
});

test('after a reset another incarnation counts from one again', () => {
  const window = new SequenceWindow();
  window.take(100_000);
  assert.ok(!window.take(1));
  window.reset();
  assert.ok(window.take(1));
  assert.ok(!window.take(1));
});
