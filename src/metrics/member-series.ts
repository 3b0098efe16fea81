// Ends series that have a member's name as a label, five minutes after the member has left. So changing names do not
// fill the memory, and a restarted member continues its series.
import type { CellFamily } from './counters.ts';

/** Milliseconds that a series is kept: long enough for several scrapes to read the last values. */
const KEPT_MS = 300_000;
/** Most absent members with series. Above it the series of those that left first end at once. */
const MOST_GONE = 1000;

export class MemberSeries<L extends string> {
  readonly #family: CellFamily<L>;
  readonly #label: L;
  readonly #now: () => number;
  #present: ReadonlySet<string> = new Set();
  /** Time at which each name left, the first in front. Monotonic milliseconds. */
  readonly #gone = new Map<string, number>();

  /** `label` holds the member's name. `now` returns monotonic milliseconds. */
  constructor(family: CellFamily<L>, label: L, now: () => number) {
    this.#family = family;
    this.#label = label;
    this.#now = now;
  }

  /** Takes the names of all current members. */
  setPresent(names: Iterable<string>): void {
    const before = this.#present;
    this.#present = new Set(names);
    for (const name of this.#present) this.#gone.delete(name);
    for (const name of before) if (!this.#present.has(name)) this.#gone.set(name, this.#now());
    for (const name of this.#gone.keys()) {
      if (this.#gone.size <= MOST_GONE) break;
      this.#end(name);
    }
  }

  /** Ends the series with expired time. */
  sweep(): void {
    const now = this.#now();
    for (const [name, since] of this.#gone) {
      if (now - since < KEPT_MS) break;
      this.#end(name);
    }
  }

  #end(name: string): void {
    this.#gone.delete(name);
    this.#family.forget(this.#label, name);
  }
}
