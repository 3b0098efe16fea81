// Classes of datagrams, and answers to STUN requests (RFC 5626 section 4.4, RFC 5389).
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { CLASS_NAMES, classify, skipLineEnds } from '../../../src/transport/classify.ts';
import { answerStun } from '../../../src/transport/stun.ts';
import { message } from './bench.ts';

function classOf(octets: Buffer | string): string {
  const bytes = typeof octets === 'string' ? Buffer.from(octets, 'latin1') : octets;
  return CLASS_NAMES[classify(bytes, skipLineEnds(bytes, 0, bytes.length), bytes.length)]!;
}

/** Returns a STUN message with attributes given as [type, octets of value]. */
function stun(type: number, attributes: readonly (readonly [number, number])[] = []): Buffer {
  const body = attributes.map(([kind, length]) => {
    const attribute = Buffer.alloc(4 + Math.ceil(length / 4) * 4, 0x41);
    attribute.writeUInt16BE(kind, 0);
    attribute.writeUInt16BE(length, 2);
    return attribute;
  });
  const header = Buffer.from('00000000 2112a442 0102030405060708090a0b0c'.replaceAll(' ', ''), 'hex');
  header.writeUInt16BE(type, 0);
  header.writeUInt16BE(Buffer.concat(body).length, 2);
  return Buffer.concat([header, ...body]);
}

const SOFTWARE = 0x8022;
const CHANGE_REQUEST = 0x0003;

describe('a datagram', () => {
  for (const [kind, what, octets] of [
    ['sip', 'a request', message()],
    ['sip', 'a response', 'SIP/2.0 200 OK\r\n\r\n'],
    ['sip', 'an extension method of odd token characters', "!interesting-Method0123456789_*+`.%indeed'~ a SIP/2.0\r\n"],
    ['sip', 'a request behind line ends', `\r\n\r\n${message()}`],
    ['keepalive', 'empty', ''],
    ['keepalive', 'a CRLF', '\r\n'],
    ['keepalive', 'a double CRLF', '\r\n\r\n'],
    ['keepalive', 'one NUL', '\0'],
    ['keepalive', 'four NUL', '\0\0\0\0'],
    ['keepalive', 'NUL and CRLF', '\0\r\n'],
    ['garbage', 'five NUL', '\0\0\0\0\0'],
    ['garbage', 'a PROXY v2 header', '\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c'],
    ['garbage', 'RTP', '\x80\x00\x12\x34\0\0\0\0\0\0\0\0'],
    ['garbage', 'a TLS record', '\x16\x03\x01\x02\0\x01'],
    ['stun', 'a Binding request', stun(1)],
    ['stun', 'a Binding indication', stun(0x11)],
    ['garbage', 'STUN cut short', stun(1, [[SOFTWARE, 8]]).subarray(0, 24)],
    ['garbage', 'STUN without the cookie', Buffer.from(stun(1).fill(0, 4, 5))],
    [
      'garbage',
      'STUN of a length that is no multiple of four',
      Buffer.concat([stun(1).fill(2, 3, 4), Buffer.alloc(2)]),
    ],
  ] as const) {
    test(`that is ${what} is ${kind}`, () => assert.equal(classOf(octets), kind));
  }

  test('with any octets has a class', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (octets) => {
        assert.ok(CLASS_NAMES.includes(classOf(Buffer.from(octets)) as (typeof CLASS_NAMES)[number]));
      }),
    );
  });
});

describe('a STUN Binding request', () => {
  const question = stun(1, [[SOFTWARE, 20]]);

  test('gets the IPv4 address of its source, combined with the cookie', () => {
    const answer = answerStun(question, 0, question.length, '192.0.2.1', 32_853);
    // The mapped address of RFC 5769 section 2.2.
    assert.equal(answer?.toString('hex'), '0101000c2112a4420102030405060708090a0b0c002000080001a147e112a643');
  });

  test('gets the IPv6 address of its source, combined with cookie and transaction', () => {
    const answer = answerStun(question, 0, question.length, '2001:db8::1', 32_853)!;
    assert.equal(answer.length, 44);
    assert.equal(answer.toString('hex', 20, 28), '002000140002a147');
    const octets = [...answer.subarray(28)].map((octet, i) => octet ^ question[4 + i]!);
    assert.equal(Buffer.from(octets).toString('hex'), '20010db8000000000000000000000001');
  });

  test('gets an answer at a link-local address, too', () => {
    assert.equal(answerStun(question, 0, question.length, 'fe80::1%eth0.7', 5060)?.length, 44);
  });

  test('gets no answer that is larger than itself', () => {
    const bare = stun(1);
    assert.equal(answerStun(bare, 0, bare.length, '192.0.2.1', 5060), null);
    const small = stun(1, [[SOFTWARE, 8]]);
    assert.equal(answerStun(small, 0, small.length, '192.0.2.1', 5060)?.length, 32);
    assert.equal(answerStun(small, 0, small.length, '2001:db8::1', 5060), null);
  });

  test('gets no answer when it has unknown required attributes or attributes of a wrong length', () => {
    const change = stun(1, [
      [CHANGE_REQUEST, 4],
      [SOFTWARE, 20],
    ]);
    assert.equal(answerStun(change, 0, change.length, '192.0.2.1', 5060), null);
    const torn = stun(1, [[SOFTWARE, 20]]);
    torn.writeUInt16BE(400, 22);
    assert.equal(answerStun(torn, 0, torn.length, '192.0.2.1', 5060), null);
  });

  test('is the only STUN message with an answer', () => {
    for (const type of [0x0011, 0x0101, 0x0111, 0x0003]) {
      const other = stun(type, [[SOFTWARE, 40]]);
      assert.equal(answerStun(other, 0, other.length, '192.0.2.1', 5060), null);
    }
  });
});
