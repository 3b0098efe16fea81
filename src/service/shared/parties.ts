// Keeps the flows to moved parties (ways.ts) and the call records consistent. A party's new flow is written into its
// leg. A call read from its record gets its parties and their flows back. Cold: once per move, once per call read.
import type { CallRecord } from '../../calls/records/call-record.ts';
import { partyTag, readLeg } from '../../calls/records/leg-reader.ts';
import type { Way } from '../../packet/flow.ts';
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
 * Restores the parties of a call that came here by its record. Requests to a moved party then use its new flow. Late
 * copies of requests are recognised (calls/table/dialog-marks.ts).
 */
export function rememberParties(context: ServiceContext, entry: number, { legs }: CallRecord): void {
  const [first] = legs;
  const asked = first && readLeg(first.request);
  const answered = first?.answer === undefined ? undefined : readLeg(first.answer);
  const { slotKey } = context.routing.tables;
  if (asked) {
    const opened = tagHash(slotKey, asked.bytes, asked.fromTagStart, asked.fromTagEnd);
    const other = answered ? tagHash(slotKey, answered.bytes, answered.toTagStart, answered.toTagEnd) : 0;
    context.calls.setParties(entry, opened, other, asked.cseq);
  }
  for (const leg of legs) if (leg.moved) context.ways.moved(Math.abs(entry), partyTag(leg), leg.flow);
}
