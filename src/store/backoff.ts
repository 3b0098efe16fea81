// Pauses between attempts. They double up to a bound, and half of each is random, so that many members do not return in
// step.
import type { Clock, Timer } from '../base/clock.ts';

export class Backoff {
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #firstMs: number;
  readonly #mostMs: number;
  #ms: number;
  #stopped = false;
  #timer: Timer | undefined;
  #wake: () => void = () => {};

  constructor(clock: Clock, random: () => number, firstMs: number, mostMs: number) {
    this.#clock = clock;
    this.#random = random;
    this.#firstMs = firstMs;
    this.#mostMs = mostMs;
    this.#ms = firstMs;
  }

  /** Resolves after the next pause, or at once when `stop` is called. One caller at a time. */
  pause(): Promise<void> {
    if (this.#stopped) return Promise.resolve();
    const ms = this.#ms * (0.5 + 0.5 * this.#random());
    this.#ms = Math.min(this.#ms * 2, this.#mostMs);
    return new Promise((resolve) => {
      this.#wake = resolve;
      this.#timer = this.#clock.after(ms, resolve);
    });
  }

  /** Makes the next pause the first again. */
  reset(): void {
    this.#ms = this.#firstMs;
  }

  /** Ends the running pause, and all later ones. */
  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#wake();
  }
}
