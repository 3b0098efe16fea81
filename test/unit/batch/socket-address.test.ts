// Socket addresses to text and back: no loss, no acceptance of invalid ones, and bounded memory.
import assert from 'node:assert/strict';
import { isIPv4, isIPv6, SocketAddress } from 'node:net';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Destinations, familyAndPort, portOf, SourceNames } from '../../../src/batch/socket-address.ts';

const zones = {
  indexOf: (name: string) => (name === 'eth0' ? 7 : 0),
  nameOf: (index: number) => (index === 7 ? 'eth0' : String(index)),
};

/** Returns the address as the kernel writes it. */
function sockaddr(ipv6: boolean, address: string, port = 5060): Uint32Array {
  const destination = new Destinations(ipv6, zones).find(address);
  assert.ok(destination, address);
  return Uint32Array.of(familyAndPort(ipv6, port), ...destination);
}

describe('a socket address', () => {
  test('is returned unchanged for IPv4, the second time, too', () => {
    const sources = new SourceNames(false, zones);
    fc.assert(
      fc.property(fc.ipV4(), fc.integer({ min: 0, max: 65_535 }), (address, port) => {
        const words = sockaddr(false, address, port);
        for (let time = 0; time < 2; time++) assert.equal(sources.text(words, 0), address);
        assert.equal(portOf(words[0]!), port);
        assert.deepEqual(
          [...new Uint8Array(words.buffer, 2, 6)],
          [port >> 8, port & 255, ...address.split('.').map(Number)],
        );
      }),
    );
  });

  test('is returned in the spelling of Node.js for IPv6', () => {
    const sources = new SourceNames(true, zones);
    fc.assert(
      fc.property(fc.ipV6(), (address) => {
        const canonical = new SocketAddress({ family: 'ipv6', address }).address;
        fc.pre(!canonical.includes('.'));
        const words = sockaddr(true, address);
        for (let time = 0; time < 2; time++) assert.equal(sources.text(words, 0), canonical);
      }),
    );
  });

  test('has its zone on a link, by name or by number, and other addresses have none', () => {
    const sources = new SourceNames(true, zones);
    for (const address of ['fe80::1%eth0', 'fe80::1%9', 'fe80::1', 'febf::2%eth0'])
      assert.equal(sources.text(sockaddr(true, address), 0), address);
    assert.equal(sources.text(sockaddr(true, '2001:db8::1%eth0'), 0), '2001:db8::1');
  });

  test('on a link follows an interface that is renamed or gets another index', () => {
    const links = new Map([['eth0', 7]]);
    const live = {
      indexOf: (name: string) => links.get(name) ?? 0,
      nameOf: (index: number) => [...links].find(([, at]) => at === index)?.[0] ?? String(index),
    };
    const destinations = new Destinations(true, live);
    const sources = new SourceNames(true, live);
    const scope = (address: string): number | undefined => destinations.find(address)?.at(-1);
    const from = sockaddr(true, 'fe80::1%7');
    assert.deepEqual([scope('fe80::1%eth0'), sources.text(from, 0)], [7, 'fe80::1%eth0']);
    links.clear();
    links.set('lan', 7).set('eth0', 9);
    assert.deepEqual([scope('fe80::1%eth0'), sources.text(from, 0)], [9, 'fe80::1%lan']);
  });

  test('is not mixed up with another one in the same cache place', () => {
    const four = new SourceNames(false, zones);
    const six = new SourceNames(true, zones);
    for (let round = 0; round < 2; round++)
      for (let i = 0; i < 20_000; i++) {
        const address = `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`;
        assert.equal(four.text(sockaddr(false, address), 0), address);
        if (i % 10 === 0) {
          const long = `2001:db8::${(i + 1).toString(16)}`;
          assert.equal(six.text(sockaddr(true, long), 0), long);
        }
      }
    assert.equal(new SourceNames(false, zones).text(sockaddr(false, '0.0.0.0'), 0), '0.0.0.0');
  });
});

describe('a destination', () => {
  test('must be a literal of the family of its socket', () => {
    const four = new Destinations(false, zones);
    const six = new Destinations(true, zones);
    for (const text of [
      '',
      'example.com',
      'localhost',
      '1.2.3',
      '1.2.3.256',
      '01.2.3.4',
      '::1',
      '1.2.3.4%eth0',
      ' 1.2.3.4',
    ])
      assert.equal(four.find(text), undefined, text);
    for (const text of ['', '1.2.3.4', '1::2::3', ':', 'fe80::1%nowhere', 'fe80::1%', '[::1]'])
      assert.equal(six.find(text), undefined, text);
    fc.assert(
      fc.property(fc.string(), (text) => {
        if (!isIPv4(text)) assert.equal(four.find(text), undefined);
        if (!isIPv6(text)) assert.equal(six.find(text), undefined);
      }),
    );
  });

  test('is recognized again, also after many others', () => {
    const destinations = new Destinations(false, zones);
    const first = destinations.find('192.0.2.1');
    assert.equal(destinations.find('192.0.2.1'), first);
    for (let i = 0; i < 10_000; i++) destinations.find(`10.0.${i >> 8}.${i & 255}`);
    assert.notEqual(destinations.find('192.0.2.1'), first);
    assert.deepEqual(destinations.find('192.0.2.1'), first);
  });
});
