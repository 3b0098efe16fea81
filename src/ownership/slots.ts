// Builds the slot table: 65,536 hash buckets of Call-IDs, each with an owner that follows from the view alone. The
// method is weighted rendezvous hashing (Thaler and Ravishankar 1998). A member that joins or leaves moves only its own
// share of slots.
import { mix32, rendezvousScore } from '../base/rendezvous.ts';
import { digest, type SipKey, siphash } from '../base/siphash.ts';
import type { Generation } from './view.ts';

export const SLOTS = 65_536;

/** The slot's part and the member's part of the mix. */
const slotPart = (slot: number): number => Math.imul(slot + 1, 0x9e3779b1);
const memberPart = (number: number): number => Math.imul(number, 0x85ebca77);

/** Mixes slot and member to 32 signed bits. Not secret: the slot comes from a keyed hash. */
function mix(ofSlot: number, ofMember: number): number {
  // Maps unsigned order to signed order. The engine compares signed numbers without converting to floating point.
  return mix32(ofSlot ^ ofMember) ^ 0x80000000;
}

/** Scores computed between two pauses of a building: about one millisecond of a core. */
const STRIDE = 1 << 19;

/** Members of one weight. They are compared by the bare hash, so the logarithm is taken once per weight and slot. */
interface Group {
  readonly weight: number;
  /** In rising order. */
  readonly numbers: Uint16Array;
  readonly parts: Int32Array;
}

/** A finished table and its generation. */
export interface SlotTable {
  readonly generation: Generation;
  /** Owner of each slot by member number; 0 everywhere when no member has a weight. */
  readonly slots: Uint16Array;
}

function groupsOf(shares: Generation['shares']): readonly Group[] {
  const byWeight = new Map<number, number[]>();
  for (const { number, weight } of shares) {
    const group = byWeight.get(weight);
    if (group) group.push(number);
    else byWeight.set(weight, [number]);
  }
  return [...byWeight].map(([weight, unordered]) => {
    const numbers = Uint16Array.from(unordered).sort();
    return { weight, numbers, parts: Int32Array.from(numbers, memberPart) };
  });
}

/**
 * Draws the owner of one slot after another. A member's score in a slot is -weight / ln(u), u uniform in (0,1).
 * The highest score wins, and the chance to win equals the weight's share. Among equal scores the lower number wins.
 */
class Draw {
  owner = 0;
  readonly #single: boolean;
  #score = 0;

  constructor(groups: readonly Group[]) {
    this.#single = groups.length <= 1;
  }

  none(): void {
    this.owner = 0;
    this.#score = Number.NEGATIVE_INFINITY;
  }

  /** Begins with `number` as the winner. */
  begin(slot: number, number: number, weight: number): void {
    this.owner = number;
    this.#score = this.#scoreOf(mix(slotPart(slot), memberPart(number)), weight);
  }

  among(slot: number, groups: readonly Group[]): void {
    const part = slotPart(slot);
    for (let g = 0; g < groups.length; g++) {
      const { weight, numbers, parts } = groups[g]!;
      let highest = mix(part, parts[0]!);
      let at = 0;
      for (let i = 1; i < parts.length; i++) {
        const hash = mix(part, parts[i]!);
        if (hash > highest) {
          highest = hash;
          at = i;
        }
      }
      const score = this.#scoreOf(highest, weight);
      const candidate = numbers[at]!;
      if (score > this.#score || (score === this.#score && candidate < this.owner)) {
        this.#score = score;
        this.owner = candidate;
      }
    }
  }

  #scoreOf(hash: number, weight: number): number {
    return this.#single ? hash : weighted(hash, weight);
  }
}

function weighted(hash: number, weight: number): number {
  return rendezvousScore(hash + 2147483648, weight);
}

/** Returns the score of a member in a slot. The member with the highest score owns the slot. */
export function scoreIn(slot: number, number: number, weight: number): number {
  return weighted(mix(slotPart(slot), memberPart(number)), weight);
}

/** Returns the number of shares in which two generations differ. A changed weight counts twice. */
export function sharesBetween(a: Generation, b: Generation): number {
  const weights = new Map(a.shares.map(({ number, weight }) => [number, weight]));
  const same = b.shares.reduce((sum, { number, weight }) => sum + (weights.get(number) === weight ? 1 : 0), 0);
  return a.shares.length + b.shares.length - 2 * same;
}

/**
 * Builds the owners of all slots, by member number, and pauses after each slice. All are 0 when no member has a weight.
 * With a `known` table only changes are computed: a joined member against each slot's owner, and the slots of a member
 * that left.
 */
export function* slotBuilding(generation: Generation, known?: SlotTable): Generator<void, Uint16Array, void> {
  const slots = new Uint16Array(SLOTS);
  const { shares } = generation;
  if (shares.length === 0) return slots;
  const all = groupsOf(shares);
  const before = new Map(known?.generation.shares.map(({ number, weight }) => [number, weight]));
  const fresh = groupsOf(shares.filter(({ number, weight }) => before.get(number) !== weight));
  const freshSize = fresh.reduce((sum, { numbers }) => sum + numbers.length, 0);
  /** Weights of the members with an unchanged share, by number. */
  const kept = new Map(
    shares.filter(({ number, weight }) => before.get(number) === weight).map((s) => [s.number, s.weight]),
  );
  const draw = new Draw(all);
  let work = 0;
  for (let slot = 0; slot < SLOTS; slot++) {
    const owner = known?.slots[slot] ?? 0;
    const weight = kept.get(owner);
    if (weight === undefined) {
      draw.none();
      draw.among(slot, all);
      work += shares.length;
    } else {
      draw.begin(slot, owner, weight);
      draw.among(slot, fresh);
      work += freshSize + 1;
    }
    slots[slot] = draw.owner;
    if (work >= STRIDE) {
      work = 0;
      yield;
    }
  }
  return slots;
}

/** Runs a building to its end without a pause. */
export function finish<Result>(building: Generator<void, Result, void>): Result {
  let step = building.next();
  while (!step.done) step = building.next();
  return step.value;
}

/** Returns the owners of all slots, built without a pause. */
export function buildSlots(generation: Generation, known?: SlotTable): Uint16Array {
  return finish(slotBuilding(generation, known));
}

/** Keyed hash of a Call-ID, split once for all tables that need it. `hashCallId` fills it. */
export class CallHash {
  slot = 0;
  /** Key of this call in local tables, 53 bits. */
  key = 0;
}

/** Hashes the Call-ID `bytes[start..end)` octet for octet: Call-IDs are case-sensitive (RFC 3261 8.1.1.4). */
export function hashCallId(key: SipKey, bytes: Buffer, start: number, end: number, out: CallHash): void {
  siphash(key, bytes, start, end);
  out.slot = digest.high >>> 16;
  out.key = (digest.high & 0x1fffff) * 4294967296 + digest.low;
}

/** Hashes a Call-ID given as text, one octet per character. Allocates; not for the packet path. */
export function hashCallIdText(key: SipKey, callId: string, out: CallHash): void {
  const octets = Buffer.from(callId, 'latin1');
  hashCallId(key, octets, 0, octets.length, out);
}
