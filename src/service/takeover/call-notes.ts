// Keeps the state of a dead member's calls that their messages have shown before the adoption, because the call record
// may be older. All keys are those of the Call-ID. Every kind of note has a bound.
import { BoundedMap } from '../../base/bounded-map.ts';

/** Calls per kind of note. A new one replaces the oldest. */
export const MAX_NOTED = 5000;

export class CallNotes {
  /** Tag of the party that has sent a BYE. */
  readonly #byes = new BoundedMap<number, string>(MAX_NOTED);
  readonly #ringing = new BoundedMap<number, true>(MAX_NOTED);
  readonly #confirmed = new BoundedMap<number, true>(MAX_NOTED);

  /** Notes that the party of `tag` has sent a BYE. */
  noteBye(key: number, tag: string): void {
    this.#byes.set(key, tag);
  }

  /** Returns the tag of the party that has sent the last BYE, and forgets it; undefined when there is none. */
  takeBye(key: number): string | undefined {
    const tag = this.#byes.get(key);
    this.#byes.delete(key);
    return tag;
  }

  /** Notes that a callee has sent a provisional response. The record may have no outgoing leg. */
  noteRinging(key: number): void {
    this.#ringing.set(key, true);
  }

  isRinging(key: number): boolean {
    return this.#ringing.has(key);
  }

  /** The same as `isRinging`, and forgets the note. */
  takeRinging(key: number): boolean {
    return this.#ringing.delete(key);
  }

  /** Notes a request that only a confirmed dialog has. The record may still be in a ringing state. */
  noteConfirmed(key: number): void {
    this.#confirmed.set(key, true);
  }

  /** Returns whether the dialog is noted as confirmed, and forgets the note. */
  takeConfirmed(key: number): boolean {
    return this.#confirmed.delete(key);
  }

  /** Forgets all notes. */
  clear(): void {
    this.#byes.clear();
    this.#ringing.clear();
    this.#confirmed.clear();
  }
}
