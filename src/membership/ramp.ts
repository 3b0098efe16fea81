// A member that joins a farm at work begins with a part of its weight: caches are cold, connections are to be opened, and a fault of the host or
// of its configuration shall meet a few calls only. Three steps, because each is a view of its own.
import type { Clock, Timer } from '../base/clock.ts';

const FIRST = 0.25;
const SECOND = 0.5;

export interface RampOptions {
  readonly clock: Clock;
  /** Seconds from the first step to the whole weight; 0 = no steps. */
  readonly seconds: number;
  /** The weight has changed. */
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

  /** As much of `weight` as is in force now; never nothing of something. */
  of(weight: number): number {
    return weight === 0 ? 0 : Math.max(1, Math.round(weight * this.#share));
  }

  /** Before the member joins. `atWork`: others have calls already. */
  prepare(atWork: boolean): void {
    this.#share = atWork && this.#options.seconds > 0 ? FIRST : 1;
  }

  /** The member takes calls from now on. Told again, it changes nothing. */
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
