// Ramps the weight of a member that joins a farm at work. It starts with a part of its weight, because caches are cold,
// connections are not open yet, and a fault of host or configuration must affect only a few calls. There are only three
// steps, because each one makes a new view.
import type { Clock, Timer } from '../base/clock.ts';

const FIRST = 0.25;
const SECOND = 0.5;

export interface RampOptions {
  readonly clock: Clock;
  /** Seconds from the first step to the full weight; 0 = no steps. */
  readonly seconds: number;
  /** Called when the share has changed. */
  readonly onStep: () => void;
}

export class Ramp {
  readonly #options: RampOptions;
  /** Above 0 to 1. */
  #share = 1;
  #timer: Timer | undefined;

  constructor(options: RampOptions) {
    this.#options = options;
  }

  /** Returns the part of `weight` in force now; at least 1 unless `weight` is 0. */
  of(weight: number): number {
    return weight === 0 ? 0 : Math.max(1, Math.round(weight * this.#share));
  }

  /** Sets the first share, before the member joins. `atWork`: other members already take calls. */
  prepare(atWork: boolean): void {
    this.#share = atWork && this.#options.seconds > 0 ? FIRST : 1;
  }

  /** Starts the steps when the member begins to take calls. Further calls have no effect. */
  begin(): void {
    const { clock, seconds } = this.#options;
    if (this.#share === 1 || this.#timer) return;
    this.#timer = clock.after(seconds * 500, () => {
      this.#step(SECOND);
      this.#timer = clock.after(seconds * 500, () => this.#step(1));
    });
  }

  stop(): void {
    this.#timer?.cancel();
  }

  #step(share: number): void {
    this.#share = share;
    this.#options.onStep();
  }
}
