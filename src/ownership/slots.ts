// The slot table: 65,536 hash buckets of Call-IDs, each with an owner that follows from the view alone (weighted rendezvous hashing,
// Thaler and Ravishankar 1998): when a member joins or leaves, only its own share of slots moves.
import { digest, type SipKey, siphash } from '../base/siphash.ts';
import type { Generation } from './view.ts';

export const SLOTS = 65_536;

/** A mix of slot and member to 32 bits (the finaliser of MurmurHash3). Not secret: the slot itself comes from a keyed hash. */
function mix(slot: number, number: number): number {
  let h = Math.imul(slot + 1, 0x9e3779b1) ^ Math.imul(number, 0x85ebca77);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/**
 * Owner of each slot, by member number; 0 everywhere when nobody takes new calls.
 * A member's score in a slot is -weight / ln(u), u uniform in (0,1): the highest wins, and its chance is its weight's share.
 * Members of one weight are compared by the bare hash, so the logarithm is taken once per weight and slot.
 */
export function buildSlots(generation: Generation): Uint16Array {
  const slots = new Uint16Array(SLOTS);
  const byWeight = new Map<number, number[]>();
  for (const { number, weight } of generation.shares) {
    const group = byWeight.get(weight);
    if (group) group.push(number);
    else byWeight.set(weight, [number]);
  }
  const groups = [...byWeight].map(([weight, numbers]) => ({
    weight,
    numbers: Uint16Array.from(numbers.sort((a, b) => a - b)),
  }));
  const single = groups.length === 1;
  for (let slot = 0; slot < SLOTS; slot++) {
    let owner = 0;
    let best = Number.NEGATIVE_INFINITY;
    for (const { weight, numbers } of groups) {
      let highest = -1;
      let candidate = 0;
      for (let i = 0; i < numbers.length; i++) {
        const hash = mix(slot, numbers[i]!);
        if (hash > highest) {
          highest = hash;
          candidate = numbers[i]!;
        }
      }
      const score = single ? 0 : -weight / Math.log((highest + 0.5) / 4294967296);
      if (score > best) {
        best = score;
        owner = candidate;
      }
    }
    slots[slot] = owner;
  }
  return slots;
}

/** The keyed hash of a Call-ID, split once for every table that needs it. Filled by `hashCallId`. */
export class CallHash {
  slot = 0;
  /** 53 bits: the key of this call in local tables. */
  key = 0;
}

/** Hashes the Call-ID `bytes[start..end)` octet for octet: Call-IDs are case-sensitive (RFC 3261 8.1.1.4). */
export function hashCallId(key: SipKey, bytes: Uint8Array, start: number, end: number, out: CallHash): void {
  siphash(key, bytes, start, end);
  out.slot = digest.high >>> 16;
  out.key = (digest.high & 0x1fffff) * 4294967296 + digest.low;
}
