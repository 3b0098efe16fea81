// Keeps the flows to moved parties (ways.ts) and the call records consistent. A party's new flow and its new target are
// written into its leg. A call read from its record gets its parties and their flows back. Cold: once per move, once
// per target refresh, once per call read.
import type { CallRecord, Leg } from '../../calls/records/call-record.ts';
import { contactOf, partyTag, readLeg, slice } from '../../calls/records/leg-reader.ts';
import type { Way } from '../../packet/flow.ts';
import { Method, type Scan } from '../../sip/scan.ts';
import type { ServiceContext } from './context.ts';
import { tagHash } from './place.ts';

/** Sets the flow to the party of `tag` from now on, in memory and in the call record. Copies `way`. */
export function noteMove(
  context: ServiceContext,
  callKey: number,
  entry: number,
  tag: string,
  way: Readonly<Way>,
): void {
  const now = { ...way };
  context.ways.moved(callKey, tag, now);
  const { journal } = context;
  const leg = journal?.recordOf(entry)?.legs.findIndex((each) => partyTag(each) === tag) ?? -1;
  if (leg >= 0) journal?.moved(entry, leg, now);
}

/**
 * Keeps the Contact of a forwarded in-dialog INVITE or UPDATE until `noteTargets`. Does nothing when this member has no
 * record of the call.
 */
export function offerTarget(context: ServiceContext, scan: Scan, entry: number): void {
  if (scan.toTagStart < 0 || scan.contactStart < 0 || !refreshesTarget(scan) || !context.journal?.has(entry)) return;
  const from = slice(scan, scan.fromTagStart, scan.fromTagEnd);
  context.targets.offer(entry, from, scan.cseq, slice(scan, scan.contactStart, scan.contactEnd));
}

/**
 * Writes the new targets of both parties into the call record, after the 2xx in `scan` to an in-dialog INVITE or UPDATE
 * (RFC 3261 12.2.1.2, 12.2.2). The sender's target is the Contact given to `offerTarget`; that of the other party is
 * the Contact of the 2xx. Causes one write when a target has changed, otherwise none.
 */
export function noteTargets(context: ServiceContext, scan: Scan, entry: number): void {
  const { journal } = context;
  if (!journal || !refreshesTarget(scan)) return;
  const from = slice(scan, scan.fromTagStart, scan.fromTagEnd);
  const to = slice(scan, scan.toTagStart, scan.toTagEnd);
  const asked = context.targets.take(entry, from, scan.cseq);
  const answered = scan.contactStart < 0 ? undefined : slice(scan, scan.contactStart, scan.contactEnd);
  for (const [index, leg] of (journal.recordOf(entry)?.legs ?? []).entries()) {
    const tag = partyTag(leg);
    const contact = tag === '' ? undefined : tag === from ? asked : tag === to ? answered : undefined;
    if (contact !== undefined && contact !== contactOf(leg)) journal.retargeted(entry, index, contact);
  }
}

/** Returns whether the message belongs to a request whose acceptance changes the targets of both parties. */
export function refreshesTarget({ method }: Scan): boolean {
  return method === Method.INVITE || method === Method.UPDATE;
}

/**
 * Restores the parties of a call that came here by its record. `fresh`: its shifts of CSeq are new (shifts.ts).
 * Requests to a moved party then use its new flow. Late copies of requests are recognised
 * (calls/table/dialog-marks.ts).
 */
export function rememberParties(context: ServiceContext, entry: number, record: CallRecord, fresh: boolean): void {
  const { legs } = record;
  context.shifts.take(Math.abs(entry), record, fresh);
  const parties = readParties(context, legs);
  if (parties) context.calls.setParties(entry, parties.opened, parties.answered, parties.cseq);
  for (const leg of legs) if (leg.moved) context.ways.moved(Math.abs(entry), partyTag(leg), leg.flow);
}

/** Returns true when a party of this call has sent a BYE here before its record came. */
export function hasEnded(context: ServiceContext, entry: number, { legs }: CallRecord): boolean {
  const parties = readParties(context, legs);
  if (!parties) return false;
  const { opened, answered } = parties;
  return context.calls.hasEnded(entry, opened, answered) || context.calls.hasEnded(-entry, opened, answered);
}

/**
 * Hashes of the tags of the opening and the answering party (0: not known), and the CSeq number of the first request.
 */
interface Parties {
  readonly opened: number;
  readonly answered: number;
  readonly cseq: number;
}

function readParties({ routing }: Pick<ServiceContext, 'routing'>, [first]: readonly Leg[]): Parties | undefined {
  const asked = first && readLeg(first.request);
  if (!asked) return undefined;
  const { slotKey } = routing.tables;
  const opened = tagHash(slotKey, asked.bytes, asked.fromTagStart, asked.fromTagEnd);
  const answer = first.answer === undefined ? undefined : readLeg(first.answer);
  const answered = answer ? tagHash(slotKey, answer.bytes, answer.toTagStart, answer.toTagEnd) : 0;
  return { opened, answered, cseq: asked.cseq };
}
