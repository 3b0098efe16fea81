// A clock that only the test advances: timers fire inside of `advance`, in order of their time.
import { setImmediate as turn } from 'node:timers/promises';
import type { Clock, Timer } from '../../src/base/clock.ts';

interface Pending {
  due: number;
  /** Milliseconds between two calls, or 0 for a single one. */
  readonly period: number;
  readonly run: () => void;
}

export class FakeClock implements Clock {
  #now: number;
  readonly #wallAtZero: number;
  /** In order of creation, which decides between timers due at the same time. */
  readonly #pending = new Set<Pending>();

  /** `now` starts at `start` milliseconds; the wall clock stands at `wallAtZero` when `now` is 0. */
  constructor(start = 1_000, wallAtZero = Date.UTC(2026, 0, 1)) {
    this.#now = start;
    this.#wallAtZero = wallAtZero;
  }

  now(): number {
    return this.#now;
  }

  wall(): number {
    return this.#wallAtZero + this.#now;
  }

  after(ms: number, run: () => void): Timer {
    return this.#add(Math.max(0, ms), 0, run);
  }

  every(ms: number, run: () => void): Timer {
    const period = Math.max(1, ms);
    return this.#add(period, period, run);
  }

  /** Number of running timers. A test that ends with some has left something running. */
  get timers(): number {
    return this.#pending.size;
  }

  /** Advances the time by `ms` and runs the due timers synchronously, including timers that they set. */
  advance(ms: number): void {
    const target = this.#now + ms;
    for (let next = this.#next(target); next; next = this.#next(target)) {
      this.#now = Math.max(this.#now, next.due);
      if (next.period > 0) next.due += next.period;
      else this.#pending.delete(next);
      next.run();
    }
    this.#now = target;
  }

  /**
   * Advances like `advance`, in steps of `step` ms, with turns of the event loop before and between, so that promises
   * and fake sockets can run.
   */
  async pass(ms: number, step = 10): Promise<void> {
    await turn();
    for (let left = ms; left > 0; left -= step) {
      this.advance(Math.min(step, left));
      await turn();
    }
  }

  #add(ms: number, period: number, run: () => void): Timer {
    const pending: Pending = { due: this.#now + ms, period, run };
    this.#pending.add(pending);
    return { cancel: () => void this.#pending.delete(pending) };
  }

  #next(target: number): Pending | undefined {
    let first: Pending | undefined;
    for (const pending of this.#pending) {
      if (pending.due <= target && (!first || pending.due < first.due)) first = pending;
    }
    return first;
  }
}
