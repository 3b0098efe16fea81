// The last stage of every connection: cuts octets into messages, has pings answered, and times half messages.
import { Framer, type FramerHandlers, type FramerLimits } from './framer.ts';
import type { Stage } from './stage.ts';

export interface FramerHost extends FramerHandlers {
  /** False once the connection takes no more octets; a message may cause that. */
  readonly taking: boolean;
  /** Monotonic milliseconds. */
  now(): number;
  /** Answers the pings of a chunk (RFC 5626 4.4.1). */
  pong(): void;
}

export class FramerStage implements Stage {
  /** Monotonic milliseconds when the half message began, or -1. */
  halfSince = -1;
  readonly #host: FramerHost;
  readonly #framer: Framer;

  constructor(host: FramerHost, limits: FramerLimits) {
    this.#host = host;
    this.#framer = new Framer(host, limits);
  }

  get held(): number {
    return this.#framer.heldBytes;
  }

  /** True before the first whole message or keep-alive. */
  get silent(): boolean {
    return this.#framer.messages === 0 && this.#framer.keepalives === 0;
  }

  take(chunk: Buffer): void {
    const framer = this.#framer;
    const { messages, pings } = framer;
    const now = this.#host.now();
    framer.feed(chunk);
    // One pong for all pings of a chunk: a flood of pings causes no flood of answers.
    if (framer.pings !== pings && this.#host.taking) this.#host.pong();
    if (!framer.half) this.halfSince = -1;
    else if (this.halfSince < 0 || framer.messages !== messages) this.halfSince = now;
  }

  /** Frees the half message and takes no more octets. */
  stop(): void {
    this.#framer.stop();
    this.halfSince = -1;
  }
}
