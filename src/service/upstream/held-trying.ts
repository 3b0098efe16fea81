// Holds the SIP server's 100 back until the first record of its call is in the store. A client repeats its INVITE only
// until the first response (RFC 3261 17.1.1.2). If this member dies before the record is written, the repeated INVITE
// begins the call at a successor; behind a 100 the caller would wait in silence.
import type { Clock } from '../../base/clock.ts';
import type { Way } from '../../packet/flow.ts';

/** Longest time, ms, that a 100 is held. A server transaction sends its own within 200 ms (RFC 3261 17.2.1). */
const HOLD_MS = 150;
/** Time, ms, between two looks at the records: they are written every 20 ms. */
const LOOK_MS = 20;
/** Most responses held: 150 ms of more new calls than a member can take. Further ones leave at once. */
const MAX_HELD = 4096;

export interface HeldTryingOptions {
  readonly clock: Clock;
  /** Returns whether the first record of this call is still to be written, and can be. */
  readonly unwritten: (entry: number) => boolean;
  readonly send: (way: Readonly<Way>, message: Buffer) => void;
}

interface Held {
  readonly way: Readonly<Way>;
  readonly message: Buffer;
  readonly until: number;
}

export class HeldTrying {
  readonly #options: HeldTryingOptions;
  /** By entry of the call table, oldest first. */
  readonly #held = new Map<number, Held>();
  #looks = false;

  constructor(options: HeldTryingOptions) {
    this.#options = options;
  }

  /** Holds the 100 of this call; `way` is copied. Returns false when it may leave now. */
  hold(entry: number, way: Readonly<Way>, message: Buffer): boolean {
    const { clock, unwritten } = this.#options;
    if (this.#held.size >= MAX_HELD || !unwritten(entry)) return false;
    this.#held.set(entry, { way: { ...way }, message, until: clock.now() + HOLD_MS });
    this.#lookLater();
    return true;
  }

  /** Forgets the 100 of this call: a later response leaves, which makes it superfluous. */
  forget(entry: number): void {
    this.#held.delete(entry);
  }

  /** Forgets all. */
  clear(): void {
    this.#held.clear();
  }

  #lookLater(): void {
    if (this.#looks) return;
    this.#looks = true;
    this.#options.clock.after(LOOK_MS, () => {
      this.#looks = false;
      this.#look();
    });
  }

  #look(): void {
    const { clock, unwritten, send } = this.#options;
    const now = clock.now();
    for (const [entry, { way, message, until }] of this.#held) {
      if (now < until && unwritten(entry)) continue;
      this.#held.delete(entry);
      send(way, message);
    }
    if (this.#held.size > 0) this.#lookLater();
  }
}
