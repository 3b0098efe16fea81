// Remembers calls that live at another member than their slot's owner. Bounded; the oldest entry goes first.

export class Redirects {
  /** Member number by call key, in order of entry. */
  readonly #members = new Map<number, number>();
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  /** Returns the member that has the call; undefined when there is no entry. */
  get(callKey: number): number | undefined {
    return this.#members.size === 0 ? undefined : this.#members.get(callKey);
  }

  set(callKey: number, member: number): void {
    this.#members.delete(callKey);
    this.#members.set(callKey, member);
    if (this.#members.size > this.#most) this.#members.delete(this.#members.keys().next().value ?? 0);
  }
}
