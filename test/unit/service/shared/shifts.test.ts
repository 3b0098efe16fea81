// CSeq numbers of a dialog in which members have sent requests: raised towards the receiver, lowered in the responses.
import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import type { CallRecord, Leg } from '../../../../src/calls/records/call-record.ts';
import { emptyWay } from '../../../../src/packet/flow.ts';
import { Rewriter } from '../../../../src/service/shared/rewriter.ts';
import { Shifts } from '../../../../src/service/shared/shifts.ts';
import { Scan, scan } from '../../../../src/sip/scan.ts';
import { compose, Message } from '../../../fake/sip.ts';

const KEY = 7;
const VIA = 'Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1';

/** Returns the request or response of `from` to `to`. */
function message(start: string, cseq: string, from = 'a', to = 'b', ...lines: string[]): Scan {
  const tags = [`From: <sip:x@y>;tag=${from}`, `To: <sip:x@y>${to && `;tag=${to}`}`];
  const bytes = Buffer.from(compose(start, [VIA, ...tags, 'Call-ID: c', `CSeq: ${cseq}`, ...lines]));
  const read = new Scan();
  assert.equal(scan(bytes, 0, bytes.length, false, read), null);
  return read;
}
const request = (method: string, number: number, from?: string, to?: string, ...lines: string[]): Scan =>
  message(`${method} sip:x@y SIP/2.0`, `${number} ${method}`, from, to, ...lines);
const response = (method: string, number: number, from?: string, to?: string): Scan =>
  message('SIP/2.0 200 OK', `${number} ${method}`, from, to);

/** The call of a to b, whose INVITE has number 5. */
function record(from: Leg['from'], shift: readonly [number, number]): CallRecord {
  const text = (start: string, tags: readonly string[]): string =>
    compose(start, [VIA, `From: <sip:x@y>;tag=a`, `To: <sip:x@y>${tags.join('')}`, 'Call-ID: c', 'CSeq: 5 INVITE']);
  const flow = emptyWay();
  const [asked, answer] = [text('INVITE sip:x@y SIP/2.0', []), text('SIP/2.0 200 OK', [';tag=b'])];
  const legs = [{ from, flow, request: asked, answer, shift }];
  const since = '2026-01-01T00:00:00.000Z';
  return { v: 1, state: 'confirmed', method: 'INVITE', callId: 'c', incarnation: 1, epoch: 1, since, legs };
}

let shifts: Shifts;
const rewriter = new Rewriter();
beforeEach(() => {
  shifts = new Shifts();
});

function raised(scanned: Scan, to: 'party' | 'server' = 'party', key = KEY): Message {
  rewriter.begin(scanned);
  shifts.request(key, to, scanned, rewriter);
  return new Message(rewriter.finish()!.toString('latin1'));
}
function lowered(scanned: Scan, to: 'party' | 'server' = 'party'): string {
  rewriter.begin(scanned);
  shifts.response(KEY, to, scanned, rewriter);
  return new Message(rewriter.finish()!.toString('latin1')).one('CSeq');
}

describe('requests of the caller to the callee (server leg)', () => {
  beforeEach(() => shifts.take(KEY, record('server', [1000, 0]), true));

  test('are raised, and their responses lowered, in message and scan', () => {
    assert.equal(raised(request('INFO', 6)).one('CSeq'), '1006 INFO');
    const answer = response('INFO', 1006);
    assert.deepEqual([lowered(answer), answer.cseq], ['6 INFO', 6]);
  });

  test('are raised together with ACK, CANCEL and PRACK of their INVITE', () => {
    assert.equal(raised(request('INVITE', 6)).one('CSeq'), '1006 INVITE');
    assert.equal(raised(request('CANCEL', 6)).one('CSeq'), '1006 CANCEL');
    const prack = raised(request('PRACK', 7, 'a', 'b', 'RACK:  1  6 INVITE'));
    assert.deepEqual([prack.one('CSeq'), prack.one('RAck')], ['1007 PRACK', '1  1006 INVITE']);
    assert.equal(raised(request('ACK', 6)).one('CSeq'), '1006 ACK');
  });

  test('stay as they are when they belong to an INVITE from before', () => {
    assert.equal(raised(request('ACK', 5)).one('CSeq'), '5 ACK');
    assert.equal(lowered(response('INVITE', 5)), '5 INVITE');
    assert.equal(raised(request('PRACK', 6, 'a', 'b', 'RAck: 1 5 INVITE')).one('RAck'), '1 5 INVITE');
    assert.equal(raised(request('CANCEL', 5)).one('CSeq'), '5 CANCEL');
  });

  test('stay as they are in the other direction, of another dialog, and without a To tag', () => {
    for (const other of [request('INFO', 6, 'b', 'a'), request('INFO', 6, 'a', 'c'), request('INVITE', 6, 'a', '')])
      assert.match(raised(other).one('CSeq'), /^6 /);
    assert.equal(raised(request('INFO', 6), 'server').one('CSeq'), '6 INFO');
    assert.equal(raised(request('INFO', 6), 'party', 8).one('CSeq'), '6 INFO');
  });

  test('are lowered again when they come back unsent', () => {
    raised(request('INFO', 6));
    const sent = request('INFO', 1006);
    rewriter.begin(sent);
    shifts.returned(KEY, 'party', sent, rewriter);
    assert.equal(new Message(rewriter.finish()!.toString('latin1')).one('CSeq'), '6 INFO');
  });
});

test('a shift towards the server holds for requests of the party', () => {
  shifts.take(KEY, record('client', [0, 1000]), true);
  assert.equal(raised(request('INFO', 6), 'server').one('CSeq'), '1006 INFO');
  assert.equal(lowered(response('INFO', 1006), 'server'), '6 INFO');
});

test('after a restart the ACK of any later INVITE is raised, and that of the first one is not', () => {
  shifts.take(KEY, record('server', [1000, 0]), false);
  assert.equal(raised(request('ACK', 5)).one('CSeq'), '5 ACK');
  assert.equal(raised(request('ACK', 6)).one('CSeq'), '1006 ACK');
  assert.equal(lowered(response('INVITE', 1006)), '6 INVITE');
});

test('a forgotten call has none', () => {
  shifts.take(KEY, record('server', [1000, 0]), true);
  shifts.forget(KEY);
  assert.equal(raised(request('INFO', 6)).one('CSeq'), '6 INFO');
});
