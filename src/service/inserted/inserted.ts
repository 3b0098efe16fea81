// The requests that this member sends itself in dialogs of its calls: re-INVITEs for adopted calls (reoffers.ts), and
// the end of silent ones (idle-calls.ts, call-ends.ts).
import type { Scan } from '../../sip/scan.ts';
import type { Receiver } from '../shared/shifts.ts';
import { CallEnds } from './call-ends.ts';
import { IdleCalls, type IdleCallsOptions } from './idle-calls.ts';
import { Reoffers, type ReoffersOptions } from './reoffers.ts';

export interface InsertedOptions extends Omit<ReoffersOptions, 'outcomes'>, Pick<IdleCallsOptions, 'log' | 'settings'> {
  readonly reanchored: ReoffersOptions['outcomes'];
  readonly idle: IdleCallsOptions['found'];
}

export class Inserted {
  readonly #reoffers: Reoffers;
  readonly #ends: CallEnds;
  readonly #idle: IdleCalls;

  constructor(options: InsertedOptions) {
    this.#reoffers = new Reoffers({ ...options, outcomes: options.reanchored });
    this.#ends = new CallEnds(options);
    this.#idle = new IdleCalls({
      ...options,
      found: options.idle,
      end: (entry, record) => this.#ends.end(entry, record),
    });
  }

  /** Looks for silent calls from now on. */
  start(): void {
    this.#idle.start();
  }

  /** Queues the re-INVITEs of the call `entry`: see `Reoffers.begin`. */
  reoffer(entry: number): void {
    this.#reoffers.begin(entry);
  }

  /**
   * Takes a response that has no Via but this member's. `source`: address that it came from; '' for the SIP server.
   * Returns true when it answers a request of this object.
   */
  takes(response: Scan, source: string): boolean {
    return this.#reoffers.takes(response, source) || (response.status >= 200 && this.#ends.takes(response));
  }

  /** Returns true when an in-dialog request brings an offer to a receiver that has one of this member. Answer 491. */
  collides(callKey: number, to: Receiver, request: Scan): boolean {
    return this.#reoffers.collides(callKey, to, request);
  }

  /** Forgets all requests and sends nothing more: other members own the calls now. */
  clear(): void {
    this.#reoffers.clear();
    this.#ends.clear();
  }

  stop(): void {
    this.clear();
    this.#idle.stop();
  }
}
