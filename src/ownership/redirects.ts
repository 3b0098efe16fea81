// Calls that went to the owner of another dialog, because their INVITE named it (Replaces, Join). Their CANCEL and ACK name none: the owner
// of their own slot remembers where the INVITE went. Bounded; the oldest is forgotten first.

/** More than the attended transfers of one member within any ringing time. */
const MAX_REDIRECTS = 4096;

export class Redirects {
  /** Member number by call key, in the order of entry. */
  readonly #members = new Map<number, number>();

  /** The member that the call went to; undefined when it went nowhere else. */
  get(callKey: number): number | undefined {
    return this.#members.size === 0 ? undefined : this.#members.get(callKey);
  }

  set(callKey: number, member: number): void {
    this.#members.delete(callKey);
    this.#members.set(callKey, member);
    if (this.#members.size > MAX_REDIRECTS) this.#members.delete(this.#members.keys().next().value ?? 0);
  }
}
