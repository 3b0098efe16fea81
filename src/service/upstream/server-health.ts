// Is the SIP server behind this member alive? Asked by OPTIONS, or by knocking at its port; the answer is kept as one boolean.
import type { Clock, Timer } from '../../base/clock.ts';

export interface HealthSettings {
  readonly method: 'options' | 'keepalive' | 'none';
  readonly intervalSeconds: number;
  /** Questions in a row without an answer. */
  readonly failures: number;
}

/** The first verdict on a knock comes this soon: a refused port is known within a round trip on the host. */
const FIRST_KNOCK_MS = 200;

export class ServerHealth {
  readonly #settings: HealthSettings;
  readonly #clock: Clock;
  readonly #ask: () => void;
  readonly #onChange: (up: boolean) => void;
  #up: boolean;
  #unanswered = 0;
  #refused = false;
  #timer: Timer | undefined;
  readonly #first = Promise.withResolvers<void>();

  /** `ask` sends one question; its outcome comes back by `answered` or `refused`. */
  constructor(settings: HealthSettings, clock: Clock, ask: () => void, onChange: (up: boolean) => void) {
    this.#settings = settings;
    this.#clock = clock;
    this.#ask = ask;
    this.#onChange = onChange;
    this.#up = settings.method === 'none';
  }

  get up(): boolean {
    return this.#up;
  }

  /** Resolves with the first verdict, up or down; also when the asking stops before. */
  get judged(): Promise<void> {
    return this.#first.promise;
  }

  start(): void {
    if (this.#settings.method === 'none') {
      this.#first.resolve();
      return;
    }
    const interval = this.#settings.intervalSeconds * 1000;
    this.#ask();
    this.#timer = this.#clock.after(Math.min(interval, FIRST_KNOCK_MS), () => {
      this.#tick();
      this.#timer = this.#clock.every(interval, () => this.#tick());
    });
  }

  stop(): void {
    this.#timer?.cancel();
    this.#first.resolve();
  }

  /** The server has answered a question. */
  answered(): void {
    this.#unanswered = 0;
    this.#refused = false;
    this.#become(true);
  }

  /** The host says that nobody listens at the server's port (ICMP port unreachable). Certain, so it counts at once. */
  refused(): void {
    this.#refused = true;
    this.#become(false);
  }

  #tick(): void {
    if (this.#settings.method === 'keepalive') {
      // Silence is the good answer to a knock.
      this.#become(!this.#refused);
      this.#refused = false;
    } else if (++this.#unanswered > this.#settings.failures) this.#become(false);
    this.#ask();
  }

  #become(up: boolean): void {
    this.#first.resolve();
    if (this.#up === up) return;
    this.#up = up;
    this.#onChange(up);
  }
}
