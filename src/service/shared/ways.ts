// Stores the flows to parties that have moved since their dialog began; the route set still names the old flow. A party
// moves by an in-dialog request that the SIP server has accepted and whose CSeq has risen
// (calls/table/dialog-marks.ts). Its flow is then the one of its last such request. An attacker needs both tags and a
// higher CSeq to redirect a party's requests. Repeating an observed request has no effect.
import { BoundedMap } from '../../base/bounded-map.ts';
import type { Way } from '../../packet/flow.ts';

/** Calls with a party that has moved. A new one replaces the call that was entered first. Some 300 octets each. */
const MAX_CALLS = 20_000;
/** Parties per call: both, and those that a fork may add. */
const MAX_OF_CALL = 4;

interface Moved {
  /** The party's tag. */
  readonly tag: string;
  way: Readonly<Way>;
}

export class Ways {
  readonly #calls = new BoundedMap<number, Moved[]>(MAX_CALLS);

  /** True when any party of any call has moved. */
  get some(): boolean {
    return this.#calls.size > 0;
  }

  /** Sets the flow to the party of `tag` in the call. Keeps `way`: pass a copy of a reused object. */
  moved(callKey: number, tag: string, way: Readonly<Way>): void {
    const known = this.#calls.get(callKey);
    const found = known?.find((each) => each.tag === tag);
    if (found) found.way = way;
    else if (!known) this.#calls.set(callKey, [{ tag, way }]);
    else if (known.length < MAX_OF_CALL) known.push({ tag, way });
  }

  /** Returns the flow to the party; undefined when no move is recorded. */
  find(callKey: number, tag: string): Readonly<Way> | undefined {
    return this.#calls.get(callKey)?.find((each) => each.tag === tag)?.way;
  }

  /** Forgets all parties of the call. */
  forget(callKey: number): void {
    this.#calls.delete(callKey);
  }
}
