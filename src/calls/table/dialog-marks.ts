// The tags and CSeq numbers of the two parties of each owned call. They distinguish a new call from a late copy of its
// INVITE (RFC 3261 17.2.1, RFC 6026), and a request of the dialog from one that only resembles it (RFC 3261 12.2.2).
// 16 octets per entry of the call table, in flat arrays.
// Limit: the dialogs of a fork under one Call-ID are not distinguished; the first answered one counts.

/** Side 0 opened the call, side 1 answered it. */
const SIDES = 2;

export class DialogMarks {
  /** Hashes of the tags; 0 = not known yet. */
  readonly #tags: Uint32Array;
  /** The highest accepted CSeq number. */
  readonly #cseqs: Uint32Array;

  /** Makes marks for the entries 0 to `entries`. */
  constructor(entries: number) {
    this.#tags = new Uint32Array(SIDES * (entries + 1));
    this.#cseqs = new Uint32Array(SIDES * (entries + 1));
  }

  /** Resets the entry: the request that opens its call has this From tag and CSeq number. */
  begin(entry: number, tag: number, cseq: number): void {
    const at = SIDES * entry;
    this.#tags[at] = tag;
    this.#cseqs[at] = cseq;
    this.#tags[at + 1] = 0;
    this.#cseqs[at + 1] = 0;
  }

  /** Returns the hash of the From tag of the opening request; 0 = not known. */
  opener(entry: number): number {
    return this.#tags[SIDES * entry]!;
  }

  /** Sets the To tag of the answer to the call. */
  answered(entry: number, tag: number): void {
    this.#tags[SIDES * entry + 1] = tag;
  }

  /**
   * Returns true when an opening request that arrives after the end of the call belongs to that call. Either it has the
   * tags of the ended dialog. Or it has no To tag, the caller's From tag, and a CSeq not above the caller's highest.
   */
  isLate(entry: number, from: number, to: number, cseq: number): boolean {
    const at = SIDES * entry;
    if (to === 0) return from !== 0 && this.#tags[at] === from && cseq <= this.#cseqs[at]!;
    return this.#sideOf(at, from, to) >= 0;
  }

  /** Stores the CSeq of an accepted request. Returns true when its tags are the dialog's and its CSeq has risen. */
  rises(entry: number, from: number, to: number, cseq: number): boolean {
    const at = SIDES * entry;
    const side = this.#sideOf(at, from, to);
    if (side < 0 || cseq <= this.#cseqs[at + side]!) return false;
    this.#cseqs[at + side] = cseq;
    return true;
  }

  /** Returns the side whose requests have these tags; -1 when they are not those of the dialog. */
  #sideOf(at: number, from: number, to: number): number {
    const opened = this.#tags[at]!;
    const answered = this.#tags[at + 1]!;
    if (opened === 0 || answered === 0) return -1;
    if (from === opened && to === answered) return 0;
    return from === answered && to === opened ? 1 : -1;
  }
}
