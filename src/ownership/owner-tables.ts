// Builds all tables that the owner lookup reads. Cold code finishes them for one view; one assignment puts them in
// force.
import { BoundedMap } from '../base/bounded-map.ts';
import { type SipKey, sipKey } from '../base/siphash.ts';
import { finish, type SlotTable, sharesBetween, slotBuilding } from './slots.ts';
import { type Generation, generationOf, HISTORY_LENGTH, isMember, type Seat, type View } from './view.ts';

/** Owners of the slots in an earlier generation. */
interface EarlierSlots {
  /** Last epoch of the generation. Its owners may hold calls from up to this epoch. */
  readonly epoch: number;
  readonly slots: Uint16Array;
}

export interface OwnerTables {
  readonly epoch: number;
  /** This member's number and incarnation. */
  readonly self: number;
  readonly incarnation: number;
  readonly slotKey: SipKey;
  /** Member number by slot; 0 = no member has a weight. */
  readonly slots: Uint16Array;
  /** Earlier generations, newest first. A slot's calls may still live at these owners (second chance). */
  readonly earlier: readonly EarlierSlots[];
  /** Seats by member number. */
  readonly seats: ReadonlyMap<number, Seat>;
  /** Seats of members: the nodes in the farm. */
  readonly members: readonly Seat[];
  /** True when some member takes no new calls: it drains, or has no weight. */
  readonly someIdle: boolean;
  /**
   * True when this node is outside the farm (role disabled or relay). It keeps packets from outside that name no owner.
   */
  readonly outsideFarm: boolean;
}

/** Up to this number of seats all tables are built in one slice. Together they take some milliseconds. */
const SMALL_FARM = 16;

/**
 * Slot tables built last, by shares. A new view usually brings one new table; those of its history are here already.
 */
const built = new BoundedMap<string, SlotTable>(2 * HISTORY_LENGTH);

function* slotsOf(generation: Generation): Generator<void, Uint16Array, void> {
  const key = generation.shares.map(({ number, weight }) => `${number}:${weight}`).join();
  const slots = built.get(key)?.slots ?? (yield* slotBuilding(generation, nearest(generation)));
  built.set(key, { generation, slots });
  return slots;
}

/** Returns the table with the fewest changed shares; undefined when that is half of them or more. */
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
 * Builds the tables of `view` for the node `self`, and pauses after each slice of a few milliseconds.
 * `outsideFarm`: the node's role is not `member`, with a seat or without.
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
 * Returns the member that owned `slot` last before its current owner, and is still in the farm; 0 = none. The search
 * begins at generation `from` of `earlier`; `found` receives the generation. It skips a member that owned the slot in a
 * newer earlier generation too, because that one counts for it.
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

/** Runs `ownerTablesBuilding` without a pause. */
export function buildOwnerTables(view: View, self: number, incarnation: number, outsideFarm = false): OwnerTables {
  return finish(ownerTablesBuilding(view, self, incarnation, outsideFarm));
}

/** Returns the tables of a member that is alone or has seen no view yet: it owns every slot. */
export function aloneTables(self: number, incarnation: number, seed: string): OwnerTables {
  const alone: Seat = { id: '', number: self, incarnation, weight: 100, state: 'active' };
  return buildOwnerTables({ v: 1, epoch: 0, seed, seats: [alone], history: [] }, self, incarnation);
}
