// The view: the numbered, agreed list of members. Every slot's owner follows from it alone.

/** `active` takes new calls; `draining` keeps what it has, its tokens are honoured, and owns no slot. */
export type SeatState = 'active' | 'draining';

/** `member` owns slots. The others are not in the farm, but have a seat, so that what names them by a token reaches them. */
export const SEAT_ROLES = ['member', 'disabled', 'relay'] as const;
export type SeatRole = (typeof SEAT_ROLES)[number];

/** One node's place in the view. */
export interface Seat {
  readonly id: string;
  /** 1-65535, given once per member id. */
  readonly number: number;
  /** 1-16777215, rises with each start of the member. */
  readonly incarnation: number;
  /** Relative share of slots, 0-1000; 100 is the default. */
  readonly weight: number;
  readonly state: SeatState;
  /** Left out for a member; the weight of the others is 0. */
  readonly role?: Exclude<SeatRole, 'member'>;
}

/** True for a seat that counts: in the share of slots, and in what a majority says. */
export function isMember(seat: { readonly role?: SeatRole }): boolean {
  return seat.role === undefined || seat.role === 'member';
}

/** True for a seat that new calls go to. */
export function takesCalls(seat: Seat): boolean {
  return isMember(seat) && seat.state === 'active' && seat.weight > 0;
}

/** What decides the owners of slots in one generation. */
export interface Generation {
  readonly epoch: number;
  readonly shares: readonly { readonly number: number; readonly weight: number }[];
}

/** One life of a member: a process, from its join to its end. */
export interface MemberLife {
  /** 0 before the member has joined. */
  readonly number: number;
  readonly incarnation: number;
}

/** The value of the store's key `view`. */
export interface View {
  readonly v: 1;
  /** Rises by one with each change. */
  readonly epoch: number;
  /** 16 octets in hexadecimal, drawn when the farm's first view is written and never changed: the key of the slot hash. Rotating farm keys moves no slot. */
  readonly seed: string;
  /** Ordered by number. */
  readonly seats: readonly Seat[];
  /**
   * Seats that a majority has taken while the member's record lived on: that incarnation gets none again, also from a member that has come
   * later and suspects nobody. Left out when there are none.
   */
  readonly out?: readonly MemberLife[];
  /** Earlier generations that moved slots, newest first, at most 8: where a slot's calls may still live (second chance). */
  readonly history: readonly Generation[];
}

/** How many earlier generations a view remembers: the restart of a member makes four, with its ramp, so two restarts fit into one ringing time. */
export const HISTORY_LENGTH = 8;

/** The shares of a view: active members with a weight; when there are none, those that drain: a call has one owner in a farm that shuts down, too. */
export function generationOf(view: View): Generation {
  const weighty = view.seats.filter((seat) => isMember(seat) && seat.weight > 0);
  const active = weighty.filter(({ state }) => state === 'active');
  return {
    epoch: view.epoch,
    shares: (active.length > 0 ? active : weighty).map(({ number, weight }) => ({ number, weight })),
  };
}

function sameShares(a: Generation, b: Generation): boolean {
  return (
    a.shares.length === b.shares.length &&
    a.shares.every((share, i) => share.number === b.shares[i]?.number && share.weight === b.shares[i]?.weight)
  );
}

function sameSeats(a: readonly Seat[], b: readonly Seat[]): boolean {
  return (
    a.length === b.length &&
    a.every((seat, i) => {
      const other = b[i]!;
      return (
        seat.id === other.id &&
        seat.number === other.number &&
        seat.incarnation === other.incarnation &&
        seat.weight === other.weight &&
        seat.state === other.state &&
        seat.role === other.role
      );
    })
  );
}

/**
 * The view that follows `last` when the seats are `seats`; `last` itself when none changes. `seed` is used for a farm's first view only; `out`
 * are those whose seats have been taken.
 */
export function nextView(
  last: View | undefined,
  seats: readonly Seat[],
  seed: string,
  out: readonly MemberLife[] = [],
): View {
  const ordered = [...seats].sort((a, b) => a.number - b.number);
  if (!last) return { v: 1, epoch: 1, seed, seats: ordered, history: [] };
  if (sameSeats(ordered, last.seats)) return last;
  const { history } = last;
  const view: View = {
    v: 1,
    epoch: last.epoch + 1,
    seed: last.seed,
    seats: ordered,
    ...(out.length > 0 && { out }),
    history,
  };
  const before = generationOf(last);
  if (sameShares(before, generationOf(view)) || before.shares.length === 0) return view;
  // Slots follow from shares alone: an older generation with the same shares says nothing new, and a member whose server flaps must not push out others.
  const others = last.history.filter((earlier) => !sameShares(earlier, before));
  return { ...view, history: [before, ...others].slice(0, HISTORY_LENGTH) };
}
