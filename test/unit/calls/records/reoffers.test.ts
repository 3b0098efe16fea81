// Which readers of an adopted call need a re-INVITE, and which numbers these requests get.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  type CallRecord,
  type CseqShift,
  type Leg,
  MAX_CSEQ,
  parseCallRecord,
} from '../../../../src/calls/records/call-record.ts';
import type { PartyRecord } from '../../../../src/calls/records/media-record.ts';
import { isByOpener, reoffersOf, withLostPorts, withShifts } from '../../../../src/calls/records/reoffers.ts';
import { emptyWay } from '../../../../src/packet/flow.ts';
import { compose } from '../../../fake/sip.ts';

const flow = { ...emptyWay(), member: 1 };
const OPENER = 65_536;
const ANSWERER = 2 ** 28;

function leg(from: Leg['from'], tag: string, answered = true, shift?: CseqShift): Leg {
  const text = (start: string, to: string): string =>
    compose(start, ['From: <sip:x@y>;tag=a', `To: <sip:x@y>${to}`, 'Call-ID: c', 'CSeq: 5 INVITE']);
  return {
    ...{ from, flow, request: text('INVITE sip:x@y SIP/2.0', '') },
    ...(answered && { answer: text('SIP/2.0 200 OK', `;tag=${tag}`) }),
    ...(shift && { shift }),
  };
}

/** `port`: of its inner leg. `joined`: that of the party whose packets it gets. */
function party(names: readonly string[], port: number, joined?: number, more: Partial<PartyRecord> = {}): PartyRecord {
  const stream = {
    ports: [port - 1000, port - 999, port, port + 1] as const,
    shown: ['203.0.113.1', '10.0.0.1'] as const,
    ...{ clear: true, mux: [false, false] as const, targets: [null, null] as const },
    ...(joined !== undefined && { joined: { address: '10.0.0.1', port: joined } }),
  };
  return { names, facing: 1, lost: true, streams: [stream], ...more };
}

function record(
  legs: readonly Leg[],
  media: readonly PartyRecord[],
  state: CallRecord['state'] = 'confirmed',
): CallRecord {
  const since = '2026-01-01T00:00:00.000Z';
  return { v: 1, state, method: 'INVITE', callId: 'c', incarnation: 1, epoch: 1, since, legs, media };
}

const PROXIED = [leg('client', 'b'), leg('server', 'b')];
const JOINED = [party(['ta'], 2000, 4000), party(['bz9hG4bK1', 'tb'], 4000, 2000)];

describe('the readers', () => {
  const told = (legs: readonly Leg[], media: readonly PartyRecord[]): readonly string[] =>
    reoffersOf(record(legs, media)).map(({ leg: index, to, name, reader }) => `${index} ${to} ${name} ${reader}`);

  test('of a call between two clients are both of them', () => {
    assert.deepEqual(told(PROXIED, JOINED), ['0 party ta 0', '1 party bz9hG4bK1 0']);
  });

  test('of a call with the SIP server are its client and the server', () => {
    assert.deepEqual(told([leg('client', 's')], [party(['ta'], 2000)]), ['0 party ta 0', '0 server ta 1']);
    assert.deepEqual(told([leg('server', 'b')], [party(['tb'], 2000)]), ['0 party tb 0', '0 server tb 1']);
  });

  test('of a call whose inner legs another call has named are the client and the server', () => {
    assert.deepEqual(told([leg('client', 's')], [party(['ta'], 2000, 9000)]), ['0 party ta 0', '0 server ta 1']);
  });

  test('of an inner leg at the outer side is the client that is not anchored', () => {
    const callee = party(['tb'], 2000, undefined, { facing: 0 });
    assert.deepEqual(told(PROXIED, [callee]), ['1 party tb 0', '0 party tb 1']);
  });

  test('of a forked call are those of the dialog of its caller', () => {
    const legs = [leg('client', 'b'), leg('server', 'c'), leg('server', 'b'), leg('server', 'd', false)];
    assert.deepEqual(told(legs, JOINED), ['0 party ta 0', '2 party bz9hG4bK1 0']);
  });

  test("are none where the ports are the owner's, of a direct party, and without an answer", () => {
    const { lost: _, ...own } = party(['ta'], 2000);
    assert.deepEqual(told([leg('client', 's')], [own]), []);
    assert.deepEqual(told([leg('client', 's')], [party(['ta'], 2000, undefined, { direct: true })]), []);
    assert.deepEqual(told([leg('client', 's', false)], [party(['ta'], 2000)]), []);
    assert.deepEqual(told([leg('client', 's')], [party(['tx'], 2000)]), []);
    assert.equal(told([leg('client', 's')], [{ ...own, untold: true }]).length, 2);
  });
});

describe('the record of an adopted call', () => {
  test('has lost ports, and numbers for each re-INVITE by its sender', () => {
    const { media, legs } = withLostPorts(
      record(
        PROXIED,
        JOINED.map(({ lost: _, ...own }) => own),
      ),
    );
    assert.deepEqual(
      media?.map(({ lost }) => lost),
      [true, true],
    );
    assert.deepEqual(
      legs.map(({ shift }) => shift),
      [
        [ANSWERER, 0],
        [OPENER, 0],
      ],
    );
    const [only] = withLostPorts(record([leg('client', 's')], [party(['ta'], 2000)])).legs;
    assert.deepEqual(only?.shift, [ANSWERER, OPENER]);
  });

  test('adds them to those of its last owner, and stops before the last number', () => {
    const shifted = (shift: CseqShift): unknown =>
      withShifts(record([leg('client', 's', true, shift)], [party(['ta'], 2000)])).legs[0]?.shift;
    assert.deepEqual(shifted([7, 9]), [ANSWERER + 7, OPENER + 9]);
    assert.deepEqual(shifted([MAX_CSEQ - 10, 9]), [MAX_CSEQ - 10, 9]);
  });

  test('has no media while it rings', () => {
    const { media, legs } = withLostPorts(record(PROXIED, JOINED, 'early'));
    assert.deepEqual([media, legs], [undefined, PROXIED]);
  });

  test('is the same after the store has had it', () => {
    const adopted = withLostPorts(record(PROXIED, JOINED));
    assert.deepEqual(parseCallRecord(JSON.parse(JSON.stringify(adopted))), adopted);
  });
});

test('the opener sends to the party of a server leg, and from that of a client leg to the server', () => {
  const rows = [
    ['client', 'party', false],
    ['client', 'server', true],
    ['server', 'party', true],
    ['server', 'server', false],
  ] as const;
  for (const [from, to, expected] of rows) assert.equal(isByOpener({ from }, to), expected, `${from} ${to}`);
});
