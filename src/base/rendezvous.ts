// The parts of weighted rendezvous hashing (Thaler and Ravishankar 1998): hash of a text, mix of 32 bits, and score. A
// candidate that comes or goes moves only its own share. None of it is secret.

/** Returns the 32-bit FNV-1a hash of the text, one step per UTF-16 code unit; unsigned. */
export function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** Spreads each of 32 bits over all (the finaliser of MurmurHash3); signed. */
export function mix32(bits: number): number {
  let h = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/**
 * Returns a candidate's score: -weight / ln(u), where u in (0,1) follows from the unsigned 32-bit `hash`. The highest
 * score wins. The chance to win equals the weight's share.
 */
export function rendezvousScore(hash: number, weight: number): number {
  return -weight / Math.log((hash + 0.5) / 4294967296);
}
