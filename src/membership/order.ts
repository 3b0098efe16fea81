// The store's key orders/<id>: what an operator wants of a member, told to any member. The member obeys, and the view honours it also when the
// member is deaf. And drains/<id>: how far a drain has come, told by the draining member while it lives.
import { isInteger, isObject, isOneOf, isText } from '../base/guards.ts';
import { takesCalls, type View } from '../ownership/view.ts';
import type { Entry } from '../store/store.ts';
import { isMemberId } from './member-record.ts';

/**
 * `drain`: no new calls, its tokens are honoured, not ready; at the deadline it gives its seat up. `pause`: no new calls, else as ever, ready.
 * `ban`: no seat.
 */
export const ORDER_KINDS = ['drain', 'pause', 'ban'] as const;
export type OrderKind = (typeof ORDER_KINDS)[number];

/** A day, as in the configuration. */
export const MAX_DEADLINE_SECONDS = 86_400;

export interface Order {
  readonly v: 1;
  readonly order: OrderKind;
  /** ISO 8601, the wall clock of the member that was asked; for people. */
  readonly since: string;
  /** Of a drain, counted from the moment the member takes note. Left out: drain.deadlineSeconds of the member. */
  readonly deadlineSeconds?: number;
  /** Id of the member that was asked. */
  readonly by: string;
}

/** Orders by member id. */
export type OrderMap = ReadonlyMap<string, Order>;

/** draining: calls are left (with leftSeconds 0 also past the deadline: no other member could take them). drained: none is. handed-over: the deadline came first, and the seat was given up. */
const DRAIN_STATES = ['draining', 'drained', 'handed-over'] as const;

/** How far a drain has come. */
export interface DrainProgress {
  readonly v: 1;
  readonly state: (typeof DRAIN_STATES)[number];
  /** `since` of the order that is obeyed: progress of an earlier one says nothing. */
  readonly since: string;
  /** Calls left; of `handed-over` those that were left then. */
  readonly calls: number;
  /** Age of the oldest of them. */
  readonly oldestSeconds: number;
  /** Until the deadline. */
  readonly leftSeconds: number;
}

const MAX_COUNT = 0xffffffff;

/** undefined when `value` has another shape or breaks a bound. */
export function parseOrder(value: unknown): Order | undefined {
  if (!isObject(value)) return undefined;
  const { v, order, since, deadlineSeconds, by } = value;
  if (v !== 1 || !isOneOf(order, ORDER_KINDS) || !isText(since, 40) || !isMemberId(by)) return undefined;
  if (deadlineSeconds === undefined) return { v, order, since, by };
  if (!isInteger(deadlineSeconds, 0, MAX_DEADLINE_SECONDS)) return undefined;
  return { v, order, since, deadlineSeconds, by };
}

/** undefined when `value` has another shape or breaks a bound. */
export function parseDrainProgress(value: unknown): DrainProgress | undefined {
  if (!isObject(value)) return undefined;
  const { v, state, since, calls, oldestSeconds, leftSeconds } = value;
  if (v !== 1 || !isOneOf(state, DRAIN_STATES) || !isText(since, 40)) return undefined;
  if (!isInteger(calls, 0, MAX_COUNT) || !isInteger(oldestSeconds, 0, MAX_COUNT)) return undefined;
  if (!isInteger(leftSeconds, 0, MAX_DEADLINE_SECONDS)) return undefined;
  return { v, state, since, calls, oldestSeconds, leftSeconds };
}

/** Whether members other than `id` take new calls, also when the view does not know yet who of them has just been told to drain. */
export function othersTakeCalls(id: string, view: View | undefined, orders: OrderMap): boolean {
  const seats = view?.seats ?? [];
  return seats.some((seat) => {
    const order = orders.get(seat.id)?.order;
    return seat.id !== id && takesCalls(seat) && order !== 'drain' && order !== 'ban';
  });
}

/** The orders among these entries of the prefix orders/; `onBad` is told the keys that hold none. */
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
