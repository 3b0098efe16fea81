// The journal of call records as part of a node: what it is given, and how the calls it has read come back into the call table.
import type { Logger } from 'pino';
import type { Clock } from '../base/clock.ts';
import type { Guard } from '../base/guard.ts';
import { CallJournal, type RecordsMode } from '../calls/call-journal.ts';
import type { CallRecord } from '../calls/call-record.ts';
import type { CallTable } from '../calls/call-table.ts';
import { lifeOfRecord } from '../calls/dialog-life.ts';
import type { Metrics } from '../metrics/metrics.ts';
import type { Store } from '../store/store.ts';
import type { World } from './world.ts';

export interface CallRecordsOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly guard: Guard;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly world: World;
  readonly calls: CallTable;
  readonly mode: RecordsMode;
  /** True while this member may write nothing. */
  readonly isolated: () => boolean;
  /** The call of this record has ended here already. */
  readonly hasEnded: (entry: number, record: CallRecord) => boolean;
  /** A call has been read from its record. */
  readonly onFound: (entry: number, record: CallRecord) => void;
  /** Asks the store whether this member has its seat. */
  readonly confirmSeat: () => Promise<boolean>;
}

/** Longest time that a member which stops waits for its last records to be written. */
const FLUSH_MS = 1000;

/** From the reading of the records until all members know that this one has its seat, and what they had under way is done. */
const LATE_ENDS_MS = 5000;

export class CallRecords {
  readonly journal: CallJournal;
  readonly #options: CallRecordsOptions;
  /** The incarnation whose records have been read. */
  #readAs = 0;

  constructor(options: CallRecordsOptions) {
    this.#options = options;
    const { store, clock, guard, log, metrics, world, calls, mode } = options;
    this.journal = new CallJournal({
      store,
      clock,
      guard,
      log,
      mode,
      self: () => ({ ...world.identity, epoch: world.tables.epoch }),
      mayWrite: () => !options.isolated(),
      stillSeated: options.confirmSeat,
      onTaken: (entry) => calls.giveUp(entry),
      writes: metrics.callRecordWrites,
      dropped: metrics.callRecordsDropped,
    });
    metrics.sources.callRecords = () => this.journal.size;
    metrics.sources.callRecordQueue = () => this.journal.waiting;
  }

  /** The member has joined, or joined anew: under a new incarnation it reads which calls are still its own. */
  joined(): void {
    const { incarnation } = this.#options.world.identity;
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
      if (found === 0) return;
      log.info({ calls: found }, 'calls found again in the store');
      // Until all others knew the view with this member in it, such calls may have ended elsewhere.
      clock.after(LATE_ENDS_MS, () => void this.journal.regain(take));
    });
  }

  /** A call that is this member's by its record: from now on the call table and the journal have it, unless it has ended here before it was read. */
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

  /** Writes what waits, as far as that is quickly done, and ends. */
  async stop(): Promise<void> {
    const { clock } = this.#options;
    await new Promise<void>((resolve) => {
      const late = clock.after(FLUSH_MS, resolve);
      void this.journal.flush().then(() => {
        late.cancel();
        resolve();
      });
    });
    this.journal.close();
  }
}
