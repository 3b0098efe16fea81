// Which view follows from the members, the orders and the suspicions: the decision of the view keeper, without store
// and time.
import { isMember, type MemberLife, nextView, type Seat, takesCalls, type View } from '../ownership/view.ts';
import type { MemberRecord } from './member-record.ts';
import type { OrderMap } from './order.ts';
import { seatByOrder } from './view-value.ts';

/** Facts that decide about the next view. */
export interface ViewFacts {
  /** Records of all nodes that live, one per number. */
  readonly members: readonly MemberRecord[];
  readonly orders: OrderMap;
  /** Members that a majority cannot reach: number to incarnation. */
  readonly suspected: ReadonlyMap<number, number>;
  /** The view in force at this node. */
  readonly last: View | undefined;
  /** The view in the store; undefined when it is absent or cannot be read. */
  readonly stored: View | undefined;
  /** Number of this node; undefined before it has joined. */
  readonly self: number | undefined;
  /** False for a node whose role is not `member`. */
  readonly inFarm: boolean;
}

/** Returns the view to propose; undefined when this node may not write one, or the one in the store is right. */
export function decideView(facts: ViewFacts, drawSeed: () => string): View | undefined {
  return mayDecide(facts, facts.members) ? viewOf(facts, desiredSeats(facts, facts.members), drawSeed) : undefined;
}

/**
 * Returns the view to write when the node `id` leaves; undefined when the one in the store is right. A node that may
 * not write the view only removes its own seat.
 */
export function decideWithout(facts: ViewFacts, id: string, drawSeed: () => string): View | undefined {
  const rest = facts.members.filter((record) => record.id !== id);
  const seats = mayDecide(facts, rest)
    ? desiredSeats(facts, rest)
    : (facts.last?.seats.filter((seat) => seat.id !== id) ?? []);
  return viewOf(facts, seats, drawSeed);
}

/**
 * Returns true when this node may write the view. Only members write it. A node outside the farm writes it only while
 * no member has a record, to get its own seat and to end the seats of dead members.
 */
function mayDecide({ inFarm }: ViewFacts, members: readonly MemberRecord[]): boolean {
  return inFarm || !members.some(isMember);
}

/** Returns the seats that these members should have. */
function desiredSeats(facts: ViewFacts, members: readonly MemberRecord[]): readonly Seat[] {
  const { self, suspected } = facts;
  // Members without a seat by order, and evicted seats, are no candidates and do not count for the majority.
  const wanted = members.filter((record) => seatFor(facts, record) && !isOut(facts, record));
  const candidates = wanted.filter(isMember);
  const reached = wanted.filter((record) => {
    const { number, incarnation } = record;
    // Nodes outside the farm may be unreachable for members: only their lease counts.
    if (number === self || !isMember(record)) return true;
    return suspected.get(number) !== incarnation;
  });
  // Suspicion cannot take out half of the members or more. With two members only the lease decides.
  const believable = reached.filter(isMember).length * 2 > candidates.length;
  return seatsOf(facts, believable ? reached : wanted);
}

/** Returns the seats of these records. Ignores pauses when no seat would take calls: each call needs an owner. */
function seatsOf(facts: ViewFacts, records: readonly MemberRecord[]): readonly Seat[] {
  const seats = records.map((record) => seatFor(facts, record)!);
  return seats.some(takesCalls) ? seats : records.map((record) => seatFor(facts, record, false)!);
}

/** Returns the seat of this record under its order. `pauses` false: a pause is ignored. */
function seatFor({ orders }: ViewFacts, record: MemberRecord, pauses = true): Seat | undefined {
  const order = orders.get(record.id)?.order;
  return seatByOrder(record, order === 'pause' && !pauses ? undefined : order);
}

function viewOf(facts: ViewFacts, seats: readonly Seat[], drawSeed: () => string): View | undefined {
  const { last, stored } = facts;
  if (!last && seats.length === 0) return undefined;
  const next = nextView(last, seats, drawSeed(), evicted(facts, seats));
  if (next !== last) return next;
  // The store has lost the view or has an older one from a backup: writes the view in force with a higher epoch.
  return JSON.stringify(stored) === JSON.stringify(last) ? undefined : { ...last, epoch: last.epoch + 1 };
}

/** Returns the members that get no seat again with this incarnation while their record lives, if not in `seats`. */
function evicted(facts: ViewFacts, seats: readonly Seat[]): readonly MemberLife[] {
  const seated = new Set(seats.map(({ number }) => number));
  return facts.members
    .filter((record) => !seated.has(record.number) && (isOut(facts, record) || isTaken(facts, record)))
    .map(({ number, incarnation }) => ({ number, incarnation }));
}

function isOut({ last }: ViewFacts, { number, incarnation }: MemberLife): boolean {
  return last?.out?.some((each) => each.number === number && each.incarnation === incarnation) === true;
}

/** Returns true when the member is suspected and has a seat. */
function isTaken({ suspected, last }: ViewFacts, { number, incarnation }: MemberRecord): boolean {
  const hasSeat = last?.seats.some((seat) => seat.number === number && seat.incarnation === incarnation) ?? false;
  return suspected.get(number) === incarnation && hasSeat;
}
