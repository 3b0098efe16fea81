// Carries out the order of an operator for this member: drain, pause or ban. Holds its administrative state.
import type { Logger } from 'pino';
import type { Clock, Timer } from '../base/clock.ts';
import type { MemberRecordState } from '../membership/member-record.ts';
import type { DrainProgress, Order } from '../membership/order.ts';

/** Milliseconds between two checks of a drain. */
const LOOK_MS = 1000;

/** handed-over: the deadline of a drain has passed, and the seat was given up with the calls that were left. */
export type AdminPhase = 'free' | 'paused' | 'draining' | 'drained' | 'handed-over' | 'banned';

export interface AdminStateOptions {
  readonly clock: Clock;
  readonly log: Logger;
  readonly calls: {
    readonly calls: number;
    quiet(now: number): boolean;
    oldestCallSeconds(now: number): number;
  };
  /** Returns true when other members take new calls now: only then can they adopt this member's calls. */
  readonly othersTakeCalls: () => boolean;
  /** Returns the deadline of a drain whose order has none. */
  readonly deadlineSeconds: () => number;
  /** Publishes the state in this member's record. Rejects when the store does not accept it now. */
  readonly setState: (state: MemberRecordState) => Promise<void>;
  /** Publishes the progress of the drain; undefined: there is none. Rejects as `setState`. */
  readonly report: (progress: DrainProgress | undefined) => Promise<void>;
  /** Closes all connections, so that their clients come back to other members, which take the calls. */
  readonly redirectClients: () => void;
}

export class AdminState {
  readonly #options: AdminStateOptions;
  #order: Order | undefined;
  #phase: AdminPhase = 'free';
  #deadline = 0;
  /** Calls that were left at the deadline. */
  #handedOver = 0;
  /** The deadline has passed, and no other member takes calls. */
  #alone = false;
  #reported = '';
  #timer: Timer | undefined;

  constructor(options: AdminStateOptions) {
    this.#options = options;
  }

  get phase(): AdminPhase {
    return this.#phase;
  }

  /** Takes the order for this member; undefined: no order. The same order again has no effect. */
  take(order: Order | undefined): void {
    if (order?.order === this.#order?.order && order?.since === this.#order?.since) return;
    this.#order = order;
    this.#timer?.cancel();
    this.#timer = undefined;
    if (order?.order === 'drain') this.#drain(order);
    else {
      this.#report(undefined);
      this.#stand(order);
    }
  }

  /** Publishes the progress again after a rejoin: the old one ended with the old lease. */
  rejoined(): void {
    this.#reported = '';
    this.#check();
  }

  stop(): void {
    this.#timer?.cancel();
  }

  #stand(order: Order | undefined): void {
    const { log, redirectClients } = this.#options;
    const before = this.#phase;
    if (order?.order === 'ban') {
      this.#phase = 'banned';
      log.warn({ by: order.by }, 'an operator has banned this member: it has no seat until sipfarm unban');
      this.#publishState('away');
      redirectClients();
      return;
    }
    this.#phase = order ? 'paused' : 'free';
    if (order) log.info({ by: order.by }, 'an operator has paused this member: no new calls until sipfarm resume');
    else if (before !== 'free') log.info({ before }, 'no order is in force any more: this member takes part again');
    this.#publishState('active');
  }

  #drain(order: Order): void {
    const { clock, log, calls, deadlineSeconds } = this.#options;
    const seconds = order.deadlineSeconds ?? deadlineSeconds();
    this.#phase = 'draining';
    this.#alone = false;
    this.#deadline = clock.now() + seconds * 1000;
    log.info({ by: order.by, calls: calls.calls, deadlineSeconds: seconds }, 'draining by order');
    this.#publishState('draining');
    this.#timer = clock.every(LOOK_MS, () => this.#check());
    this.#check();
  }

  #check(): void {
    const { clock, log, calls } = this.#options;
    const now = clock.now();
    if (this.#phase === 'draining' && calls.quiet(now)) {
      this.#phase = 'drained';
      log.info('drained: this member takes no new calls until sipfarm resume');
    } else if (this.#phase === 'draining' && now >= this.#deadline) this.#handOver();
    this.#reportProgress(now);
  }

  #handOver(): void {
    const { log, calls, othersTakeCalls: heirs, redirectClients } = this.#options;
    if (!heirs()) {
      if (!this.#alone)
        log.warn(
          { calls: calls.calls },
          'drain deadline reached: no other member takes calls, so this one keeps its own',
        );
      this.#alone = true;
      return;
    }
    this.#phase = 'handed-over';
    this.#handedOver = calls.calls;
    log.warn(
      { calls: this.#handedOver },
      'drain deadline reached: this member gives up its seat, and other members take over its calls',
    );
    this.#publishState('away');
    redirectClients();
  }

  #reportProgress(now: number): void {
    const { calls } = this.#options;
    const state = this.#phase;
    if (!this.#order || (state !== 'draining' && state !== 'drained' && state !== 'handed-over')) return;
    const going = state === 'draining';
    this.#report({
      ...{ v: 1, state, since: this.#order.since },
      calls: state === 'handed-over' ? this.#handedOver : calls.calls,
      oldestSeconds: going ? calls.oldestCallSeconds(now) : 0,
      leftSeconds: going ? Math.max(0, Math.ceil((this.#deadline - now) / 1000)) : 0,
    });
  }

  #report(progress: DrainProgress | undefined): void {
    const text = progress ? JSON.stringify(progress) : '';
    if (text === this.#reported) return;
    this.#reported = text;
    this.#options.report(progress).catch(() => {
      // '?' makes the next check publish it again.
      if (this.#reported === text) this.#reported = '?';
    });
  }

  #publishState(state: MemberRecordState): void {
    const { log, setState } = this.#options;
    setState(state).catch((error: unknown) => {
      log.warn({ err: error }, 'the store does not accept the state of this member now; it is sent again');
    });
  }
}
