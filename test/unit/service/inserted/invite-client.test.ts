// A re-INVITE of a member: the table of its states, and what leaves when.
import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import {
  INVITE_CLIENT,
  InviteClient,
  type InviteEvent,
  type InviteState,
} from '../../../../src/service/inserted/invite-client.ts';
import { MAX_ATTEMPTS, pauseOf, resultOf } from '../../../../src/service/inserted/reoffer-result.ts';
import { Scan, scan } from '../../../../src/sip/scan.ts';
import { FakeClock } from '../../../fake/clock.ts';
import { compose } from '../../../fake/sip.ts';

function response(status: number): Scan {
  const lines = ['Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1', 'From: <sip:a@b>;tag=a', 'To: <sip:b@b>;tag=b'];
  const bytes = Buffer.from(compose(`SIP/2.0 ${status} Fine`, [...lines, 'Call-ID: c', 'CSeq: 7 INVITE']));
  const read = new Scan();
  assert.equal(scan(bytes, 0, bytes.length, false, read), null);
  return read;
}

test('each event leads to the state and the action of RFC 3261 17.1.1.2 and RFC 6026', () => {
  const rows: readonly (readonly [InviteState, InviteEvent, InviteState, string])[] = [
    ['calling', 'provisional', 'proceeding', 'none'],
    ['calling', 'accepted', 'accepted', 'ack'],
    ['calling', 'refused', 'refused', 'ack-error'],
    ['calling', 'late', 'over', 'give-up'],
    ['proceeding', 'late', 'cancelling', 'cancel'],
    ['proceeding', 'accepted', 'accepted', 'ack'],
    ['proceeding', 'refused', 'refused', 'ack-error'],
    ['cancelling', 'provisional', 'cancelling', 'none'],
    ['cancelling', 'accepted', 'accepted', 'ack'],
    ['cancelling', 'refused', 'refused', 'ack-error'],
    ['cancelling', 'late', 'over', 'give-up'],
    ['accepted', 'accepted', 'accepted', 'ack'],
    ['accepted', 'refused', 'accepted', 'none'],
    ['accepted', 'late', 'over', 'none'],
    ['refused', 'refused', 'refused', 'ack-error'],
    ['refused', 'accepted', 'refused', 'none'],
    ['refused', 'late', 'over', 'none'],
  ];
  for (const [state, event, next, action] of rows)
    assert.deepEqual(INVITE_CLIENT[state][event], [next, action], `${state} ${event}`);
});

describe('the client', () => {
  let clock: FakeClock;
  let sent: string[];
  let finals: number[];
  let over: number;
  let began: number;
  beforeEach(() => {
    clock = new FakeClock();
    began = clock.now();
    [sent, finals, over] = [[], [], 0];
  });

  const make = (unreliable = true): InviteClient =>
    new InviteClient({
      ...{ clock, unreliable, invite: Buffer.from('INVITE') },
      send: (message) => void sent.push(`${message} ${clock.now() - began}`),
      ackOf: () => Buffer.from('ACK'),
      ackOfError: (to) => Buffer.from(`ACK ${to}`),
      cancel: () => Buffer.from('CANCEL'),
      onFinal: (status) => void finals.push(status),
      onOver: () => void over++,
    });

  test('repeats the INVITE over UDP with doubled pauses, and gives up after 32 s', async () => {
    make();
    await clock.pass(40_000, 100);
    assert.deepEqual(
      sent,
      [0, 500, 1500, 3500, 7500, 15_500, 31_500].map((at) => `INVITE ${at}`),
    );
    assert.deepEqual([finals, over, clock.timers], [[408], 1, 0]);
  });

  test('sends it once over TCP', async () => {
    make(false);
    await clock.pass(40_000, 100);
    assert.deepEqual([sent, finals], [['INVITE 0'], [408]]);
  });

  test('repeats nothing after a provisional response, and cancels after 32 s', async () => {
    const client = make();
    client.take(response(180));
    await clock.pass(33_000, 100);
    assert.deepEqual([sent, finals], [['INVITE 0', 'CANCEL 32000'], []]);
    client.take(response(487));
    assert.deepEqual([sent.at(-1), finals], ['ACK <sip:b@b>;tag=b 33000', [487]]);
  });

  test('reports the first final response alone, and acknowledges each copy for 32 s', async () => {
    const client = make();
    for (const status of [200, 200, 486]) client.take(response(status));
    assert.deepEqual([sent, finals, client.waits], [['INVITE 0', 'ACK 0', 'ACK 0'], [200], false]);
    await clock.pass(33_000, 100);
    client.take(response(200));
    assert.deepEqual([sent.length, over, clock.timers], [3, 1, 0]);
  });

  test('sends and reports nothing after it is closed', async () => {
    const client = make();
    client.close();
    client.take(response(200));
    await clock.pass(40_000, 100);
    assert.deepEqual([sent, finals, over, clock.timers], [['INVITE 0'], [], 0, 0]);
  });
});

test('the final response decides the outcome', () => {
  const rows = [
    [200, 0, 'answered'],
    [491, 0, 'again'],
    [491, MAX_ATTEMPTS - 2, 'again'],
    [491, MAX_ATTEMPTS - 1, 'glare'],
    [408, 0, 'no-answer'],
    [481, 0, 'gone'],
    [488, 0, 'refused'],
    [500, 0, 'refused'],
    [603, 0, 'refused'],
  ] as const;
  for (const [status, attempt, outcome] of rows)
    assert.equal(resultOf(status, attempt), outcome, `${status} ${attempt}`);
});

test('the pause after a 491 is 2.1 to 4 s in the name of the party that made the Call-ID, else 0 to 2 s', () => {
  const pauses = (byOpener: boolean): readonly number[] =>
    Array.from({ length: 1000 }, (_, i) => pauseOf(byOpener, (i - 500) * 7919));
  const spread = (values: readonly number[]): unknown => [Math.min(...values), Math.max(...values)];
  assert.deepEqual(
    [spread(pauses(true)), spread(pauses(false))],
    [
      [2100, 4000],
      [0, 2000],
    ],
  );
  assert.ok(pauses(true).every((ms) => ms % 10 === 0));
});
