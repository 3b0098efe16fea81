// Signals for the code under test alone: the process of the tests has its own listeners, and does not receive them.
import assert from 'node:assert/strict';

const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;

export class OwnSignals {
  readonly #before = new Set<unknown>(SIGNALS.flatMap((signal) => process.listeners(signal)));

  #listeners(signal: (typeof SIGNALS)[number]): NodeJS.SignalsListener[] {
    return process.listeners(signal).filter((listener) => !this.#before.has(listener));
  }

  /** Calls the one listener that was added since this object was made. Throws when there is none, or another. */
  send(signal: (typeof SIGNALS)[number]): void {
    const own = this.#listeners(signal);
    assert.equal(own.length, 1, signal);
    own[0]!(signal);
  }

  /** Signals that still have an added listener. */
  get left(): readonly string[] {
    return SIGNALS.filter((signal) => this.#listeners(signal).length > 0);
  }
}
