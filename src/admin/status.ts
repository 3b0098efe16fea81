// What the admin server asks of the running node. The node implements it; tests hand in a plain object.

import type { ClusterSettings } from '../config/schema.ts';
import type { OrderKind } from '../membership/order.ts';
import type { OrderApi } from '../orders/order-status.ts';
import type { SeatRole, SeatState, View } from '../ownership/view.ts';
import type { ListenerKind } from '../packet/transport-kind.ts';
import type { Decoded } from './decode.ts';

export interface Readiness {
  readonly ready: boolean;
  /** Why not, in words an operator understands; empty when ready. */
  readonly reasons: readonly string[];
}

export interface FarmSummary {
  readonly farm: string;
  readonly member: string;
  /** Given by the store; 0 before the member has joined. */
  readonly number: number;
  readonly incarnation: number;
  readonly state: 'joining' | SeatState | 'drained' | 'banned' | 'isolated' | 'stopping';
  readonly role: SeatRole;
  /** Why role auto became that; empty when the configuration names the role. */
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
  /** `ip:port` that clients are told. */
  readonly advertise: string;
  /** The same in full where `ip:port` cannot say it: `host:port`, and `;transport=tls` where TLS is ended in front. */
  readonly told?: string;
}

export interface MemberSummary {
  readonly id: string;
  readonly number: number;
  readonly incarnation: number;
  readonly state: string;
  /** Only members own slots and take packets from the balancer. */
  readonly role: SeatRole;
  readonly weight: number;
  /** Share of the slots, 0 to 1. */
  readonly share: number;
  /** Address of its relay link; empty when its record is gone. */
  readonly relay: string;
  /** Where packets come in; empty when its record is gone. */
  readonly listeners: readonly ListenerSummary[];
  readonly reachable: boolean;
  readonly version: string;
  readonly self: boolean;
  /** What an operator wants of it; left out: nothing. */
  readonly order?: OrderKind;
}

/** Somebody who has no seat: by an order, by its own will, or because it is not there. */
export interface AbsentSummary {
  readonly id: string;
  /** null when it is not there. */
  readonly number: number | null;
  /** gone: no process of that name is in the farm. joining: its seat is on its way. */
  readonly state: 'banned' | 'drained' | 'joining' | 'gone';
  readonly order?: OrderKind;
}

/** Another member as the relay link knows it, with a seat or without. */
export interface PeerSummary {
  readonly id: string;
  readonly number: number;
  /** Address of its relay link. */
  readonly relay: string;
  readonly seated: boolean;
  readonly role: SeatRole;
  /** It answers the probes of this member: datagrams pass in both directions. */
  readonly reachable: boolean;
  /** Ids of the members that it says it cannot reach. */
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
  /** Who owns the slot; null when no member has a weight. A dialog in progress follows its tokens instead. */
  readonly owner: OwnerMember | null;
  /** Who owned it before and may still hold a call of that time. */
  readonly previous: OwnerMember | null;
  /** True when the member that was asked holds this call. */
  readonly heldHere: boolean;
}

/** A call by its record. Its texts were written by strangers. */
export interface CallSummary {
  readonly callId: string;
  readonly state: 'trying' | 'early' | 'confirmed';
  readonly method: 'INVITE' | 'SUBSCRIBE';
  /** ISO 8601. */
  readonly since: string;
  /** Under whose number the record stands; the id is empty when that has no seat. */
  readonly owner: OwnerMember;
  /** Of the owner, and the epoch it worked by, when it wrote the record. */
  readonly incarnation: number;
  readonly epoch: number;
  /** URI of From and To. */
  readonly from: string;
  readonly to: string;
  readonly legs: readonly CallLegSummary[];
}

interface CallLegSummary {
  /** Who sent the request: somebody outside, or the SIP server. */
  readonly from: 'client' | 'server';
  /** `ip:port` of the outside, or which connection it is on. */
  readonly remote: string;
  readonly answered: boolean;
}

export interface CallList {
  readonly calls: readonly CallSummary[];
  /** There are more than were asked for. */
  readonly more: boolean;
}

/** What `GET /v1/owner` tells. */
export interface OwnerReport extends OwnerAnswer {
  /** The call's record; null when there is none, or when the store does not tell. */
  readonly record: CallSummary | null;
  /** False when the store did not answer. */
  readonly recordKnown: boolean;
}

/** What gives a promise may ask the store; all else answers from tables at hand. */
export interface AdminApi {
  readonly orders: OrderApi;
  ready(): Readiness;
  farm(): FarmSummary;
  members(): readonly MemberSummary[];
  /** Who is known without a seat. */
  absent(): readonly AbsentSummary[];
  /** The other members by their records in the store, those without a seat included. */
  peers(): readonly PeerSummary[];
  /** undefined before the first view. */
  view(): View | undefined;
  /** Calls this member owns; numbers only, never content. */
  calls(): { readonly owned: number };
  /** At most `limit` calls of this member that are recorded; with `all` of every member, out of the store. Rejects with SF_STORE_*. */
  callList(limit: number, all: boolean): Promise<CallList>;
  owner(callId: string): OwnerAnswer;
  /** The record of a Call-ID, whoever owns it. Rejects with SF_STORE_*. */
  recordOf(callId: string): Promise<CallSummary | null>;
  /** Throws SF_DECODE_FAILED. */
  decode(text: string): Decoded;
  /** The cluster-wide settings as they stand in the store; empty when nobody has put any. Rejects with SF_STORE_*. */
  getConfig(): Promise<ClusterSettings>;
  /** Replaces the cluster-wide settings, already checked. Rejects with SF_STORE_*. */
  putConfig(settings: ClusterSettings): Promise<void>;
}
