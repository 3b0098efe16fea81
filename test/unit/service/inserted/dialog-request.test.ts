// Requests in a dialog of a call record, in the name of one of its parties.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Leg } from '../../../../src/calls/records/call-record.ts';
import { emptyWay } from '../../../../src/packet/flow.ts';
import {
  inTransaction,
  type RequestParts,
  reinviteLines,
  toParty,
  toServer,
} from '../../../../src/service/inserted/dialog-request.ts';
import { Scan, scan } from '../../../../src/sip/scan.ts';
import { compose, Message } from '../../../fake/sip.ts';

const FARM_OUT = '<sip:sf1@198.51.100.1:5060;lr>';
const FARM_IN = '<sip:sf2@10.0.0.1:5062;lr>';
const PROXY = '<sip:192.0.2.50;lr>';

const IDS = ['From: <sip:a@x>;tag=a', 'Call-ID: c', 'CSeq: 5 INVITE'];
const rr = (...values: string[]): string[] => values.map((value) => `Record-Route: ${value}`);

function leg(from: Leg['from'], ...timer: string[]): Leg {
  // The request of a client as it came, and its answer as it left; the request to a client as it left.
  const [asked, answered] =
    from === 'client'
      ? [rr(PROXY), rr(FARM_IN, FARM_OUT, PROXY)]
      : [rr(FARM_OUT, FARM_IN), rr(PROXY, FARM_OUT, FARM_IN)];
  const request = [...IDS, 'To: <sip:b@x>', 'Contact: <sip:a@192.0.2.7>', ...asked];
  const answer = [...IDS, 'To: <sip:b@x>;tag=b', 'Contact: <sip:b@192.0.2.9>', ...answered, ...timer];
  return {
    ...{ from, flow: emptyWay(), request: compose('INVITE sip:b@x SIP/2.0', request) },
    answer: compose('SIP/2.0 200 OK', answer),
  };
}

const PARTS: RequestParts = { method: 'INFO', via: 'SIP/2.0/UDP h;branch=z9hG4bK1', cseq: (last) => last + 10 };
const shown = (message: Buffer | undefined): unknown => {
  const { startLine, ...read } = new Message(message!.toString('latin1'));
  const of = new Message(read.text);
  return [startLine.split(' ')[1], of.one('From'), of.one('To'), of.one('CSeq'), of.all('Route')];
};
const [A, B] = ['<sip:a@x>;tag=a', '<sip:b@x>;tag=b'];

test('to the party of a leg: its Contact, the proxies at its side, and the name and numbers of the other party', () => {
  assert.deepEqual(shown(toParty(leg('client'), PARTS)), ['sip:a@192.0.2.7', B, A, '10 INFO', [PROXY]]);
  assert.deepEqual(shown(toParty(leg('server'), PARTS)), ['sip:b@192.0.2.9', A, B, '15 INFO', [PROXY]]);
});

test('to the SIP server: its Contact, the route set of the party, and the name and numbers of the party', () => {
  const route = [PROXY, FARM_OUT, FARM_IN];
  assert.deepEqual(shown(toServer(leg('client'), PARTS)), ['sip:b@192.0.2.9', A, B, '15 INFO', route]);
  assert.deepEqual(shown(toServer(leg('server'), PARTS)), ['sip:a@192.0.2.7', B, A, '10 INFO', [FARM_OUT, FARM_IN]]);
});

test('a new target, lines and a body are taken', () => {
  const parts = { ...PARTS, target: '<sip:new@192.0.2.8>', lines: ['X: 1'], body: 'text' };
  const message = new Message(toParty(leg('client'), parts)!.toString('latin1'));
  assert.deepEqual(
    [message.uri, message.one('X'), message.one('Content-Length'), message.body],
    ['sip:new@192.0.2.8', '1', '4', 'text'],
  );
});

test('nothing without an answer, a Contact or a SIP target', () => {
  const { answer: _, ...open } = leg('client');
  assert.equal(toParty(open, PARTS), undefined);
  assert.equal(
    toParty({ ...leg('client'), request: compose('INVITE sip:b@x SIP/2.0', [...IDS, 'To: <sip:b@x>']) }, PARTS),
    undefined,
  );
  assert.equal(toParty(leg('client'), { ...PARTS, target: '<tel:+1>' }), undefined);
});

describe('a re-INVITE has', () => {
  test('the Contact that its receiver has of its sender', () => {
    assert.deepEqual(reinviteLines(leg('client'), 'party'), ['Contact: <sip:b@192.0.2.9>']);
    assert.deepEqual(reinviteLines(leg('client'), 'server'), ['Contact: <sip:a@192.0.2.7>']);
  });

  test('the session timer of the dialog, with the refresher that it had', () => {
    const rows = [
      ['Session-Expires: 1800;refresher=uac', 'party', '1800;refresher=uas'],
      ['Session-Expires: 1800;refresher=uac', 'server', '1800;refresher=uac'],
      ['Session-Expires: 90 ; x ; refresher = UAS', 'party', '90;refresher=uac'],
      ['x: 1800', 'party', '1800;refresher=uas'],
    ] as const;
    for (const [timer, to, value] of rows)
      assert.deepEqual(reinviteLines(leg('client', timer), to).slice(1), [
        'Supported: timer',
        `Session-Expires: ${value}`,
      ]);
  });
});

test('the CANCEL and the ACK of an error have branch, number, Request-URI and Route of their INVITE', () => {
  const text = compose('INVITE sip:b@x SIP/2.0', [
    'Via: SIP/2.0/UDP h;branch=z9hG4bK1',
    `Route: ${PROXY}`,
    ...IDS,
    `To: ${B}`,
  ]);
  const invite = new Scan();
  scan(Buffer.from(text), 0, text.length, false, invite);
  for (const method of ['CANCEL', 'ACK'] as const) {
    const message = new Message(inTransaction(invite, method, '<sip:b@x>;tag=other')!.toString('latin1'));
    assert.deepEqual(
      [message.startLine, message.branch, message.one('CSeq'), message.all('Route'), message.toTag],
      [`${method} sip:b@x SIP/2.0`, 'z9hG4bK1', `5 ${method}`, [PROXY], 'other'],
    );
  }
  assert.equal(new Message(inTransaction(invite, 'CANCEL')!.toString('latin1')).one('To'), B);
});
