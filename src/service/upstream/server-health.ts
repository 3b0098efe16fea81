// Checks whether the SIP server behind this member is alive, by OPTIONS or by a keepalive to its port. The result is
// one boolean.
import type { Clock, Timer } from '../../base/clock.ts';

export interface HealthSettings {
  readonly method: 'options' | 'keepalive' | 'none';
  readonly intervalSeconds: number;
  /** OPTIONS in a row without an answer before the server counts as down. */
  readonly failures: number;
}

/** Milliseconds until the first keepalive verdict: on one host a refused port is reported within a round trip. */
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

  /** `ask` sends one check; its outcome is reported by `answered` or `refused`. */
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

  /** Resolves with the first verdict, up or down, or when the checks stop before. */
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

  /** Reports that the server has answered a check. */
  answered(): void {
    this.#unanswered = 0;
    this.#refused = false;
    this.#become(true);
  }

  /**
   * Reports that no socket is open at the server's port (ICMP port unreachable). This is certain, so it counts at once.
   */
  refused(): void {
    this.#refused = true;
    this.#become(false);
  }

  #tick(): void {
    if (this.#settings.method === 'keepalive') {
      // No response to a keepalive means that the server is up.
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
