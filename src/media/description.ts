// The last session description that one reader got, before the addresses of the relay were written into it. A member
// that adopts the call offers it again, with ports of its own.
import { MAX_DESCRIPTION, packDescription, unpackDescription } from '../calls/records/description-text.ts';
import { readSdp, type Sdp } from '../sdp/sdp.ts';

/** version: only the version in o= differs. A session refresh may raise it (RFC 4028 7.4 recommends the same one). */
type Difference = 'none' | 'version' | 'content';

export class Description {
  readonly text: string;
  /** The text without the version. */
  readonly #rest: string;
  #packed: string | undefined;

  private constructor(text: string, rest: string) {
    this.text = text;
    this.#rest = rest;
  }

  /** Returns the description that `sdp` was read from; undefined when it is too long to be kept. */
  static of(bytes: Buffer, { start, end, version }: Sdp): Description | undefined {
    if (end - start > MAX_DESCRIPTION) return undefined;
    const text = bytes.toString('latin1', start, end);
    if (!version) return new Description(text, text);
    return new Description(text, text.slice(0, version.start - start) + text.slice(version.end - start));
  }

  /** Returns the description of a record; undefined when it cannot be read. */
  static unpacked(packed: string): Description | undefined {
    const text = unpackDescription(packed);
    if (text === undefined) return undefined;
    const bytes = Buffer.from(text, 'latin1');
    const sdp = readSdp(bytes, 0, bytes.length);
    const made = typeof sdp === 'string' ? undefined : Description.of(bytes, sdp);
    if (made) made.#packed = packed;
    return made;
  }

  /** The text as a record has it. */
  get packed(): string {
    this.#packed ??= packDescription(this.text);
    return this.#packed;
  }

  differenceTo(other: Description | undefined): Difference {
    if (this.text === other?.text) return 'none';
    return other && this.#rest === other.#rest ? 'version' : 'content';
  }
}
