// Number of answers that a source can cause.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { RateLimit } from '../../../src/base/rate-limit.ts';

describe('a source', () => {
  test('gets its burst at once, then its rate', () => {
    const limit = new RateLimit({ perSecond: 10, burst: 3 });
    const allowed = (now: number): boolean => limit.allow(1, now);
    assert.deepEqual([0, 0, 0, 0, 50, 99].map(allowed), [true, true, true, false, false, false]);
    assert.deepEqual([100, 100, 200, 299].map(allowed), [true, false, true, false]);
  });

  test('saves no more than its burst in a pause', () => {
    const limit = new RateLimit({ perSecond: 1000, burst: 2 });
    assert.deepEqual(
      [0, 1e9, 1e9, 1e9].map((now) => limit.allow(1, now)),
      [true, true, true, false],
    );
  });

  test('does not affect another source', () => {
    const limit = new RateLimit({ perSecond: 1, burst: 1 });
    assert.deepEqual(
      [1, 1, 2].map((key) => limit.allow(key, 0)),
      [true, false, true],
    );
  });

  test('never gets more than burst plus rate times time, whenever it sends', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(300), { maxLength: 200 }), (pauses) => {
        const limit = new RateLimit({ perSecond: 20, burst: 5 });
        let now = 0;
        let got = 0;
        for (const pause of pauses) {
          now += pause;
          if (limit.allow(7, now)) got++;
        }
        assert.ok(got <= 5 + (now * 20) / 1000);
      }),
    );
  });
});

test('the table of sources is bounded, and the oldest source is forgotten', () => {
  const limit = new RateLimit({ perSecond: 0, burst: 1, maxSources: 3 });
  for (const key of [1, 2, 3]) assert.equal(limit.allow(key, 0), true);
  assert.equal(limit.allow(1, 0), false);
  assert.equal(limit.allow(4, 0), true);
  assert.equal(limit.size, 3);
  assert.deepEqual(
    [2, 3, 4].map((key) => limit.allow(key, 0)),
    [false, false, false],
  );
  assert.equal(limit.allow(1, 0), true, 'forgotten, so it starts anew');
});
