// Octets of a relay frame, and refused frames.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { keyring } from '../../../src/ownership/keyring.ts';
import {
  decodeFrame,
  type EnvelopeFault,
  encodeFrame,
  Frame,
  FrameKind,
  HEAD_IPV4,
  HEAD_IPV6,
  headOctets,
  UNBOUND,
} from '../../../src/relay/envelope.ts';

const secrets = ['11'.repeat(32), '22'.repeat(32), '33'.repeat(32)] as const;
const keys = keyring([secrets[0]]);
const message = Buffer.from('OPTIONS sip:a@example.com SIP/2.0\r\nContent-Length: 0\r\n\r\n');

/** Incarnation of the reader, to which frames are bound. */
const OWN = 0x20_2122;

function sample(change: Partial<Frame> = {}): Frame {
  return Object.assign(new Frame(), {
    kind: FrameKind.packet,
    secondChance: 1,
    hops: 2,
    sender: 0x0102,
    senderIncarnation: 0x030405,
    receiver: 0x0607,
    ingress: 0x0809,
    ingressIncarnation: 0x0a0b0c,
    listener: 0x0d,
    connection: 0,
    epoch: 0x0e0f1011,
    sequence: 0x121314151617,
    bound: OWN,
    address: '192.0.2.1',
    port: 5060,
    localAddress: '198.51.100.1',
    localPort: 5070,
    ...change,
  });
}

function encode(frame: Frame, body = message, ring = keys): Buffer {
  const bytes = Buffer.alloc(headOctets(frame) + body.length, 0xaa);
  assert.equal(encodeFrame(ring, frame, body, 0, body.length, bytes, 0), bytes.length);
  return bytes;
}

function decode(bytes: Buffer, ring = keys, own = OWN): EnvelopeFault | Frame {
  const out = new Frame();
  return decodeFrame(bytes, 0, bytes.length, ring, own, out) ?? out;
}

describe('a relay frame', () => {
  test('begins as section 2.2 of the PROXY protocol specification demands, over IPv4', () => {
    const bytes = encode(sample());
    assert.equal(bytes.subarray(0, 12).toString('hex'), '0d0a0d0a000d0a515549540a');
    assert.equal(bytes[12], 0x21);
    assert.equal(bytes[13], 0x12);
    assert.equal(bytes.readUInt16BE(14), 12 + 3 + 40);
    assert.equal(bytes.subarray(16, 28).toString('hex'), `c0000201${'c6336401'}13c413ce`);
    assert.equal(bytes.subarray(28, 31).toString('hex'), 'e00028');
    assert.deepEqual(bytes.subarray(16 + bytes.readUInt16BE(14)), message);
    assert.equal(HEAD_IPV4, 71);
  });

  test('has the fields of the diagram in their places', () => {
    const bytes = encode(sample({ connection: 0x18191a1b }));
    assert.equal(bytes[13], 0x11, 'a message of a connection is STREAM');
    const keyIdAndFlags = ((keys.primary.id << 4) | 1).toString(16).padStart(2, '0');
    assert.equal(
      bytes.subarray(31, 63).toString('hex'),
      `0201${keyIdAndFlags}02` +
        '01020607' +
        '0304050d' +
        '0a0b0c22' +
        '08091213' +
        '14151617' +
        '0e0f1011' +
        '18191a1b',
    );
  });

  test('carries IPv6 addresses, and IPv4 addresses beside IPv6 as IPv4-mapped', () => {
    const bytes = encode(sample({ address: '2001:db8::1', localAddress: '2001:db8:0:1::5' }));
    assert.equal(bytes[13], 0x22);
    assert.equal(bytes.readUInt16BE(14), 36 + 43);
    assert.equal(
      bytes.subarray(16, 52).toString('hex'),
      '20010db8000000000000000000000001' + '20010db8000000010000000000000005' + '13c413ce',
    );
    assert.equal(bytes.length, HEAD_IPV6 + message.length);
    const mixed = decode(encode(sample({ address: '192.0.2.1', localAddress: '::1' })));
    assert.ok(mixed instanceof Frame);
    assert.deepEqual([mixed.address, mixed.localAddress], ['192.0.2.1', '::1']);
  });

  test('is decoded to the same fields and message, whatever they are', () => {
    const number = fc.integer({ min: 0, max: 0xffff });
    const incarnation = fc.integer({ min: 0, max: 0xffffff });
    const word = fc.integer({ min: 0, max: 0xffffffff });
    fc.assert(
      fc.property(
        fc.record({
          kind: fc.constantFrom(...Object.values(FrameKind)),
          secondChance: fc.integer({ min: 0, max: 3 }),
          hops: fc.integer({ min: 0, max: 255 }),
          sender: number,
          senderIncarnation: incarnation,
          receiver: number,
          ingress: number,
          ingressIncarnation: incarnation,
          listener: fc.integer({ min: 0, max: 255 }),
          connection: word,
          epoch: word,
          sequence: fc.integer({ min: 0, max: 2 ** 48 - 1 }),
          port: number,
          localPort: number,
        }),
        fc.constantFrom(
          { address: '10.1.2.3', localAddress: '10.0.0.255' },
          { address: 'fe80::1:2', localAddress: '2001:db8::' },
        ),
        fc.uint8Array({ maxLength: 300 }),
        (fields, addresses, body) => {
          const frame = sample({ ...fields, ...addresses });
          const octets = Buffer.from(body);
          const bytes = encode(frame, octets);
          const before = Buffer.from(bytes);
          const back = decode(bytes);
          assert.ok(back instanceof Frame);
          assert.deepEqual({ ...back }, { ...frame, keyId: keys.primary.id, start: back.start, end: back.end });
          assert.deepEqual(bytes.subarray(back.start, back.end), octets);
          assert.deepEqual(bytes, before, 'reading leaves the octets as they were');
        },
      ),
      { numRuns: 200 },
    );
  });

  test('without addresses has zeros in their places', () => {
    const back = decode(encode(sample({ address: '', port: 0, localAddress: '', localPort: 0 })));
    assert.ok(back instanceof Frame);
    assert.deepEqual([back.address, back.localAddress], ['0.0.0.0', '0.0.0.0']);
  });

  test('is refused when it is cut at any octet, wherever it is in the buffer', () => {
    for (const frame of [sample(), sample({ address: '2001:db8::1' })]) {
      const bytes = encode(frame);
      const room = Buffer.concat([Buffer.alloc(7, 1), bytes, Buffer.alloc(7, 2)]);
      const out = new Frame();
      assert.equal(decodeFrame(room, 7, 7 + bytes.length, keys, OWN, out), null);
      const head = headOctets(frame);
      for (let end = 0; end < bytes.length; end++)
        assert.equal(decodeFrame(room, 7, 7 + end, keys, OWN, out), end < head ? 'short' : 'mac', `cut at ${end}`);
    }
  });

  test('is refused when any single bit is changed', () => {
    for (const frame of [sample(), sample({ address: '2001:db8::1', connection: 7 })]) {
      const bytes = encode(frame);
      for (let bit = 0; bit < bytes.length * 8; bit++) {
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        assert.equal(typeof decode(bytes), 'string', `bit ${bit}`);
        bytes[bit >> 3]! ^= 1 << (bit & 7);
      }
      assert.ok(decode(bytes) instanceof Frame);
    }
  });

  test('has its own reason when version, family or TLV is another, different from that of a forged one', () => {
    const change = (at: number, octet: number): EnvelopeFault | Frame => {
      const bytes = encode(sample());
      bytes[at] = octet;
      return decode(bytes);
    };
    assert.equal(change(31, 3), 'version');
    assert.equal(change(12, 0x20), 'not-a-frame');
    assert.equal(change(13, 0x31), 'not-a-frame');
    assert.equal(change(15, 54), 'not-a-frame');
    assert.equal(change(28, 0xe1), 'not-a-frame');
    assert.equal(change(30, 41), 'not-a-frame');
    assert.equal(change(0, 0x49), 'not-a-frame');
    assert.equal(change(70, 0), 'mac');
  });

  test('is accepted with either key during a rotation, and with neither afterwards', () => {
    const oldFirst = keyring([secrets[0], secrets[1]]);
    const newFirst = keyring([secrets[1], secrets[0]]);
    assert.ok(decode(encode(sample(), message, oldFirst), newFirst) instanceof Frame);
    assert.ok(decode(encode(sample(), message, newFirst), oldFirst) instanceof Frame);
    assert.equal(decode(encode(sample(), message, oldFirst), keyring([secrets[1]])), 'mac');
  });

  test('is refused when it is of another farm, even with the same key id', () => {
    assert.equal(decode(encode(sample(), message, keyring([secrets[2]]))), 'mac');
    let other = 0;
    let foreign = keyring([secrets[2]]);
    while (foreign.primary.id !== keys.primary.id) foreign = keyring([(++other).toString(16).padStart(64, '0')]);
    assert.equal(decode(encode(sample(), message, foreign)), 'mac');
  });

  test('can be read without a key', () => {
    const bytes = encode(sample());
    const out = new Frame();
    assert.equal(decodeFrame(bytes, 0, bytes.length, undefined, UNBOUND, out), null);
    assert.equal(out.sender, 0x0102);
  });

  test('bound to one incarnation is accepted there; else the fault is another incarnation or forgery', () => {
    const bytes = encode(sample());
    for (const [own, verdict] of [
      [OWN + 1, 'other-incarnation'],
      [OWN - 1, 'other-incarnation'],
      [OWN + 128, 'other-incarnation'],
      [OWN - 127, 'other-incarnation'],
      [OWN + 256, 'mac'],
      [OWN - 256, 'mac'],
      [OWN + 1000, 'mac'],
      [UNBOUND, 'mac'],
    ] as const)
      assert.equal(decode(bytes, keys, own), verdict, `${own}`);
    for (let own = 1; own < 200; own++)
      assert.equal(decode(encode(sample({ bound: 1 })), keys, own) instanceof Frame, own === 1, `${own}`);
  });

  test('bound to no incarnation is accepted by none', () => {
    const bytes = encode(sample({ bound: UNBOUND }));
    assert.ok(decode(bytes, keys, UNBOUND) instanceof Frame);
    for (const own of [1, 2, 127, 128, 255, 256, 512, OWN, 0xff_ffff])
      assert.ok(!(decode(bytes, keys, own) instanceof Frame), `${own}`);
  });

  test('from an older member has version 1 and is bound to no incarnation', () => {
    const made =
      '0d0a0d0a000d0a515549540a21120037cb00710ac633640113c413c4e000280101710100030002000007620000070000' +
      '030000000012670000000c00000000adb0122ddfb5154c41434b207369703a626f62406578616d706c652e636f6d2053' +
      '49502f322e300d0a0d0a';
    const ring = keyring(['1'.padStart(64, '0')]);
    const frame = decode(Buffer.from(made, 'hex'), ring, OWN);
    assert.ok(frame instanceof Frame);
    assert.deepEqual([frame.version, frame.bound, frame.sequence], [1, UNBOUND, 4711]);
    const message = Buffer.from(made, 'hex').subarray(frame.start);
    assert.equal(encode(Object.assign(frame, { bound: 9 }), message, ring).toString('hex'), made);
  });

  test('never throws on random octets', () => {
    const start = encode(sample()).subarray(0, 16);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (octets, likely) => {
        const bytes = Buffer.concat([likely ? start : Buffer.alloc(0), octets]);
        assert.equal(typeof decode(bytes), 'string');
      }),
    );
  });
});
