// Says when a line about something that lasts is due: the first time, and again every half minute, not with each attempt.
import type { Clock } from '../base/clock.ts';

export const REMIND_MS = 30_000;

export class Reminder {
  readonly #clock: Clock;
  #remindedAt = Number.NEGATIVE_INFINITY;
  #what = '';

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** True when `what` is another trouble than the last time, or half a minute has passed since it was due. */
  due(what: string): boolean {
    const now = this.#clock.now();
    if (what === this.#what && now - this.#remindedAt < REMIND_MS) return false;
    this.#what = what;
    this.#remindedAt = now;
    return true;
  }
}
