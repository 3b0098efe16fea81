// Holds the resting calls: confirmed calls whose records in the store are up to date. Each call takes one short text
// and some 25 octets in flat arrays. The arrays grow by pieces, so that a million calls cost little rehashing and
// garbage collection.
import type { RecordBody } from './record-octets.ts';
import { RecordPacker } from './record-packer.ts';

/** Flag of a place in use. The bits below it belong to the callers: Flag in durability.ts. */
const USED = 128;
/** Bits of an index in a piece. */
const PIECE_BITS = 14;
const PIECE = 1 << PIECE_BITS;
const INDEX = PIECE - 1;
/** Entries are keyed hashes, so their low bits suffice. With more calls than buckets, chains grow to two or three. */
const BUCKETS = 1 << 20;
/** Octets per call besides its text: string header, place in the arrays, rounding. */
const CALL_OCTETS = 56;
/** Calls that `entries` reads ahead. */
const AHEAD = 100;

/** Places are numbered from 1; 0 = none. */
class Piece {
  readonly entries = new Float64Array(PIECE);
  readonly flags = new Uint8Array(PIECE);
  /** Next place of the same bucket, or next free place. */
  readonly chain = new Uint32Array(PIECE);
  /** Neighbours in the order in which calls were added. */
  readonly before = new Uint32Array(PIECE);
  readonly after = new Uint32Array(PIECE);
  readonly texts: string[] = new Array<string>(PIECE).fill('');
}

export class PackedCalls {
  readonly #packer = new RecordPacker();
  readonly #buckets = new Uint32Array(BUCKETS);
  #pieces: Piece[] = [];
  #unused = 1;
  #free = 0;
  #oldest = 0;
  #newest = 0;
  #size = 0;
  #octets = 0;

  get size(): number {
    return this.#size;
  }

  /** Approximate octets of memory of all calls. */
  get octets(): number {
    return this.#octets;
  }

  has(entry: number): boolean {
    return this.#find(entry) !== 0;
  }

  /** Adds a call. Returns false when its record cannot be packed (RecordPacker.pack). The entry must be new. */
  add(entry: number, body: RecordBody): boolean {
    const text = this.#packer.pack(body);
    if (text === undefined) return false;
    const place = this.#newPlace();
    const piece = this.#pieces[place >>> PIECE_BITS]!;
    const index = place & INDEX;
    const bucket = bucketOf(entry);
    piece.entries[index] = entry;
    piece.flags[index] = USED;
    piece.texts[index] = text;
    piece.chain[index] = this.#buckets[bucket]!;
    this.#buckets[bucket] = place;
    piece.before[index] = this.#newest;
    piece.after[index] = 0;
    if (this.#newest === 0) this.#oldest = place;
    else this.#pieces[this.#newest >>> PIECE_BITS]!.after[this.#newest & INDEX] = place;
    this.#newest = place;
    this.#size++;
    this.#octets += text.length + CALL_OCTETS;
    return true;
  }

  /** Returns the record of a call; undefined when there is no such call. */
  read(entry: number): RecordBody | undefined {
    const place = this.#find(entry);
    return place === 0 ? undefined : this.#packer.unpack(this.#pieces[place >>> PIECE_BITS]!.texts[place & INDEX]!);
  }

  /** Removes a call. Returns false when there is no such call. */
  remove(entry: number): boolean {
    const place = this.#find(entry);
    if (place === 0) return false;
    const piece = this.#pieces[place >>> PIECE_BITS]!;
    const index = place & INDEX;
    const text = piece.texts[index]!;
    this.#packer.release(text);
    this.#octets -= text.length + CALL_OCTETS;
    this.#size--;
    piece.texts[index] = '';
    piece.flags[index] = 0;
    this.#unchain(place, bucketOf(entry));
    const [before, after] = [piece.before[index]!, piece.after[index]!];
    if (before === 0) this.#oldest = after;
    else this.#pieces[before >>> PIECE_BITS]!.after[before & INDEX] = after;
    if (after === 0) this.#newest = before;
    else this.#pieces[after >>> PIECE_BITS]!.before[after & INDEX] = before;
    piece.chain[index] = this.#free;
    this.#free = place;
    return true;
  }

  clear(): void {
    for (const piece of this.#pieces) for (const text of piece.texts) if (text !== '') this.#packer.release(text);
    this.#pieces = [];
    this.#buckets.fill(0);
    this.#unused = 1;
    this.#free = this.#oldest = this.#newest = this.#size = this.#octets = 0;
  }

  /** Sets the flags of a call, all of them. */
  setFlags(entry: number, flags: number): void {
    const place = this.#find(entry);
    if (place !== 0) this.#pieces[place >>> PIECE_BITS]!.flags[place & INDEX] = USED | flags;
  }

  /** Sets or clears a flag of all calls. */
  flagAll(flag: number, on: boolean): void {
    for (const { flags } of this.#pieces)
      for (let index = 0; index < PIECE; index++)
        if (flags[index]! >= USED) flags[index] = on ? flags[index]! | flag : flags[index]! & ~flag;
  }

  /** Returns the call's flags; 0 also when there is no such call. */
  flagsOf(entry: number): number {
    const place = this.#find(entry);
    return place === 0 ? 0 : this.#pieces[place >>> PIECE_BITS]!.flags[place & INDEX]! & ~USED;
  }

  /** Yields the calls with one of these flags, in no order. Calls may change meanwhile. */
  *flagged(flags: number): Generator<number, void, void> {
    for (const piece of this.#pieces)
      for (let index = 0; index < PIECE; index++) if ((piece.flags[index]! & flags) !== 0) yield piece.entries[index]!;
  }

  /** Yields the calls in the order in which they were added. May end early when many are removed meanwhile. */
  *entries(): Generator<number, void, void> {
    for (let place = this.#oldest; place !== 0; ) {
      const ahead: number[] = [];
      for (; place !== 0 && ahead.length < AHEAD; place = this.#after(place)) ahead.push(this.#entryAt(place));
      for (const entry of ahead) if (this.has(entry)) yield entry;
      const last = ahead.findLast((entry) => this.has(entry));
      place = last === undefined ? 0 : this.#after(this.#find(last));
    }
  }

  #after(place: number): number {
    return this.#pieces[place >>> PIECE_BITS]!.after[place & INDEX]!;
  }

  #entryAt(place: number): number {
    return this.#pieces[place >>> PIECE_BITS]!.entries[place & INDEX]!;
  }

  #find(entry: number): number {
    let place = this.#buckets[bucketOf(entry)]!;
    while (place !== 0 && this.#entryAt(place) !== entry)
      place = this.#pieces[place >>> PIECE_BITS]!.chain[place & INDEX]!;
    return place;
  }

  #newPlace(): number {
    const place = this.#free;
    if (place !== 0) {
      this.#free = this.#pieces[place >>> PIECE_BITS]!.chain[place & INDEX]!;
      return place;
    }
    if (this.#unused >>> PIECE_BITS === this.#pieces.length) this.#pieces.push(new Piece());
    return this.#unused++;
  }

  #unchain(place: number, bucket: number): void {
    const next = this.#pieces[place >>> PIECE_BITS]!.chain[place & INDEX]!;
    let at = this.#buckets[bucket]!;
    if (at === place) {
      this.#buckets[bucket] = next;
      return;
    }
    for (;;) {
      const { chain } = this.#pieces[at >>> PIECE_BITS]!;
      if (chain[at & INDEX] === place) {
        chain[at & INDEX] = next;
        return;
      }
      at = chain[at & INDEX]!;
    }
  }
}

/** Returns the bucket. A negative entry (call made by the server) has another bucket than its positive counterpart. */
function bucketOf(entry: number): number {
  return entry & (BUCKETS - 1);
}
