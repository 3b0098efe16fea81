// Keeps a member from acting as an owner while it may have lost its seat: after a standstill of the process (SIGSTOP, a
// long stall), until it has proof of its seat, and after a refusal by a peer with a newer view, until the store has
// given it that view. It drops the packets that it would own; their retransmissions reach the present owner.
import type { Logger } from 'pino';
import type { Clock, Timer } from '../base/clock.ts';
import { INTERVAL_MS, SILENCE_MS } from '../relay/prober.ts';

/**
 * Peers count the silence from the last answer that they got. It may be one probe older than the last moment of life.
 */
const STOOD_STILL_MS = SILENCE_MS - INTERVAL_MS;
/** The store decides. Without its answer for this time, ms, the peers decide ... */
const STORE_MS = 1000;
/** ... and without an answer of any peer for this time, ms, the last view does. */
const NOBODY_MS = 5000;

export interface FenceOptions {
  readonly clock: Clock;
  readonly log: Logger;
  /** Reads from the store whether this member has its seat. Rejects when the store does not answer. */
  readonly confirm: () => Promise<boolean>;
  /** Returns true after a refusal by a peer with a newer view than this member's. Read per packet. */
  readonly evicted: () => boolean;
  /**
   * Returns the verdict of the members that have answered a probe sent since `wokeAt`. `seated`: a majority has no
   * newer view. `newer`: one has a newer view. `too few`: less than a majority has answered.
   */
  readonly witnesses: (wokeAt: number) => 'seated' | 'newer' | 'too few';
}

export class Fence {
  readonly #options: FenceOptions;
  /** Time (Clock.now) from which the fence is up: without a tick until then, this process has stood still. */
  #until = Number.POSITIVE_INFINITY;
  #tickedAt = 0;
  /** Time (Clock.now) of the first tick after the standstill; undefined while the fence is down. */
  #wokeAt: number | undefined;
  #seatLost = false;
  #asking = false;
  #timer: Timer | undefined;

  constructor(options: FenceOptions) {
    this.#options = options;
  }

  /** True while this member must not act as an owner. Correct right after a standstill, before any timer has run. */
  get up(): boolean {
    return this.stoodStill || this.#options.evicted();
  }

  /** True after a standstill, until the member has proof of its seat. */
  get stoodStill(): boolean {
    return this.#options.clock.now() >= this.#until;
  }

  start(): void {
    const { clock } = this.#options;
    this.#tickedAt = clock.now();
    this.#until = this.#tickedAt + STOOD_STILL_MS;
    this.#timer = clock.every(INTERVAL_MS, () => this.#tick());
  }

  stop(): void {
    this.#timer?.cancel();
    this.#until = Number.POSITIVE_INFINITY;
  }

  /** Lifts the fence: the member has joined anew, and the next view decides about owners. */
  rejoined(): void {
    if (this.#wokeAt !== undefined) this.#lift('joined again');
  }

  #tick(): void {
    const { clock, log } = this.#options;
    const now = clock.now();
    const stood = now - this.#tickedAt;
    this.#tickedAt = now;
    if (stood >= STOOD_STILL_MS) {
      this.#until = Number.NEGATIVE_INFINITY;
      this.#wokeAt = now;
      this.#seatLost = false;
      log.warn({ stoodStillMs: Math.round(stood) }, 'this process stood still: fenced until it has proof of its seat');
      void this.#ask(now);
    }
    if (this.#wokeAt === undefined) this.#until = now + STOOD_STILL_MS;
    else this.#checkWitnesses(this.#wokeAt, now);
  }

  async #ask(wokeAt: number): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    const seated = await this.#options.confirm().catch(() => undefined);
    this.#asking = false;
    if (this.#wokeAt === undefined) return;
    // It has stood still once more since the request: the answer is out of date.
    if (this.#wokeAt !== wokeAt) return this.#ask(this.#wokeAt);
    if (seated === true) this.#lift('the store confirms the seat');
    if (seated === false) this.#seatLost = true;
  }

  #checkWitnesses(wokeAt: number, now: number): void {
    // A member that has lost its seat joins anew, and `rejoined` follows.
    if (this.#seatLost) return;
    // The first request after a long standstill may have gone into a dead connection.
    void this.#ask(wokeAt);
    if (now - wokeAt < STORE_MS) return;
    const said = this.#options.witnesses(wokeAt);
    if (said === 'seated') this.#lift('the store does not answer; the other members have no newer view');
    else if (said === 'too few' && now - wokeAt >= NOBODY_MS) this.#lift('no member answers; the last view counts');
  }

  #lift(because: string): void {
    this.#wokeAt = undefined;
    // Counts from the last tick: the process may have stood still once more since the proof that lifts the fence.
    this.#until = this.#tickedAt + STOOD_STILL_MS;
    this.#options.log.info({ because }, 'no longer fenced');
  }
}
