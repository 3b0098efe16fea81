// Retransmits over UDP what this member sends in place of a dead SIP server: requests until they are answered
// (RFC 3261 17.1.2.2), answers three times. At most MAX_REPEATS messages are repeated; further ones are sent once.
import type { Clock, Timer } from '../base/clock.ts';
import type { Flow } from '../packet/flow.ts';

const T1_MS = 500;
const T2_MS = 4000;
/** 64*T1: timers F and H. */
const LAST_MS = 64 * T1_MS;
/** Retransmissions of an answer: after T1, 2*T1 and 4*T1. */
const ANSWER_TIMES = 3;
const MAX_REPEATS = 10_000;

interface Repeat {
  readonly flow: Readonly<Flow>;
  readonly message: Buffer;
  timer: Timer;
}

export class Repeats {
  readonly #clock: Clock;
  readonly #send: (flow: Readonly<Flow>, message: Buffer) => void;
  readonly #all = new Map<string, Repeat>();

  constructor(clock: Clock, send: (flow: Readonly<Flow>, message: Buffer) => void) {
    this.#clock = clock;
    this.#send = send;
  }

  /** Sends a request now, and over UDP again until `stop(key)`, for at most 32 s. No effect while `key` is in use. */
  request(key: string, flow: Readonly<Flow>, message: Buffer): void {
    this.#repeat(key, flow, message, T1_MS, T2_MS, LAST_MS);
  }

  /** Sends an answer now, and over UDP three more times until `stop(key)`: its arrival is not confirmed. */
  answer(key: string, flow: Readonly<Flow>, message: Buffer): void {
    this.#repeat(key, flow, message, T1_MS, LAST_MS, T1_MS * 2 ** ANSWER_TIMES - 1);
  }

  /**
   * Sends the 2xx of an INVITE now, and again until `stop(key)`, by any transport (RFC 3261 13.3.1.4), 32 s at most.
   */
  untilAck(key: string, flow: Readonly<Flow>, message: Buffer): void {
    this.#send(flow, message);
    this.#schedule(key, flow, message, T1_MS, T2_MS, LAST_MS);
  }

  /** Stops the retransmissions of an answered message. Returns false when nothing is repeated under this key. */
  stop(key: string): boolean {
    this.#all.get(key)?.timer.cancel();
    return this.#all.delete(key);
  }

  close(): void {
    for (const { timer } of this.#all.values()) timer.cancel();
    this.#all.clear();
  }

  #repeat(key: string, flow: Readonly<Flow>, message: Buffer, first: number, most: number, left: number): void {
    if (this.#all.has(key)) return;
    this.#send(flow, message);
    if (flow.connection === 0) this.#schedule(key, flow, message, first, most, left);
  }

  #schedule(key: string, flow: Readonly<Flow>, message: Buffer, first: number, most: number, left: number): void {
    if (this.#all.size >= MAX_REPEATS) return;
    const again = (interval: number, rest: number): Timer =>
      this.#clock.after(interval, () => {
        if (rest <= 0) {
          this.#all.delete(key);
          return;
        }
        this.#send(flow, message);
        const next = Math.min(interval * 2, most);
        repeat.timer = again(next, rest - next);
      });
    const repeat: Repeat = { flow, message, timer: again(first, left - first) };
    this.#all.set(key, repeat);
  }
}
