// The parties of calls and their records: a party that has moved (ways.ts) has the way to where it is now in its leg, marked so; and a call that has come
// here by its record has its parties known again. Cold: once per move, once per call that is read.
import type { CallRecord } from '../../calls/records/call-record.ts';
import { partyTag, readLeg } from '../../calls/records/leg-reader.ts';
import type { Way } from '../../packet/flow.ts';
import type { ServiceContext } from './context.ts';
import { tagHash } from './place.ts';

/** The party of `tag` is found by `way` from now on, which is reused. */
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
 * A call has come here by its record. A party that has moved is looked for where it is, not where the dialog names it; and late copies of its requests
 * are known (calls/dialog-marks.ts).
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
