import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decode } from '../../../src/admin/decode.ts';
import { SipfarmError } from '../../../src/base/errors.ts';
import { showDecoded } from '../../../src/cli/summary.ts';
import { writeFlowToken, writeWayToken } from '../../../src/ownership/flow-token.ts';
import { keyring } from '../../../src/ownership/keyring.ts';
import { mintToken, TokenKind } from '../../../src/ownership/token.ts';
import { encodeFrame, Frame, FrameKind, headOctets } from '../../../src/relay/envelope.ts';

const KEYS = keyring(['ab'.repeat(32)]);
const OTHER = keyring(['cd'.repeat(32)]);
const REFUSED = (error: unknown): boolean => error instanceof SipfarmError && error.code === 'SF_DECODE_FAILED';

function frameHex(): string {
  const frame = new Frame();
  Object.assign(frame, { kind: FrameKind.packet, sender: 2, receiver: 3, senderIncarnation: 7, ingress: 2, epoch: 9 });
  frame.bound = 1000;
  Object.assign(frame, { address: '192.0.2.7', port: 40_000, localAddress: '198.51.100.1', localPort: 5060, hops: 1 });
  const message = Buffer.from('OPTIONS sip:x SIP/2.0\r\n\r\n');
  const bytes = Buffer.alloc(headOctets(frame) + message.length);
  const end = encodeFrame(KEYS, frame, message, 0, message.length, bytes, 0);
  return bytes.toString('hex', 0, end);
}

test('a token is decoded into its fields, and is valid with the right key', () => {
  const text = mintToken(KEYS, TokenKind.dialog, 12, 345);
  assert.deepEqual(decode(text, KEYS), {
    what: 'token',
    text,
    verified: true,
    keyId: KEYS.primary.id,
    kind: 'dialog',
    member: 12,
    incarnation: 345,
    value: '',
  });
});

test('the fields are decoded without a key and not verified; with a foreign key the result is invalid', () => {
  const text = mintToken(KEYS, TokenKind.dialog, 12, 345);
  assert.partialDeepStrictEqual(decode(text), { verified: null, member: 12, incarnation: 345 });
  assert.partialDeepStrictEqual(decode(text, OTHER), { verified: false, member: 12, incarnation: 345 });
});

test('a branch is found in a complete Via line, in any letter case', () => {
  const branch = `z9hG4bK${mintToken(KEYS, TokenKind.outward, 3, 1, new Uint8Array(8))}`;
  const line = `Via: SIP/2.0/UDP 198.51.100.1:5060;branch=${branch.toUpperCase()};rport`;
  assert.partialDeepStrictEqual(decode(line, KEYS), { what: 'branch', verified: true, kind: 'outward', member: 3 });
});

test('the token of a way contains its flow and whether the party is behind a NAT', () => {
  const room = Buffer.alloc(100);
  const way = { member: 4, incarnation: 2, listener: 1, connection: 9, address: '', port: 0, target: 77, nat: true };
  const decoded = decode(room.toString('latin1', 0, writeWayToken(KEYS, way, room, 0)), KEYS);
  assert.ok(decoded.what === 'token');
  assert.deepEqual([decoded.flow?.connection, decoded.behindNat], [9, true]);
  assert.match(showDecoded(decoded), /^behind a NAT +yes$/m);
});

test('a flow token contains its flow', () => {
  const room = Buffer.alloc(64);
  const flow = { member: 4, incarnation: 2, listener: 1, connection: 0, address: '2001:db8::7', port: 5061 };
  const text = room.toString('latin1', 0, writeFlowToken(KEYS, flow, room, 0));
  assert.partialDeepStrictEqual(decode(`<sip:${text}@198.51.100.1;lr>`, KEYS), {
    kind: 'datagramFlow',
    verified: true,
    flow: { listener: 1, connection: 0, address: '2001:db8::7', port: 5061 },
  });
});

test('a relay frame is decoded into its fields and its message', () => {
  const decoded = decode(frameHex(), KEYS);
  assert.ok(decoded.what === 'frame');
  assert.equal(decoded.verified, true);
  assert.partialDeepStrictEqual(decoded.fields, {
    version: 2,
    kind: 'packet',
    sender: 2,
    receiver: 3,
    bound: 1000,
    epoch: 9,
    hops: 1,
    source: '192.0.2.7:40000',
    local: '198.51.100.1:5060',
  });
  assert.equal(decoded.message, 'OPTIONS sip:x SIP/2.0\r\n\r\n');
  assert.equal(decode(frameHex()).verified, null);
  assert.equal(decode(frameHex(), OTHER).verified, false);
});

test('blanks and colons between the octets of a frame are skipped', () => {
  const spaced = frameHex().replace(/../g, '$&:').replace(/.{48}/g, '$&\n');
  assert.equal(decode(spaced, KEYS).verified, true);
});

test('a frame cut inside its head is refused', () => {
  const hex = frameHex();
  for (let length = 24; length < 142; length++) assert.throws(() => decode(hex.slice(0, length), KEYS), REFUSED);
});

test('a text that is no token and no frame is refused, and no other error is thrown', () => {
  const refusedOrDecoded = (text: string): void => {
    try {
      decode(text, KEYS);
    } catch (error) {
      if (!REFUSED(error)) throw error;
    }
  };
  for (const text of ['', 'sf', 'z9hG4bK', 'z9hG4bKabc', '0d0a', `sf${'0'.repeat(24)}`, 'x'.repeat(200_000)])
    assert.throws(() => decode(text, KEYS), REFUSED, text.slice(0, 40));
  fc.assert(fc.property(fc.string(), refusedOrDecoded));
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(...'0123456789abcdefghijklmnopqrstuv'), maxLength: 60 }), (text) =>
      refusedOrDecoded(`sf${text}`),
    ),
  );
});
