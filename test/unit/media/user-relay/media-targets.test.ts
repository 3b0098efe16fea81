import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Side } from '../../../../src/media/media-relay.ts';
import { MediaTargets } from '../../../../src/media/user-relay/media-targets.ts';

const { outside, inside } = Side;
const OWN_PORT = 20_000;

const targets = new MediaTargets({
  sides: [
    { address: '198.51.100.1', advertised: '203.0.113.1', first: 20_000, last: 29_999 },
    { address: '127.0.0.9', first: 30_000, last: 39_999 },
  ],
  own: [{ address: '198.51.100.1', port: 5060 }],
});

const CASES: readonly (readonly [string, Side, string, number, boolean])[] = [
  ['a client', outside, '192.0.2.7', 4000, true],
  ['a client of IPv6', outside, '2001:db8::7', 4000, true],
  ['port 0', outside, '192.0.2.7', 0, false],
  ['loopback, of a client', outside, '127.0.0.1', 4000, false],
  ['loopback, of the SIP server, with the inside address there', inside, '127.0.0.1', 4000, true],
  ['loopback of IPv6, of the SIP server', inside, '::1', 4000, false],
  ['link-local', outside, '169.254.1.1', 4000, false],
  ['multicast', inside, '224.0.0.1', 4000, false],
  ['broadcast', outside, '255.255.255.255', 4000, false],
  ['zeros', outside, '0.0.0.0', 4000, false],
  ['loopback in IPv6 clothes', outside, '::ffff:127.0.0.1', 4000, false],
  ['a port of this node', outside, '198.51.100.1', 5060, false],
  ['another port at its address', outside, '198.51.100.1', 4000, true],
  ['a media port of the same side', outside, '198.51.100.1', 20_002, false],
  ['the last media port', outside, '198.51.100.1', 29_999, false],
  ['a media port at the advertised address', outside, '203.0.113.1', 20_002, false],
  ['the port of another member at that address', outside, '203.0.113.1', 30_002, true],
  ['a media port of the other side', inside, '198.51.100.1', 20_002, false],
  ['an inside port, of another call through the SIP server', inside, '127.0.0.9', 30_000, true],
  ['the number of a media port elsewhere', outside, '192.0.2.7', 20_002, true],
];

describe('a place of media', () => {
  for (const [name, side, address, port, wanted] of CASES)
    test(`is ${wanted ? 'allowed' : 'forbidden'}: ${name}`, () => {
      assert.equal(targets.allows(side, address, port, OWN_PORT), wanted);
    });

  test('is forbidden: the own port of the leg', () => {
    assert.equal(targets.allows(inside, '127.0.0.9', 30_004, 30_004), false);
  });
});
