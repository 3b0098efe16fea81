// The interface for orders of an operator: orders for any member, and their status.

import type { DrainProgress, Order, OrderKind } from '../membership/order.ts';

export interface OrderRequest {
  readonly order: OrderKind;
  /** Deadline of a drain. */
  readonly deadlineSeconds?: number | undefined;
}

/** The order for a member and its effect. */
export interface OrderStatus {
  readonly member: string;
  readonly order: Order | null;
  /** The member has a record: its process is running. */
  readonly alive: boolean;
  readonly seated: boolean;
  /** Progress of the drain by the member itself; null before it is published. */
  readonly progress: DrainProgress | null;
  /** Another member takes new calls. */
  readonly othersTakeCalls: boolean;
  /** Only in the result of `lift`: the kind of the lifted order, null when there was none. */
  readonly lifted?: OrderKind | null;
}

/** Orders for any member. Methods for one member reject with SF_MEMBER_UNKNOWN and SF_STORE_*. */
export interface OrderApi {
  /** Returns all orders in force, without progress. */
  all(): readonly OrderStatus[];
  status(id: string): Promise<OrderStatus>;
  /** Gives an order; replaces an earlier one. Rejects with SF_ORDER_REFUSED when another kind would replace a ban. */
  give(id: string, request: OrderRequest): Promise<OrderStatus>;
  /** Lifts an order of one of these kinds. Rejects with SF_ORDER_REFUSED when an order of another kind is in force. */
  lift(id: string, kinds: readonly OrderKind[]): Promise<OrderStatus>;
  /** Removes a member from the store for good. Rejects with SF_ORDER_REFUSED while it lives, unless `force`. */
  remove(id: string, force: boolean): Promise<void>;
}
