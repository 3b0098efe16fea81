import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { sourceOf, sourcePrefix } from '../../../src/base/source.ts';

describe('unverified sources are counted', () => {
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

describe('connections are counted', () => {
  for (const [a, b, same] of [
    ['192.0.2.1', '192.0.2.1', true],
    ['192.0.2.1', '192.0.2.2', false],
    ['192.0.2.1', '192.1.2.1', false],
    ['192.0.2.1', '::ffff:192.0.2.1', true],
    ['::ffff:192.0.2.1', '::ffff:192.0.2.2', false],
    ['2001:db8:0:1::1', '2001:db8:0:1:ffff:ffff:ffff:ffff', true],
    ['2001:db8:0:1::1', '2001:db8:0:2::1', false],
    ['2001:db8:0:1::1', '2001:db9:0:1::1', false],
    ['fe80::1%eth0', 'fe80::2%eth1', true],
    ['::1', '0.0.0.1', false],
  ] as const)
    test(`${same ? 'together' : 'apart'}: ${a} and ${b}`, () => assert.equal(sourceOf(a) === sourceOf(b), same));
});
