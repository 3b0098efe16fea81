// Keeps replayed datagrams off: which of the last sequence numbers of one sender have been seen (the anti-replay window of RFC 4303 3.4.3).
// A receiver that has just started knows no number yet and takes the first it sees as the top: what was captured earlier is bound to another
// incarnation of it (envelope.ts).

/** How far datagrams may overtake one another. A burst of one sender fits; more would only cost memory per peer. */
const WIDTH = 4096;
/** Frames a member can send in a millisecond, to all members together: ten times what one core writes. */
const MOST_PER_MS = 2000;
/** On top of the time since the sender was heard: answers come four times a second, some are lost, and this member may have stood still. */
const SLACK_MS = 1000;

/** Why a number is not taken. */
export type SequenceFault = 'replayed' | 'jumped';

export class SequenceWindow {
  readonly #seen = new Uint32Array(WIDTH / 32);
  readonly #silence: () => number;
  /** The highest number seen; -1 before the first. */
  #top = -1;

  /** `silence`: milliseconds since the sender has surely been heard. Asked only for numbers far ahead. */
  constructor(silence: () => number) {
    this.#silence = silence;
  }

  /** The highest number seen; -1 before the first. */
  get top(): number {
    return this.#top;
  }

  /** Null for a number that is new, and no further ahead than its sender can have come, or `proven` to be there; it counts as seen from then on. */
  take(sequence: number, proven = false): SequenceFault | null {
    const ahead = sequence - this.#top;
    if (this.#top < 0) this.#seen.fill(0);
    else if (ahead >= WIDTH) {
      if (!proven && ahead > MOST_PER_MS * (this.#silence() + SLACK_MS)) return 'jumped';
      this.#seen.fill(0);
    } else if (ahead > 0) for (let i = 1; i < ahead; i++) this.#set((this.#top + i) % WIDTH, false);
    else if (ahead <= -WIDTH || this.#has(sequence % WIDTH)) return 'replayed';
    this.#set(sequence % WIDTH, true);
    if (sequence > this.#top) this.#top = sequence;
    return null;
  }

  /** Forgets everything: the next number is the top, wherever it is. */
  reset(): void {
    this.#top = -1;
  }

  #has(bit: number): boolean {
    return (this.#seen[bit >>> 5]! & (1 << (bit & 31))) !== 0;
  }

  #set(bit: number, seen: boolean): void {
    const mask = 1 << (bit & 31);
    if (seen) this.#seen[bit >>> 5]! |= mask;
    else this.#seen[bit >>> 5]! &= ~mask;
  }
}
