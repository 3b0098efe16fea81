// The call journal as part of a node. Calls that it reads from the store return to the call table.
import type { Logger } from 'pino';
import type { Clock, Timer } from '../base/clock.ts';
import type { Guard } from '../base/guard.ts';
import { within } from '../base/within.ts';
import { CallJournal, type RecordsMode } from '../calls/records/call-journal.ts';
import type { CallRecord } from '../calls/records/call-record.ts';
import type { MediaRecord } from '../calls/records/media-record.ts';
import { lifeOfRecord } from '../calls/records/record-life.ts';
import type { CallTable } from '../calls/table/call-table.ts';
import type { Metrics } from '../metrics/metrics.ts';
import type { Store } from '../store/store.ts';
import type { RoutingState } from './routing-state.ts';

export interface CallRecoveryOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly guard: Guard;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly routing: RoutingState;
  readonly calls: CallTable;
  readonly mode: RecordsMode;
  /** True while this member must not write. */
  readonly isolated: () => boolean;
  /** Returns true when the call of this record has already ended here. */
  readonly hasEnded: (entry: number, record: CallRecord) => boolean;
  /** Called for each call that was read from its record. */
  readonly onFound: (entry: number, record: CallRecord) => void;
  /** Returns the media of the call that this member relays now. */
  readonly mediaOf: (entry: number) => MediaRecord | undefined;
  /** Reads from the store whether this member has its seat. */
  readonly confirmSeat: () => Promise<boolean>;
}

/** Milliseconds that a stopping member waits for its last records to be written. */
const FLUSH_MS = 1000;

/**
 * Milliseconds from the read of the records until all members have the view with this seat and finished earlier work.
 */
const LATE_ENDS_MS = 5000;

export class CallRecovery {
  readonly journal: CallJournal;
  readonly #options: CallRecoveryOptions;
  /** Incarnation whose records have been read. */
  #readAs = 0;
  #unread = true;
  /** Reads the records once more. */
  #again: Timer | undefined;
  #stopped = false;

  constructor(options: CallRecoveryOptions) {
    this.#options = options;
    const { store, clock, guard, log, metrics, routing, calls, mode } = options;
    this.journal = new CallJournal({
      store,
      clock,
      guard,
      log,
      mode,
      self: () => ({ ...routing.identity, epoch: routing.tables.epoch }),
      mayWrite: () => !options.isolated(),
      stillSeated: options.confirmSeat,
      mediaOf: options.mediaOf,
      onTaken: (entry) => calls.forget(entry),
      writes: metrics.callRecordWrites,
      dropped: metrics.callRecordsDropped,
    });
    metrics.sources.callRecords = () => this.journal.size;
    metrics.sources.callRecordQueue = () => this.journal.waiting;
  }

  /** True until this process has read its records once: calls that are not known here may have ports of this member. */
  get unread(): boolean {
    return this.#unread;
  }

  /** Called after each join. Under a new incarnation it reads which calls still belong to this member. */
  joined(): void {
    const { incarnation } = this.#options.routing.identity;
    if (incarnation === this.#readAs) return;
    this.#readAs = incarnation;
    const { log, clock, guard } = this.#options;
    let found = 0;
    const take = (entry: number, record: CallRecord): void => {
      found++;
      try {
        this.take(entry, record);
      } catch (error) {
        guard.caught('records', error);
      }
    };
    void this.journal.regain(take).then(() => {
      if (!this.journal.reading) this.#unread = false;
      if (this.#stopped) return;
      if (found > 0) log.info({ calls: found }, 'calls found again in the store');
      // Until all others had the view with this member, such calls may have ended elsewhere. Members that have adopted
      // calls hand some of them over when they have that view.
      this.#again?.cancel();
      this.#again = clock.after(LATE_ENDS_MS, () => {
        if (found > 0 || this.#hasSeat()) void this.journal.regain(take);
      });
    });
  }

  #hasSeat(): boolean {
    const { identity, tables } = this.#options.routing;
    return tables.seats.get(identity.number)?.incarnation === identity.incarnation;
  }

  /** Adds a call of this member to the call table and the journal, by its record. Not a call that has ended here. */
  take(entry: number, record: CallRecord): void {
    const { calls, clock } = this.#options;
    const confirmed = record.state === 'confirmed';
    this.journal.restore(entry, record);
    if (this.#options.hasEnded(entry, record)) {
      this.journal.over(entry);
      return;
    }
    calls.restore(entry, record.method === 'SUBSCRIBE', confirmed, lifeOfRecord(record), clock.now(), record.epoch);
    this.#options.onFound(entry, record);
  }

  /** Writes the waiting records within FLUSH_MS, then closes the journal. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#again?.cancel();
    await within(this.#options.clock, FLUSH_MS, this.journal.flush());
    this.journal.close();
  }
}
