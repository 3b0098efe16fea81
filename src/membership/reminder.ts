// Limits log lines about a lasting trouble: one line at first, then one every half minute instead of one per attempt.
import type { Clock } from '../base/clock.ts';

const REMIND_MS = 30_000;

export class Reminder {
  readonly #clock: Clock;
  #remindedAt = Number.NEGATIVE_INFINITY;
  #what = '';

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Returns true when `what` is another trouble than last time, or REMIND_MS have passed since it was last due. */
  due(what: string): boolean {
    const now = this.#clock.now();
    if (what === this.#what && now - this.#remindedAt < REMIND_MS) return false;
    this.#what = what;
    this.#remindedAt = now;
    return true;
  }
}
