// The interface of a service: the part of a member that handles the SIP messages this member owns. `service.kind`
// selects it.
import type { Logger } from 'pino';
import type { Clock } from '../base/clock.ts';
import type { Guard } from '../base/guard.ts';
import type { Network } from '../base/network.ts';
import type { Adoption, Successor } from '../calls/adoption/adoption.ts';
import type { CallJournal } from '../calls/records/call-journal.ts';
import type { CallRecord } from '../calls/records/call-record.ts';
import type { CallTable } from '../calls/table/call-table.ts';
import type { Config } from '../config/schema.ts';
import type { Egress } from '../egress/egress.ts';
import type { ExitChoice } from '../egress/exit-member.ts';
import type { ForbiddenTargets } from '../egress/forbidden-targets.ts';
import type { RemoteListeners } from '../egress/remote-listeners.ts';
import type { StatelessReplies } from '../egress/stateless-reply.ts';
import type { Locator } from '../locate/locate.ts';
import type { Anchor } from '../media/anchor.ts';
import type { MemberRecord } from '../membership/member-record.ts';
import type { Cell, CellFamily } from '../metrics/counters.ts';
import type { Keyring } from '../ownership/keyring.ts';
import type { OwnerTables } from '../ownership/owner-tables.ts';
import type { Way } from '../packet/flow.ts';
import type { Packet } from '../packet/packet.ts';
import type { DropReason } from '../packet/verdict.ts';
import type { Scan } from '../sip/scan.ts';
import type { Transport } from '../transport/transport.ts';

/** The calls that this member takes from its own earlier life, or from members that are gone. */
export interface Succession extends Successor {
  /** Returns true when the call of this record has ended here before the record was read. */
  hasEnded(entry: number, record: CallRecord): boolean;
  /** Returns the record of a gone member's call as this member has it once it has adopted the call. */
  asTaken(record: CallRecord): CallRecord;
  /** A call that this member has read again from its own record. */
  recovered(entry: number, record: CallRecord): void;
  /** Hands in the adoption, where calls of members that are gone are found. Once, before the first packet. */
  follow(adoption: Adoption): void;
  /** Forgets all calls and sends nothing more for them: they belong to others now. */
  clear(): void;
}

export interface ServiceStatus {
  readonly kind: string;
  /** Requests can be served. */
  readonly up: boolean;
  /** `address:port` or `name:port` of the server behind the service; empty where there is none. */
  readonly server: string;
  /** Calls that the service itself has answered since its start. */
  readonly answered: number;
  /** Why new calls cannot be served now, in words for an operator; undefined when they can. */
  readonly trouble: string | undefined;
}

export interface Service {
  readonly status: ServiceStatus;
  readonly succession: Succession;
  /**
   * Takes one message that this member owns, as it came from outside or from a peer. Both arguments are reused after
   * the call. Never throws, never awaits.
   */
  handle(packet: Packet, scan: Scan): void;
  /**
   * Takes back a request that this member has sent through another one, because `lost`, the connection there, is gone.
   * The service owns `message`; `lost` is reused after the call. Never throws, never awaits.
   */
  returned(message: Buffer, lost: Readonly<Way>): void;
  /** A client's connection at this member is closed. Never throws, never awaits. */
  flowClosed(connection: number): void;
  /** The settings in force have changed. */
  apply(config: Config): void;
  /** The member records in the store have changed; those of nodes without a seat are among them. */
  setRecords(records: readonly MemberRecord[]): void;
  /** Opens its ports. Rejects with SF_BIND_FAILED. */
  start(): Promise<void>;
  /**
   * Resolves when it is certain whether requests can be served, after `ms` at the latest. Call it after `start`.
   */
  firstVerdict(ms: number): Promise<void>;
  /** This member takes no new calls from now on; those that run go on. */
  drain(): void;
  /** Closes its ports. */
  stop(): Promise<void>;
}

/** The parts of the node that a service works with. */
export interface ServiceParts {
  readonly routing: { readonly keys: Keyring; readonly tables: OwnerTables };
  readonly network: Network;
  readonly clock: Clock;
  readonly log: Logger;
  /** Left out: an exception reaches the caller. */
  readonly guard?: Guard;
  readonly transport: Transport;
  readonly egress: Egress;
  readonly remoteListeners: RemoteListeners;
  /** Given to a node that sends through members. */
  readonly exitChoice?: ExitChoice;
  readonly answers: StatelessReplies;
  readonly calls: CallTable;
  /** Left out: no call is recorded. */
  readonly journal?: CallJournal;
  readonly locator: Locator;
  /** Left out: descriptions of media pass unchanged. */
  readonly anchor?: Anchor;
  /** Endpoints that no message may leave for. */
  readonly forbidden: ForbiddenTargets;
  readonly handled: CellFamily<'from' | 'kind'>;
  readonly sendErrors: CellFamily<'listener'>;
  readonly reanchored: CellFamily<'outcome'>;
  readonly idleCalls: CellFamily<'outcome'>;
  readonly drops: Readonly<Record<DropReason, Cell>>;
  /** Up while this member must not act as owner. Left out: it never is. */
  readonly fence?: { readonly up: boolean };
  /** Sends the member `owner`, the slot's owner, a note of a call that began here. Left out: no member is notified. */
  readonly announce?: (owner: number, callKey: number) => void;
  /** Sends a packet on its way once more, from the owner lookup on. */
  readonly again: (packet: Packet) => void;
  /** `status.up` has changed. */
  readonly onHealth: (up: boolean) => void;
}

/** Builds a service and opens nothing. `config` is the configuration at the start; later ones come by `apply`. */
export type ServiceFactory = (config: Config, parts: ServiceParts) => Service;
