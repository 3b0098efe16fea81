// Packs a confirmed call's record into one short text for the duration of the call: some 180 octets instead of 800.
// Records of a member resemble each other, so the dictionary consists of records packed before. From time to time a new
// dictionary is made. Each text begins with the number of its dictionary, which stays as long as a text needs it.
import { Compressor, Dictionary, MAX_DICTIONARY, MAX_TEXT } from './compression.ts';
import { bodyLength, type RecordBody, readBody, writeBody } from './record-octets.ts';

/** Maximum of dictionaries in use, some 56 KB each. */
const DICTIONARIES = 64;
/** Records in one dictionary, and maximum octets of such a record: two legs with long routes. */
const SAMPLES = 16;
const MAX_SAMPLE = 4096;
/** The sampling interval, 1 at first, grows by RARER with each dictionary up to RAREST. */
const RARER = 4;
const RAREST = 1024;

/** Shared by all packers: no call leaves state in it that the next one needs. */
const compressor = new Compressor();
const input = Buffer.alloc(compressor.packed.length);

export class RecordPacker {
  readonly #dictionaries: Dictionary[] = [new Dictionary(Buffer.alloc(0))];
  /** Texts per dictionary. */
  readonly #users = new Uint32Array(DICTIONARIES);
  #current = 0;
  #samples: Buffer[] = [];
  #interval = 1;
  #unsampled = 0;

  /**
   * Returns the text, one octet per character; it must be given to `release` later. Returns undefined when the record
   * is too long, or cannot be written as octets (`bodyLength`).
   */
  pack(body: RecordBody): string | undefined {
    const length = bodyLength(body);
    if (length > MAX_TEXT) return undefined;
    const start = compressor.load(this.#dictionaries[this.#current]!);
    writeBody(body, compressor.space, start);
    const { packed } = compressor;
    packed[0] = this.#current;
    const text = packed.toString('latin1', 0, compressor.compress(length, 1));
    this.#users[this.#current]!++;
    this.#learn(start, length);
    return text;
  }

  unpack(text: string): RecordBody {
    input.write(text, 0, 'latin1');
    const start = compressor.load(this.#dictionaries[input[0]!]!);
    compressor.expand(input, 1, text.length);
    return readBody(compressor.space, start);
  }

  /** Must be called when a text is no longer needed. */
  release(text: string): void {
    this.#users[text.charCodeAt(0)]!--;
  }

  #learn(start: number, length: number): void {
    if (++this.#unsampled < this.#interval) return;
    this.#unsampled = 0;
    if (length > MAX_SAMPLE) return;
    this.#samples.push(Buffer.from(compressor.space.subarray(start, start + length)));
    if (this.#samples.length < SAMPLES) return;
    const octets = Buffer.concat(this.#samples).subarray(0, MAX_DICTIONARY);
    this.#samples = [];
    this.#interval = Math.min(this.#interval * RARER, RAREST);
    const unused = this.#users.findIndex((users, index) => users === 0 && index !== this.#current);
    if (unused < 0) return;
    this.#dictionaries[unused] = new Dictionary(octets);
    this.#current = unused;
  }
}
