// Everything the owner lookup reads, finished by cold code for one view and swapped in by one assignment.
import { type SipKey, sipKey } from '../base/siphash.ts';
import { finish, type SlotTable, sharesBetween, slotBuilding } from './slots.ts';
import { type Generation, generationOf, HISTORY_LENGTH, isMember, type Seat, type View } from './view.ts';

/** Who owned the slots in an earlier generation. */
export interface EarlierSlots {
  /** The last epoch of it: calls that its owners hold may be that young. */
  readonly epoch: number;
  readonly slots: Uint16Array;
}

export interface OwnerTables {
  readonly epoch: number;
  /** This member's number and incarnation. */
  readonly self: number;
  readonly incarnation: number;
  readonly slotKey: SipKey;
  /** Slot to member number; 0 = no member has a weight. */
  readonly slots: Uint16Array;
  /** The generations before, newest first: where a slot's calls may still live (second chance). */
  readonly earlier: readonly EarlierSlots[];
  /** Seats by member number. */
  readonly seats: ReadonlyMap<number, Seat>;
  /** The seats of members: who is in the farm. */
  readonly members: readonly Seat[];
  /** Some member takes no new calls: it drains, or has no weight. */
  readonly someIdle: boolean;
  /** This node is not in the farm (role disabled or relay): what names nobody and comes to it is its own. */
  readonly outsideFarm: boolean;
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
  outsideFarm = false,
): Generator<void, OwnerTables, void> {
  const seats = new Map(view.seats.map((seat) => [seat.number, seat]));
  const members = view.seats.filter(isMember);
  const slots = yield* slotsOf(generationOf(view));
  const earlier: EarlierSlots[] = [];
  for (const generation of view.history) {
    earlier.push({ epoch: generation.epoch, slots: yield* slotsOf(generation) });
    if (seats.size > SMALL_FARM) yield;
  }
  return {
    epoch: view.epoch,
    self,
    incarnation,
    slotKey: sipKey(Buffer.from(view.seed, 'hex')),
    slots,
    earlier,
    seats,
    members,
    someIdle: members.some(({ state, weight }) => state !== 'active' || weight === 0),
    outsideFarm: outsideFarm,
  };
}

/**
 * The member that owned `slot` last before its owner, counted from generation `from` of `earlier`, and is still in the farm; its generation in
 * `found`. Members that owned the slot in a newer generation too are left out: they come up there. 0 = there is none.
 */
export function earlierOwner(tables: OwnerTables, slot: number, from: number, found: { generation: number }): number {
  const { earlier, slots, seats } = tables;
  for (let generation = from; generation < earlier.length; generation++) {
    const owner = earlier[generation]!.slots[slot]!;
    let newer = generation - 1;
    while (newer >= 0 && earlier[newer]!.slots[slot] !== owner) newer--;
    if (owner === 0 || owner === slots[slot] || newer >= 0) continue;
    const seat = seats.get(owner);
    if (!seat || !isMember(seat)) continue;
    found.generation = generation;
    return owner;
  }
  return 0;
}

/** `ownerTablesBuilding` in one go. */
export function buildOwnerTables(view: View, self: number, incarnation: number, outsideFarm = false): OwnerTables {
  return finish(ownerTablesBuilding(view, self, incarnation, outsideFarm));
}

/** The tables of a member that has seen no view yet, or is alone: it owns every slot itself. */
export function aloneTables(self: number, incarnation: number, seed: string): OwnerTables {
  const alone: Seat = { id: '', number: self, incarnation, weight: 100, state: 'active' };
  return buildOwnerTables({ v: 1, epoch: 0, seed, seats: [alone], history: [] }, self, incarnation);
}
