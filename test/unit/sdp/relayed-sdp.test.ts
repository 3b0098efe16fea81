import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type RelayedOptions, relaySdp } from '../../../src/sdp/relayed-sdp.ts';
import { readSdp, type SdpStream } from '../../../src/sdp/sdp.ts';
import { Edit } from '../../../src/sip/edit.ts';

const RELAY = '198.51.100.9';
const PAIR = { port: 10_000, rtcpPort: 10_001 };
const SECOND = { port: 10_002, rtcpPort: 10_003 };

function relayed(text: string, changes: Partial<RelayedOptions> = {}): string {
  const bytes = Buffer.from(text, 'latin1');
  const sdp = readSdp(bytes, 0, bytes.length);
  assert.ok(typeof sdp !== 'string', String(sdp));
  const edit = new Edit().begin(bytes, 0, bytes.length);
  relaySdp(edit, sdp, { address: RELAY, ports: [PAIR, SECOND], origin: 'keep', ice: 'first', ...changes });
  return edit.apply()!.toString('latin1');
}

const HEAD = 'v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\n';

/** Before and after, behind the same head. */
const TABLE: readonly (readonly [title: string, before: string, after: string, changes?: Partial<RelayedOptions>])[] = [
  [
    "the session's address and the port",
    'c=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\na=sendrecv\r\n',
    'c=IN IP4 198.51.100.9\r\nt=0 0\r\nm=audio 10000 RTP/AVP 0\r\na=sendrecv\r\n',
  ],
  [
    'the address of each stream',
    'm=audio 4000 RTP/AVP 0\r\nc=IN IP4 10.0.0.1\r\nm=video 5000 RTP/AVP 99\r\nc=IN IP4 10.0.0.2/127\r\n',
    'm=audio 10000 RTP/AVP 0\r\nc=IN IP4 198.51.100.9\r\nm=video 10002 RTP/AVP 99\r\nc=IN IP4 198.51.100.9/127\r\n',
  ],
  [
    'an IPv4 address by one of IPv6',
    'c=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP 0\r\n',
    'c=IN IP6 2001:db8::9\r\nm=audio 10000 RTP/AVP 0\r\n',
    { address: '2001:db8::9' },
  ],
  [
    'one stream of two: the session keeps its address for the other one, and the line goes behind i=',
    'c=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP 0\r\ni=talk\r\nb=AS:64\r\nm=message 5000 TCP/MSRP *\r\n',
    'c=IN IP4 10.0.0.1\r\nm=audio 10000 RTP/AVP 0\r\ni=talk\r\nc=IN IP4 198.51.100.9\r\nb=AS:64\r\n' +
      'm=message 5000 TCP/MSRP *\r\n',
    { ports: [PAIR, undefined] },
  ],
  [
    'one stream of two, the last line without an end',
    'c=IN IP4 10.0.0.1\r\nm=message 5000 TCP/MSRP *\r\nm=audio 4000 RTP/AVP 0',
    'c=IN IP4 10.0.0.1\r\nm=message 5000 TCP/MSRP *\r\nm=audio 10002 RTP/AVP 0\r\nc=IN IP4 198.51.100.9',
    { ports: [undefined, SECOND] },
  ],
  [
    'no rejected stream',
    'c=IN IP4 10.0.0.1\r\nm=audio 0 RTP/AVP 0\r\nm=video 5000 RTP/AVP 99\r\n',
    'c=IN IP4 198.51.100.9\r\nm=audio 0 RTP/AVP 0\r\nm=video 10002 RTP/AVP 99\r\n',
  ],
  [
    'a stream without ports as a rejected one, where asked',
    'c=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP 0\r\nm=video 5000 RTP/AVP 99\r\nm=message 6 TCP/MSRP *\r\n',
    'c=IN IP4 10.0.0.1\r\nm=audio 10000 RTP/AVP 0\r\nc=IN IP4 198.51.100.9\r\nm=video 0 RTP/AVP 99\r\n' +
      'm=message 6 TCP/MSRP *\r\n',
    { ports: [PAIR], rejects: true },
  ],
  [
    "the session's address where the other stream is rejected so",
    'c=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP 0\r\nm=video 5000 RTP/AVP 99\r\n',
    'c=IN IP4 198.51.100.9\r\nm=audio 10000 RTP/AVP 0\r\nm=video 0 RTP/AVP 99\r\n',
    { ports: [PAIR], rejects: true },
  ],
  [
    'nothing where all streams are rejected',
    'c=IN IP4 10.0.0.1\r\nm=audio 0 RTP/AVP 0\r\n',
    'c=IN IP4 10.0.0.1\r\nm=audio 0 RTP/AVP 0\r\n',
  ],
  [
    'the port, but not the address of a stream on hold by zeros',
    'c=IN IP4 0.0.0.0\r\nm=audio 4000 RTP/AVP 0\r\n',
    'c=IN IP4 0.0.0.0\r\nm=audio 10000 RTP/AVP 0\r\n',
  ],
  [
    'the other stream of one that is on hold by zeros',
    'c=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\nm=video 5000 RTP/AVP 99\r\n',
    'c=IN IP4 198.51.100.9\r\nm=audio 10000 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\nm=video 10002 RTP/AVP 99\r\n',
  ],
  [
    'the port and the address of RTCP',
    'c=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP 0\r\na=rtcp:4003 IN IP4 10.0.0.3\r\n',
    'c=IN IP4 198.51.100.9\r\nm=audio 10000 RTP/AVP 0\r\na=rtcp:10001 IN IP4 198.51.100.9\r\n',
  ],
  [
    'the port of RTCP, which is the one of RTP with rtcp-mux',
    'c=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP 0\r\na=rtcp:4000\r\na=rtcp-mux\r\n',
    'c=IN IP4 198.51.100.9\r\nm=audio 10000 RTP/AVP 0\r\na=rtcp:10000\r\na=rtcp-mux\r\n',
    { ports: [{ port: 10_000, rtcpPort: 10_000 }] },
  ],
  [
    'the candidates: ours stand in front, for RTCP too where the party has them',
    'c=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP 0\r\na=ice-ufrag:8hhY\r\na=candidate:1 1 UDP 1 10.0.0.1 4000 typ host\r\n' +
      'a=candidate:1 2 UDP 1 10.0.0.1 4001 typ host\r\n',
    'c=IN IP4 198.51.100.9\r\nm=audio 10000 RTP/AVP 0\r\na=ice-ufrag:8hhY\r\n' +
      'a=candidate:sipfarm 1 UDP 2130706431 198.51.100.9 10000 typ host\r\n' +
      'a=candidate:sipfarm 2 UDP 2130706430 198.51.100.9 10001 typ host\r\n' +
      'a=candidate:1 1 UDP 1 10.0.0.1 4000 typ host\r\na=candidate:1 2 UDP 1 10.0.0.1 4001 typ host\r\n',
  ],
  [
    'ICE by nothing, if it is to be removed',
    'c=IN IP4 10.0.0.1\r\na=ice-lite\r\na=ice-options:trickle\r\nm=audio 4000 RTP/AVP 0\r\na=ice-ufrag:8hhY\r\n' +
      'a=ice-pwd:asd\r\na=candidate:1 1 UDP 1 10.0.0.1 4000 typ host\r\na=end-of-candidates\r\na=icecream\r\n',
    'c=IN IP4 198.51.100.9\r\nm=audio 10000 RTP/AVP 0\r\na=icecream\r\n',
    { ice: 'remove' },
  ],
];

describe('a relay replaces in a description', () => {
  for (const [title, before, after, changes] of TABLE) {
    test(title, () => assert.equal(relayed(HEAD + before, changes), HEAD + after));
    test(`${title} (LF)`, () =>
      assert.equal(
        relayed((HEAD + before).replaceAll('\r\n', '\n'), changes),
        (HEAD + after).replaceAll('\r\n', '\n'),
      ));
  }

  test('the address of o=, if it is to be replaced', () => {
    const text = `${HEAD}c=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP 0\r\n`;
    assert.match(relayed(text, { origin: 'replace' }), /^o=- 1 1 IN IP4 198\.51\.100\.9\r$/m);
  });
});

test('whatever the lines, the relayed description can be read again and names the relay for all its streams', () => {
  const line = fc.constantFrom(
    'c=IN IP4 10.0.0.1',
    'c=IN IP6 2001:db8::1',
    'c=IN IP4 0.0.0.0',
    'm=audio 4000 RTP/AVP 0',
    'm=video 0 RTP/AVP 99',
    'm=image 5000 udptl t38',
    'm=x 5000 TCP/MSRP *',
    'i=information',
    'b=AS:1',
    'a=rtcp:9 IN IP4 10.0.0.1',
    'a=rtcp-mux',
    'a=candidate:1 1 UDP 1 10.0.0.1 4000 typ host',
    'a=sendonly',
    '',
  );
  const text = fc
    .tuple(fc.array(line, { maxLength: 20 }), fc.constantFrom('\r\n', '\n'), fc.boolean())
    .map(([lines, eol, cut]) => ['v=0', ...lines].join(eol) + (cut ? '' : eol));
  fc.assert(
    fc.property(text, (before) => {
      const bytes = Buffer.from(before);
      const sdp = readSdp(bytes, 0, bytes.length);
      if (typeof sdp === 'string') return;
      const ports = sdp.streams.map(({ kind }, i) =>
        kind === 'other' ? undefined : { port: 10_000 + 2 * i, rtcpPort: 10_001 + 2 * i },
      );
      const after = Buffer.from(relayed(before, { ports }));
      const again = readSdp(after, 0, after.length);
      assert.ok(typeof again !== 'string', String(again));
      for (const [i, stream] of sdp.streams.entries()) {
        const now: SdpStream = again.streams[i]!;
        const moved = ports[i] !== undefined && stream.port !== 0;
        assert.equal(now.port, moved ? ports[i]!.port : stream.port);
        if (stream.port === 0) continue;
        const zeros = /^[0.:]+$/.test(stream.target?.address ?? '');
        assert.equal(now.target?.address, moved && !zeros ? RELAY : stream.target?.address);
      }
    }),
    { numRuns: 2000 },
  );
});

test('the version in o= is raised by any number, and an origin is replaced by the address of the session', () => {
  const text = (version: string, address = '10.0.0.1'): string =>
    `v=0\r\no=- 1 ${version} IN IP4 ${address}\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nm=audio 0 RTP/AVP 0\r\n`;
  for (const [before, after] of [
    ['1', '65537'],
    ['18446744073709551614', '18446744073709617150'],
    ['x', 'x'],
  ] as const)
    assert.equal(relayed(text(before), { raised: 65_536 }), text(after));
  const replaced = { origin: 'replace', originAddress: '192.0.2.1' } as const;
  assert.equal(relayed(text('1'), replaced), text('1', '192.0.2.1'));
});
