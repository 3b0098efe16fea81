// Series with the name of a member as a label. They end five minutes after the member is gone, so that a farm whose names change for ever
// does not fill the memory, and a member that is restarted goes on with its series.
import type { CellFamily } from './counters.ts';

/** Long enough for several scrapes to read the last values. */
const KEPT_MS = 300_000;
/** Members that are gone whose series are kept at the same time: of more the ones that went first end at once. */
const MOST_GONE = 1000;

export class MemberSeries<L extends string> {
  readonly #family: CellFamily<L>;
  readonly #label: L;
  readonly #now: () => number;
  #present: ReadonlySet<string> = new Set();
  /** Name to the time it went, the first in front. */
  readonly #gone = new Map<string, number>();

  /** `label` holds the member's name. `now`: monotonic milliseconds. */
  constructor(family: CellFamily<L>, label: L, now: () => number) {
    this.#family = family;
    this.#label = label;
    this.#now = now;
  }

  /** Takes the names of all members there are. */
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

  /** Ends the series whose time is over. */
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
