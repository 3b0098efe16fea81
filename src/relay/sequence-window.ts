// Keeps replayed datagrams off: which of the last sequence numbers of one sender have been seen (the anti-replay window of RFC 4303 3.4.3).
// A receiver that has just started knows no number yet and takes the first it sees as the top: what was captured earlier and lies below the
// window is refused from then on. Peers are probed every 250 ms, so that moment is short.

/** How far datagrams may overtake one another. A burst of one sender fits; more would only cost memory per peer. */
const WIDTH = 4096;

export class SequenceWindow {
  readonly #seen = new Uint32Array(WIDTH / 32);
  /** The highest number seen; -1 before the first. */
  #top = -1;

  /** True for a number that is new; it counts as seen from then on. */
  take(sequence: number): boolean {
    const ahead = sequence - this.#top;
    if (this.#top < 0 || ahead >= WIDTH) this.#seen.fill(0);
    else if (ahead > 0) for (let i = 1; i < ahead; i++) this.#set((this.#top + i) % WIDTH, false);
    else if (ahead <= -WIDTH || this.#has(sequence % WIDTH)) return false;
    this.#set(sequence % WIDTH, true);
    if (sequence > this.#top) this.#top = sequence;
    return true;
  }

  /** Forgets everything: another incarnation counts from the start. */
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
