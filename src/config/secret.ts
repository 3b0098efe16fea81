// A value that must never be shown: it prints as [secret] in JSON, logs, errors and the inspector.
import { inspect } from 'node:util';

const SHOWN = '[secret]';

export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** Returns the value itself. Call it at the place of use, and keep the value in no object that is printed. */
  reveal(): string {
    return this.#value;
  }

  /** Compares values without showing them. */
  equals(other: Secret): boolean {
    return this.#value === other.#value;
  }

  toString(): string {
    return SHOWN;
  }

  toJSON(): string {
    return SHOWN;
  }

  [inspect.custom](): string {
    return SHOWN;
  }
}
