// Everything the owner lookup reads, finished by cold code for one view and swapped in by one assignment.
import { type SipKey, sipKey } from '../base/siphash.ts';
import { finish, type SlotTable, sharesBetween, slotBuilding } from './slots.ts';
import { type Generation, generationOf, HISTORY_LENGTH, isMember, type Seat, type View } from './view.ts';

export interface OwnerTables {
  readonly epoch: number;
  /** This member's number and incarnation. */
  readonly self: number;
  readonly incarnation: number;
  readonly slotKey: SipKey;
  /** Slot to member number; 0 = nobody takes new calls. */
  readonly slots: Uint16Array;
  /** Slot to the member that owned it before, if it is still in the farm; 0 = no second chance. */
  readonly previous: Uint16Array;
  /** Slot to the last epoch in which that member owned it: calls it holds may be that young. */
  readonly previousUntil: Uint32Array;
  /** Seats by member number. */
  readonly seats: ReadonlyMap<number, Seat>;
  /** The seats of members: who is in the farm. */
  readonly members: readonly Seat[];
  /** Some member takes no new calls: it drains, or has no weight. */
  readonly someIdle: boolean;
  /** This node is not in the farm (role disabled or relay): what names nobody and comes to it is its own. */
  readonly apart: boolean;
}

/** A farm of so many members has its tables in one slice, together some milliseconds. */
const SMALL_FARM = 16;

/** The slot tables built last, by shares: a new view brings one that is new, and its history is known already. */
const built = new Map<string, SlotTable>();

function* slotsOf(generation: Generation): Generator<void, Uint16Array, void> {
  const key = generation.shares.map(({ number, weight }) => `${number}:${weight}`).join();
  const slots = built.get(key)?.slots ?? (yield* slotBuilding(generation, nearest(generation)));
  built.delete(key);
  built.set(key, { generation, slots });
  if (built.size > 2 * HISTORY_LENGTH) built.delete(built.keys().next().value ?? '');
  return slots;
}

/** The table from which the fewest shares have changed; none when that is most of them. */
function nearest(generation: Generation): SlotTable | undefined {
  let best: SlotTable | undefined;
  let fewest = generation.shares.length / 2;
  for (const table of built.values()) {
    const changed = sharesBetween(table.generation, generation);
    if (changed < fewest) {
      fewest = changed;
      best = table;
    }
  }
  return best;
}

/**
 * Builds the tables of `view` for the node `self`, and pauses after each slice of a few milliseconds. `apart`: its role is not `member`, with
 * a seat or without.
 */
export function* ownerTablesBuilding(
  view: View,
  self: number,
  incarnation: number,
  apart = false,
): Generator<void, OwnerTables, void> {
  const seats = new Map(view.seats.map((seat) => [seat.number, seat]));
  const members = view.seats.filter(isMember);
  const held = new Set(members.map(({ number }) => number));
  const slots = yield* slotsOf(generationOf(view));
  const previous = new Uint16Array(slots.length);
  const previousUntil = new Uint32Array(slots.length);
  for (const generation of view.history) {
    const earlier = yield* slotsOf(generation);
    for (let slot = 0; slot < slots.length; slot++) {
      const owner = earlier[slot]!;
      if (previous[slot] !== 0 || owner === slots[slot] || !held.has(owner)) continue;
      previous[slot] = owner;
      previousUntil[slot] = generation.epoch;
    }
    if (seats.size > SMALL_FARM) yield;
  }
  return {
    epoch: view.epoch,
    self,
    incarnation,
    slotKey: sipKey(Buffer.from(view.seed, 'hex')),
    slots,
    previous,
    previousUntil,
    seats,
    members,
    someIdle: members.some(({ state, weight }) => state !== 'active' || weight === 0),
    apart,
  };
}

/** `ownerTablesBuilding` in one go. */
export function buildOwnerTables(view: View, self: number, incarnation: number, apart = false): OwnerTables {
  return finish(ownerTablesBuilding(view, self, incarnation, apart));
}

/** The tables of a member that has seen no view yet, or is alone: it owns every slot itself. */
export function aloneTables(self: number, incarnation: number, seed: string): OwnerTables {
  const alone: Seat = { id: '', number: self, incarnation, weight: 100, state: 'active' };
  return buildOwnerTables({ v: 1, epoch: 0, seed, seats: [alone], history: [] }, self, incarnation);
}
