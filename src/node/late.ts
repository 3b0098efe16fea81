// A part of the node that other parts refer to before it is built. It is set once. An earlier read is a fault of the
// composition.
import { SipfarmError } from '../base/errors.ts';

export class Late<T> {
  readonly #name: string;
  #value: T | undefined;

  constructor(name: string) {
    this.#name = name;
  }

  /** Throws SF_INTERNAL when it is set already. */
  set(value: T): T {
    if (this.#value !== undefined) throw new SipfarmError('SF_INTERNAL', `${this.#name} is set twice`);
    this.#value = value;
    return value;
  }

  /** Throws SF_INTERNAL before `set`. */
  get it(): T {
    if (this.#value === undefined) throw new SipfarmError('SF_INTERNAL', `${this.#name} is used before it is built`);
    return this.#value;
  }
}
