// Calls that the owner of their slot has to pass on, because they live at another member. Bounded; the oldest is forgotten first.

export class Redirects {
  /** Member number by call key, in the order of entry. */
  readonly #members = new Map<number, number>();
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  /** The member that the call went to; undefined when it went nowhere else. */
  get(callKey: number): number | undefined {
    return this.#members.size === 0 ? undefined : this.#members.get(callKey);
  }

  set(callKey: number, member: number): void {
    this.#members.delete(callKey);
    this.#members.set(callKey, member);
    if (this.#members.size > this.#most) this.#members.delete(this.#members.keys().next().value ?? 0);
  }
}
