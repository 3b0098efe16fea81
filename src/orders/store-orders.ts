// Writes operators' orders for any member of the farm into the store, and reads their status.

import type { Clock } from '../base/clock.ts';
import { SipfarmError } from '../base/errors.ts';
import { isMemberId, type MemberRecord, parseNumberRecord } from '../membership/member-record.ts';
import {
  type Order,
  type OrderKind,
  type OrderMap,
  othersTakeCalls,
  parseDrainProgress,
  parseOrder,
} from '../membership/order.ts';
import type { View } from '../ownership/view.ts';
import type { Store } from '../store/store.ts';
import { update } from '../store/update.ts';
import type { OrderApi, OrderRequest, OrderStatus } from './order-status.ts';

/** Compare-and-swap on one key fails only against another operator: a few attempts suffice. */
const ATTEMPTS = 5;

/** Replaces the removed member in a number's record; no member can have this id. */
const NOBODY = '(removed)';

export interface StoreOrdersOptions {
  readonly clock: Clock;
  readonly store: Store;
  /** Id of this member. */
  readonly self: string;
  readonly view: () => View | undefined;
  readonly records: () => readonly MemberRecord[];
  readonly orders: () => OrderMap;
  /**
   * Carries out an order for this member before the store has it. Called again with the former order when the store
   * refuses the new one.
   */
  readonly obey: (order: Order | undefined) => void;
}

export class StoreOrders implements OrderApi {
  readonly #of: StoreOrdersOptions;

  constructor(options: StoreOrdersOptions) {
    this.#of = options;
  }

  all(): readonly OrderStatus[] {
    return [...this.#of.orders()].map(([id, order]) => this.#status(id, order, undefined));
  }

  async status(id: string): Promise<OrderStatus> {
    const { store } = this.#of;
    await this.#mustKnow(id);
    const [order, progress] = await Promise.all([store.get(`orders/${id}`), store.get(`drains/${id}`)]);
    return this.#status(id, parseOrder(order?.value), parseDrainProgress(progress?.value));
  }

  async give(id: string, { order: kind, deadlineSeconds }: OrderRequest): Promise<OrderStatus> {
    const { clock, self } = this.#of;
    const since = new Date(clock.wall()).toISOString();
    const order: Order = {
      ...{ v: 1, order: kind, since },
      ...(deadlineSeconds !== undefined && { deadlineSeconds }),
      by: self,
    };
    await this.#change(id, (present) => {
      if (present?.order === 'ban' && kind !== 'ban')
        throw new SipfarmError('SF_ORDER_REFUSED', `${id} is banned; sipfarm unban ${id} comes first`);
      return order;
    });
    return this.#status(id, order, undefined);
  }

  async lift(id: string, kinds: readonly OrderKind[]): Promise<OrderStatus> {
    let lifted: Order | undefined;
    await this.#change(id, (present) => {
      if (present && !kinds.includes(present.order))
        throw new SipfarmError(
          'SF_ORDER_REFUSED',
          `${id} has another order: ${present.order}; sipfarm ${present.order === 'ban' ? 'unban' : 'resume'} ` +
            `${id} ends it`,
        );
      lifted = present;
      return undefined;
    });
    return { ...this.#status(id, undefined, undefined), lifted: lifted?.order ?? null };
  }

  async remove(id: string, force: boolean): Promise<void> {
    const { store } = this.#of;
    await this.#mustKnow(id);
    const done = await update(store, ATTEMPTS, async () => {
      const record = await store.get(`members/${id}`);
      if (record && !force)
        throw new SipfarmError(
          'SF_ORDER_REFUSED',
          `${id} lives: stop it first; --force removes it nevertheless, and it comes back under another number`,
        );
      const order = await store.get(`orders/${id}`);
      const numbers = (await store.list('numbers/')).filter(({ value }) => parseNumberRecord(value)?.member === id);
      return [
        ...(record ? [{ key: record.key, value: undefined, expect: record.revision }] : []),
        ...(order ? [{ key: order.key, value: undefined, expect: order.revision }] : []),
        // The number is not deleted: its next member, after the usual time, continues its incarnations.
        ...numbers.map(({ key, value, revision }) => ({
          ...{ key, expect: revision },
          value: { ...parseNumberRecord(value), member: NOBODY },
        })),
      ];
    });
    if (!done) throw new SipfarmError('SF_STORE_CONFLICT', `${id} changes at the same time; try again`);
  }

  /**
   * Replaces the order in force by the result of `next`. This member carries out its own order at once, and reverts to
   * the former one when the write fails.
   */
  async #change(id: string, next: (present: Order | undefined) => Order | undefined): Promise<void> {
    const { self, orders, obey } = this.#of;
    await this.#mustKnow(id);
    try {
      await this.#put(id, next);
    } catch (error) {
      if (id === self) obey(orders().get(self));
      throw error;
    }
  }

  async #put(id: string, next: (present: Order | undefined) => Order | undefined): Promise<void> {
    const { store, self, obey } = this.#of;
    const key = `orders/${id}`;
    const done = await update(store, ATTEMPTS, async () => {
      const entry = await store.get(key);
      const value = next(parseOrder(entry?.value));
      if (!entry && !value) return [];
      if (id === self) obey(value);
      return [{ key, value, expect: entry?.revision ?? 0n }];
    });
    if (!done) throw new SipfarmError('SF_STORE_CONFLICT', `others give orders to ${id} at the same time; try again`);
  }

  /** Resolves if the member exists or still has a number in the store. Else rejects with SF_MEMBER_UNKNOWN. */
  async #mustKnow(id: string): Promise<void> {
    const { records, view, orders, store } = this.#of;
    if (records().some((record) => record.id === id) || view()?.seats.some((seat) => seat.id === id)) return;
    if (orders().has(id)) return;
    const numbers = isMemberId(id) ? await store.list('numbers/') : [];
    if (numbers.some(({ value }) => parseNumberRecord(value)?.member === id)) return;
    const workers = records().filter((record) => record.id.startsWith(`${id}.`));
    const names = (workers.length > 0 ? workers : records()).map((record) => record.id);
    const known = workers.length > 0 ? 'its workers are members' : 'the members are';
    const few = names.slice(0, 10).join(', ') + (names.length > 10 ? ' ...' : '');
    throw new SipfarmError('SF_MEMBER_UNKNOWN', `there is no member ${JSON.stringify(id)}; ${known}: ${few}`);
  }

  #status(id: string, order: Order | undefined, progress: ReturnType<typeof parseDrainProgress>): OrderStatus {
    const { records, view, orders } = this.#of;
    const seats = view()?.seats ?? [];
    return {
      member: id,
      order: order ?? null,
      alive: records().some((record) => record.id === id),
      seated: seats.some((seat) => seat.id === id),
      // Progress of an earlier order does not count.
      progress: progress && progress.since === order?.since ? progress : null,
      othersTakeCalls: othersTakeCalls(id, view(), orders()),
    };
  }
}
