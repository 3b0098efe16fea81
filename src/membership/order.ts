// Two keys of the store. orders/<id>: an operator's order for a member, given at any member. The member carries it out;
// the view applies it even if the member does not react. drains/<id>: the progress of a drain, written by the draining
// member while it lives.
import { isInteger, isObject, isOneOf, isText } from '../base/guards.ts';
import { takesCalls, type View } from '../ownership/view.ts';
import type { Entry } from '../store/store.ts';
import { isMemberId } from './member-record.ts';

/**
 * `drain`: no new calls; its tokens stay valid; not ready; at the deadline the member gives its seat up.
 * `pause`: no new calls; otherwise unchanged, ready.
 * `ban`: no seat.
 */
export const ORDER_KINDS = ['drain', 'pause', 'ban'] as const;
export type OrderKind = (typeof ORDER_KINDS)[number];

/** A day, as in the configuration. */
export const MAX_DEADLINE_SECONDS = 86_400;

export interface Order {
  readonly v: 1;
  readonly order: OrderKind;
  /** ISO 8601, by the wall clock of the member that received the order; for people. */
  readonly since: string;
  /** Drain only; counts from the time the member reads the order. Left out: drain.deadlineSeconds of the member. */
  readonly deadlineSeconds?: number;
  /** Id of the member that received the order. */
  readonly by: string;
}

/** Orders by member id. */
export type OrderMap = ReadonlyMap<string, Order>;

/**
 * draining: calls are left (with leftSeconds 0 also past the deadline: no other member could take them).
 * drained: no calls are left. handed-over: at the deadline calls were left, and the seat was given up.
 */
const DRAIN_STATES = ['draining', 'drained', 'handed-over'] as const;

/** Progress of a drain. */
export interface DrainProgress {
  readonly v: 1;
  readonly state: (typeof DRAIN_STATES)[number];
  /** `since` of the order in force: progress of an earlier order does not count. */
  readonly since: string;
  /** Calls left now; in state `handed-over`: calls left at the handover. */
  readonly calls: number;
  /** Age of the oldest of these calls. */
  readonly oldestSeconds: number;
  /** Time left until the deadline. */
  readonly leftSeconds: number;
}

const MAX_COUNT = 0xffffffff;

/** Returns the order; undefined when `value` has a wrong shape or breaks a bound. */
export function parseOrder(value: unknown): Order | undefined {
  if (!isObject(value)) return undefined;
  const { v, order, since, deadlineSeconds, by } = value;
  if (v !== 1 || !isOneOf(order, ORDER_KINDS) || !isText(since, 40) || !isMemberId(by)) return undefined;
  if (deadlineSeconds === undefined) return { v, order, since, by };
  if (!isInteger(deadlineSeconds, 0, MAX_DEADLINE_SECONDS)) return undefined;
  return { v, order, since, deadlineSeconds, by };
}

/** Returns the progress; undefined when `value` has a wrong shape or breaks a bound. */
export function parseDrainProgress(value: unknown): DrainProgress | undefined {
  if (!isObject(value)) return undefined;
  const { v, state, since, calls, oldestSeconds, leftSeconds } = value;
  if (v !== 1 || !isOneOf(state, DRAIN_STATES) || !isText(since, 40)) return undefined;
  if (!isInteger(calls, 0, MAX_COUNT) || !isInteger(oldestSeconds, 0, MAX_COUNT)) return undefined;
  if (!isInteger(leftSeconds, 0, MAX_DEADLINE_SECONDS)) return undefined;
  return { v, state, since, calls, oldestSeconds, leftSeconds };
}

/** Returns true when a member other than `id` takes new calls. Orders count even if the view does not have them yet. */
export function othersTakeCalls(id: string, view: View | undefined, orders: OrderMap): boolean {
  const seats = view?.seats ?? [];
  return seats.some((seat) => {
    const order = orders.get(seat.id)?.order;
    return seat.id !== id && takesCalls(seat) && order !== 'drain' && order !== 'ban';
  });
}

/** Returns the orders in these entries of the prefix orders/. Calls `onBad` with each key that holds no order. */
export function readOrders(entries: readonly Entry[], onBad: (key: string) => void): OrderMap {
  const orders = new Map<string, Order>();
  for (const { key, value } of entries) {
    const id = key.slice('orders/'.length);
    const order = parseOrder(value);
    if (order && isMemberId(id)) orders.set(id, order);
    else onBad(key);
  }
  return orders;
}
