// IP literals and their octets, in both directions, also after many others.
import assert from 'node:assert/strict';
import net from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import { addressOctets, canonicalAddress, readAddress, writeAddress } from '../../../src/base/address-octets.ts';

const text = (octets: Uint8Array): string => readAddress(octets, 0, octets.length);

test("an address is read like the system's spelling", () => {
  assert.equal(text(Uint8Array.of(192, 0, 2, 255)), '192.0.2.255');
  assert.equal(text(new Uint8Array(4)), '0.0.0.0');
  assert.equal(text(new Uint8Array(16)), '::');
  const mapped = new Uint8Array(16);
  mapped.set([255, 255, 192, 0, 2, 1], 10);
  assert.equal(text(mapped), '192.0.2.1');
});

for (const [family, octets] of [
  ['IPv4', 4],
  ['IPv6', 16],
] as const)
  test(`${family} addresses are returned octet for octet, whatever was read in between`, () => {
    const address = fc.uint8Array({ minLength: octets, maxLength: octets });
    fc.assert(
      fc.property(fc.array(address, { minLength: 1, maxLength: 200 }), (addresses) => {
        for (const each of [...addresses, ...addresses]) {
          const read = text(each);
          const back = new Uint8Array(20).fill(0xaa);
          const written = writeAddress(read, back, 2);
          assert.ok(net.isIP(read));
          assert.deepEqual(back.subarray(2 + written), new Uint8Array(18 - written).fill(0xaa));
          if (written === octets) assert.deepEqual(back.slice(2, 2 + octets), each);
          else assert.deepEqual(each.slice(0, 12), Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255));
        }
      }),
      { numRuns: 100 },
    );
  });

test('addresses beyond the size of the cache are still distinct', () => {
  const octets = new Uint8Array(16).fill(0x20);
  for (let round = 0; round < 2; round++)
    for (let i = 0; i < 20_000; i++) {
      octets[14] = i >>> 8;
      octets[15] = i;
      assert.equal(readAddress(octets, 12, 4), `32.32.${i >>> 8}.${i & 255}`);
      assert.equal(readAddress(octets, 0, 16), `2020:2020:2020:2020:2020:2020:2020:${i.toString(16)}`);
    }
});

test('the octets of a literal are those that ipaddr.js gives, whatever its zone', () => {
  for (const address of ['192.0.2.1', '0.0.0.0', '::', '::1', '2001:db8::a:0:0:1', '::ffff:192.0.2.1', 'fe80::1%eth0'])
    assert.deepEqual([...addressOctets(address)], ipaddr.parse(address.replace(/%.*/, '')).toByteArray(), address);
});

test('two spellings of one address have one canonical text, and the zone stays', () => {
  for (const [address, canonical] of [
    ['192.0.2.1', '192.0.2.1'],
    ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['2001:db8::0001', '2001:db8::1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['FE80:0::1%eth0', 'fe80::1%eth0'],
  ] as const)
    assert.equal(canonicalAddress(address), canonical);
});
