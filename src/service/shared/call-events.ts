// Reports the events of a call to the journal of call records: one report per event, with the message as it left. The
// journal makes the text of the record later.
import type { RecordMethod } from '../../calls/records/call-record.ts';
import type { CapturedMessage } from '../../calls/records/leg-text.ts';
import { Step } from '../../calls/table/call-table.ts';
import type { Way } from '../../packet/flow.ts';
import { Method, type Scan } from '../../sip/scan.ts';
import type { ServiceContext } from './context.ts';
import type { SentBy } from './top-headers.ts';

/** Characters of the magic cookie, and of a branch: the cookie with the token behind it. */
const COOKIE_OCTETS = 7;
const BRANCH_OCTETS = 46;

/**
 * Records that a client's request began the call `entry` and left for the server as `message`. `tail`: octets behind
 * its last header line. `own`: octets of the farm's lines on top.
 */
export function noteClientLeg(
  context: ServiceContext,
  scan: Scan,
  entry: number,
  message: Buffer,
  tail: number,
  own: number,
  flow: Readonly<Way>,
): void {
  const request = capturedMessageOf(message, tail, own);
  const { journal } = context;
  // A re-INVITE makes no record where there is one, or may be one that is not read yet: that one has all legs.
  if (!journal || (scan.toTagStart >= 0 && (journal.reading || journal.has(entry)))) return;
  journal.began(entry, recordMethod(scan), callIdOf(scan), {
    from: 'client',
    flow: { ...flow },
    request,
    branch: '',
  });
}

/**
 * Records a server's request outside of a dialog that left as `message`, with the Via of `sentBy` on top. It adds a leg
 * to the client's call under its Call-ID (`key`), or begins a call of the server. `tail`: see `noteClientLeg`. `step`:
 * its effect on the server's call in the call table.
 */
export function noteServerLeg(
  context: ServiceContext,
  scan: Scan,
  key: number,
  step: Step,
  message: Buffer,
  tail: number,
  sentBy: SentBy,
  flow: Readonly<Way>,
): void {
  const { journal } = context;
  if (!journal || (scan.method !== Method.INVITE && scan.method !== Method.SUBSCRIBE)) return;
  const at = behindStartLine(message) + sentBy.via.length - COOKIE_OCTETS;
  const branch = message.toString('latin1', at, at + BRANCH_OCTETS);
  const entry = journal.has(key) ? key : -key;
  const began = entry < 0 && step === Step.began;
  if (!began && !journal.lacks(entry, branch)) return;
  const leg = { from: 'server', flow: { ...flow }, request: capturedMessageOf(message, tail, 0), branch } as const;
  if (began) journal.began(entry, recordMethod(scan), callIdOf(scan), leg);
  else journal.branched(entry, leg);
}

/** Records a server's response that left for the client as `message`. `tail`: see `noteClientLeg`. */
export function noteServerResponse(
  context: ServiceContext,
  scan: Scan,
  entry: number,
  step: Step,
  message: Buffer,
  tail: number,
): void {
  const { journal } = context;
  if (!journal) return;
  if (step === Step.confirmed) journal.answered(entry, '', capturedMessageOf(message, tail, 0), true);
  else if (step === Step.over) journal.over(entry);
  else if (isRinging(scan)) journal.rings(entry);
}

/**
 * Records a client's response that left for the server as `message`. `entry`: key of the call in the call table. `key`:
 * key of its Call-ID. `tail`: see `noteClientLeg`.
 */
export function noteClientResponse(
  context: ServiceContext,
  scan: Scan,
  key: number,
  entry: number,
  step: Step,
  message: Buffer,
  tail: number,
): void {
  const { journal } = context;
  if (!journal) return;
  if (step === Step.over) journal.over(entry);
  else if (step === Step.confirmed) {
    // A client's call is confirmed by the response to the client (noteServerResponse), not by its outgoing leg. When
    // that leg has no entry of its own, as in some re-INVITEs, `entry` is the client's and this 2xx confirms the call.
    const own = !journal.has(key);
    journal.answered(own ? -key : key, branchOf(scan), capturedMessageOf(message, tail, 0), own || entry === key);
  } else if (isRinging(scan)) journal.rings(-key);
}

/**
 * Records a response to a dead proxy's request, sent past the dead host. It answers the server's leg and the client's
 * leg.
 */
export function noteOrphanResponse(
  context: ServiceContext,
  scan: Scan,
  entry: number,
  step: Step,
  message: Buffer,
  tail: number,
): void {
  if (step === Step.confirmed)
    context.journal?.answered(entry, branchOf(scan), capturedMessageOf(message, tail, 0), false);
  noteServerResponse(context, scan, entry, step, message, tail);
}

const LF = 0x0a;

/** Returns where the headers begin. The start line of a scanned message contains no line end before its own. */
function behindStartLine(message: Buffer): number {
  return message.indexOf(LF) + 1;
}

/** Captures `message`. `tail`: octets behind its last header line. `own`: octets of the farm's lines on top. */
function capturedMessageOf(message: Buffer, tail: number, own: number): CapturedMessage {
  const startLineEnd = behindStartLine(message);
  return { message, startLineEnd, headersStart: startLineEnd + own, headersEnd: message.length - tail };
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
