// Compresses short texts that resemble earlier ones: LZ77 with a dictionary of earlier texts. The operations:
//
//    00llllll              l+1 literals follow
//    01llllll              copies l+3 octets from the distance of the last copy
//    10lllldd dddddddd     copies l+4 octets from d+1 octets back
//    11llllll d16          copies l+4 octets from d+1 octets back
//
// If all bits of a copy's l are ones, one more octet follows and is added to the length. A record that differs from one
// in the dictionary only in names and numbers is copied from it in pieces, mostly from the same distance. The second
// operation exists for that; it makes this format smaller than deflate here.

/** Maximum octets of dictionary and text together. */
const SPACE = 65_535;
export const MAX_DICTIONARY = 16_384;
/** Maximum octets of one text. */
export const MAX_TEXT = SPACE - MAX_DICTIONARY;

const HASH_BITS = 12;
/** Earlier places with the same hash that are compared. */
const TRIES = 4;
const LEAST_AGAIN = 3;
const LEAST_COPY = 4;
const NEAR = 1024;

export class Dictionary {
  readonly octets: Uint8Array;
  /** Last place of each hash plus 1, 0 = none; and per place the previous one of the same hash, plus 1. */
  readonly heads = new Uint16Array(1 << HASH_BITS);
  readonly chain: Uint16Array;

  /** Copies `octets`. Throws RangeError for more than MAX_DICTIONARY octets. */
  constructor(octets: Uint8Array) {
    if (octets.length > MAX_DICTIONARY) throw new RangeError('the dictionary is too long');
    this.octets = octets.slice();
    this.chain = new Uint16Array(octets.length);
    for (let at = 0; at + LEAST_COPY <= octets.length; at++) {
      const hash = hashAt(this.octets, at);
      this.chain[at] = this.heads[hash]!;
      this.heads[hash] = at + 1;
    }
  }
}

/** Compresses and expands in one working buffer. Input text and expanded text begin in `space` where `load` returns. */
export class Compressor {
  readonly space = Buffer.alloc(SPACE);
  /** Output of `compress`; has room for the worst case, all literals, behind at most 15 octets of the caller. */
  readonly packed = Buffer.alloc(MAX_TEXT + (MAX_TEXT >> 6) + 16);
  readonly #heads = new Uint16Array(1 << HASH_BITS);
  readonly #chain = new Uint16Array(SPACE);
  #dictionary: Dictionary | undefined;
  #start = 0;
  #out = 0;

  /** Loads `dictionary` for the following calls. Returns the offset in `space` where the text begins. */
  load(dictionary: Dictionary): number {
    if (this.#dictionary !== dictionary) {
      this.#dictionary = dictionary;
      this.#start = dictionary.octets.length;
      this.space.set(dictionary.octets);
      this.#chain.set(dictionary.chain);
    }
    return this.#start;
  }

  /** Compresses the `length` octets of text in `space` into `packed` from `out` on. Returns the offset behind them. */
  compress(length: number, out: number): number {
    const { space } = this;
    const heads = this.#heads;
    const chain = this.#chain;
    const end = this.#start + length;
    const lastHash = end - LEAST_COPY;
    heads.set(this.#dictionary!.heads);
    this.#out = out;
    let literals = this.#start;
    let last = 0;
    let at = this.#start;
    while (at < end) {
      let best = last === 0 ? 0 : matchLength(space, at - last, at, end);
      let far = last;
      if (best < LEAST_AGAIN) best = 0;
      if (at <= lastHash) {
        // Prefers the shorter operation: a new distance takes one or two octets more than the last distance.
        let candidate = heads[hashAt(space, at)]!;
        for (let tries = TRIES; candidate !== 0 && tries > 0; candidate = chain[candidate - 1]!, tries--) {
          const distance = at - candidate + 1;
          const worse = far === last ? (distance <= NEAR ? 1 : 2) : far <= NEAR && distance > NEAR ? 1 : 0;
          if (best > 0 && space[candidate - 1 + best] !== space[at + best]) continue;
          const found = matchLength(space, candidate - 1, at, end);
          if (found < LEAST_COPY || (best > 0 && found <= best + worse)) continue;
          best = found;
          far = distance;
        }
      }
      if (best === 0) {
        if (at <= lastHash) this.#remember(at);
        at++;
        continue;
      }
      this.#literals(literals, at);
      this.#copy(best, far, far === last);
      last = far;
      const next = at + best;
      for (const stop = Math.min(next, lastHash + 1); at < stop; at++) this.#remember(at);
      at = next;
      literals = at;
    }
    this.#literals(literals, end);
    return this.#out;
  }

  /**
   * Expands the octets `from` to `end` of `packed` into `space`. The loaded dictionary must be the one used for
   * compression. Returns the offset behind the last octet in `space`.
   */
  expand(packed: Uint8Array, from: number, end: number): number {
    const { space } = this;
    let at = this.#start;
    let last = 0;
    while (from < end) {
      const op = packed[from++]!;
      let count = op & 63;
      if (op < 64) {
        for (count++; count > 0; count--) space[at++] = packed[from++]!;
        continue;
      }
      if (op < 128) {
        if (count === 63) count += packed[from++]!;
        count += LEAST_AGAIN;
      } else if (op < 192) {
        last = (((op & 3) << 8) | packed[from++]!) + 1;
        count >>= 2;
        if (count === 15) count += packed[from++]!;
        count += LEAST_COPY;
      } else {
        last = ((packed[from]! << 8) | packed[from + 1]!) + 1;
        from += 2;
        if (count === 63) count += packed[from++]!;
        count += LEAST_COPY;
      }
      for (; count > 0; count--, at++) space[at] = space[at - last]!;
    }
    return at;
  }

  #remember(at: number): void {
    const hash = hashAt(this.space, at);
    this.#chain[at] = this.#heads[hash]!;
    this.#heads[hash] = at + 1;
  }

  #literals(from: number, to: number): void {
    const { space, packed } = this;
    for (let at = from; at < to; ) {
      const stop = Math.min(to, at + 64);
      packed[this.#out++] = stop - at - 1;
      while (at < stop) packed[this.#out++] = space[at++]!;
    }
  }

  #copy(length: number, distance: number, again: boolean): void {
    for (let left = length; left > 0; again = true) {
      const least = again ? LEAST_AGAIN : LEAST_COPY;
      const top = !again && distance <= NEAR ? 15 : 63;
      // The rest must not be too short for an operation.
      let count = Math.min(left, least + top + 255);
      if (left - count > 0 && left - count < LEAST_AGAIN) count -= LEAST_AGAIN;
      this.#operation(count - least, distance - 1, again, top);
      left -= count;
    }
  }

  #operation(count: number, distance: number, again: boolean, top: number): void {
    const { packed } = this;
    const low = Math.min(count, top);
    if (again) packed[this.#out++] = 64 | low;
    else if (top === 15) {
      packed[this.#out++] = 128 | (low << 2) | (distance >> 8);
      packed[this.#out++] = distance;
    } else {
      packed[this.#out++] = 192 | low;
      packed[this.#out++] = distance >> 8;
      packed[this.#out++] = distance;
    }
    if (low === top) packed[this.#out++] = count - top;
  }
}

function hashAt(octets: Uint8Array, at: number): number {
  const four = octets[at]! | (octets[at + 1]! << 8) | (octets[at + 2]! << 16) | (octets[at + 3]! << 24);
  return Math.imul(four, 0x9e37_79b1) >>> (32 - HASH_BITS);
}

/** Returns how many octets from `before` on equal those from `at` on, up to `end`. */
function matchLength(octets: Uint8Array, before: number, at: number, end: number): number {
  let length = 0;
  while (at + length < end && octets[before + length] === octets[at + length]) length++;
  return length;
}
