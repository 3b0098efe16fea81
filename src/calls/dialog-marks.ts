// The two parties of each owned call, and how far they have counted: tells a new call from a late copy of its INVITE (RFC 3261 17.2.1, RFC 6026),
// and a request of the dialog from one that only looks like it (12.2.2). 16 octets per entry of the call table, in flat arrays.
// Limit: a fork's further dialogs under one Call-ID are not told apart; the first that is answered counts.

/** Side 0 has begun the call, side 1 has answered it. */
const SIDES = 2;

export class DialogMarks {
  /** Hashes of the tags; 0 = not known yet. */
  readonly #tags: Uint32Array;
  /** The highest CSeq number that counts. */
  readonly #cseqs: Uint32Array;

  /** For entries numbered from 0 to `entries`. */
  constructor(entries: number) {
    this.#tags = new Uint32Array(SIDES * (entries + 1));
    this.#cseqs = new Uint32Array(SIDES * (entries + 1));
  }

  /** Forgets the entry, or begins it anew: the request that opens it has this From tag and CSeq number. */
  begin(entry: number, tag: number, cseq: number): void {
    const at = SIDES * entry;
    this.#tags[at] = tag;
    this.#cseqs[at] = cseq;
    this.#tags[at + 1] = 0;
    this.#cseqs[at + 1] = 0;
  }

  /** The From tag of the request that has opened the entry; 0 = not known. */
  opener(entry: number): number {
    return this.#tags[SIDES * entry]!;
  }

  /** The call has been answered with this To tag. */
  answered(entry: number, tag: number): void {
    this.#tags[SIDES * entry + 1] = tag;
  }

  /**
   * An opening request that comes when the call is over belongs to it: it is the one that has opened it or one before (no To tag, and the CSeq has
   * not risen), or it is of the dialog that has ended.
   */
  isLate(entry: number, from: number, to: number, cseq: number): boolean {
    const at = SIDES * entry;
    if (to === 0) return from !== 0 && this.#tags[at] === from && cseq <= this.#cseqs[at]!;
    return this.#sideOf(at, from, to) >= 0;
  }

  /** A request with these tags and this number has been accepted. True when it is of the dialog and its number has risen; it counts from then on. */
  rises(entry: number, from: number, to: number, cseq: number): boolean {
    const at = SIDES * entry;
    const side = this.#sideOf(at, from, to);
    if (side < 0 || cseq <= this.#cseqs[at + side]!) return false;
    this.#cseqs[at + side] = cseq;
    return true;
  }

  /** The side whose request has these tags; -1 when they are not those of the dialog. */
  #sideOf(at: number, from: number, to: number): number {
    const opened = this.#tags[at]!;
    const answered = this.#tags[at + 1]!;
    if (opened === 0 || answered === 0) return -1;
    if (from === opened && to === answered) return 0;
    return from === answered && to === opened ? 1 : -1;
  }
}
