// Notes in the call table how the messages of a call change its state. The table counts the calls that this member
// owns.
import { type Sender, Step } from '../../calls/table/call-table.ts';
import { lifeIn } from '../../calls/table/dialog-life.ts';
import { Method, type Scan } from '../../sip/scan.ts';
import type { ServiceContext } from './context.ts';
import { tagHash } from './place.ts';
import { LOOP_PARAMETER } from './top-headers.ts';

/**
 * Returns the call's entry in the call table. A client's call uses the key of its Call-ID, a server's call the negative
 * key, because a proxy sends out under the Call-ID that came in. An existing entry is used in both directions, because
 * either end may hang up.
 */
export function entryOf(context: ServiceContext, key: number, starts: boolean): number {
  return starts || context.calls.has(key) || !context.calls.has(-key) ? key : -key;
}

/** Sender of the message being noted. One instance, filled anew. */
const sender: { -readonly [Field in keyof Sender]: Sender[Field] } = { from: 0, to: 0, cseq: 0 };

function readSender(context: ServiceContext, scan: Scan): Sender {
  const { slotKey } = context.routing.tables;
  sender.from = tagHash(slotKey, scan.bytes, scan.fromTagStart, scan.fromTagEnd);
  sender.to = tagHash(slotKey, scan.bytes, scan.toTagStart, scan.toTagEnd);
  sender.cseq = scan.cseq;
  return sender;
}

/**
 * Notes in the call table a request that has left, and returns its effect on the call. `owner`: the member that its
 * dialog names; 0 = none. An unknown dialog begins nothing where its BYE will not come: at a member without a seat, and
 * where a member with a seat owns it.
 */
export function noteRequest(context: ServiceContext, scan: Scan, entry: number, owner = 0): Step {
  const { calls, clock, routing } = context;
  const { method } = scan;
  const opens = method === Method.INVITE || method === Method.SUBSCRIBE;
  if (opens && scan.toTagStart >= 0 && isElsewhere(context, owner) && !calls.isDialog(entry)) return Step.none;
  if (opens || method === Method.BYE) readSender(context, scan);
  else {
    // For other methods the table needs only whether the request is in a dialog, not its sender.
    sender.from = 0;
    sender.to = scan.toTagStart >= 0 ? 1 : 0;
    sender.cseq = 0;
  }
  return calls.onRequest(entry, method, sender, clock.now(), routing.tables.epoch);
}

function isElsewhere({ routing }: ServiceContext, owner: number): boolean {
  const { self, seats } = routing.tables;
  return !seats.has(self) || (owner !== 0 && owner !== self && seats.has(owner));
}

/**
 * Returns whether the response in `scan` accepts an in-dialog request whose CSeq has risen; that CSeq counts from then
 * on. If a request passes the farm several times, only the first pass counts: no Via below its top Via has the farm's
 * loop mark.
 */
export function acceptedInTable(context: ServiceContext, scan: Scan, entry: number): boolean {
  if (scan.status < 200 || scan.status >= 300 || scan.toTagStart < 0 || !context.calls.isDialog(entry)) return false;
  if (scan.nextViaStart >= 0 && scan.bytes.subarray(scan.nextViaStart, scan.headersEnd).includes(LOOP_PARAMETER))
    return false;
  return context.calls.accepts(entry, readSender(context, scan));
}

/** Notes a forwarded response in the call table. Returns its effect on the call. */
export function noteResponse(context: ServiceContext, scan: Scan, entry: number): Step {
  const { calls, clock, routing } = context;
  const { method, status } = scan;
  const opens = (method === Method.INVITE || method === Method.SUBSCRIBE) && status > 100 && status < 300;
  const toTag = opens ? tagHash(routing.tables.slotKey, scan.bytes, scan.toTagStart, scan.toTagEnd) : 0;
  const step = calls.onResponse(entry, method, status, toTag, clock.now());
  const named = method === Method.INVITE || method === Method.UPDATE || method === Method.SUBSCRIBE;
  if (named && status >= 200 && status < 300) calls.setLife(entry, method, lifeIn(scan));
  return step;
}
