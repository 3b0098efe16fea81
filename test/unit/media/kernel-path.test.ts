// Which paths the kernel can forward.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseEndpoint } from '../../../src/base/endpoint.ts';
import { arrivalKey, departureKey, type KernelPath, refusalOf } from '../../../src/media/kernel/kernel-path.ts';

const endpoint = (text: string) => parseEndpoint(text) ?? { address: text, port: 1 };

/** A path in the order of its packets: from, at, by, to. */
function path(...[from, at, by, to]: readonly [string, string, string, string]): KernelPath {
  return { from: endpoint(from), at: endpoint(at), by: endpoint(by), to: endpoint(to) };
}

const OWN = new Set(['198.51.100.1', '10.0.0.11', '2001:db8::1']);
const [AT, BY] = ['198.51.100.1:20000', '10.0.0.11:30000'];
const [AT6, BY6] = ['[2001:db8::1]:20000', '[2001:db8::1]:30000'];

describe('a path', () => {
  for (const [title, given, expected] of [
    ['between two other hosts', path('203.0.113.5:4000', AT, BY, '10.0.0.40:5000'), undefined],
    ['over IPv6', path('[2001:db8:c::5]:4000', AT6, BY6, '[2001:db8:d::6]:5000'), undefined],
    ['from IPv6 to IPv4', path('[2001:db8:c::5]:4000', AT6, BY, '10.0.0.40:5000'), 'families'],
    ['to IPv6 at the far side alone', path('203.0.113.5:4000', AT, BY, '[2001:db8:d::6]:5000'), 'families'],
    ['to a name', path('203.0.113.5:4000', AT, BY, 'example.com'), 'families'],
    ['to a text of nft', path('203.0.113.5:4000', AT, BY, '10.0.0.40 } ; flush ruleset'), 'families'],
    ['to this host', path('203.0.113.5:4000', AT, BY, '10.0.0.11:5000'), 'local'],
    ['from this host', path('10.0.0.11:4000', AT, BY, '10.0.0.40:5000'), 'local'],
    ['to the loopback', path('203.0.113.5:4000', AT, BY, '127.0.0.9:5000'), 'loopback'],
    ['by the loopback', path('203.0.113.5:4000', AT, '127.0.0.1:30000', '10.0.0.40:5000'), 'loopback'],
    ['over the loopback of IPv6', path('[::1]:4000', AT6, BY6, '[2001:db8:d::6]:5000'), 'loopback'],
    ['to a link-local address', path('203.0.113.5:4000', AT, BY, '169.254.1.1:5000'), 'link-local'],
    ['from a link-local address', path('[fe80::5]:4000', AT6, BY6, '[2001:db8:d::6]:5000'), 'link-local'],
    ['from an address with a zone', path('2001:db8::5%eth0', AT6, BY6, '[2001:db8:d::6]:5000'), 'link-local'],
    ['at all addresses', path('203.0.113.5:4000', '0.0.0.0:20000', BY, '10.0.0.40:5000'), 'wildcard'],
    ['to no port', path('203.0.113.5:4000', AT, BY, '10.0.0.40:0'), 'wildcard'],
  ] as const)
    it(`${title}: ${expected ?? 'in the kernel'}`, () => {
      assert.equal(
        refusalOf(given, (address) => OWN.has(address)),
        expected,
      );
    });

  it('has the key of its packets before and after the change of their destination', () => {
    const given = path('203.0.113.5:4000', AT, BY, '10.0.0.40:5000');
    assert.equal(arrivalKey(given), '203.0.113.5:4000 198.51.100.1:20000');
    assert.equal(departureKey(given), '203.0.113.5:4000 10.0.0.40:5000');
  });
});
