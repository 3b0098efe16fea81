// Keeps a lease alive, and computes by the local monotonic clock until when the member may rely on it.
import type { Clock, Timer } from '../base/clock.ts';
import { SipfarmError } from '../base/errors.ts';
import type { Lease } from '../store/store.ts';

/** Unused share of the lease's time: this member must stop before the store ends the lease. */
const MARGIN = 0.2;
/** Milliseconds from a failed keepalive to the next. */
const RETRY_MS = 200;

/** gone: the store has ended the lease. deadline: the store may have ended it without this member's notice. */
export type LeaseEnd = 'gone' | 'deadline';

export interface LeaseKeeperOptions {
  readonly clock: Clock;
  readonly lease: Lease;
  /** Time (Clock.now) at which the grant or the last successful keepalive was sent, not the time of its answer. */
  readonly sentAt: number;
  readonly seconds: number;
  /** Called after each successful keepalive. */
  readonly onKept: () => void;
  /** Called once; no callback follows it. */
  readonly onEnd: (end: LeaseEnd) => void;
}

export class LeaseKeeper {
  readonly lease: Lease;
  readonly #options: LeaseKeeperOptions;
  readonly #ms: number;
  #deadline: number;
  #beat: Timer | undefined;
  #alarm: Timer | undefined;
  #over = false;

  constructor(options: LeaseKeeperOptions) {
    this.lease = options.lease;
    this.#options = options;
    this.#ms = options.seconds * 1000;
    this.#deadline = options.sentAt + this.#ms * (1 - MARGIN);
    this.#kept(options.sentAt);
  }

  /** True while the store cannot have ended the lease. Correct even right after a stall, before any timer has run. */
  get alive(): boolean {
    return !this.#over && this.#options.clock.now() < this.#deadline;
  }

  /** Stops the keepalives without a callback. Does not revoke the lease. */
  stop(): void {
    this.#over = true;
    this.#beat?.cancel();
    this.#alarm?.cancel();
  }

  #kept(sentAt: number): void {
    const { clock } = this.#options;
    const now = clock.now();
    this.#deadline = sentAt + this.#ms * (1 - MARGIN);
    this.#alarm?.cancel();
    this.#alarm = clock.after(Math.max(0, this.#deadline - now), () => this.#end('deadline'));
    this.#beat = clock.after(sentAt + this.#ms / 3 - now, () => this.#prove());
  }

  #prove(): void {
    const { clock, lease, onKept } = this.#options;
    const sentAt = clock.now();
    lease.keepAlive().then(
      () => {
        if (this.#over) return;
        this.#kept(sentAt);
        if (this.alive) onKept();
      },
      (error: unknown) => {
        if (this.#over) return;
        if (isGone(error)) this.#end('gone');
        else this.#beat = clock.after(RETRY_MS, () => this.#prove());
      },
    );
  }

  #end(end: LeaseEnd): void {
    this.stop();
    this.#options.onEnd(end);
  }
}

/** Returns true when the error reports that the lease has ended; false when it leaves that open. */
export function isGone(error: unknown): boolean {
  return error instanceof SipfarmError && error.code === 'SF_STORE_CONFLICT';
}
