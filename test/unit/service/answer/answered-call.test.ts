// A call that the service `answer` has answered: the requests of this side in its dialog, and the texts of answers.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { emptyFlow } from '../../../../src/packet/flow.ts';
import {
  AnsweredCall,
  callOf,
  contactOf,
  headerLines,
  inactiveAudio,
  withBody,
} from '../../../../src/service/answer/answered-call.ts';
import { HeaderName } from '../../../../src/sip/header-name.ts';
import type { Scan } from '../../../../src/sip/scan.ts';
import { compose, Message, type RequestParts, request } from '../../../fake/sip.ts';
import { scanned } from '../../sip/messages.ts';

const VIA = 'SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKphone';
const CONTACT = 'Contact: "Alice" <sip:alice@192.0.2.7;ob>;expires=60';
const LISTENER = { host: '198.51.100.1', port: 5060, transport: 'udp' } as const;
const BRANCH = 'z9hG4bKown';

function invite(parts: Partial<RequestParts> = {}): Scan {
  const text = request({ method: 'INVITE', uri: 'sip:bob@example.org', via: VIA, callId: 'one', ...parts });
  const { fault, scan } = scanned(Buffer.from(text, 'latin1'));
  assert.equal(fault, null);
  return scan;
}

/** Returns a call that has answered `scan`. */
function answered(scan: Scan): AnsweredCall {
  const call = new AnsweredCall('key', 1, scan, 'bob');
  call.renew(scan, emptyFlow(), Buffer.from('200'));
  return call;
}

const byeOf = (call: AnsweredCall, listener: Parameters<AnsweredCall['bye']>[0] = LISTENER): Message =>
  new Message(call.bye(listener, BRANCH).toString('latin1'));

describe('the BYE of a call', () => {
  test('goes to the Contact of the caller, with the parties of the INVITE exchanged', () => {
    const bye = byeOf(answered(invite({ headers: [CONTACT] })));
    assert.equal(
      bye.text,
      compose('BYE sip:alice@192.0.2.7;ob SIP/2.0', [
        `Via: SIP/2.0/UDP 198.51.100.1:5060;branch=${BRANCH}`,
        'Max-Forwards: 70',
        'From: <sip:bob@example.org>;tag=bob',
        'To: <sip:alice@example.org>;tag=from',
        'Call-ID: one',
        'CSeq: 1 BYE',
      ]),
    );
    assert.equal(scanned(Buffer.from(bye.text)).fault, null);
  });

  test('follows the Record-Route of the first INVITE, in its order, in any spelling of the name', () => {
    const routes = ['<sip:p1.example.org;lr>, <sip:p2.example.org;lr>', '<sip:p3.example.org;lr>'];
    const headers = [`Record-Route: ${routes[0]}`, CONTACT, `RECORD-ROUTE : ${routes[1]}`];
    const call = answered(invite({ headers }));
    call.renew(invite({ cseq: 2, toTag: 'bob', headers: [CONTACT] }), emptyFlow(), Buffer.from('200'));
    assert.deepEqual(byeOf(call).all('Route'), routes.join(', ').split(', '));
  });

  test('goes to the Contact of the last INVITE, and to the one before when the last has none', () => {
    const call = answered(invite({ headers: [CONTACT] }));
    const moved = ['m: sip:alice@192.0.2.8'];
    call.renew(invite({ cseq: 2, toTag: 'bob', headers: moved }), emptyFlow(), Buffer.from('200'));
    assert.equal(byeOf(call).uri, 'sip:alice@192.0.2.8');
    call.renew(invite({ cseq: 3, toTag: 'bob' }), emptyFlow(), Buffer.from('200'));
    assert.equal(byeOf(call).uri, 'sip:alice@192.0.2.8');
  });

  for (const [listener, sentBy] of [
    [{ host: '198.51.100.1', port: 5060, transport: 'tcp' }, 'TCP 198.51.100.1:5060'],
    [{ host: '2001:db8::1', port: 5070, transport: 'udp' }, 'UDP [2001:db8::1]:5070'],
    [{ host: 'sip.example.org', port: 5061, transport: 'tls' }, 'TLS sip.example.org:5061'],
  ] as const)
    test(`names the listener in its Via: ${sentBy}`, () => {
      const bye = byeOf(answered(invite({ headers: [CONTACT] })), listener);
      assert.equal(bye.one('Via'), `SIP/2.0/${sentBy};branch=${BRANCH}`);
    });
});

test('a call keeps the CSeq number, the flow and the answer of the last INVITE', () => {
  const call = answered(invite({ headers: [CONTACT] }));
  const flow = { ...emptyFlow(), address: '192.0.2.8', port: 5999 };
  const answer = Buffer.from('the second 200');
  call.renew(invite({ cseq: 7, toTag: 'bob' }), flow, answer);
  flow.port = 1;
  assert.deepEqual([call.cseq, call.flow.address, call.flow.port, call.answer], [7, '192.0.2.8', 5999, answer]);
});

describe('the key of a call', () => {
  test('is the same for all requests of the caller', () => {
    const keys = [invite(), invite({ method: 'BYE', cseq: 2, toTag: 'bob' }), invite({ method: 'ACK', toTag: 'bob' })];
    assert.equal(new Set(keys.map(callOf)).size, 1);
  });

  for (const [what, parts] of [
    ['Call-ID', { callId: 'two' }],
    ['From tag', { fromTag: 'other' }],
  ] as const)
    test(`differs by ${what}`, () => assert.notEqual(callOf(invite(parts)), callOf(invite())));
});

describe('the Contact of a request', () => {
  for (const [line, uri] of [
    [CONTACT, 'sip:alice@192.0.2.7;ob'],
    ['Contact: sip:alice@192.0.2.7;expires=60', 'sip:alice@192.0.2.7'],
    ['m: <sip:alice@192.0.2.7>', 'sip:alice@192.0.2.7'],
    ['Contact: <sip:a@192.0.2.7>, <sip:b@192.0.2.8>', 'sip:a@192.0.2.7'],
    ['Contact: <sip:alice@192.0.2.7', undefined],
    ['Subject: none', undefined],
  ] as const)
    test(`is ${uri ?? 'absent'} in ${line}`, () => assert.equal(contactOf(invite({ headers: [line] })), uri));
});

test('the header lines of one name are returned in order as they stand, without their line ends', () => {
  const headers = ['Contact: <sip:a@192.0.2.7>', 'Subject: x', 'm:<sip:b@192.0.2.7>,\r\n <sip:c@192.0.2.7>'];
  assert.deepEqual(headerLines(invite({ headers }), HeaderName.CONTACT), [headers[0], headers[2]]);
  assert.deepEqual(headerLines(invite({ headers }), HeaderName.RECORD_ROUTE), []);
});

test('a body behind a reply has its length in the reply, and nothing else of it changes', () => {
  const reply = Buffer.from(compose('SIP/2.0 200 OK', ['Call-ID: one', 'Content-Type: application/sdp']));
  assert.equal(
    withBody(reply, 'v=0\r\n').toString(),
    compose('SIP/2.0 200 OK', ['Call-ID: one', 'Content-Type: application/sdp'], 'v=0\r\n'),
  );
});

for (const [address, type] of [
  ['198.51.100.1', 'IP4'],
  ['2001:db8::1', 'IP6'],
] as const)
  test(`the SDP at ${address} takes audio, sends none, and names the address as ${type} (RFC 8866)`, () => {
    const lines = inactiveAudio(address).split('\r\n');
    assert.deepEqual(
      lines.map((line) => line[0] ?? ''),
      ['v', 'o', 's', 'c', 't', 'm', 'a', ''],
    );
    assert.ok(lines[1]!.endsWith(` IN ${type} ${address}`));
    assert.equal(lines[3], `c=IN ${type} ${address}`);
    assert.deepEqual(lines.slice(5, 7), ['m=audio 9 RTP/AVP 0 8', 'a=inactive']);
  });
