// The address plan of a running member: proves it at the start, claims its ports, and keeps both up to date. Local
// addresses are read again by a timer, at each change of the settings, and by `sipfarm ports --refresh`.

import type { Logger } from 'pino';
import type { Clock, Timer } from '../base/clock.ts';
import { type ErrorCode, SipfarmError } from '../base/errors.ts';
import { Backoff } from '../store/backoff.ts';
import { changedPlan, isFault, type LocalAddresses, type MediaPlan, type PlanSettings, planMedia } from './plan.ts';
import type { PortClaims } from './port-claims.ts';

/** Milliseconds between two readings of the local addresses. */
const REFRESH_MS = 30_000;

export interface MediaPortsOptions {
  readonly clock: Clock;
  readonly log: Logger;
  /** 0 to below 1. */
  readonly random: () => number;
  /** Returns the settings in force; undefined when the file has no section `media`. */
  readonly settings: () => PlanSettings | undefined;
  readonly local: () => LocalAddresses;
  readonly claims: Pick<PortClaims, 'claim'>;
}

/** A reason why no new stream may be opened, for operators. */
export interface PortTrouble {
  readonly code: ErrorCode;
  readonly message: string;
}

export class MediaPorts {
  readonly #options: MediaPortsOptions;
  readonly #pause: Backoff;
  #plan: MediaPlan | undefined;
  #planTrouble: PortTrouble | undefined;
  #claimTrouble: PortTrouble | undefined;
  /** Reasons to claim so far, and their number at the beginning of the last claim that succeeded. */
  #due = 1;
  #claimed = 0;
  /** Claims run one after the other. */
  #work: Promise<unknown> = Promise.resolve();
  #timer: Timer | undefined;
  #stopped = false;
  #warned = '';

  constructor(options: MediaPortsOptions) {
    this.#options = options;
    this.#pause = new Backoff(options.clock, options.random, 100, 2000);
  }

  /** The plan in force; undefined before the start, and without a section `media`. */
  get plan(): MediaPlan | undefined {
    return this.#plan;
  }

  /** The reason why no new stream may be opened; undefined while all is well. Open streams go on. */
  get trouble(): PortTrouble | undefined {
    return this.#planTrouble ?? this.#claimTrouble;
  }

  /**
   * Proves the plan and claims its ports; the member must have its lease. Waits for a store that does not answer.
   * Rejects with SF_MEDIA_PLAN, SF_MEDIA_ADDRESS, SF_MEDIA_PORTS and SF_STORE_REFUSED.
   */
  async start(): Promise<void> {
    const { settings, local, clock } = this.#options;
    const now = settings();
    if (!now || this.#stopped) return;
    const plan = planMedia(now, local());
    if (isFault(plan)) throw new SipfarmError(plan.code, plan.message);
    this.#plan = plan;
    while (!this.#stopped && !(await this.#claim())) await this.#pause.pause();
    if (!this.#stopped) this.#timer = clock.every(REFRESH_MS, () => void this.refresh());
  }

  /** Reads settings and local addresses again. Resolves when the claim has been repeated, if that was necessary. */
  refresh(): Promise<void> {
    this.#replan();
    return this.#reclaim();
  }

  /** The member has a new lease: its claim may have ended with the old one. */
  rejoined(): void {
    this.#due++;
    void this.#reclaim();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#pause.stop();
  }

  #replan(): void {
    const { settings, local, log } = this.#options;
    const now = settings();
    if (!now || !this.#plan) return;
    const next = planMedia(now, local());
    this.#note('plan', isFault(next) ? next : undefined);
    if (isFault(next)) return;
    const { plan, restart } = changedPlan(this.#plan, next);
    if (restart.length > 0 && this.#warned !== restart.join()) log.warn({ restart }, 'media changes need a restart');
    this.#warned = restart.join();
    if (plan.advertised !== this.#plan.advertised) this.#due++;
    this.#plan = plan;
  }

  #reclaim(): Promise<void> {
    const claim = async (): Promise<void> => {
      if (!this.#plan || this.#stopped || this.#claimed === this.#due) return;
      await this.#claim().catch((error: unknown) => {
        if (error instanceof SipfarmError) this.#note('claim', error);
        else this.#options.log.error({ err: error }, 'the claim of media ports failed');
      });
    };
    const work = this.#work.then(claim);
    this.#work = work;
    return work;
  }

  /** Resolves to true when the ports are claimed, to false when the store has given no answer or there is no lease. */
  async #claim(): Promise<boolean> {
    const due = this.#due;
    try {
      if (!(await this.#options.claims.claim(this.#plan!))) return false;
    } catch (error) {
      if (!(error instanceof SipfarmError)) throw error;
      if (error.code === 'SF_STORE_UNREACHABLE' || error.code === 'SF_STORE_CONFLICT') return false;
      throw error;
    }
    this.#claimed = due;
    this.#note('claim', undefined);
    return true;
  }

  /** Logs a trouble once, and its end. */
  #note(what: 'plan' | 'claim', fault: PortTrouble | undefined): void {
    const { log } = this.#options;
    const before = what === 'plan' ? this.#planTrouble : this.#claimTrouble;
    const now = fault && { code: fault.code, message: fault.message };
    if (what === 'plan') this.#planTrouble = now;
    else this.#claimTrouble = now;
    if (now?.message === before?.message) return;
    if (now) log.error({ err: now }, 'no new media streams');
    else log.info('new media streams are possible again');
  }
}
