// The view: the numbered, agreed list of members. Every slot's owner follows from it alone.

/** `active` takes new calls. `draining` keeps its calls, its tokens stay valid, and it owns no slot. */
export type SeatState = 'active' | 'draining';

/**
 * `member` owns slots. Nodes of the other roles are outside the farm. They have a seat so that tokens can name them.
 */
export const SEAT_ROLES = ['member', 'disabled', 'relay'] as const;
export type SeatRole = (typeof SEAT_ROLES)[number];

/** One node's seat in the view. */
export interface Seat {
  readonly id: string;
  /** 1-65535, assigned once per member id. */
  readonly number: number;
  /** 1-16777215, rises with each start of the member. */
  readonly incarnation: number;
  /** Relative share of slots, 0-1000; 100 is the default. */
  readonly weight: number;
  readonly state: SeatState;
  /** Left out for a member. The weight of other roles is 0. */
  readonly role?: Exclude<SeatRole, 'member'>;
}

/** Returns true for a seat that counts in the shares of slots and in a majority. */
export function isMember(seat: { readonly role?: SeatRole }): boolean {
  return seat.role === undefined || seat.role === 'member';
}

/** Returns true for a seat that may take new calls. */
export function takesCalls(seat: Seat): boolean {
  return isMember(seat) && seat.state === 'active' && seat.weight > 0;
}

/** Shares that decide the owners of slots in one generation. */
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
  /**
   * Key of the slot hash: 16 octets in hexadecimal, drawn for the farm's first view and never changed.
   * Rotating farm keys therefore moves no slot.
   */
  readonly seed: string;
  /** Ordered by number. */
  readonly seats: readonly Seat[];
  /**
   * Evicted seats: a majority took them while the member's record still existed. Left out when there are none.
   * Such an incarnation gets no seat again, not even from a member that joined later and suspects no peer.
   */
  readonly out?: readonly MemberLife[];
  /**
   * Earlier generations that moved slots, newest first, at most 8. A slot's calls may still live there (second chance).
   */
  readonly history: readonly Generation[];
}

/**
 * Number of earlier generations in a view. A member's restart with its ramp makes four, so two restarts fit into one
 * ringing time.
 */
export const HISTORY_LENGTH = 8;

/**
 * Returns the generation of a view: the shares of active members with a weight. Without any, draining members with a
 * weight share the slots: in a farm that shuts down a call still has one owner.
 */
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
 * Returns the view after `last` with the seats `seats`; `last` itself when no seat changes.
 * `seed` is used for a farm's first view only. `out` lists the lives whose seats were evicted.
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
  // Slots follow from shares alone, so an older generation with the same shares adds nothing. Without this a member
  // with a flapping server would push out other generations.
  const others = last.history.filter((earlier) => !sameShares(earlier, before));
  return { ...view, history: [before, ...others].slice(0, HISTORY_LENGTH) };
}
