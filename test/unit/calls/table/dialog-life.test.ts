// Life of a dialog by its 2xx, read from the message and from its record.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CallRecord } from '../../../../src/calls/records/call-record.ts';
import { lifeOfRecord } from '../../../../src/calls/records/record-life.ts';
import { lifeIn } from '../../../../src/calls/table/dialog-life.ts';
import { emptyWay } from '../../../../src/packet/flow.ts';
import { Scan, scan } from '../../../../src/sip/scan.ts';

const FLOW = { ...emptyWay(), member: 1, incarnation: 1, listener: 1, address: '192.0.2.7', port: 5060 };

/** Returns the life that a 2xx with these headers gives, by the message and by a record. */
function lives(method: CallRecord['method'], ...headers: readonly string[]): readonly [number, number] {
  const lines = ['Via: SIP/2.0/UDP h;branch=z9hG4bKx', 'From: <sip:a@h>;tag=a', 'To: <sip:b@h>;tag=b', 'Call-ID: c'];
  const head = `SIP/2.0 200 OK\r\n${[...lines, `CSeq: 1 ${method}`, ...headers].join('\r\n')}\r\n`;
  const bytes = Buffer.from(`${head}\r\nSession-Expires: 7\r\nExpires: 7\r\n`);
  const message = new Scan();
  assert.equal(scan(bytes, 0, bytes.length, false, message), null);
  const legs = [
    { from: 'client', flow: FLOW, request: 'x' },
    { from: 'server', flow: FLOW, request: 'x', answer: head },
  ] as const;
  const about = { v: 1, state: 'confirmed', callId: 'c', incarnation: 1, epoch: 1, since: '' } as const;
  return [lifeIn(message), lifeOfRecord({ ...about, method, legs })];
}

test('a session lives by Session-Expires, a subscription by Expires, each 32 s longer; else there is no life', () => {
  for (const [method, header, life] of [
    ['INVITE', 'Session-Expires: 1800', 1832],
    ['INVITE', 'Session-Expires : 90 ;refresher=uas', 122],
    ['INVITE', 'x:90;refresher=uac', 122],
    ['INVITE', 'Expires: 60', 0],
    ['INVITE', 'Session-Expires: soon', 0],
    ['INVITE', 'Session-Expires: 99999999999', 0],
    ['INVITE', 'Session-Expires:', 0],
    ['SUBSCRIBE', 'Expires: 3600', 3632],
    ['SUBSCRIBE', 'Expires: 0', 32],
    ['SUBSCRIBE', 'Session-Expires: 90', 0],
  ] as const)
    assert.deepEqual(lives(method, 'Server: x', header), [life, life], header);
});

test('a record without an answer has no life', () => {
  const legs = [{ from: 'client', flow: FLOW, request: 'INVITE sip:b SIP/2.0\r\nSession-Expires: 90\r\n' }] as const;
  const record = {
    v: 1,
    state: 'confirmed',
    method: 'INVITE',
    callId: 'c',
    incarnation: 1,
    epoch: 1,
    since: '',
    legs,
  } as const;
  assert.equal(lifeOfRecord(record), 0);
});
