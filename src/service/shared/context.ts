// Holds the parts that all files of a service share: parts of the node, the member's addresses as sent-by, the names of
// the farm, the ways to parties. Its fields are set once. Values of one message are in the rewriter.
import type { Clock } from '../../base/clock.ts';
import { asHostPort, type Endpoint, formatEndpoint, formatPlace } from '../../base/endpoint.ts';
import type { CallJournal } from '../../calls/records/call-journal.ts';
import type { CallTable } from '../../calls/table/call-table.ts';
import type { Egress } from '../../egress/egress.ts';
import type { RemoteListener, RemoteListeners } from '../../egress/remote-listeners.ts';
import type { Anchor } from '../../media/anchor.ts';
import type { Cell, CellFamily } from '../../metrics/counters.ts';
import type { Keyring } from '../../ownership/keyring.ts';
import type { OwnerTables } from '../../ownership/owner-tables.ts';
import { CallHash, hashCallId } from '../../ownership/slots.ts';
import type { Flow } from '../../packet/flow.ts';
import type { DropReason } from '../../packet/verdict.ts';
import type { Scan } from '../../sip/scan.ts';
import type { Transport } from '../../transport/transport.ts';
import type { ServiceParts } from '../service.ts';
import type { OwnNames } from './own-names.ts';
import type { NatSigns } from './place.ts';
import { Shifts } from './shifts.ts';
import { Targets } from './targets.ts';
import { SentBy } from './top-headers.ts';
import { Ways } from './ways.ts';

export interface ServiceContext {
  readonly routing: { readonly keys: Keyring; readonly tables: OwnerTables };
  readonly clock: Clock;
  readonly transport: Transport;
  readonly egress: Egress;
  readonly calls: CallTable;
  /** Journal of the recorded calls; undefined when no calls are recorded. */
  readonly journal: CallJournal | undefined;
  /** Undefined when no media is anchored. */
  readonly anchor: Anchor | undefined;
  readonly announce: ((owner: number, callKey: number) => void) | undefined;
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
  /** CSeq numbers of dialogs in which members have sent requests. */
  readonly shifts: Shifts;
  /** Contacts of in-dialog requests that have no final response yet. */
  readonly targets: Targets;
  /** Signs that count as a NAT in front of a client. */
  readonly natSigns: () => NatSigns;
}

/** Parts of the node that a context takes over. */
type ContextParts = Pick<
  ServiceParts,
  | 'routing'
  | 'clock'
  | 'transport'
  | 'egress'
  | 'calls'
  | 'journal'
  | 'anchor'
  | 'announce'
  | 'drops'
  | 'handled'
  | 'remoteListeners'
>;

/** Builds the context from the parts of the node. `advertise`: endpoint of this member that faces the SIP server. */
export function serviceContext(
  parts: ContextParts,
  advertise: Endpoint,
  names: OwnNames,
  natSigns: () => NatSigns,
): ServiceContext {
  const { routing, clock, transport, egress, calls, journal, anchor, announce, drops, handled, remoteListeners } =
    parts;
  return {
    routing,
    clock,
    transport,
    egress,
    calls,
    journal,
    anchor,
    announce,
    drops,
    handled,
    remoteListeners,
    names,
    natSigns,
    serverSentBy: new SentBy({ ...asHostPort(advertise), transport: 'udp' }),
    listenerSentBys: transport.listeners.map((listener) => new SentBy(listener.advertise)),
    serverHostPort: formatEndpoint(advertise),
    listenerHostPorts: transport.listeners.map((listener) => formatPlace(listener.advertise)),
    ways: new Ways(),
    shifts: new Shifts(),
    targets: new Targets(),
  };
}

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

/** Result of the last hash. Read at once, by the two functions below. */
const hash = new CallHash();

/** Returns the 53-bit key of the message's Call-ID. */
export function callKey({ routing }: ServiceContext, scan: Scan): number {
  hashCallId(routing.tables.slotKey, scan.bytes, scan.callIdStart, scan.callIdEnd, hash);
  return hash.key;
}

/** Returns the slot of the message's Call-ID. */
export function slotOf({ routing }: ServiceContext, scan: Scan): number {
  hashCallId(routing.tables.slotKey, scan.bytes, scan.callIdStart, scan.callIdEnd, hash);
  return hash.slot;
}
