// Limits the answers that an unverified source may cause: token buckets, one per source network, in a bounded table.
import { BoundedMap } from './bounded-map.ts';

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
  readonly #buckets: BoundedMap<number, Bucket>;

  constructor(options: RateLimitOptions) {
    this.#perMillisecond = options.perSecond / 1000;
    this.#burst = options.burst;
    this.#buckets = new BoundedMap(options.maxSources ?? 8192);
  }

  /** Number of remembered sources. */
  get size(): number {
    return this.#buckets.size;
  }

  /**
   * Returns true and counts one answer when the source `key` may have one more. `now` is in monotonic milliseconds.
   * `key` is a number from `sourcePrefix`
   * (base/source.ts), or any other.
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
    // The bucket of a forgotten source is used again: a flood of sources allocates none.
    const bucket = this.#buckets.makeRoom() ?? { left: 0, at: 0 };
    bucket.left = this.#burst;
    bucket.at = now;
    this.#buckets.set(key, bucket);
    return bucket;
  }
}
