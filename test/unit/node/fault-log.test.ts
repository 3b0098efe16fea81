// A throw is counted each time and logged once per place, and the number of places is bounded.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { CellFamily } from '../../../src/metrics/counters.ts';
import { FaultLog } from '../../../src/node/fault-log.ts';
import { keyring } from '../../../src/ownership/keyring.ts';
import { encodeFrame, Frame, HEAD_IPV4 } from '../../../src/relay/envelope.ts';
import { SECRET } from '../../fake/farm.ts';

interface Line {
  readonly place: string;
  readonly error: string;
  readonly message?: string;
}

function faultLog(): { guard: FaultLog; lines: Line[]; dropped: { readonly n: number } } {
  const lines: Line[] = [];
  const dropped = new CellFamily({ name: 'x', help: '', labels: [] }).cell({});
  const log = pino({ level: 'error' }, { write: (line: string) => lines.push(JSON.parse(line)) });
  return { guard: new FaultLog(log, dropped), lines, dropped };
}

/** Returns an error whose stack names `line` of a file of sipfarm. */
function thrownAt(line: number): Error {
  const error = new Error('planted');
  const root = new URL('../../../src/', import.meta.url).href;
  error.stack = `Error: planted\n    at node:internal/x:1:1\n    at Edit.apply (${root}sip/edit.ts:${line}:7)\n    at y (${root}z.ts:1:1)`;
  return error;
}

test('each entrance with each innermost frame of sipfarm has one line, up to sixty-four lines', () => {
  const { guard, lines, dropped } = faultLog();
  guard.caught('datagram', thrownAt(1));
  guard.caught('datagram', thrownAt(1));
  guard.caught('relay', thrownAt(1));
  assert.deepEqual(
    lines.map(({ place }) => place),
    ['datagram, Edit.apply (sip/edit.ts:1:7)', 'relay, Edit.apply (sip/edit.ts:1:7)'],
  );
  for (let line = 2; line < 200; line++) guard.caught('datagram', thrownAt(line));
  assert.deepEqual([lines.length, dropped.n], [64, 201]);
});

test('a thrown value need not be an error', () => {
  const { guard, lines, dropped } = faultLog();
  for (const thrown of [
    undefined,
    null,
    'text',
    7,
    { toString: () => 'odd' },
    Object.assign(new Error('e'), { stack: undefined }),
  ])
    guard.caught('timer', thrown);
  assert.deepEqual([lines.length, lines[0]?.place, dropped.n], [1, 'timer, nowhere', 6]);
});

test('the message inside of a relay frame is shown', () => {
  const { guard, lines } = faultLog();
  const message = Buffer.from('BYE sip:a@h SIP/2.0\r\nCall-ID: framed\r\n\r\nbody');
  const bytes = Buffer.alloc(HEAD_IPV4 + message.length);
  encodeFrame(keyring([SECRET]), new Frame(), message, 0, message.length, bytes, 0);
  guard.caught('relay', thrownAt(1), bytes, 0, bytes.length);
  assert.equal(lines[0]?.message, '[head] BYE sip:a@h SIP/2.0 | Call-ID: framed | [6 octets more]');
});
