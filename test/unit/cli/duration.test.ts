// Durations of the command line: 90s, 10m, 1h30m.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDuration, showDuration } from '../../../src/cli/duration.ts';

test('times are parsed and printed alike', () => {
  for (const [text, seconds] of [
    ['90s', 90],
    ['10m', 600],
    ['1h30m', 5400],
    ['1h2m5s', 3725],
    ['0s', 0],
    ['24h', 86_400],
  ] as const) {
    assert.equal(parseDuration(text), seconds);
    assert.equal(parseDuration(showDuration(seconds)), seconds);
  }
  assert.equal(showDuration(90), '1m30s');
});
