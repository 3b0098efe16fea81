// Forbidden targets, also behind IPv6 addresses that lead to IPv4.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ForbiddenTargets } from '../../../src/egress/forbidden-targets.ts';

/** Spellings of an IPv4 address as an IPv6 address that leads to it. */
const WAYS: Readonly<Record<string, (quad: string) => string>> = {
  plain: (quad) => quad,
  mapped: (quad) => `::ffff:${quad}`,
  compatible: (quad) => `::${quad}`,
  translated: (quad) => `::ffff:0:${quad}`,
  '6to4': (quad) => `2002:${hex(quad).join(':')}::1`,
  NAT64: (quad) => `64:ff9b::${quad}`,
  'NAT64 of a site': (quad) => `64:ff9b:1::${quad}`,
};

function hex(quad: string): string[] {
  const [a = 0, b = 0, c = 0, d = 0] = quad.split('.').map(Number);
  return [a * 256 + b, c * 256 + d].map((group) => group.toString(16));
}

const edge = { address: '198.51.100.1', port: 5060 };
const relay = { address: '10.0.0.11', port: 5064 };

describe('targets', () => {
  const forbidden = new ForbiddenTargets([edge], [relay, { address: '0.0.0.0', port: 8060 }]);
  for (const [way, write] of Object.entries(WAYS))
    it(`on the forbidden list are refused, spelled ${way}`, () => {
      for (const [quad, port] of [
        ['127.0.0.1', 5060],
        ['127.9.9.9', 5060],
        ['169.254.1.1', 5060],
        ['224.0.0.1', 5060],
        ['255.255.255.255', 5060],
        [relay.address, relay.port],
        ['192.0.2.7', 8060],
      ] as const)
        assert.equal(forbidden.has(write(quad), port), true, `${write(quad)} port ${port}`);
      assert.equal(forbidden.hasNoHost(write('224.0.0.1')), true);
    });

  for (const [way, write] of Object.entries(WAYS))
    it(`off the forbidden list are allowed, spelled ${way}`, () => {
      for (const [quad, port] of [
        ['192.0.2.7', 5060],
        [relay.address, 5060],
      ] as const)
        assert.equal(forbidden.has(write(quad), port), false, `${write(quad)} port ${port}`);
    });
});

it('a listener on a private network allows it as target, also loopback of IPv6', () => {
  const forbidden = new ForbiddenTargets([{ address: '::1', port: 5060 }], []);
  assert.equal(forbidden.has('::1', 5070), false);
  assert.equal(forbidden.has('::127.0.0.1', 5070), true);
});
