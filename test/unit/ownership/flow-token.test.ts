// Flow tokens: a signed remote address or connection; and addresses as octets.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { readAddress, writeAddress } from '../../../src/base/address-octets.ts';
import { readFlow, readWay, writeFlowToken, writeWayToken } from '../../../src/ownership/flow-token.ts';
import { keyring } from '../../../src/ownership/keyring.ts';
import { mintToken, readToken, Token, TokenKind } from '../../../src/ownership/token.ts';
import { emptyWay, type Flow } from '../../../src/packet/flow.ts';

const keys = keyring(['33'.repeat(32)]);
const token = new Token();
const empty = (): Flow => ({ member: 0, incarnation: 0, listener: 0, connection: 0, address: '', port: 0 });

/** Returns the flow after encoding and decoding; undefined when the token is no flow. */
function carried(flow: Flow): Flow | undefined {
  const text = Buffer.alloc(80);
  const end = writeFlowToken(keys, flow, text, 0);
  assert.ok(end <= 57, `${end} characters`);
  assert.equal(readToken(keys, text, 0, end, token), 'valid');
  const out = empty();
  return readFlow(token, out) ? out : undefined;
}

/** Returns the RFC 5952 spelling of the platform's URL parser. */
function canonical(address: string): string {
  return new URL(`http://[${address}]/`).hostname.slice(1, -1);
}

const head = {
  member: fc.integer({ min: 1, max: 65535 }),
  incarnation: fc.integer({ min: 1, max: 0xffffff }),
  listener: fc.nat(255),
};

describe('a flow token', () => {
  test('contains an IPv4 address and port', () => {
    fc.assert(
      fc.property(fc.record({ ...head, connection: fc.constant(0), address: fc.ipV4(), port: fc.nat(65535) }), (flow) =>
        assert.deepEqual(carried(flow), { ...flow }),
      ),
    );
  });

  test('contains an IPv6 address, in the text of RFC 5952', () => {
    const v6 = fc.ipV6().filter((address) => !canonical(address).startsWith('::ffff:'));
    fc.assert(
      fc.property(fc.record({ ...head, connection: fc.constant(0), address: v6, port: fc.nat(65535) }), (flow) =>
        assert.deepEqual(carried(flow), { ...flow, address: canonical(flow.address) }),
      ),
      { numRuns: 500 },
    );
  });

  test('contains a connection, without its address', () => {
    fc.assert(
      fc.property(
        fc.record({
          ...head,
          connection: fc.integer({ min: 1, max: 0xffffffff }),
          address: fc.ipV6(),
          port: fc.nat(65535),
        }),
        (flow) => assert.deepEqual(carried(flow), { ...flow, address: '', port: 0 }),
      ),
    );
  });

  test('can also contain the address of its party, and is then still readable as a bare flow', () => {
    fc.assert(
      fc.property(
        fc.record({
          ...head,
          connection: fc.constantFrom(0, 7),
          address: fc.ipV4(),
          port: fc.nat(65535),
          target: fc.nat(0x7fffffff),
          nat: fc.boolean(),
        }),
        (way) => {
          const room = Buffer.alloc(100);
          const end = writeWayToken(keys, way, room, 0);
          assert.equal(readToken(keys, room, 0, end, token), 'valid');
          const expected = { ...way, ...(way.connection !== 0 && { address: '', port: 0 }) };
          const read = emptyWay();
          assert.ok(readWay(token, read));
          assert.deepEqual(read, expected);
          const { target: _target, nat: _nat, ...flow } = expected;
          const bare = empty();
          assert.ok(readFlow(token, bare));
          assert.deepEqual(bare, flow);
          // A token without a party leaves the party's address unset.
          assert.equal(readToken(keys, room, 0, writeFlowToken(keys, way, room, 0), token), 'valid');
          assert.ok(readWay(token, read));
          assert.deepEqual([read.target, read.nat], [-1, false]);
        },
      ),
    );
  });

  test('is not read from a token of another kind or from a length that no flow has', () => {
    const read = (kind: TokenKind, octets: number): boolean => {
      const text = mintToken(keys, kind, 1, 1, new Uint8Array(octets).fill(1));
      assert.equal(readToken(keys, Buffer.from(text), 0, text.length, token), 'valid');
      return readFlow(token, empty());
    };
    for (const kind of Object.values(TokenKind))
      for (let octets = 0; octets <= 23; octets++) {
        const good =
          (kind === TokenKind.streamFlow && (octets === 5 || octets === 9)) ||
          (kind === TokenKind.datagramFlow && [7, 11, 19, 23].includes(octets));
        assert.equal(read(kind, octets), good, `kind ${kind}, ${octets} octets`);
      }
  });
});

describe('an address in octets', () => {
  const through = (address: string): string => {
    const octets = new Uint8Array(20);
    return readAddress(octets, 2, writeAddress(address, octets, 2));
  };

  for (const [address, expected] of [
    ['192.0.2.255', '192.0.2.255'],
    ['0.0.0.0', '0.0.0.0'],
    ['::', '::'],
    ['::1', '::1'],
    ['2001:db8::', '2001:db8::'],
    ['2001:0DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['fe80::1%eth0', 'fe80::1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
  ] as const)
    test(`${address} is decoded as ${expected}`, () => assert.equal(through(address), expected));

  test('does not depend on earlier contents of the buffer', () => {
    const octets = new Uint8Array(16).fill(255);
    writeAddress('2001:db8::1', octets, 0);
    assert.equal(readAddress(octets, 0, 16), '2001:db8::1');
  });
});
