// Which member did an adopted dialog begin at? When that member has a seat again, its tokens lead to it, and the end of
// the dialog is not seen here. The dialog is then forgotten; one whose CSeq numbers are shifted is handed over.
import { BoundedMap } from '../../base/bounded-map.ts';
import type { Clock, Timer } from '../../base/clock.ts';
import type { GivenBack } from '../../calls/adoption/adoption.ts';
import { withLostPorts } from '../../calls/records/reoffers.ts';
import type { ServiceContext } from '../shared/context.ts';

/** A new entry replaces the oldest one. */
const MAX_ORIGINS = 200_000;
/** Time in which the member that is back reads the records of its calls and offers its ports to their readers. */
const BRIDGE_MS = 30_000;

export class Origins {
  readonly #context: ServiceContext;
  readonly #clock: Clock;
  /** Entries of calls that go on here, each with the member that the call came from. */
  readonly #members = new BoundedMap<number, number>(MAX_ORIGINS);
  /** Ends of the media of calls that were handed over. */
  readonly #bridges = new Set<Timer>();

  constructor(context: ServiceContext, clock: Clock) {
    this.#context = context;
    this.#clock = clock;
  }

  note(owner: number, entry: number): void {
    this.#members.set(entry, owner);
  }

  /**
   * Gives up the calls of a member that is back, except those that `stays` returns true for. `giveBack` receives the
   * calls whose records that member needs.
   */
  seated(owner: number, stays: (entry: number) => boolean, giveBack: (given: readonly GivenBack[]) => void): void {
    const { calls, journal } = this.#context;
    const given: GivenBack[] = [];
    for (const [entry, origin] of this.#members) {
      if (origin !== owner) continue;
      this.#members.delete(entry);
      if (stays(entry)) continue;
      const record = journal?.recordOf(entry);
      // Without the shifts that member would break the order of the CSeq numbers.
      if (record?.legs.some(({ shift }) => shift)) given.push({ entry, record: withLostPorts(record) });
      else calls.forget(entry);
      journal?.over(entry);
    }
    if (given.length === 0) return;
    giveBack(given);
    // The media goes on here until that member has offered its ports.
    const bridge = this.#clock.after(BRIDGE_MS, () => {
      this.#bridges.delete(bridge);
      for (const { entry } of given) if (!journal?.has(entry)) calls.forget(entry);
    });
    this.#bridges.add(bridge);
  }

  clear(): void {
    this.#members.clear();
    for (const bridge of this.#bridges) bridge.cancel();
    this.#bridges.clear();
  }
}
