// Number of answers that a source can cause.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { RateLimit, sourcePrefix } from '../../../src/base/rate-limit.ts';

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

describe('sources are counted', () => {
  for (const [a, b, same] of [
    ['192.0.2.1', '192.0.2.254', true],
    ['192.0.2.1', '192.0.3.1', false],
    ['192.0.2.1', '::ffff:192.0.2.9', true],
    ['2001:db8:0:100::1', '2001:db8:0:1ff:ffff::', true],
    ['2001:db8:0:100::1', '2001:db8:0:200::1', false],
    ['2001:db8:0:100::1', '2001:db8:1:100::1', false],
    ['2001:db8:0:100::1', '2001:db9:0:100::1', false],
    ['2001:db8::', '2801:db8::', false],
    ['::1', '0.0.0.1', false],
  ] as const)
    test(`${same ? 'together' : 'apart'}: ${a} and ${b}`, () =>
      assert.equal(sourcePrefix(a) === sourcePrefix(b), same));

  test('apart for every two global /56 networks', () => {
    const octet = fc.integer({ min: 0, max: 255 });
    const prefix = fc.tuple(fc.integer({ min: 0x20, max: 0x3f }), octet, octet, octet, octet, octet, octet);
    const text = (p: readonly number[]): string => {
      const hex = [...p, 0].map((value) => value.toString(16).padStart(2, '0')).join('');
      return `${hex.match(/.{4}/g)!.join(':')}::1`;
    };
    fc.assert(
      fc.property(prefix, prefix, fc.boolean(), fc.nat(6), (a, b, near, at) => {
        const other = near ? a.map((value, i) => (i === at ? value ^ 1 : value)) : b;
        assert.equal(sourcePrefix(text(a)) === sourcePrefix(text(other)), text(a) === text(other));
      }),
    );
  });

  test('under one common number when the text is no address', () => {
    assert.equal(sourcePrefix('nonsense'), sourcePrefix(''));
    assert.notEqual(sourcePrefix('nonsense'), sourcePrefix('255.255.255.255'));
  });
});
