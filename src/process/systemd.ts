// Tells systemd how the member is (sd_notify(3)): READY, RELOADING, STOPPING, and that the event loop still turns. Node.js has no unix
// datagram sockets, so the program systemd-notify speaks for us; the unit needs NotifyAccess=all for that. Without systemd nothing happens.
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
/** Milliseconds systemd may take to accept a message. */
const NOTIFY_MS = 5000;

/** A sender that runs systemd-notify once per message, one after the other: READY that overtakes RELOADING would leave the unit reloading. */
function systemdNotify(): (states: readonly string[]) => void {
  let last: Promise<void> = Promise.resolve();
  const run = (states: readonly string[]): Promise<void> =>
    new Promise((resolve) => {
      const child = spawn('systemd-notify', [...states], { stdio: 'ignore', timeout: NOTIFY_MS });
      // Not installed: then systemd sees no READY and says so in its log.
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

  /** Begins to feed the watchdog at once, as long as `alive`: a start may take long while the store does not answer. `send` is handed in by tests. */
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

  /** The member works; `status` is one line for people. */
  ready(status: string): void {
    this.#notify('READY=1', `STATUS=${status}`);
  }

  reloading(): void {
    this.#notify('RELOADING=1');
  }

  /** The member drains for `seconds` at most: systemd must wait that long before it kills. */
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
