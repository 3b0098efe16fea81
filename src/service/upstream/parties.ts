// The parties of calls and their records: a party that has moved (ways.ts) has the way to where it is now in its leg, marked so; and a call that has come
// here by its record has its parties known again. Cold: once per move, once per call that is read.
import type { CallRecord, Leg } from '../../calls/call-record.ts';
import type { Way } from '../../ownership/flow.ts';
import type { Edge } from './edge.ts';
import { partyTag, readLeg } from './leg-messages.ts';
import { tagHash } from './place.ts';

/** The party of `tag` is found by `way` from now on, which is reused. */
export function noteMove(edge: Edge, callKey: number, entry: number, tag: string, way: Readonly<Way>): void {
  const now = { ...way };
  edge.ways.moved(callKey, tag, now);
  const { journal } = edge;
  const leg = journal?.recordOf(entry)?.legs.findIndex((each) => partyTag(each) === tag) ?? -1;
  if (leg >= 0) journal?.moved(entry, leg, now);
}

/**
 * A call has come here by its record. A party that has moved is looked for where it is, not where the dialog names it; and late copies of its requests
 * are known (calls/dialog-marks.ts).
 */
export function rememberParties(edge: Edge, entry: number, { legs }: CallRecord): void {
  const parties = readParties(edge, legs);
  if (parties) edge.calls.setParties(entry, parties.opened, parties.answered, parties.cseq);
  for (const leg of legs) if (leg.moved) edge.ways.moved(Math.abs(entry), partyTag(leg), leg.flow);
}

/** A party of this call has sent a BYE here, before its record came. */
export function hasEnded(edge: Edge, entry: number, { legs }: CallRecord): boolean {
  const parties = readParties(edge, legs);
  if (!parties) return false;
  const { opened, answered } = parties;
  return edge.calls.hasEnded(entry, opened, answered) || edge.calls.hasEnded(-entry, opened, answered);
}

/** Hashes of the tags of who has opened the call and of who has answered it (0: nobody is known), and the CSeq number of its first request. */
function readParties(
  { world }: Pick<Edge, 'world'>,
  [first]: readonly Leg[],
): { readonly opened: number; readonly answered: number; readonly cseq: number } | undefined {
  const asked = first && readLeg(first.request);
  if (!asked) return undefined;
  const { slotKey } = world.tables;
  const opened = tagHash(slotKey, asked.bytes, asked.fromTagStart, asked.fromTagEnd);
  const answer = first.answer === undefined ? undefined : readLeg(first.answer);
  const answered = answer ? tagHash(slotKey, answer.bytes, answer.toTagStart, answer.toTagEnd) : 0;
  return { opened, answered, cseq: asked.cseq };
}
