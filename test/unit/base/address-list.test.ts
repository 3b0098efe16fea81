// Address literals as numbers, and lists of networks with exceptions.
import assert from 'node:assert/strict';
import net from 'node:net';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import { ipv4Inside, isMapped, readGroups } from '../../../src/base/address.ts';
import { AddressList, isNetworkText } from '../../../src/base/address-list.ts';

const groups = new Uint16Array(8);

/** Returns the literal without a dotted quad: ipaddr.js wrongly reads "::192.0.2.1" as a mapped address. */
function canonical(text: string): string {
  return text.includes(':') ? new URL(`http://[${text}]/`).hostname.slice(1, -1) : text;
}

describe('an address literal', () => {
  test('is read as by ipaddr.js', () => {
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (text) => {
        assert.equal(readGroups(text, groups), true, text);
        const parsed = ipaddr.parse(canonical(text));
        const expected = parsed instanceof ipaddr.IPv4 ? parsed.toIPv4MappedAddress().parts : parsed.parts;
        assert.deepEqual([...groups], expected);
      }),
      { numRuns: 2000 },
    );
  });

  test('is accepted or refused as by the system', () => {
    const text = fc.oneof(
      fc.string({ unit: fc.constantFrom(...'01259afF:::..%'), maxLength: 24 }),
      fc
        .tuple(fc.oneof(fc.ipV4(), fc.ipV6()), fc.nat(40), fc.constantFrom('', ':', '.', '0', 'g'))
        .map(([address, at, extra]) => address.slice(0, at) + extra + address.slice(at + 1)),
    );
    fc.assert(
      fc.property(text, (candidate) => {
        fc.pre(!candidate.includes('%'));
        assert.equal(readGroups(candidate, groups), net.isIP(candidate) !== 0, candidate);
      }),
      { numRuns: 5000 },
    );
  });

  test('may have a zone', () => {
    assert.equal(readGroups('fe80::1%eth0', groups), true);
    assert.deepEqual([...groups], [0xfe80, 0, 0, 0, 0, 0, 0, 1]);
  });

  for (const text of [
    '',
    ':',
    '1',
    '1.2.3',
    '1.2.3.4.5',
    '01.2.3.4',
    '256.1.1.1',
    '1::2::3',
    '::1:',
    '1:2:3:4:5:6:7::8',
    'x',
  ])
    test(`is not "${text}"`, () => assert.equal(readGroups(text, groups), false));

  test('is recognized in mapped form', () => {
    readGroups('::ffff:192.0.2.1', groups);
    assert.equal(isMapped(groups), true);
    readGroups('::fffe:192.0.2.1', groups);
    assert.equal(isMapped(groups), false);
  });
});

describe('an IPv6 literal', () => {
  for (const [text, expected] of [
    ['::127.0.0.1', ['127.0.0.1']],
    ['::7f00:1', ['127.0.0.1']],
    ['::ffff:0:192.0.2.1', ['192.0.2.1']],
    ['2002:c000:201::1', ['192.0.2.1']],
    ['64:ff9b::10.0.0.11', ['10.0.0.11']],
    // The length of the prefix is unknown (RFC 6052 2.4), so each reading counts.
    ['64:ff9b:1:c000:2:2100::', ['192.0.2.33', '2.33.0.0']],
    ['64:ff9b:1:5c0:0:221::', ['5.192.0.2', '192.0.2.33']],
    ['64:ff9b:1:5:c0:2:2100::', ['5.192.0.2', '192.0.2.33', '33.0.0.0']],
    ['64:ff9b:1::192.0.2.33', ['192.0.2.33']],
    ['::ffff:192.0.2.1', []],
    ['::1', []],
    ['::', []],
    ['2001:db8::192.0.2.1', []],
    ['64:ff9b:2::192.0.2.1', []],
    ['192.0.2.1', []],
    ['::1::', []],
  ] as const)
    test(`${text} leads to ${expected.join(', ') || 'no other IPv4 address'}`, () =>
      assert.deepEqual(ipv4Inside(text), expected));
});

describe('an address list', () => {
  test('matches nothing when it is empty or only excludes', () => {
    assert.equal(new AddressList([]).matches('192.0.2.1'), false);
    assert.equal(new AddressList(['!192.0.2.1']).matches('192.0.2.2'), false);
  });

  const list = new AddressList(['192.0.2.0/24', '!192.0.2.7', '203.0.113.9', '2001:db8::/32', '!2001:db8:bad::/48']);
  for (const [address, expected] of [
    ['192.0.2.0', true],
    ['192.0.2.255', true],
    ['192.0.3.0', false],
    ['192.0.2.7', false],
    ['::ffff:192.0.2.8', true],
    ['::ffff:192.0.2.7', false],
    ['203.0.113.9', true],
    ['203.0.113.8', false],
    ['2001:db8:1::1', true],
    ['2001:DB8:1::1', true],
    ['2001:db8:bad::1', false],
    ['2001:db9::1', false],
    ['no address', false],
    ['', false],
  ] as const)
    test(`${expected ? 'matches' : 'does not match'} ${address || 'an empty text'}`, () =>
      assert.equal(list.matches(address), expected));

  test('matches plain IPv4 by a mapped network', () => {
    assert.equal(new AddressList(['::ffff:10.0.0.0/104']).matches('10.1.2.3'), true);
  });

  test('separates the families: all of one contains none of the other', () => {
    assert.deepEqual(
      ['10.0.0.1', '2001:db8::1'].map((address) => new AddressList(['::/0']).matches(address)),
      [false, true],
    );
    assert.deepEqual(
      ['10.0.0.1', '2001:db8::1'].map((address) => new AddressList(['0.0.0.0/0']).matches(address)),
      [true, false],
    );
  });

  test('agrees with ipaddr.js on every network', () => {
    const v6 = fc.ipV6().map(canonical);
    const pair = fc.oneof(
      fc.record({ address: fc.ipV4(), base: fc.ipV4(), length: fc.integer({ min: 0, max: 32 }) }),
      fc.record({ address: v6, base: v6, length: fc.integer({ min: 0, max: 128 }) }),
    );
    fc.assert(
      fc.property(pair, fc.boolean(), ({ address, base, length }, near) => {
        const subject = near ? base : address;
        const parsed = ipaddr.parse(subject);
        fc.pre(![subject, base].some((text) => /^::ffff:/i.test(ipaddr.parse(text).toString())));
        const [network, bits] = ipaddr.parseCIDR(`${base}/${length}`);
        assert.equal(
          new AddressList([`${base}/${length}`]).matches(subject),
          parsed.kind() === network.kind() && parsed.match([network, bits] as never),
        );
      }),
      { numRuns: 1000 },
    );
  });

  for (const entry of [
    '',
    '!',
    '192.0.2.0/33',
    '192.0.2.0/',
    '2001:db8::/129',
    '1/8',
    'example.com',
    '10.0.0.1-10.0.0.9',
  ])
    test(`refuses the entry "${entry}"`, () => {
      assert.equal(isNetworkText(entry), false);
      assert.throws(() => new AddressList([entry]), { code: 'SF_CONFIG_INVALID' });
    });
});
