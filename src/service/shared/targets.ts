// Which Contact does an in-dialog request name, when only its 2xx shows that the request was accepted? The Contact of
// an INVITE or UPDATE is the new target of its sender from then on (RFC 3261 12.2.2, RFC 3311 5.2). The service keeps
// no transactions, so the Contact waits here for the 2xx.

/** Requests without a final response yet, or with an error. A new one replaces the oldest. */
const MAX_WAITING = 10_000;
/** Longer Contact values are not kept. 10 MB in all. */
const MAX_CONTACT = 1024;

export class Targets {
  readonly #contacts = new Map<string, string>();

  /** Keeps the Contact of a forwarded request of the call `entry`. `from`: its sender's tag. */
  offer(entry: number, from: string, cseq: number, contact: string): void {
    if (contact.length > MAX_CONTACT) return;
    const key = keyOf(entry, from, cseq);
    if (this.#contacts.size >= MAX_WAITING && !this.#contacts.has(key))
      this.#contacts.delete(this.#contacts.keys().next().value ?? '');
    this.#contacts.set(key, contact);
  }

  /** Returns the Contact of the request and forgets it; undefined when there is none. */
  take(entry: number, from: string, cseq: number): string | undefined {
    const key = keyOf(entry, from, cseq);
    const contact = this.#contacts.get(key);
    this.#contacts.delete(key);
    return contact;
  }
}

function keyOf(entry: number, from: string, cseq: number): string {
  return `${entry} ${cseq} ${from}`;
}
