// Orders of an operator for any member, and the answers to them.

import type { DrainProgress, Order, OrderKind } from '../membership/order.ts';

export interface OrderRequest {
  readonly order: OrderKind;
  /** Of a drain. */
  readonly deadlineSeconds?: number | undefined;
}

/** What an operator wants of a member, and what has become of it. */
export interface OrderStatus {
  readonly member: string;
  readonly order: Order | null;
  /** A process of that name is in the farm. */
  readonly alive: boolean;
  readonly seated: boolean;
  /** What the member has told of its drain; null before it has. */
  readonly progress: DrainProgress | null;
  /** Some other member takes new calls. */
  readonly othersTakeCalls: boolean;
  /** The order that was lifted just now, null when there was none; only in the answer to lifting. */
  readonly lifted?: OrderKind | null;
}

/** Orders for any member. What is about one member rejects with SF_MEMBER_UNKNOWN, and with SF_STORE_*. */
export interface OrderApi {
  /** Every order that stands, without progress. */
  all(): readonly OrderStatus[];
  status(id: string): Promise<OrderStatus>;
  /** Replaces an order that stands, but no ban. Rejects with SF_ORDER_REFUSED. */
  give(id: string, request: OrderRequest): Promise<OrderStatus>;
  /** Lifts an order of one of these kinds. Rejects with SF_ORDER_REFUSED when another stands. */
  lift(id: string, kinds: readonly OrderKind[]): Promise<OrderStatus>;
  /** Forgets a member that is gone for good. Rejects with SF_ORDER_REFUSED while it lives, unless forced. */
  remove(id: string, force: boolean): Promise<void>;
}
