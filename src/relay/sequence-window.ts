// Rejects replayed datagrams: the anti-replay window of one sender (RFC 4303 3.4.3), a bit for each of its last
// sequence numbers. A receiver that has just started takes the first number it receives as the top. Datagrams captured
// earlier cannot get there: they are bound to another incarnation of the receiver (envelope.ts).

/** How many numbers datagrams may overtake one another. A burst of one sender fits; more would cost memory per peer. */
const WIDTH = 4096;
/** Maximum of frames that a member sends in a millisecond to all members: ten times the rate that one core reaches. */
const MOST_PER_MS = 2000;
/** Added to the sender's silence: probes come four times a second, some are lost, and this process may have stalled. */
const SLACK_MS = 1000;

/** Why a number is rejected. */
export type SequenceFault = 'replayed' | 'jumped';

export class SequenceWindow {
  readonly #seen = new Uint32Array(WIDTH / 32);
  readonly #silence: () => number;
  /** The highest number seen; -1 before the first. */
  #top = -1;

  /** `silence` returns the milliseconds since the sender's last proven answer. Called only for numbers far ahead. */
  constructor(silence: () => number) {
    this.#silence = silence;
  }

  /** The highest number seen; -1 before the first. */
  get top(): number {
    return this.#top;
  }

  /**
   * Marks a new `sequence` as seen and returns null. Returns 'replayed' for a number that was seen or is too old, and
   * 'jumped' for one further ahead than its sender can be by now. `proven`: any number ahead is accepted.
   */
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

  /** Clears the window: the next number becomes the top. */
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
