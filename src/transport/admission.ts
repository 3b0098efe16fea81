// Decides whether one more connection may be open: for all connections, and for those of one source.
import type { CloseReason } from './close-reason.ts';
import { Gate } from './gate.ts';
import type { TransportLimits } from './limits.ts';

export class Admission {
  readonly #limits: TransportLimits;
  readonly #all: Gate;
  readonly #sources = new Map<string, Gate>();

  /** `limits` is read anew each time. */
  constructor(limits: TransportLimits) {
    this.#limits = limits;
    this.#all = new Gate(() => limits.connections);
  }

  /**
   * Returns why a new connection may not be opened; undefined if it may. `source`: the value of `sourceOf`; undefined
   * while the client is not known, and for a connection that this member opens.
   */
  refusal(source: string | undefined): CloseReason | undefined {
    // Both gates are read each time, because a gate opens again when it is read.
    const full = source !== undefined && !this.admits(source);
    if (!this.#all.open) return 'connection-limit';
    return full ? 'source-limit' : undefined;
  }

  /** Returns false while that source has too many connections. */
  admits(source: string): boolean {
    return this.#sources.get(source)?.open !== false;
  }

  /** Counts a connection. Its source may follow by `enterSource`. */
  enter(source: string | undefined): void {
    this.#all.enter();
    if (source !== undefined) this.enterSource(source);
  }

  /** Counts the source of a connection that has been counted without it. */
  enterSource(source: string): void {
    let gate = this.#sources.get(source);
    if (!gate) {
      gate = new Gate(() => this.#limits.connectionsPerSource);
      this.#sources.set(source, gate);
    }
    gate.enter();
  }

  /** Ends the count of a connection. `source`: the one it was counted with, or undefined. */
  leave(source: string | undefined): void {
    this.#all.leave();
    if (source === undefined) return;
    const gate = this.#sources.get(source);
    gate?.leave();
    if (gate?.inside === 0) this.#sources.delete(source);
  }
}
