// Notifies systemd of the member's state (sd_notify(3)): READY, RELOADING, STOPPING, and that the event loop is alive.
// Node.js has no unix datagram sockets, so the program systemd-notify sends the messages; the unit needs
// NotifyAccess=all for it. Without systemd nothing is sent.
import { spawn } from 'node:child_process';
import type { Clock, Timer } from '../base/clock.ts';

/** Environment that systemd gives a service. */
export interface SystemdEnvironment {
  readonly NOTIFY_SOCKET?: string | undefined;
  /** Microseconds after which a silent service is killed. */
  readonly WATCHDOG_USEC?: string | undefined;
  readonly WATCHDOG_PID?: string | undefined;
}

/** Seconds that closing takes after the drain. */
const CLOSING_SECONDS = 15;
/** Milliseconds that systemd may take to accept a message. */
const NOTIFY_MS = 5000;

/**
 * Returns a sender that runs systemd-notify for each message, one run after another. A READY that overtook RELOADING
 * would leave the unit reloading.
 */
function systemdNotify(): (states: readonly string[]) => void {
  let last: Promise<void> = Promise.resolve();
  const run = (states: readonly string[]): Promise<void> =>
    new Promise((resolve) => {
      const child = spawn('systemd-notify', [...states], { stdio: 'ignore', timeout: NOTIFY_MS });
      // Not installed: systemd then receives no READY and logs that.
      child.once('error', () => resolve());
      child.once('exit', () => resolve());
    });
  return (states) => {
    last = last.then(() => run(states));
  };
}

export class Supervisor {
  readonly #present: boolean;
  readonly #send: (states: readonly string[]) => void;
  readonly #watchdog: Timer | undefined;

  /**
   * Sends watchdog messages from now on while `alive` returns true. They begin before the start ends, because a start
   * takes long while the store does not answer. Tests pass `send`.
   */
  constructor(
    environment: SystemdEnvironment,
    clock: Clock,
    send: (states: readonly string[]) => void = systemdNotify(),
    alive: () => boolean = () => true,
  ) {
    this.#present = Boolean(environment.NOTIFY_SOCKET);
    this.#send = send;
    const micros = Number(environment.WATCHDOG_USEC ?? 0);
    const forUs = environment.WATCHDOG_PID === undefined || environment.WATCHDOG_PID === String(process.pid);
    if (this.#present && forUs && micros > 0)
      this.#watchdog = clock.every(Math.max(100, micros / 3000), () => {
        if (alive()) this.#notify('WATCHDOG=1');
      });
  }

  /** Reports that the member works; `status` is one line for people. */
  ready(status: string): void {
    this.#notify('READY=1', `STATUS=${status}`);
  }

  reloading(): void {
    this.#notify('RELOADING=1');
  }

  /** Reports that the member drains for `seconds` at most: systemd must wait that long before it kills. */
  stopping(seconds: number): void {
    this.#notify(
      'STOPPING=1',
      `EXTEND_TIMEOUT_USEC=${(seconds + CLOSING_SECONDS) * 1_000_000}`,
      'STATUS=draining: no new calls',
    );
  }

  close(): void {
    this.#watchdog?.cancel();
  }

  #notify(...states: readonly string[]): void {
    if (this.#present) this.#send(states);
  }
}
