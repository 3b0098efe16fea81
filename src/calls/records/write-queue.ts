// Which calls wait for a write, since when, and how many may be written at once?
//
//   fresh    until the first write is due
//   soon     until the texts are made
//   ready    until the write
//   refused  the store has refused it; it waits for the next `retryRefused`
import type { Clock, Timer } from '../../base/clock.ts';
import { MAX_WRITES } from '../../store/store.ts';

/** A call that ends sooner, like most challenged ones, is never written. */
const FIRST_WRITE_MS = 50;
const FLUSH_MS = 20;
/** Calls whose texts are made in one step: some milliseconds. */
const TEXTS_PER_STEP = 500;
/** Calls that wait for their write. */
export const MAX_WAITING = 20_000;
/** Pause after a commit that failed. */
export const RETRY_MS = 500;

export interface Waiting {
  /** Time at which the first write is due, monotonic milliseconds. Set by the queue. */
  due: number;
}

export class WriteQueue<T extends Waiting> {
  readonly #clock: Clock;
  readonly #work: () => void;
  readonly #fresh = new Set<T>();
  readonly #soon = new Set<T>();
  readonly #ready = new Set<T>();
  readonly #refused = new Set<T>();
  #timer: Timer | undefined;
  #notBefore = 0;
  #most = MAX_WRITES;
  #closed = false;
  readonly #tick = (): void => {
    this.#timer = undefined;
    this.#work();
  };

  /** `work` runs 20 ms after something waits. */
  constructor(clock: Clock, work: () => void) {
    this.#clock = clock;
    this.#work = work;
  }

  /** Number of calls that wait to be written. Refused ones do not count. */
  get waiting(): number {
    return this.#fresh.size + this.#soon.size + this.#ready.size;
  }

  /** Calls with texts, for the next commit. The commit deletes those that it takes. */
  get ready(): Set<T> {
    return this.#ready;
  }

  /** Calls in one commit. */
  get most(): number {
    return this.#most;
  }

  /** True when something is ready and no pause is under way. */
  get isDue(): boolean {
    return this.#ready.size > 0 && this.#clock.now() >= this.#notBefore;
  }

  has(item: T): boolean {
    return this.#fresh.has(item) || this.#soon.has(item) || this.#ready.has(item);
  }

  /** Queues a call for its first write in 50 ms. Returns false, with the call in no queue, when the queue is full. */
  addFresh(item: T): boolean {
    item.due = this.#clock.now() + FIRST_WRITE_MS;
    return this.#add(item, this.#fresh);
  }

  /** Queues a changed call for the next step. Returns false, with the call in no queue, when the queue is full. */
  add(item: T): boolean {
    return this.#add(item, this.#soon);
  }

  /** Queues a call that was in a commit and still needs a write. Has no limit, because commits are small. */
  again(item: T): void {
    if (!this.has(item)) this.#ready.add(item);
    this.arm();
  }

  remove(item: T): void {
    this.#unqueue(item);
    this.#refused.delete(item);
  }

  /**
   * Moves the next 500 due calls to `ready`. `make` makes the texts and returns false when the call needs no write.
   * `atOnce` replaces the 500.
   */
  prepare(make: (item: T) => boolean, atOnce = TEXTS_PER_STEP): void {
    const now = this.#clock.now();
    for (const item of this.#fresh) {
      if (item.due > now) break;
      this.#fresh.delete(item);
      this.#soon.add(item);
    }
    let left = atOnce;
    for (const item of this.#soon) {
      if (left-- === 0) break;
      this.#soon.delete(item);
      if (make(item)) this.#ready.add(item);
    }
  }

  /** Makes all first writes due now. */
  hurry(): void {
    for (const item of this.#fresh) item.due = 0;
  }

  /** Starts the pause after a failed commit. */
  pause(): void {
    this.#notBefore = this.#clock.now() + RETRY_MS;
  }

  /** The store has accepted a commit. */
  accepted(): void {
    this.#most = MAX_WRITES;
  }

  /**
   * The store has refused a commit of these calls, which are queued again: the next commits are half as large. A call
   * that was refused alone waits for `retryRefused`. Returns true in that case.
   */
  refuse(items: readonly T[]): boolean {
    this.#most = Math.max(1, items.length >> 1);
    if (items.length > 1) return false;
    for (const item of items) if (this.#ready.delete(item)) this.#refused.add(item);
    return true;
  }

  /** Calls `again` for the refused calls. */
  retryRefused(again: (item: T) => void): void {
    for (const item of this.#refused) again(item);
    this.#refused.clear();
    this.arm();
  }

  /** Starts the timer for the next step, if something waits. */
  arm(): void {
    if (!this.#timer && !this.#closed && this.waiting > 0) this.#timer = this.#clock.after(FLUSH_MS, this.#tick);
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  #add(item: T, queue: Set<T>): boolean {
    this.#unqueue(item);
    if (this.waiting >= MAX_WAITING) return false;
    queue.add(item);
    this.arm();
    return true;
  }

  #unqueue(item: T): void {
    this.#fresh.delete(item);
    this.#soon.delete(item);
    this.#ready.delete(item);
  }
}
