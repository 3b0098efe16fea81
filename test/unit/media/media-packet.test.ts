import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { MediaKind, mediaKind, rtpSequence, rtpSsrc } from '../../../src/media/media-packet.ts';

const words = Object.keys(MediaKind);

function kindOf(hex: string, zeros = 0, clear = true): string {
  const bytes = Buffer.concat([Buffer.from(hex.replaceAll(' ', ''), 'hex'), Buffer.alloc(zeros)]);
  return words[mediaKind(bytes, bytes.length, clear)]!;
}

const RTP = '8000 0001 00000000 0000002a';

describe('a datagram on a media port is', () => {
  for (const [kind, title, hex, zeros = 0] of [
    ['rtp', 'RTP without payload', RTP],
    ['rtp', 'RTP of 20 ms G.711', RTP, 160],
    ['rtp', 'RTP with two CSRC', `82${RTP.slice(2)}`, 8],
    ['bad', 'RTP whose CSRC list is cut', `82${RTP.slice(2)}`, 7],
    ['rtp', 'RTP with a header extension of one word', `90${RTP.slice(2)} bede 0001`, 4],
    ['bad', 'RTP whose header extension is cut', `90${RTP.slice(2)} bede 0001`, 3],
    ['bad', 'RTP without room for the header of its extension', `90${RTP.slice(2)}`, 3],
    ['rtp', 'RTP with four octets of padding', `a0${RTP.slice(2)} 00000004`],
    ['bad', 'RTP with more padding than octets', `a0${RTP.slice(2)} 00000005`],
    ['bad', 'RTP with a padding of zero', `a0${RTP.slice(2)} 00000000`],
    ['bad', 'RTP of 11 octets', '8000 0001 00000000 000000'],
    ['bad', 'RTP of version 1', `40${RTP.slice(2)}`],
    ['bad', 'RTP of version 3', `c0${RTP.slice(2)}`],
    ['rtcp', 'a receiver report', '81c9 0007', 28],
    ['rtcp', 'a compound of report and SDES', '80c9 0001 00000001 81ca 0001 00000001'],
    ['bad', 'a report that is cut', '81c9 0007', 27],
    ['stun', 'a Binding request', '0001 0000 2112a442', 12],
    ['bad', 'a Binding request of another length', '0001 0004 2112a442', 12],
    ['bad', 'a Binding request without the cookie', '0001 0000 00000000', 12],
    ['dtls', 'a DTLS ClientHello', '16fefd 0000 000000000000 0001 00'],
    ['bad', 'a DTLS record that is cut', '16fefd 0000 000000000000 00'],
    ['bad', 'a TURN channel', '4000 0000', 20],
    ['bad', 'ZRTP', '1000 0000', 20],
    ['bad', 'a SIP keep-alive', '0d0a0d0a'],
    ['bad', 'empty', ''],
  ] as const)
    test(`${kind}: ${title}`, () => assert.equal(kindOf(hex, zeros), kind));
});

test('the padding of SRTP is encrypted, so it is not checked', () => {
  assert.equal(kindOf(`a0${RTP.slice(2)} 00000005`, 0, false), 'rtp');
});

test('sequence number and SSRC are read from their places', () => {
  const bytes = Buffer.from('8000fffe00000000fffffff0', 'hex');
  assert.equal(rtpSequence(bytes), 0xfffe);
  assert.equal(rtpSsrc(bytes), 0xfffffff0);
});

test('only the octets of the datagram count, not what a larger buffer holds behind them', () => {
  const bytes = Buffer.alloc(100, Buffer.from(RTP.replaceAll(' ', ''), 'hex'));
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 100 }), fc.uint8Array({ minLength: 4, maxLength: 4 }), (length, head) => {
      bytes.set(head);
      const cut = bytes.subarray(0, length);
      assert.equal(mediaKind(bytes, length, true), mediaKind(Buffer.from(cut), length, true));
    }),
    { numRuns: 2000 },
  );
});
