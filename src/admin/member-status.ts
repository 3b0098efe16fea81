// Provides the admin server with data of the running node: readiness, farm, members, owners, decoding, cluster-wide
// settings.

import { SipfarmError } from '../base/errors.ts';
import type { CallTable } from '../calls/table/call-table.ts';
import { parseClusterSettings } from '../config/live.ts';
import type { ClusterSettings, Config } from '../config/schema.ts';
import type { MemberRecord } from '../membership/member-record.ts';
import type { OrderKind, OrderMap } from '../membership/order.ts';
import type { OrderApi } from '../orders/order-status.ts';
import type { Keyring } from '../ownership/keyring.ts';
import { earlierOwner, type OwnerTables } from '../ownership/owner-tables.ts';
import { CallHash, hashCallIdText, SLOTS } from '../ownership/slots.ts';
import type { View } from '../ownership/view.ts';
import type { RelayLink } from '../relay/relay-link.ts';
import type { Service } from '../service/service.ts';
import type { Store } from '../store/store.ts';
import { update } from '../store/update.ts';
import type { CallStatus } from './call-status.ts';
import { type Decoded, decode } from './decode.ts';
import type {
  AbsentSummary,
  AdminApi,
  CallList,
  CallSummary,
  FarmSummary,
  MemberSummary,
  OwnerAnswer,
  OwnerMember,
  PeerSummary,
  PortsApi,
  Readiness,
} from './status.ts';

export interface MemberStatusOptions {
  readonly config: () => Config;
  readonly version: string;
  readonly state: () => FarmSummary['state'];
  readonly identity: () => { readonly number: number; readonly incarnation: number };
  readonly view: () => View | undefined;
  readonly records: () => readonly MemberRecord[];
  readonly routing: { readonly keys: Keyring; readonly tables: OwnerTables };
  readonly calls: CallTable;
  readonly callStatus: CallStatus;
  readonly link: RelayLink;
  readonly store: Store;
  readonly service: Service;
  readonly fence: { readonly up: boolean; readonly stoodStill: boolean };
  readonly orders: () => OrderMap;
  readonly orderApi: OrderApi;
  readonly ports: PortsApi;
  /** Present on a node that sends through members. */
  readonly exitChoice?: { readonly open: boolean };
}

/** Milliseconds that a newer view may take to arrive before the member counts as not ready. */
const OUTRUN_MS = 2000;

/** Compare-and-swap on one key fails only when another operator writes at the same time: few attempts suffice. */
const PUT_ATTEMPTS = 5;

export class MemberStatus implements AdminApi {
  readonly #of: MemberStatusOptions;
  readonly orders: OrderApi;
  readonly ports: PortsApi;

  constructor(options: MemberStatusOptions) {
    this.#of = options;
    this.orders = options.orderApi;
    this.ports = options.ports;
  }

  /**
   * Returns the readiness. An unreachable store alone changes nothing: the farm continues with its last view. A member
   * that alone is cut off is not ready once the others have a newer view.
   */
  ready(): Readiness {
    const { state, view, identity, service, store, link, exitChoice, fence } = this.#of;
    const reasons: string[] = [];
    const now = state();
    if (now === 'banned') reasons.push('an operator has banned the member: sipfarm unban ends it');
    else if (now !== 'active' && now !== 'isolated') reasons.push(`the member is ${now}`);
    else if (!view()?.seats.some(({ number }) => number === identity().number))
      reasons.push('the member has no seat in the view yet');
    if (fence.stoodStill) reasons.push('the member stood still, and has no proof of its seat yet');
    else if (fence.up)
      reasons.push('the other members have removed its seat, and the store has not sent it the new view');
    const { trouble } = service.status;
    if (trouble) reasons.push(trouble);
    if (exitChoice?.open === false) reasons.push('no member takes new calls, so its requests cannot leave');
    if (!store.up && link.outrunFor() > OUTRUN_MS)
      reasons.push('the other members have a newer view, and the store has not sent it');
    return { ready: reasons.length === 0, reasons };
  }

  farm(): FarmSummary {
    const { config, version, state, identity, routing, store, service, calls } = this.#of;
    const { farm, member, role, roleChosenBecause } = config();
    const { server, trouble } = service.status;
    return {
      farm,
      member,
      ...identity(),
      state: state(),
      role,
      roleChosenBecause,
      version,
      epoch: routing.tables.epoch,
      store: { kind: store.kind, up: store.up },
      upstream: { server, up: trouble === undefined },
      ownedCalls: calls.calls,
    };
  }

  members(): readonly MemberSummary[] {
    const { view, records, routing, link, identity, orders } = this.#of;
    const owned: number[] = [];
    for (const number of routing.tables.slots) owned[number] = (owned[number] ?? 0) + 1;
    return (view()?.seats ?? []).map((seat) => {
      const record = records().find(({ number }) => number === seat.number);
      const self = seat.number === identity().number;
      const order = orders().get(seat.id)?.order;
      return {
        id: seat.id,
        number: seat.number,
        incarnation: seat.incarnation,
        state: seat.state,
        role: seat.role ?? 'member',
        weight: seat.weight,
        share: (owned[seat.number] ?? 0) / SLOTS,
        relay: record?.relay ?? '',
        listeners: record?.listeners ?? [],
        reachable: self || link.reachable(seat.number),
        version: record?.versions.sipfarm ?? '',
        self,
        ...(order && { order }),
      };
    });
  }

  absent(): readonly AbsentSummary[] {
    const { view, records, orders } = this.#of;
    const seated = new Set(view()?.seats.map(({ id }) => id));
    const numbers = new Map(records().map(({ id, number }) => [id, number]));
    const ids = [...numbers.keys(), ...orders().keys()].filter((id) => !seated.has(id));
    return [...new Set(ids)].map((id) => {
      const number = numbers.get(id) ?? null;
      const order = orders().get(id)?.order;
      const state = this.#absence(
        records().find((one) => one.id === id),
        order,
      );
      return { id, number, state, ...(order && { order }) };
    });
  }

  #absence(record: MemberRecord | undefined, order: OrderKind | undefined): AbsentSummary['state'] {
    if (!record) return 'gone';
    if (order === 'ban') return 'banned';
    if (record.state === 'away') return 'drained';
    const { identity, link } = this.#of;
    return record.number === identity().number || link.reachable(record.number) ? 'joining' : 'unreachable';
  }

  peers(): readonly PeerSummary[] {
    const { view, records, link, identity } = this.#of;
    const ids = new Map(records().map(({ number, id }) => [number, id]));
    return records()
      .filter(({ number }) => number !== identity().number)
      .map(({ id, number, relay, role }) => ({
        id,
        number,
        relay,
        role,
        seated: view()?.seats.some((seat) => seat.number === number) ?? false,
        reachable: link.reachable(number),
        misses: link.missesOf(number).map((missed) => ids.get(missed) ?? String(missed)),
      }));
  }

  view(): View | undefined {
    return this.#of.view();
  }

  callList(limit: number, all: boolean): Promise<CallList> {
    return this.#of.callStatus.list(limit, all);
  }

  recordOf(callId: string): Promise<CallSummary | null> {
    return this.#of.callStatus.recordOf(callId);
  }

  calls(): { readonly owned: number } {
    return { owned: this.#of.calls.calls };
  }

  owner(callId: string): OwnerAnswer {
    const { routing, calls } = this.#of;
    const { tables } = routing;
    const hash = new CallHash();
    hashCallIdText(tables.slotKey, callId, hash);
    const member = (number: number): OwnerMember | null =>
      number === 0 ? null : { number, id: tables.seats.get(number)?.id ?? '' };
    return {
      callId,
      slot: hash.slot,
      epoch: tables.epoch,
      owner: member(tables.slots[hash.slot]!),
      previous: member(earlierOwner(tables, hash.slot, 0, { generation: 0 })),
      heldHere: calls.has(hash.key) || calls.has(-hash.key),
    };
  }

  decode(text: string): Decoded {
    return decode(text, this.#of.routing.keys);
  }

  async getConfig(): Promise<ClusterSettings> {
    return parseClusterSettings((await this.#of.store.get('config'))?.value ?? {});
  }

  async putConfig(settings: ClusterSettings): Promise<void> {
    const { store } = this.#of;
    const done = await update(store, PUT_ATTEMPTS, async () => {
      const expect = (await store.get('config'))?.revision ?? 0n;
      return [{ key: 'config', value: settings, expect }];
    });
    if (!done)
      throw new SipfarmError(
        'SF_STORE_CONFLICT',
        'others change the cluster-wide settings at the same time; try again',
      );
  }
}
