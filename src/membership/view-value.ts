// Parses and checks the value of the store's key `view`.

import { isInteger, isList, isObject, isOneOf } from '../base/guards.ts';
import {
  type Generation,
  HISTORY_LENGTH,
  type MemberLife,
  SEAT_ROLES,
  type Seat,
  type SeatRole,
  type View,
} from '../ownership/view.ts';
import { isMemberId, MAX_INCARNATION, MAX_NUMBER, type MemberRecord } from './member-record.ts';
import type { OrderKind } from './order.ts';

/** Relay frames carry the epoch in 32 bits. */
const MAX_EPOCH = 0xffffffff;
/** A view of this many seats has some 100 KB; real farms are far smaller. */
const MAX_SEATS = 1024;

/**
 * Returns the view; undefined when `value` has a wrong shape, breaks a bound, or is not ordered by number. Unknown
 * fields are left out.
 */
export function parseView(value: unknown): View | undefined {
  if (!isObject(value)) return undefined;
  const { v, epoch, seed, seats, out = [], history } = value;
  if (v !== 1 || !isInteger(epoch, 1, MAX_EPOCH)) return undefined;
  if (typeof seed !== 'string' || !/^[0-9a-f]{32}$/.test(seed)) return undefined;
  if (!isList(seats, MAX_SEATS) || !isList(out, MAX_SEATS) || !isList(history, HISTORY_LENGTH)) return undefined;
  const parsedSeats: readonly (Seat | undefined)[] = seats.map(parseSeat);
  const parsedOut: readonly (MemberLife | undefined)[] = out.map(parseEvictedSeat);
  const parsedHistory: readonly (Generation | undefined)[] = history.map(parseGeneration);
  if (!isComplete(parsedSeats) || !isOrdered(parsedSeats) || !isComplete(parsedHistory)) return undefined;
  if (!isComplete(parsedOut)) return undefined;
  const epochs = [epoch, ...parsedHistory.map((generation) => generation.epoch)];
  if (epochs.some((later, i) => i > 0 && later >= epochs[i - 1]!)) return undefined;
  return {
    v,
    epoch,
    seed,
    seats: parsedSeats,
    ...(parsedOut.length > 0 && { out: parsedOut }),
    history: parsedHistory,
  };
}

function parseEvictedSeat(value: unknown): MemberLife | undefined {
  if (!isObject(value)) return undefined;
  const { number, incarnation } = value;
  return isInteger(number, 1, MAX_NUMBER) && isInteger(incarnation, 1, MAX_INCARNATION)
    ? { number, incarnation }
    : undefined;
}

/** Returns the seat with its fields in the order of `seatOf`: seats are compared as JSON. */
function parseSeat(value: unknown): Seat | undefined {
  if (!isObject(value)) return undefined;
  const { id, number, incarnation, weight, state, role = 'member' } = value;
  if (!isMemberId(id) || !isInteger(number, 1, MAX_NUMBER) || !isInteger(incarnation, 1, MAX_INCARNATION)) {
    return undefined;
  }
  if (!isInteger(weight, 0, 1000) || !isOneOf(state, ['active', 'draining'])) return undefined;
  if (!isOneOf(role, SEAT_ROLES)) return undefined;
  return seatOf({ id, number, incarnation, weight, state, role });
}

/** The fields of a member record that make its seat. */
type SeatParts = Omit<Seat, 'role'> & { readonly role: SeatRole };

/** Returns the seat for these fields. The weight of a node that is not a member is 0. */
function seatOf({ id, number, incarnation, weight, state, role }: SeatParts): Seat {
  if (role === 'member') return { id, number, incarnation, weight, state };
  return { id, number, incarnation, weight: 0, state, role };
}

/** Returns the seat for this record under this order; undefined when it gets none. */
export function seatByOrder(record: MemberRecord, order: OrderKind | undefined): Seat | undefined {
  const { state, weight } = record;
  if (state === 'away' || order === 'ban') return undefined;
  return seatOf({
    ...record,
    state: order === 'drain' ? 'draining' : state,
    weight: order === 'pause' ? 0 : weight,
  });
}

function parseGeneration(value: unknown): Generation | undefined {
  if (!isObject(value)) return undefined;
  const { epoch, shares } = value;
  if (!isInteger(epoch, 1, MAX_EPOCH) || !isList(shares, MAX_SEATS)) return undefined;
  const parsed = shares.map((share) => {
    if (!isObject(share)) return undefined;
    const { number, weight } = share;
    return isInteger(number, 1, MAX_NUMBER) && isInteger(weight, 1, 1000) ? { number, weight } : undefined;
  });
  return isComplete(parsed) && isOrdered(parsed) ? { epoch, shares: parsed } : undefined;
}

function isComplete<T>(list: readonly (T | undefined)[]): list is readonly T[] {
  return list.every((element) => element !== undefined);
}

function isOrdered(list: readonly { readonly number: number }[]): boolean {
  return list.every((element, i) => i === 0 || list[i - 1]!.number < element.number);
}
