// Token buckets, one per source network, in a bounded table: how many answers an unverified source may draw from us.
import { GROUPS, isMapped, readGroups } from './address.ts';

const groups = new Uint16Array(GROUPS);
/** Above every /24. */
const NO_ADDRESS = 2 ** 24;

/**
 * The network a source is counted under, as a number: /24 of IPv4 (and IPv4-mapped), /56 of IPv6. What is no IP literal shares one number.
 * Outside 2000::/3 two IPv6 networks may share a number, as 53 bits must do.
 */
export function sourcePrefix(address: string): number {
  if (!readGroups(address, groups)) return NO_ADDRESS;
  if (isMapped(groups)) return groups[6]! * 256 + (groups[7]! >>> 8);
  const high = (groups[0]! << 8) | (groups[1]! >>> 8);
  const low = (((groups[1]! & 0xff) << 24) | (groups[2]! << 8) | (groups[3]! >>> 8)) >>> 0;
  // 56 bits into 53: the first three bits, 001 in all that is routed (RFC 4291 2.4), are folded in. Negative, apart from IPv4.
  return -1 - (((high & 0x1fffff) ^ (high >>> 21)) * 4294967296 + low);
}

interface Bucket {
  /** Answers left, up to `burst`. */
  left: number;
  /** When `left` was right, in monotonic milliseconds. */
  at: number;
}

export interface RateLimitOptions {
  /** Answers per second and source that are allowed in the long run. */
  readonly perSecond: number;
  /** Answers allowed at once after a silence. */
  readonly burst: number;
  /** Sources remembered, default 8,192. When there are more, the one known longest is forgotten, and starts with a full bucket when it comes again. */
  readonly maxSources?: number;
}

export class RateLimit {
  readonly #perMillisecond: number;
  readonly #burst: number;
  readonly #maxSources: number;
  readonly #buckets = new Map<number, Bucket>();

  constructor(options: RateLimitOptions) {
    this.#perMillisecond = options.perSecond / 1000;
    this.#burst = options.burst;
    this.#maxSources = options.maxSources ?? 8192;
  }

  /** Sources remembered now. */
  get size(): number {
    return this.#buckets.size;
  }

  /** May the source `key` (of `sourcePrefix`, or any number) have one more? Takes it if so. `now` in monotonic milliseconds. */
  allow(key: number, now: number): boolean {
    const bucket = this.#buckets.get(key) ?? this.#admit(key, now);
    bucket.left = Math.min(this.#burst, bucket.left + (now - bucket.at) * this.#perMillisecond);
    bucket.at = now;
    if (bucket.left < 1) return false;
    bucket.left--;
    return true;
  }

  #admit(key: number, now: number): Bucket {
    let bucket: Bucket | undefined;
    if (this.#buckets.size >= this.#maxSources) {
      const [oldest, reused] = this.#buckets.entries().next().value!;
      this.#buckets.delete(oldest);
      bucket = reused;
    }
    bucket ??= { left: 0, at: 0 };
    bucket.left = this.#burst;
    bucket.at = now;
    this.#buckets.set(key, bucket);
    return bucket;
  }
}
