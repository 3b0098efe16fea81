// Holds the parts that both directions of the service use: the member's identity, its addresses as sent-by, and one set
// of reused readers and writers.
import type { Clock } from '../../base/clock.ts';
import type { CallJournal } from '../../calls/records/call-journal.ts';
import { type CallTable, type Sender, Step } from '../../calls/table/call-table.ts';
import { lifeIn } from '../../calls/table/dialog-life.ts';
import type { Egress } from '../../egress/egress.ts';
import type { RemoteListener, RemoteListeners } from '../../egress/remote-listeners.ts';
import type { Cell, CellFamily } from '../../metrics/counters.ts';
import type { Keyring } from '../../ownership/keyring.ts';
import type { OwnerTables } from '../../ownership/owner-tables.ts';
import { CallHash, hashCallId } from '../../ownership/slots.ts';
import type { Flow } from '../../packet/flow.ts';
import type { DropReason } from '../../packet/verdict.ts';
import { Edit } from '../../sip/edit.ts';
import { Method, type Scan } from '../../sip/scan.ts';
import type { Transport } from '../../transport/transport.ts';
import type { OwnNames } from './own-names.ts';
import { type NatSigns, tagHash } from './place.ts';
import { Targets } from './targets.ts';
import { LOOP_PARAMETER, SentBy, TopHeaders } from './top-headers.ts';
import { Ways } from './ways.ts';

export interface ServiceContext {
  readonly routing: { readonly keys: Keyring; readonly tables: OwnerTables };
  readonly clock: Clock;
  readonly transport: Transport;
  readonly egress: Egress;
  readonly calls: CallTable;
  /** Journal of the recorded calls; undefined when no calls are recorded. */
  readonly journal?: CallJournal;
  readonly announce?: (owner: number, callKey: number) => void;
  readonly drops: Readonly<Record<DropReason, Cell>>;
  readonly handled: CellFamily<'from' | 'kind'>;
  /** Sent-by towards the SIP server, and sent-by of each listener of this member. */
  readonly serverSentBy: SentBy;
  readonly listenerSentBys: readonly SentBy[];
  /** Listeners of the other nodes. */
  readonly remoteListeners: RemoteListeners;
  /** Names of this farm in Route values: a Route to one of them is removed (RFC 3261 16.4). */
  readonly names: OwnNames;
  /** Endpoint of this member that faces the server, in the form of a URI's host and port. */
  readonly serverHostPort: string;
  /** Endpoint of each listener that its clients receive, in the form of a URI's host and port. */
  readonly listenerHostPorts: readonly string[];
  /** Flows to parties that have moved since their dialog began. */
  readonly ways: Ways;
  /** Contacts of in-dialog requests that have no final response yet. */
  readonly targets: Targets;
  /** Signs that count as a NAT in front of a client. */
  readonly natSigns: () => NatSigns;
  readonly top: TopHeaders;
  readonly edit: Edit;
  readonly hash: CallHash;
  readonly branchValue: Uint8Array;
}

/** Octets of the largest UDP datagram over IPv4. A larger message is answered 513. */
export const MAX_DATAGRAM = 65_507;

/** Sent-by of the remote listeners used so far. An entry lives as long as the listener's record. */
const remoteSentBys = new WeakMap<RemoteListener, SentBy>();

/** Returns the sent-by of another node's listener. */
function sentByOf(remote: RemoteListener): SentBy {
  let sentBy = remoteSentBys.get(remote);
  if (!sentBy) {
    sentBy = new SentBy(remote.advertise);
    remoteSentBys.set(remote, sentBy);
  }
  return sentBy;
}

/** Returns the sent-by of messages that leave by this flow; undefined when there is no such listener. */
export function sentByOfFlow(context: ServiceContext, flow: Readonly<Flow>): SentBy | undefined {
  const remote = context.remoteListeners.elsewhere(flow.member, flow.listener);
  return remote ? sentByOf(remote) : context.listenerSentBys[context.egress.listenerOf(flow)];
}

/** Returns the reused parts of a service context. */
export function contextScratch(): Pick<ServiceContext, 'ways' | 'targets' | 'top' | 'edit' | 'hash' | 'branchValue'> {
  return {
    ways: new Ways(),
    targets: new Targets(),
    top: new TopHeaders(),
    edit: new Edit(),
    hash: new CallHash(),
    branchValue: new Uint8Array(8),
  };
}

/**
 * Returns whether the request gets a Record-Route: it opens a dialog (RFC 3261 12.1, RFC 3515 2.4.4), or is a NOTIFY.
 * The first NOTIFY makes the dialog of a subscription, so every NOTIFY gets one (RFC 6665 4.3).
 */
export function recordsRoute(scan: Scan): boolean {
  const { method } = scan;
  if (method === Method.NOTIFY) return true;
  return scan.toTagStart < 0 && (method === Method.INVITE || method === Method.SUBSCRIBE || method === Method.REFER);
}

/** Returns the 53-bit key of the message's Call-ID. Writes key and slot into `context.hash`. */
export function callKey(context: ServiceContext, scan: Scan): number {
  hashCallId(context.routing.tables.slotKey, scan.bytes, scan.callIdStart, scan.callIdEnd, context.hash);
  return context.hash.key;
}

/** Returns the slot of the message's Call-ID. */
export function slotOf(context: ServiceContext, scan: Scan): number {
  callKey(context, scan);
  return context.hash.slot;
}

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

/**
 * Lowers Max-Forwards by one. Sets it to 70 when it is missing or not a number (RFC 3261 16.6 item 3, RFC 4475
 * 3.1.2.4).
 */
export function countHop(context: ServiceContext, scan: Scan): void {
  if (scan.maxForwardsStart < 0) context.top.maxForwards();
  else
    context.edit.replace(
      scan.maxForwardsStart,
      scan.maxForwardsEnd,
      scan.maxForwards < 0 ? '70' : String(scan.maxForwards - 1),
    );
}
