// The ways to parties that have moved since their dialog began: the route set names the old one. A party moves by a request in the dialog that the SIP
// server has accepted, and whose CSeq rises (calls/dialog-marks.ts): by its last such request it is found from then on. A stranger who has seen less than the
// whole dialog cannot draw its requests; whoever repeats what he has seen cannot either.
import type { Way } from '../../packet/flow.ts';

/** Calls with a party that has moved; the one that was heard of first is forgotten for a new one. Some 300 octets each. */
const MAX_CALLS = 20_000;
/** Parties of one call: both, and what a fork may add. */
const MAX_OF_CALL = 4;

interface Moved {
  /** The party's tag. */
  readonly tag: string;
  way: Readonly<Way>;
}

export class Ways {
  readonly #calls = new Map<number, Moved[]>();

  /** Has any party of any call moved? */
  get some(): boolean {
    return this.#calls.size > 0;
  }

  /** The party of `tag` in the call is found by `way` from now on. `way` is kept: give a copy of a reused one. */
  moved(callKey: number, tag: string, way: Readonly<Way>): void {
    const known = this.#calls.get(callKey);
    const found = known?.find((each) => each.tag === tag);
    if (found) found.way = way;
    else if (!known) {
      if (this.#calls.size >= MAX_CALLS) this.#calls.delete(this.#calls.keys().next().value ?? 0);
      this.#calls.set(callKey, [{ tag, way }]);
    } else if (known.length < MAX_OF_CALL) known.push({ tag, way });
  }

  /** The way to the party; undefined when it has not moved, as far as is known. */
  find(callKey: number, tag: string): Readonly<Way> | undefined {
    return this.#calls.get(callKey)?.find((each) => each.tag === tag)?.way;
  }

  /** The call is over. */
  forget(callKey: number): void {
    this.#calls.delete(callKey);
  }
}
