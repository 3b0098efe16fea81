// Messages built from the recorded leg of a call: correct by RFC 3261, parseable whatever the leg contains, and absent
// where the leg lacks a needed part.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { Leg } from '../../../../src/calls/records/call-record.ts';
import { branchOfLeg, isOfTransaction, readLeg } from '../../../../src/calls/records/leg-reader.ts';
import {
  ackOfAnswer,
  ackOfError,
  answerTo,
  byeOf,
  cancelOf,
  lastNotifyOf,
} from '../../../../src/service/takeover/leg-requests.ts';
import { Scan, scan } from '../../../../src/sip/scan.ts';
import { Message } from '../../../fake/sip.ts';
import { message, mutated } from '../../sip/messages.ts';

const FLOW = {
  member: 1,
  incarnation: 1,
  listener: 7,
  connection: 0,
  address: '192.0.2.7',
  port: 5060,
  target: -1,
  nat: false,
};
const OURS = ['<sip:token@10.0.0.1:5062;lr>', '<sip:token@198.51.100.1:5060;lr>'];
const VIA = 'SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bKnew';

function text(...lines: string[]): string {
  return lines.map((line) => `${line}\r\n`).join('');
}

/** The leg on the callee's side: the server has called bob. */
const OUT: Leg = {
  from: 'server',
  flow: FLOW,
  request: text(
    'INVITE sip:bob@192.0.2.9 SIP/2.0',
    'Via: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bKout',
    `Record-Route: ${OURS[1]}`,
    `Record-Route: ${OURS[0]}`,
    'Route: <sip:trunk.example;lr>, <sip:next.example;lr>',
    'From: "A, B" <sip:alice@example.org>;tag=a',
    'To: <sip:bob@example.org>',
    'Call-ID: out-1',
    'CSeq: 17 INVITE',
    'Contact: <sip:server@10.0.0.1:5070>',
  ),
  answer: text(
    'SIP/2.0 200 OK',
    'Record-Route: <sip:far.example;lr>, <sip:trunk.example;lr>',
    `Record-Route: ${OURS[1]}, ${OURS[0]}`,
    'From: "A, B" <sip:alice@example.org>;tag=a',
    'To: <sip:bob@example.org>;tag=b',
    'Call-ID: out-1',
    'CSeq: 17 INVITE',
    'Contact: "Bob" <sip:bob@192.0.2.9:5066;transport=udp>;q=1',
  ),
};

/** The leg on the caller's side: alice has called the server. */
const IN: Leg = {
  from: 'client',
  flow: FLOW,
  request: text(
    'INVITE sip:bob@example.org SIP/2.0',
    'Via: SIP/2.0/UDP edge.example;branch=z9hG4bKedge;received=192.0.2.7',
    'Via: SIP/2.0/UDP 10.1.1.1;branch=z9hG4bKalice',
    'Record-Route: <sip:edge.example;lr>',
    'Record-Route: <sip:near.example;lr>',
    'From: <sip:alice@example.org>;tag=a',
    'To: <sip:bob@example.org>',
    'Call-ID: in-1',
    'CSeq: 3 INVITE',
    'Contact: <sip:alice@10.1.1.1>',
    'Event: presence;id=4',
  ),
  answer: text(
    'SIP/2.0 200 OK',
    'From: <sip:alice@example.org>;tag=a',
    'To: <sip:bob@example.org>;tag=b',
    'Call-ID: in-1',
    'CSeq: 3 INVITE',
    'Contact: <sip:server@10.0.0.1:5070>',
  ),
};

function read(octets: Buffer | undefined): Message {
  assert.ok(octets, 'a message can be made');
  return new Message(octets.toString('latin1'));
}

describe('towards a party that the server has called', () => {
  test('CANCEL has Request-URI, Via, Route, From, To, Call-ID and CSeq number of the INVITE', () => {
    const cancel = read(cancelOf(OUT));
    assert.equal(cancel.startLine, 'CANCEL sip:bob@192.0.2.9 SIP/2.0');
    assert.deepEqual(cancel.all('Via'), ['SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bKout']);
    assert.deepEqual(cancel.all('Route'), ['<sip:trunk.example;lr>', '<sip:next.example;lr>']);
    assert.deepEqual(
      ['To', 'From', 'Call-ID', 'CSeq', 'Record-Route', 'Contact', 'Max-Forwards'].map((name) => cancel.one(name)),
      ['<sip:bob@example.org>', '"A', 'out-1', '17 CANCEL', '', '', '70'],
    );
  });

  test('the ACK of an error has the To of that error and else the same headers as the CANCEL', () => {
    const ack = read(ackOfError(OUT, '<sip:bob@example.org>;tag=busy'));
    assert.deepEqual(
      [ack.startLine, ack.one('To'), ack.one('CSeq'), ack.branch],
      ['ACK sip:bob@192.0.2.9 SIP/2.0', '<sip:bob@example.org>;tag=busy', '17 ACK', 'z9hG4bKout'],
    );
  });

  test('the ACK of a 2xx and the BYE go to the Contact along the reversed route set beyond the farm', () => {
    const [ack, bye] = [read(ackOfAnswer(OUT, VIA)), read(byeOf(OUT, VIA))];
    for (const each of [ack, bye]) {
      assert.equal(each.uri, 'sip:bob@192.0.2.9:5066;transport=udp');
      assert.deepEqual(each.all('Route'), ['<sip:trunk.example;lr>', '<sip:far.example;lr>']);
      assert.deepEqual([each.one('To'), each.all('Via')], ['<sip:bob@example.org>;tag=b', [VIA]]);
    }
    assert.deepEqual([ack.one('CSeq'), bye.one('CSeq')], ['17 ACK', '1000000017 BYE']);
  });

  test('CSeq stays below 2^31', () => {
    const high = { ...OUT, request: OUT.request.replace('17 INVITE', '2000000000 INVITE') };
    assert.equal(read(byeOf(high, VIA)).one('CSeq'), '2147483647 BYE');
  });
});

describe('towards a party that has called the server', () => {
  test('the answer has all Via values of the INVITE', () => {
    const answer = read(answerTo(IN, 500, 'gone', ['Retry-After: 5']));
    assert.deepEqual(
      [answer.status, answer.one('To'), answer.one('Retry-After'), answer.all('Via').length, answer.one('CSeq')],
      [500, '<sip:bob@example.org>;tag=gone', '5', 2, '3 INVITE'],
    );
    assert.match(answer.one('Via'), /branch=z9hG4bKedge;received=192\.0\.2\.7$/);
  });

  test('the BYE goes to the Contact along the route set in its order, with the To of the answer as From', () => {
    const bye = read(byeOf(IN, VIA));
    assert.equal(bye.startLine, 'BYE sip:alice@10.1.1.1 SIP/2.0');
    assert.deepEqual(bye.all('Route'), ['<sip:edge.example;lr>', '<sip:near.example;lr>']);
    assert.deepEqual(
      [bye.one('From'), bye.one('To'), bye.one('CSeq')],
      ['<sip:bob@example.org>;tag=b', '<sip:alice@example.org>;tag=a', '1000000000 BYE'],
    );
  });

  test('the last NOTIFY has the event and a reason that lets the subscriber subscribe again (deactivated)', () => {
    const notify = read(lastNotifyOf(IN, VIA, '<sip:x@198.51.100.1>'));
    assert.deepEqual(
      [notify.one('Event'), notify.one('Subscription-State'), notify.one('Contact'), notify.one('CSeq')],
      ['presence;id=4', 'terminated;reason=deactivated', '<sip:x@198.51.100.1>', '1000000000 NOTIFY'],
    );
  });
});

test('no message is built from a leg of the other kind, without an answer, or without a Contact', () => {
  const { answer: _, ...ringing } = OUT;
  const nowhere = { ...OUT, answer: OUT.answer!.replace(/Contact:.*\r\n/, '') };
  assert.deepEqual(
    [cancelOf(IN), ackOfError(IN, ''), answerTo(OUT, 500, ''), lastNotifyOf(OUT, VIA, ''), byeOf(ringing, VIA)],
    [undefined, undefined, undefined, undefined, undefined],
  );
  assert.deepEqual([byeOf(nowhere, VIA), ackOfAnswer(nowhere, VIA)], [undefined, undefined]);
  assert.equal(cancelOf({ ...OUT, request: OUT.request.replace(/Via:.*\r\n/, '') }), undefined);
});

test('a retransmission belongs to its transaction; credentials, another caller or branch make a new one', () => {
  const sameAfter = (change: (text: string) => string): boolean => isOfTransaction(IN, readLeg(change(IN.request))!);
  const [, sentBy, branch] = /Via: SIP\/2.0\/UDP ([^;]*).*;branch=([^;\r]*)/.exec(IN.request)!;
  assert.deepEqual(
    [
      sameAfter((text) => text),
      sameAfter((text) => text.replace('CSeq: 3', 'CSeq: 4')),
      sameAfter((text) => text.replace('tag=a', 'tag=z')),
      sameAfter((text) => text.replace(branch!, 'z9hG4bKother')),
      sameAfter((text) => text.replace(sentBy!, '192.0.2.99')),
    ],
    [true, false, false, false, false],
  );
  assert.equal(branchOfLeg(OUT), 'z9hG4bKout');
});

/** Returns start line and headers of a message, in the form of a call record. */
function headOf(octets: Buffer): string {
  const [head = ''] = octets.toString('latin1').split('\r\n\r\n', 1);
  return `${head.replace(/\r\n(?:l|Content-Length) *:[^\r\n]*/gi, '')}\r\n`;
}

test('every message built from arbitrary leg texts parses, and no build throws', () => {
  const octets = fc.oneof(
    message.map(({ bytes }) => bytes),
    mutated,
    fc.constantFrom(Buffer.from(OUT.request), Buffer.from(OUT.answer!), Buffer.from(IN.request), Buffer.from('')),
  );
  let made = 0;
  fc.assert(
    fc.property(fc.constantFrom('client', 'server'), octets, octets, (from, request, answer) => {
      const leg: Leg = { from, flow: FLOW, request: headOf(request), answer: headOf(answer) };
      const all = [
        cancelOf(leg),
        ackOfError(leg, '<sip:b@example.org>;tag=t'),
        ackOfAnswer(leg, VIA),
        byeOf(leg, VIA),
        lastNotifyOf(leg, VIA, '<sip:x@198.51.100.1>'),
        answerTo(leg, 487, 'tag', ['Retry-After: 5']),
      ];
      for (const bytes of all) {
        if (!bytes) continue;
        made++;
        const out = new Scan();
        assert.equal(scan(bytes, 0, bytes.length, true, out), null, bytes.toString('latin1'));
        assert.equal(out.end, bytes.length);
      }
    }),
    { numRuns: 2000 },
  );
  assert.ok(made > 500, `${made} messages were made`);
});
