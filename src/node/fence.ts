// A process that stood still (SIGSTOP, a long stall) may have lost its seat to others and not know it. Until it knows
// better it acts as nobody's owner: what waited in its sockets is dropped, and comes again to whoever owns it now.
// So does one that its peers refuse by a newer view, until the store has told it that view.
import type { Logger } from 'pino';
import type { Clock, Timer } from '../base/clock.ts';
import { INTERVAL_MS, SILENCE_MS } from '../relay/prober.ts';

/** Peers begin to count the silence with the last answer they got, which may be one question older than the last moment of life. */
const STOOD_STILL_MS = SILENCE_MS - INTERVAL_MS;
/** The store's word is best. Peers are believed when it has not come after so long ... */
const STORE_MS = 1000;
/** ... and the last view, when nobody says anything. */
const NOBODY_MS = 5000;

export interface FenceOptions {
  readonly clock: Clock;
  readonly log: Logger;
  /** Asks the store whether this member has its seat. Rejects when the store does not answer. */
  readonly confirm: () => Promise<boolean>;
  /** Whether a peer has refused this member by a newer view than its own. Read per packet. */
  readonly evicted: () => boolean;
  /** What members say that have answered a question asked since `wokeAt`: a majority knows no newer view, one knows a newer, or too few have answered. */
  readonly witnesses: (wokeAt: number) => 'seated' | 'newer' | 'too few';
}

export class Fence {
  readonly #options: FenceOptions;
  /** `clock.now()` from which on the fence is up: when no tick has come by then, this process has stood still. */
  #until = Number.POSITIVE_INFINITY;
  #tickedAt = 0;
  /** `clock.now()` of the first tick after it stood still; undefined while the fence is down. */
  #wokeAt: number | undefined;
  #seatLost = false;
  #asking = false;
  #timer: Timer | undefined;

  constructor(options: FenceOptions) {
    this.#options = options;
  }

  /** True while this member must not act as owner. Right also in the first moment after it stood still, before any timer has run. */
  get up(): boolean {
    return this.stoodStill || this.#options.evicted();
  }

  /** This process stood still, and does not know yet whether it has its seat. */
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

  /** The member has a seat again, or has joined anew: whoever owns what, the next view says it. */
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
      log.warn(
        { stoodStillMs: Math.round(stood) },
        'this process stood still: fenced until it knows that it has its seat',
      );
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
    // It has stood still once more since the question: the answer is an old one.
    if (this.#wokeAt !== wokeAt) return this.#ask(this.#wokeAt);
    if (seated === true) this.#lift('the store confirms the seat');
    if (seated === false) this.#seatLost = true;
  }

  #checkWitnesses(wokeAt: number, now: number): void {
    // A member that has lost its seat joins anew, and is told so.
    if (this.#seatLost) return;
    // The first question after a long sleep may have gone into a connection that had died meanwhile.
    void this.#ask(wokeAt);
    if (now - wokeAt < STORE_MS) return;
    const said = this.#options.witnesses(wokeAt);
    if (said === 'seated') this.#lift('the store is silent; the other members know no newer view');
    else if (said === 'too few' && now - wokeAt >= NOBODY_MS) this.#lift('nobody answers; the last view counts');
  }

  #lift(because: string): void {
    this.#wokeAt = undefined;
    // From the last tick, not from now: it may have stood still once more, and what lifts the fence be old news.
    this.#until = this.#tickedAt + STOOD_STILL_MS;
    this.#options.log.info({ because }, 'no longer fenced');
  }
}
