// Limits the answers that an unverified source may cause: token buckets, one per source network, in a bounded table.
import { GROUPS, isMapped, readGroups } from './address.ts';

const groups = new Uint16Array(GROUPS);
/** Above every /24. */
const NO_ADDRESS = 2 ** 24;

/**
 * Returns the network that a source is counted under, as a number: /24 of IPv4 (and IPv4-mapped), /56 of IPv6. Texts
 * that are no IP literal share one number. Outside 2000::/3 two IPv6 networks may share a number, because 53 bits must
 * suffice.
 */
export function sourcePrefix(address: string): number {
  if (!readGroups(address, groups)) return NO_ADDRESS;
  if (isMapped(groups)) return groups[6]! * 256 + (groups[7]! >>> 8);
  const high = (groups[0]! << 8) | (groups[1]! >>> 8);
  const low = (((groups[1]! & 0xff) << 24) | (groups[2]! << 8) | (groups[3]! >>> 8)) >>> 0;
  // Folds 56 bits into 53: the first three bits are 001 in every routed address (RFC 4291 2.4). Negative, unlike IPv4.
  return -1 - (((high & 0x1fffff) ^ (high >>> 21)) * 4294967296 + low);
}

interface Bucket {
  /** Remaining answers, up to `burst`. */
  left: number;
  /** Time of the value `left`, in monotonic milliseconds. */
  at: number;
}

export interface RateLimitOptions {
  /** Answers per second and source allowed in the long run. */
  readonly perSecond: number;
  /** Answers allowed at once after a silence. */
  readonly burst: number;
  /**
   * Most sources remembered, default 8,192. Above it the source remembered longest is forgotten; it returns with a full
   * bucket.
   */
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

  /** Number of remembered sources. */
  get size(): number {
    return this.#buckets.size;
  }

  /**
   * Returns true and counts one answer when the source `key` may have one more. `now` is in monotonic milliseconds.
   * `key` is a number from `sourcePrefix`, or any other.
   */
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
