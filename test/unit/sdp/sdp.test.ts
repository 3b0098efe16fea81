import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isHeldByAddress, MAX_STREAMS, readSdp, type Sdp } from '../../../src/sdp/sdp.ts';

const HEAD = ['v=0', 'o=alice 2890844526 2890844526 IN IP4 host.example.com', 's=-'];

/** Returns the description of these lines behind a head; `outside` are octets of the message around it. */
function read(lines: readonly string[], { eol = '\r\n', cut = false, outside = '' } = {}): Sdp | string {
  const text = HEAD.concat(lines).join(eol) + (cut ? '' : eol);
  return readSdp(Buffer.from(outside + text + outside), outside.length, outside.length + text.length);
}

function sdpOf(lines: readonly string[], options = {}): Sdp {
  const sdp = read(lines, options);
  assert.ok(typeof sdp !== 'string', String(sdp));
  return sdp;
}

const targets = (sdp: Sdp): readonly (string | undefined)[] =>
  sdp.streams.map(({ target, port }) => target && `${target.address} ${port}`);

describe('a session description', () => {
  const SESSION = 'c=IN IP4 192.0.2.1';
  const AUDIO = 'm=audio 49170 RTP/AVP 0 8';

  for (const [name, options] of [
    ['CRLF', {}],
    ['LF', { eol: '\n' }],
    ['no end of the last line', { cut: true }],
    ['octets around it', { outside: 'm=audio 1 RTP/AVP 0\r\n' }],
  ] as const)
    test(`gives the address and the port of each stream: ${name}`, () => {
      const video = ['m=video 49172 RTP/AVPF 96', 'c=IN IP6 2001:db8::1'];
      const sdp = sdpOf([SESSION, 't=0 0', AUDIO, ...video], options);
      assert.deepEqual(targets(sdp), ['192.0.2.1 49170', '2001:db8::1 49172']);
    });

  for (const [protocol, kind] of [
    ['RTP/AVP', 'rtp'],
    ['RTP/AVPF', 'rtp'],
    ['RTP/SAVP', 'secure'],
    ['UDP/TLS/RTP/SAVPF', 'secure'],
    ['udptl', 'datagram'],
    ['UDP/DTLS/SCTP', 'datagram'],
    ['TCP/MSRP', 'other'],
    ['TCP/RTP/AVP', 'other'],
    ['RTP/AVPX', 'other'],
  ] as const)
    test(`has a stream of kind ${kind} for ${protocol}`, () => {
      assert.equal(sdpOf([SESSION, `m=audio 4 ${protocol} 0`]).streams[0]?.kind, kind);
    });

  test('ignores the TTL of an address, and what breaks the grammar in lines that do not matter', () => {
    const sdp = sdpOf(['', 'x', 'Z=?', 'b=', 'c=IN IP4 192.0.2.1/127', AUDIO, 'a=', 'a=rtcp:x', 'a=rtcp:99999']);
    assert.deepEqual(targets(sdp), ['192.0.2.1 49170']);
    assert.equal(sdp.streams[0]?.rtcp, undefined);
  });

  test('names the port and address of RTCP where they are another (RFC 3605)', () => {
    const [one, two] = sdpOf([SESSION, AUDIO, 'a=rtcp:53020', AUDIO, 'a=rtcp:53020 IN IP6 2001:db8::2']).streams;
    assert.deepEqual([one?.rtcp?.port, one?.rtcp?.address], [53_020, undefined]);
    assert.deepEqual([two?.rtcp?.port, two?.rtcp?.address?.address], [53_020, '2001:db8::2']);
  });

  test('marks streams with rtcp-mux (RFC 5761), of their own only', () => {
    const { streams } = sdpOf([SESSION, AUDIO, 'a=rtcp-mux', AUDIO, AUDIO, 'a=rtcp-mux-only']);
    assert.deepEqual(
      streams.map(({ mux }) => mux),
      [true, false, true],
    );
  });

  test('is on hold by an address of zeros (RFC 3264 8.4)', () => {
    const lines = ['c=IN IP4 0.0.0.0', AUDIO, AUDIO, 'c=IN IP6 ::', AUDIO, 'c=IN IP4 10.0.0.1'];
    assert.deepEqual(sdpOf(lines).streams.map(isHeldByAddress), [true, true, false]);
  });

  test('may lack an address where all its streams are rejected', () => {
    assert.deepEqual(targets(sdpOf(['m=audio 0 RTP/AVP 0'])), [undefined]);
  });

  for (const [doubt, ...lines] of [
    ['no-stream', SESSION],
    ['no-connection', AUDIO],
    ['bad-connection', 'c=IN IP4', AUDIO],
    ['bad-connection', 'c=IN IP4 192.0.2.1 192.0.2.2', AUDIO],
    ['bad-connection', SESSION, 'c=IN IP4 192.0.2.2', AUDIO],
    ['bad-connection', SESSION, AUDIO, 'c=IN IP4 192.0.2.2', 'c=IN IP4 192.0.2.3'],
    ['two-rtcp', SESSION, AUDIO, 'a=rtcp:4001', 'a=rtcp:4003'],
    ['host-name', 'c=IN IP4 media.example.com', AUDIO],
    ['multicast', 'c=IN IP4 224.2.36.42/127', AUDIO],
    ['multicast', 'c=IN IP6 ff15::101/3', AUDIO],
    ['port-series', SESSION, 'm=audio 49170/2 RTP/AVP 0'],
    ['bad-media-line', SESSION, 'm=audio'],
    ['bad-media-line', SESSION, 'm=audio 65536 RTP/AVP 0'],
    ['bad-media-line', SESSION, 'm=audio x RTP/AVP 0'],
    ['long-line', SESSION, `m=audio 49170 RTP/AVP${' 0'.repeat(600)}`],
  ] as const)
    test(`is doubtful: ${doubt} (${lines.at(-1)!.slice(0, 40)})`, () => {
      assert.equal(read(lines), doubt);
    });

  test('has 32 streams at most', () => {
    const streams = Array<string>(MAX_STREAMS).fill(AUDIO);
    assert.equal(sdpOf([SESSION, ...streams]).streams.length, MAX_STREAMS);
    assert.equal(read([SESSION, ...streams, AUDIO]), 'many-streams');
  });
});

test('a stream is held by its direction, by that of the session, or by an address of zeros', () => {
  const zeros = 'c=IN IP4 0.0.0.0';
  const rows: readonly (readonly [readonly string[], readonly string[], boolean])[] = [
    [[], [], false],
    [[], ['a=sendrecv'], false],
    [[], ['a=sendonly'], true],
    [[], ['a=recvonly'], true],
    [[], ['a=inactive'], true],
    [['a=sendonly'], [], true],
    [['a=sendonly'], ['a=sendrecv'], false],
    [[], [zeros], true],
    [[], ['a=sendonly:x'], false],
  ];
  for (const [session, stream, expected] of rows) {
    const sdp = sdpOf(['c=IN IP4 192.0.2.1', ...session, 'm=audio 4 RTP/AVP 0', ...stream]);
    assert.equal(sdp.streams[0]?.held, expected, [...session, ...stream].join());
  }
});

test('the version of o= is read where it is a number', () => {
  assert.equal(sdpOf(['c=IN IP4 192.0.2.1', 'm=audio 4 RTP/AVP 0']).version?.value, 2_890_844_526n);
});
