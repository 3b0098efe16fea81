// Cuts a byte stream into frames: 4 octets of length, big endian, then the frame.
import { HEAD_IPV4, MAX_FRAME_OCTETS } from './envelope.ts';

/** Octets of the length field in front of each frame. */
export const LENGTH_OCTETS = 4;

export class StreamFramer {
  readonly #onFrame: (bytes: Buffer, start: number, end: number) => void;
  /** An incomplete length field or frame; its first `#held` octets are filled. */
  #part = Buffer.alloc(LENGTH_OCTETS);
  #held = 0;
  /** Octets of the incomplete frame; 0 = the length field is incomplete. */
  #frame = 0;

  constructor(onFrame: (bytes: Buffer, start: number, end: number) => void) {
    this.#onFrame = onFrame;
  }

  /**
   * Takes the next octets of the stream and calls `onFrame` for each whole frame. Returns false for an impossible
   * length; then the stream cannot be read further. A frame that is whole in `chunk` is not copied.
   */
  feed(chunk: Buffer): boolean {
    let at = 0;
    while (at < chunk.length) {
      if (this.#frame === 0 && this.#held === 0 && chunk.length - at >= LENGTH_OCTETS) {
        const octets = chunk.readUInt32BE(at);
        if (octets < HEAD_IPV4 || octets > MAX_FRAME_OCTETS) return false;
        const end = at + LENGTH_OCTETS + octets;
        if (end <= chunk.length) {
          this.#onFrame(chunk, at + LENGTH_OCTETS, end);
          at = end;
          continue;
        }
      }
      at = this.#gather(chunk, at);
      if (at < 0) return false;
    }
    return true;
  }

  /** Adds octets from `at` on to the part. Returns the offset behind them, or -1 for an impossible length. */
  #gather(chunk: Buffer, at: number): number {
    const missing = (this.#frame === 0 ? LENGTH_OCTETS : this.#frame) - this.#held;
    const taken = Math.min(missing, chunk.length - at);
    chunk.copy(this.#part, this.#held, at, at + taken);
    this.#held += taken;
    if (taken < missing) return at + taken;
    this.#held = 0;
    if (this.#frame === 0) {
      const octets = this.#part.readUInt32BE(0);
      if (octets < HEAD_IPV4 || octets > MAX_FRAME_OCTETS) return -1;
      this.#frame = octets;
      this.#part = Buffer.allocUnsafe(octets);
    } else {
      const whole = this.#part;
      this.#part = Buffer.alloc(LENGTH_OCTETS);
      const octets = this.#frame;
      this.#frame = 0;
      this.#onFrame(whole, 0, octets);
    }
    return at + taken;
  }
}
