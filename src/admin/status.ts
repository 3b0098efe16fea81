// Interface between the admin server and the running node. The node implements it; tests pass a plain object.

import type { ClusterSettings } from '../config/schema.ts';
import type { Way } from '../media/media-relay.ts';
import type { PortsReport } from '../media/port-status.ts';
import type { OrderKind } from '../membership/order.ts';
import type { OrderApi } from '../orders/order-status.ts';
import type { SeatRole, SeatState, View } from '../ownership/view.ts';
import type { ListenerKind } from '../packet/transport-kind.ts';
import type { Decoded } from './decode.ts';

export interface Readiness {
  readonly ready: boolean;
  /** Reasons for not being ready, in an operator's words; empty when ready. */
  readonly reasons: readonly string[];
}

export interface FarmSummary {
  readonly farm: string;
  readonly member: string;
  /** Assigned by the store; 0 before the member has joined. */
  readonly number: number;
  readonly incarnation: number;
  readonly state: 'joining' | SeatState | 'drained' | 'banned' | 'isolated' | 'stopping';
  readonly role: SeatRole;
  /** Reason for the role that `auto` became; empty when the configuration names the role. */
  readonly roleChosenBecause: string;
  readonly version: string;
  readonly epoch: number;
  readonly store: { readonly kind: 'etcd' | 'memory'; readonly up: boolean };
  readonly upstream: { readonly server: string; readonly up: boolean };
  readonly ownedCalls: number;
}

export interface ListenerSummary {
  readonly name: string;
  readonly transport: ListenerKind;
  /** `ip:port`. */
  readonly bind: string;
  /** `ip:port` that clients receive. */
  readonly advertise: string;
  /**
   * Full form of the address that clients receive, when `ip:port` cannot express it: `host:port`, and `;transport=tls`
   * where TLS is ended in front.
   */
  readonly told?: string;
}

export interface MemberSummary {
  readonly id: string;
  readonly number: number;
  readonly incarnation: number;
  readonly state: string;
  /** Only nodes of role `member` own slots and take packets from the balancer. */
  readonly role: SeatRole;
  readonly weight: number;
  /** Share of the slots, 0 to 1. */
  readonly share: number;
  /** Address of its relay link; empty when its record is gone. */
  readonly relay: string;
  /** Listeners for packets from outside; empty when its record is gone. */
  readonly listeners: readonly ListenerSummary[];
  readonly reachable: boolean;
  readonly version: string;
  readonly self: boolean;
  /** Order of an operator; left out when there is none. */
  readonly order?: OrderKind;
}

/** A node without a seat: by an order, by its own decision, or because it does not run. */
export interface AbsentSummary {
  readonly id: string;
  /** null when the node does not run. */
  readonly number: number | null;
  /**
   * gone: no process of that name is in the farm. joining: it will get a seat. unreachable: it has lost its seat, and
   * its lease has not ended yet.
   */
  readonly state: 'banned' | 'drained' | 'joining' | 'unreachable' | 'gone';
  readonly order?: OrderKind;
}

/** Another node as the relay link sees it, with or without a seat. */
export interface PeerSummary {
  readonly id: string;
  readonly number: number;
  /** Address of its relay link. */
  readonly relay: string;
  readonly seated: boolean;
  readonly role: SeatRole;
  /** It answers the probes of this member: datagrams pass in both directions. */
  readonly reachable: boolean;
  /** Ids of the members that it reports as unreachable. */
  readonly misses: readonly string[];
}

export interface OwnerMember {
  readonly number: number;
  readonly id: string;
}

export interface OwnerAnswer {
  readonly callId: string;
  /** 0-65535. */
  readonly slot: number;
  readonly epoch: number;
  /** Owner of the slot; null when no member has a weight. A dialog in progress follows its tokens instead. */
  readonly owner: OwnerMember | null;
  /** Earlier owner of the slot that may still hold a call of that time. */
  readonly previous: OwnerMember | null;
  /** True when the member that answers this request holds the call. */
  readonly heldHere: boolean;
}

/** A call by its record. Its texts were written by untrusted parties. */
export interface CallSummary {
  readonly callId: string;
  readonly state: 'trying' | 'early' | 'confirmed';
  readonly method: 'INVITE' | 'SUBSCRIBE';
  /** ISO 8601. */
  readonly since: string;
  /** Member under whose number the record is stored; the id is empty when that number has no seat. */
  readonly owner: OwnerMember;
  /** Incarnation of the owner when it wrote the record, and epoch in which the call became its own. */
  readonly incarnation: number;
  readonly epoch: number;
  /** URIs of From and To. */
  readonly from: string;
  readonly to: string;
  readonly legs: readonly CallLegSummary[];
  /** The parties whose media the owner relays. Left out: none. */
  readonly media?: readonly CallMediaSummary[];
}

interface CallMediaSummary {
  /** Tag of the party; before it has one, the branch of the request that invites it. */
  readonly party: string;
  readonly streams: readonly {
    /** `ip:port` that descriptions show to the party, and the one that its description names; '' = none. */
    readonly public: string;
    readonly target: string;
    /** Forwarder of its packets. Left out: another member has the call. */
    readonly way?: Way;
  }[];
}

interface CallLegSummary {
  /** Sender of the request: a client outside, or the SIP server. */
  readonly from: 'client' | 'server';
  /** `ip:port` of the outside party, or the number of its connection. */
  readonly remote: string;
  readonly answered: boolean;
}

export interface CallList {
  readonly calls: readonly CallSummary[];
  /** More calls exist than the limit allows. */
  readonly more: boolean;
}

/** Answer of `GET /v1/owner`. */
export interface OwnerReport extends OwnerAnswer {
  /** The call's record; null when there is none, or when the store did not answer. */
  readonly record: CallSummary | null;
  /** False when the store did not answer. */
  readonly recordKnown: boolean;
}

/** The media ports. Never rejects because of the store: without it the report has no claims. */
export interface PortsApi {
  report(): Promise<PortsReport>;
  /** Reads the addresses of the host again, then reports. */
  refresh(): Promise<PortsReport>;
}

/** Methods that return a promise may read the store. All others answer from tables in memory. */
export interface AdminApi {
  readonly orders: OrderApi;
  readonly ports: PortsApi;
  ready(): Readiness;
  farm(): FarmSummary;
  members(): readonly MemberSummary[];
  /** Returns the known nodes without a seat. */
  absent(): readonly AbsentSummary[];
  /** Returns the other nodes by their records in the store, including those without a seat. */
  peers(): readonly PeerSummary[];
  /** Returns the view; undefined before the first one. */
  view(): View | undefined;
  /** Returns the number of calls that this member owns; never their content. */
  calls(): { readonly owned: number };
  /**
   * Returns at most `limit` recorded calls of this member; with `all` of every member, from the store. Rejects with
   * SF_STORE_*.
   */
  callList(limit: number, all: boolean): Promise<CallList>;
  owner(callId: string): OwnerAnswer;
  /** Returns the record of a Call-ID, whoever owns it. Rejects with SF_STORE_*. */
  recordOf(callId: string): Promise<CallSummary | null>;
  /** Throws SF_DECODE_FAILED. */
  decode(text: string): Decoded;
  /** Returns the cluster-wide settings from the store; empty when there are none. Rejects with SF_STORE_*. */
  getConfig(): Promise<ClusterSettings>;
  /** Replaces the cluster-wide settings, already checked. Rejects with SF_STORE_*. */
  putConfig(settings: ClusterSettings): Promise<void>;
}
