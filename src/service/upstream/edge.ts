// What both directions of the edge share: the member's identity, its sides, and one set of reused readers and writers.
import type { Clock } from '../../base/clock.ts';
import type { CallJournal } from '../../calls/call-journal.ts';
import { type CallTable, type Sender, Step } from '../../calls/call-table.ts';
import { lifeIn } from '../../calls/dialog-life.ts';
import type { Cell, CellFamily } from '../../metrics/counters.ts';
import type { Flow } from '../../ownership/flow.ts';
import type { Keyring } from '../../ownership/keyring.ts';
import type { OwnerTables } from '../../ownership/owner-tables.ts';
import { CallHash, hashCallId } from '../../ownership/slots.ts';
import type { DropReason } from '../../ownership/verdict.ts';
import type { Door, Doors } from '../../relay/doors.ts';
import type { Egress } from '../../relay/egress.ts';
import { Edit } from '../../sip/edit.ts';
import { Method, type Scan } from '../../sip/scan.ts';
import type { Transport } from '../../transport/transport.ts';
import type { OwnNames } from './own-names.ts';
import { type NatSigns, tagHash } from './place.ts';
import { LOOP_PARAMETER, Side, Stamp } from './stamp.ts';
import { Ways } from './ways.ts';

export interface Edge {
  readonly world: { readonly keys: Keyring; readonly tables: OwnerTables };
  readonly clock: Clock;
  readonly transport: Transport;
  readonly egress: Egress;
  readonly calls: CallTable;
  /** Of the calls that are recorded; undefined where none is. */
  readonly journal?: CallJournal;
  readonly announce?: (owner: number, callKey: number) => void;
  readonly drops: Readonly<Record<DropReason, Cell>>;
  readonly handled: CellFamily<'from' | 'kind'>;
  /** The side that faces the server, and the side of each listener. */
  readonly serverSide: Side;
  readonly listenerSides: readonly Side[];
  /** Listeners of the other nodes. */
  readonly doors: Doors;
  /** A Route to one of these has reached its goal. */
  readonly names: OwnNames;
  /** This member's endpoint that faces the server, as it stands in a URI. */
  readonly serverHostPort: string;
  /** What the clients of each listener are given, as it stands in a URI. */
  readonly listenerHostPorts: readonly string[];
  /** The ways to parties that have moved. */
  readonly ways: Ways;
  /** Signs that count as a NAT in front of a client. */
  readonly natSigns: () => NatSigns;
  readonly stamp: Stamp;
  readonly edit: Edit;
  readonly hash: CallHash;
  readonly branchValue: Uint8Array;
}

/** Octets of the largest UDP datagram over IPv4; what does not fit is answered 513. */
export const MAX_DATAGRAM = 65_507;

/** Sides of the doors that were used, as long as their records stand. */
const doorSides = new WeakMap<Door, Side>();

/** The side of another node's listener. */
export function sideOfDoor(door: Door): Side {
  let side = doorSides.get(door);
  if (!side) {
    side = new Side(door.advertise);
    doorSides.set(door, side);
  }
  return side;
}

/** The side that what is sent by this flow shows; undefined when there is no such listener. */
export function sideOfFlow(edge: Edge, flow: Readonly<Flow>): Side | undefined {
  const door = edge.doors.elsewhere(flow.member, flow.listener);
  return door ? sideOfDoor(door) : edge.listenerSides[edge.egress.listenerOf(flow)];
}

/** The reused parts of an edge. */
export function edgeScratch(): Pick<Edge, 'ways' | 'stamp' | 'edit' | 'hash' | 'branchValue'> {
  return {
    ways: new Ways(),
    stamp: new Stamp(),
    edit: new Edit(),
    hash: new CallHash(),
    branchValue: new Uint8Array(8),
  };
}

/**
 * Requests that get a Record-Route: those that open a dialog (RFC 3261 12.1, RFC 3515 2.4.4), and every NOTIFY, since the first one makes the dialog of
 * a subscription (RFC 6665 4.3).
 */
export function recordsRoute(scan: Scan): boolean {
  const { method } = scan;
  if (method === Method.NOTIFY) return true;
  return scan.toTagStart < 0 && (method === Method.INVITE || method === Method.SUBSCRIBE || method === Method.REFER);
}

/** The key of the message's Call-ID. */
export function callKey(edge: Edge, scan: Scan): number {
  hashCallId(edge.world.tables.slotKey, scan.bytes, scan.callIdStart, scan.callIdEnd, edge.hash);
  return edge.hash.key;
}

/** The slot of the Call-ID. */
export function slotOf(edge: Edge, scan: Scan): number {
  callKey(edge, scan);
  return edge.hash.slot;
}

/**
 * Where a call stands in the call table. Calls of clients stand under the key of their Call-ID, calls that the server makes under the
 * negative key: a proxy behind us sends out under the Call-ID that came in. What belongs to a call that stands there already goes to
 * that entry whichever side it comes from: either end may hang up.
 */
export function entryOf(edge: Edge, key: number, starts: boolean): number {
  return starts || edge.calls.has(key) || !edge.calls.has(-key) ? key : -key;
}

/** The sender of the message that is noted. One instance, filled anew. */
const sender: { -readonly [Field in keyof Sender]: Sender[Field] } = { from: 0, to: 0, cseq: 0 };

function readSender(edge: Edge, scan: Scan): Sender {
  const { slotKey } = edge.world.tables;
  sender.from = tagHash(slotKey, scan.bytes, scan.fromTagStart, scan.fromTagEnd);
  sender.to = tagHash(slotKey, scan.bytes, scan.toTagStart, scan.toTagEnd);
  sender.cseq = scan.cseq;
  return sender;
}

/**
 * Notes in the call table a request that is on its way; what it has done to the call. `owner`: the member that its dialog names; 0 = nobody. A dialog
 * that is not known here begins nothing where its BYE will not come: at a member without a seat, and where a member with a seat owns it.
 */
export function noteRequest(edge: Edge, scan: Scan, entry: number, owner = 0): Step {
  const { calls, clock, world } = edge;
  const { method } = scan;
  const opens = method === Method.INVITE || method === Method.SUBSCRIBE;
  if (opens && scan.toTagStart >= 0 && isElsewhere(edge, owner) && !calls.isDialog(entry)) return Step.none;
  if (opens || method === Method.BYE) readSender(edge, scan);
  else {
    // The others only have to be known as in a dialog or not: their sender does not matter.
    sender.from = 0;
    sender.to = scan.toTagStart >= 0 ? 1 : 0;
    sender.cseq = 0;
  }
  return calls.onRequest(entry, method, sender, clock.now(), world.tables.epoch);
}

function isElsewhere({ world }: Edge, owner: number): boolean {
  const { self, seats } = world.tables;
  return !seats.has(self) || (owner !== 0 && owner !== self && seats.has(owner));
}

/**
 * The SIP server has accepted a request of the call's dialog by the response in `scan`, with a CSeq that has risen. When a request passes the farm
 * several times, only the first pass counts: below its Via stands no other that the farm has put on a client's request.
 */
export function acceptedInTable(edge: Edge, scan: Scan, entry: number): boolean {
  if (scan.status < 200 || scan.status >= 300 || scan.toTagStart < 0 || !edge.calls.isDialog(entry)) return false;
  if (scan.nextViaStart >= 0 && scan.bytes.subarray(scan.nextViaStart, scan.headersEnd).includes(LOOP_PARAMETER))
    return false;
  return edge.calls.accepts(entry, readSender(edge, scan));
}

/** Notes in the call table a response that is on its way out; what it has done to the call. */
export function noteResponse(edge: Edge, scan: Scan, entry: number): Step {
  const { calls, clock, world } = edge;
  const { method, status } = scan;
  const opens = (method === Method.INVITE || method === Method.SUBSCRIBE) && status > 100 && status < 300;
  const toTag = opens ? tagHash(world.tables.slotKey, scan.bytes, scan.toTagStart, scan.toTagEnd) : 0;
  const step = calls.onResponse(entry, method, status, toTag, clock.now());
  const named = method === Method.INVITE || method === Method.UPDATE || method === Method.SUBSCRIBE;
  if (named && status >= 200 && status < 300) calls.setLife(entry, method, lifeIn(scan));
  return step;
}

/** Counts the hop: Max-Forwards one lower; 70 where there is none, or no number (RFC 3261 16.6 item 3, RFC 4475 3.1.2.4). */
export function countHop(edge: Edge, scan: Scan): void {
  if (scan.maxForwardsStart < 0) edge.stamp.maxForwards();
  else
    edge.edit.replace(
      scan.maxForwardsStart,
      scan.maxForwardsEnd,
      scan.maxForwards < 0 ? '70' : String(scan.maxForwards - 1),
    );
}
