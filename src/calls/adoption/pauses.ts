// Pauses of asynchronous work that end with `close`.
import type { Clock, Timer } from '../../base/clock.ts';

export class Pauses {
  readonly #clock: Clock;
  readonly #timers = new Set<Timer>();
  #closed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Resolves after `ms`; never after `close`. */
  pause(ms: number): Promise<void> {
    return new Promise<void>((resolve) => {
      const timer = this.#clock.after(ms, () => {
        this.#timers.delete(timer);
        resolve();
      });
      if (this.#closed) timer.cancel();
      else this.#timers.add(timer);
    });
  }

  /** Cancels all timers. */
  close(): void {
    this.#closed = true;
    for (const timer of this.#timers) timer.cancel();
  }
}
