// The media of answered calls: descriptions in and out, and the streams of the media relay.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import pino from 'pino';
import { makeAnchor } from '../../../../src/media/anchor.ts';
import { CellFamily } from '../../../../src/metrics/counters.ts';
import { readSdp } from '../../../../src/sdp/sdp.ts';
import { Echo } from '../../../../src/service/answer/echo.ts';
import { echoOf } from '../../../../src/service/answer/echo-sdp.ts';
import { FakeRelay, Side } from '../../../fake/media-relay.ts';
import { Message, request, respond } from '../../../fake/sip.ts';
import { scanned } from '../../sip/messages.ts';

const CALL = 7;
const PHONE = '192.0.2.7';
const WAN = '203.0.113.11';
const INSIDE = '10.0.0.11';
const SILENT = 'v=0\r\na=inactive\r\n';

const lines = (...all: string[]): string => all.map((line) => `${line}\r\n`).join('');
const offer = (...media: string[]): string =>
  lines('v=0', `o=alice 5 5 IN IP4 ${PHONE}`, 's=-', `c=IN IP4 ${PHONE}`, 't=0 0', ...media);

const inviteText = (body: string, cseq = 1): string => {
  const headers = ['Contact: <sip:alice@192.0.2.7>', ...(body === '' ? [] : ['Content-Type: application/sdp'])];
  const via = `SIP/2.0/UDP ${PHONE}:5060;branch=z9hG4bKphone`;
  return request({ method: 'INVITE', uri: 'sip:bob@example.org', via, callId: 'one', cseq, headers, body });
};
const invite = (body: string, cseq = 1) => scanned(Buffer.from(inviteText(body, cseq), 'latin1')).scan;

/** The 200 of the service with this description. */
const answer = (body: string): Buffer =>
  Buffer.from(
    respond(new Message(inviteText('')), 200, { toTag: 'b', headers: ['Content-Type: application/sdp'], body }),
  );

function rig(rule: 'nat' | 'always') {
  const relay = new FakeRelay();
  const parts = {
    relay,
    addresses: () => [WAN, INSIDE] as const,
    sideOf: () => Side.inside,
    settings: () => ({ anchor: rule, origin: 'keep', ice: 'first' }) as const,
  };
  const counts = new CellFamily({ name: 'x', help: '', labels: ['outcome'] });
  return { relay, echo: new Echo(makeAnchor(parts, pino({ level: 'silent' }), counts)) };
}

describe('the media of an answered call', () => {
  test('comes back to the caller: its 200 names the outer leg, which is joined to itself', () => {
    const { relay, echo } = rig('always');
    const body = echo.describe(invite(offer('m=audio 4000 RTP/AVP 8', 'a=sendrecv')), CALL, PHONE, SILENT)!;
    const [stream] = relay.live;
    assert.match(body, new RegExp(`c=IN IP4 ${INSIDE}\r\n.*m=audio ${stream!.ports[Side.inside].port} RTP/AVP 8`, 's'));
    const shown = echo.shown(answer(body), CALL).toString('latin1');
    const text = shown.slice(shown.indexOf('\r\n\r\n') + 4);
    assert.match(text, new RegExp(`c=IN IP4 ${WAN}\r\n.*m=audio ${stream!.ports[Side.outside].port} RTP/AVP 8`, 's'));
    assert.ok(shown.includes(`Content-Length: ${text.length}\r\n`));
    assert.equal(stream!.joined, stream);
    assert.equal(stream!.to(Side.outside), `${PHONE}:4000`);
    assert.equal(relay.live.length, 1);
  });

  test('has a higher version in each answer of the call, and the same ports', () => {
    const { relay, echo } = rig('always');
    const first = echo.describe(invite(offer('m=audio 4000 RTP/AVP 8')), CALL, PHONE, SILENT)!;
    const second = echo.describe(invite(offer('m=audio 4002 RTP/AVP 8'), 2), CALL, PHONE, SILENT)!;
    assert.equal(second, first.replace('o=sipfarm 1 1 ', 'o=sipfarm 1 2 '));
    assert.deepEqual(
      relay.live.map((stream) => stream.to(Side.outside)),
      [`${PHONE}:4002`],
    );
  });

  for (const [name, rule, body] of [
    ['without a description', 'always', ''],
    ['that is not anchored', 'nat', offer('m=audio 4000 RTP/AVP 8')],
    ['whose description leaves a doubt', 'always', offer('m=audio 4000 RTP/AVP 8').replaceAll(PHONE, 'host.example')],
  ] as const)
    test(`of an INVITE ${name} is silent, and opens no ports`, () => {
      const { relay, echo } = rig(rule);
      assert.equal(echo.describe(invite(body), CALL, PHONE, SILENT), SILENT);
      assert.equal(echo.shown(answer(SILENT), CALL).toString('latin1'), answer(SILENT).toString('latin1'));
      assert.equal(relay.live.length, 0);
    });

  test('is none when the ports are used up', () => {
    const { relay, echo } = rig('always');
    relay.most = 0;
    assert.equal(echo.describe(invite(offer('m=audio 4000 RTP/AVP 8')), CALL, PHONE, SILENT), undefined);
  });
});

const CASES: readonly (readonly [name: string, offered: readonly string[], answered: readonly string[]])[] = [
  [
    'accepts the codecs of the offer',
    ['m=audio 4 RTP/AVP 8 0', 'a=rtpmap:8 PCMA/8000'],
    ['m=audio 4 RTP/AVP 8 0', 'a=rtpmap:8 PCMA/8000'],
  ],
  [
    'only receives where the offer only sends',
    ['m=audio 4 RTP/AVP 8', 'a=sendonly'],
    ['m=audio 4 RTP/AVP 8', 'a=recvonly'],
  ],
  [
    'only sends where the offer only receives',
    ['m=audio 4 RTP/AVP 8', 'a=recvonly'],
    ['m=audio 4 RTP/AVP 8', 'a=sendonly'],
  ],
  ['stays inactive', ['m=audio 4 RTP/AVP 8', 'a=inactive'], ['m=audio 4 RTP/AVP 8', 'a=inactive']],
  [
    'rejects a stream with keys',
    ['m=audio 4 RTP/SAVP 8', 'a=crypto:1 x', 'm=video 6 RTP/AVP 96'],
    ['m=audio 0 RTP/SAVP 8', 'm=video 6 RTP/AVP 96'],
  ],
  ['rejects a stream over TCP', ['m=message 4 TCP/MSRP *'], ['m=message 0 TCP/MSRP *']],
  [
    'has no lines of ICE and no sources',
    [
      'a=ice-ufrag:x',
      'm=audio 4 RTP/AVP 8',
      'a=candidate:1 1 UDP 1 192.0.2.7 4 typ host',
      'a=ssrc:1 cname:x',
      'a=rtcp-mux',
    ],
    ['m=audio 4 RTP/AVP 8', 'a=rtcp-mux'],
  ],
];

describe('the echo of an offer', () => {
  for (const [name, offered, answered] of CASES)
    test(name, () => {
      const bytes = Buffer.from(offer(...offered));
      const sdp = readSdp(bytes, 0, bytes.length);
      assert.ok(typeof sdp !== 'string', String(sdp));
      const expected = offer(...answered).replace('o=alice 5 5 ', 'o=sipfarm 1 9 ');
      assert.equal(echoOf(bytes.toString('latin1'), sdp, 9), expected);
    });
});
