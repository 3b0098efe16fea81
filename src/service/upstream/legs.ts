// Tells the journal of call records what the messages of a call say: once per event of the call, with the message as it left. Its text is made later.
import type { RecordMethod } from '../../calls/call-record.ts';
import { Step } from '../../calls/call-table.ts';
import type { Sighting } from '../../calls/leg-text.ts';
import type { Way } from '../../ownership/flow.ts';
import { Method, type Scan } from '../../sip/scan.ts';
import type { Edge } from './edge.ts';
import type { Side } from './stamp.ts';

/** The magic cookie, and the token behind it. */
const COOKIE_OCTETS = 7;
const BRANCH_OCTETS = 46;

/**
 * A request of a client has begun the call `entry`, and left for the server as `message`, which begins with a block of our lines. A re-INVITE makes
 * no record where there is one, or may be one that is not read yet: that one has all legs.
 */
export function noteClientLeg(edge: Edge, scan: Scan, entry: number, message: Buffer, flow: Readonly<Way>): void {
  const request = sightingOf(scan, message, edge.stamp.length);
  const { journal } = edge;
  if (!journal || (scan.toTagStart >= 0 && (journal.reading || journal.has(entry)))) return;
  journal.began(entry, recordMethod(scan), callIdOf(scan), {
    from: 'client',
    flow: { ...flow },
    request,
    branch: '',
  });
}

/**
 * A request of the server outside of a dialog has left as `message`, our Via for `side` on top: one more leg of the call of a client under
 * its Call-ID (`key`), or a call of the server's own. `step`: what it has done to that one in the call table.
 */
export function noteServerLeg(
  edge: Edge,
  scan: Scan,
  key: number,
  step: Step,
  message: Buffer,
  side: Side,
  flow: Readonly<Way>,
): void {
  const { journal } = edge;
  if (!journal || (scan.method !== Method.INVITE && scan.method !== Method.SUBSCRIBE)) return;
  const at = behindStartLine(message) + side.via.length - COOKIE_OCTETS;
  const branch = message.toString('latin1', at, at + BRANCH_OCTETS);
  const entry = journal.has(key) ? key : -key;
  const began = entry < 0 && step === Step.began;
  if (!began && !journal.lacks(entry, branch)) return;
  const leg = { from: 'server', flow: { ...flow }, request: sightingOf(scan, message, 0), branch } as const;
  if (began) journal.began(entry, recordMethod(scan), callIdOf(scan), leg);
  else journal.branched(entry, leg);
}

/** A response of the server has left for the client as `message`. */
export function noteServerResponse(edge: Edge, scan: Scan, entry: number, step: Step, message: Buffer): void {
  const { journal } = edge;
  if (!journal) return;
  if (step === Step.confirmed) journal.answered(entry, '', sightingOf(scan, message, 0), true);
  else if (step === Step.over) journal.over(entry);
  else if (isRinging(scan)) journal.rings(entry);
}

/** A response of a client has left for the server as `message`. `entry` is the call's in the call table, `key` that of its Call-ID. */
export function noteClientResponse(
  edge: Edge,
  scan: Scan,
  key: number,
  entry: number,
  step: Step,
  message: Buffer,
): void {
  const { journal } = edge;
  if (!journal) return;
  if (step === Step.over) journal.over(entry);
  else if (step === Step.confirmed) {
    // Of the call of a client it is the client's leg that confirms it; but a re-INVITE to the client's other party has no entry of its own.
    const own = !journal.has(key);
    journal.answered(own ? -key : key, branchOf(scan), sightingOf(scan, message, 0), own || entry === key);
  } else if (isRinging(scan)) journal.rings(-key);
}

/** A response to the request of a proxy that is gone has left past its host: it is both legs' answer. */
export function noteOrphanResponse(edge: Edge, scan: Scan, entry: number, step: Step, message: Buffer): void {
  if (step === Step.confirmed) edge.journal?.answered(entry, branchOf(scan), sightingOf(scan, message, 0), false);
  noteServerResponse(edge, scan, entry, step, message);
}

const LF = 0x0a;

/** Where the headers of a message begin that the scanner has passed: in its start line stands no other line end. */
function behindStartLine(message: Buffer): number {
  return message.indexOf(LF) + 1;
}

/** `message` is that of `scan` after splices in front of the end of its headers; `own`: octets of our lines on top. */
function sightingOf(scan: Scan, message: Buffer, own: number): Sighting {
  const startLineEnd = behindStartLine(message);
  const headersEnd = message.length - (scan.end - scan.headersEnd);
  return { message, startLineEnd, headersStart: startLineEnd + own, headersEnd };
}

function isRinging(scan: Scan): boolean {
  return scan.status > 100 && scan.status < 200 && scan.toTagStart >= 0 && scan.method === Method.INVITE;
}

function recordMethod(scan: Scan): RecordMethod {
  return scan.method === Method.SUBSCRIBE ? 'SUBSCRIBE' : 'INVITE';
}

function callIdOf(scan: Scan): string {
  return scan.bytes.toString('latin1', scan.callIdStart, scan.callIdEnd);
}

function branchOf(scan: Scan): string {
  return scan.bytes.toString('latin1', scan.branchStart, scan.branchEnd);
}
