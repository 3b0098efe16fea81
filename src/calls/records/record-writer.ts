// Writes the changes of calls to the store, many in one commit, and reports the calls whose records are gone.
import type { Logger } from 'pino';
import type { Clock } from '../../base/clock.ts';
import { SipfarmError } from '../../base/errors.ts';
import type { Guard } from '../../base/guard.ts';
import { type Cell, type CellFamily, cellsBy } from '../../metrics/counters.ts';
import { MAX_COMMIT_OCTETS, MAX_WRITES, type Store, type Write } from '../../store/store.ts';
import { recordKey, recordPrefix } from './call-record.ts';
import { planOf, Stored, storedOf, wantedOf, writingOf } from './durability.ts';
import { type MediaRecord, mediaOctets } from './media-record.ts';
import type { TrackedCall } from './tracked-call.ts';

export interface WriterOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  /** Returns this member's current values. */
  readonly self: () => { readonly number: number; readonly incarnation: number; readonly epoch: number };
  /** Reads from the store whether this incarnation still has its seat. Rejects when the store does not answer. */
  readonly stillSeated: () => Promise<boolean>;
  /** Returns the media of the call that this member relays now. */
  readonly mediaOf: (entry: number) => MediaRecord | undefined;
  readonly writes: CellFamily<'outcome'>;
  readonly guard: Guard;
}

/** One call in a commit. */
export interface PendingWrite {
  readonly tracked: TrackedCall;
  readonly writes: readonly Write[];
}

/** Outcomes of writing a record: the label `outcome` of call_record_writes_total. */
const WRITE_OUTCOMES = ['written', 'deleted', 'taken', 'failed'] as const;
type Outcome = (typeof WRITE_OUTCOMES)[number];

/**
 * Whether other members can have adopted this member's calls. kept: no, this member still has its seat. wiped: no, the
 * store has lost all its records, and adoption needs a record. lost: the seat is gone, and with it the calls.
 */
export type StoredState = 'kept' | 'wiped' | 'lost';

/** Size estimate of a record in JSON: factor for escaped line ends and quotes, and octets of the other fields. */
const JSON_FACTOR = 1.2;
const JSON_OCTETS = 500;

export class RecordWriter {
  readonly #options: WriterOptions;
  readonly outcomes: Readonly<Record<Outcome, Cell>>;
  /** The sentinel is in the store: a key that is there as long as the store keeps this member's records. */
  hasSentinel = false;

  constructor(options: WriterOptions) {
    this.#options = options;
    this.outcomes = cellsBy(options.writes, 'outcome', WRITE_OUTCOMES);
  }

  /**
   * Takes calls off `ready`, as many as fit into a commit and at most `most`. Returns their writes. Calls `onIdle` for
   * calls that need no write. A call in doubt gets no writes: its records must be read first, even if it is over.
   * `pending`: calls that ring are written, too.
   */
  take(
    ready: Set<TrackedCall>,
    most: number,
    pending: boolean,
    onIdle: (tracked: TrackedCall) => void,
  ): readonly PendingWrite[] {
    const moves: PendingWrite[] = [];
    // One write is reserved for the sentinel.
    let writes = 1;
    let octets = 0;
    for (const tracked of ready) {
      const media = this.#options.mediaOf(tracked.entry);
      const size = tracked.octets * JSON_FACTOR + JSON_OCTETS + mediaOctets(media);
      const full = writes + 2 > MAX_WRITES || (moves.length > 0 && octets + size > MAX_COMMIT_OCTETS / 2);
      if (full || moves.length >= most) break;
      ready.delete(tracked);
      tracked.apply('picked');
      let move: PendingWrite | undefined;
      try {
        move = this.#writeOf(tracked, pending, media);
      } catch (error) {
        // This record is not written until its call changes; the others are written.
        this.#options.guard.caught('records', error);
        continue;
      }
      if (!move) {
        onIdle(tracked);
        continue;
      }
      tracked.apply('started');
      moves.push(move);
      writes += move.writes.length;
      octets += size;
    }
    return moves;
  }

  /**
   * Commits the writes, in halves when an expectation fails. Returns the calls whose keys are gone. Rejects as
   * Store.commit does; then the calls that are still being written are in doubt.
   */
  async commit(moves: readonly PendingWrite[]): Promise<readonly TrackedCall[]> {
    const writes = moves.flatMap((move) => move.writes);
    const asked = this.#options.clock.now();
    if (await this.#options.store.commit(this.hasSentinel ? writes : [this.#sentinel(), ...writes])) {
      this.hasSentinel = true;
      for (const move of moves) this.#written(move, asked);
      return [];
    }
    if (moves.length === 1) return moves.map(({ tracked }) => tracked);
    const middle = moves.length >> 1;
    return [...(await this.commit(moves.slice(0, middle))), ...(await this.commit(moves.slice(middle)))];
  }

  /** Reads where the records of calls in doubt are in the store. Rejects as Store.get does. */
  async lookUp(inDoubt: readonly TrackedCall[]): Promise<void> {
    const { store, self } = this.#options;
    const { number } = self();
    await Promise.all(
      inDoubt.map(async (tracked) => {
        const [pending, dialog] = await Promise.all([
          store.get(recordKey(number, 'trying', tracked.entry)),
          store.get(recordKey(number, 'confirmed', tracked.entry)),
        ]);
        tracked.apply(dialog ? 'foundDialog' : pending ? 'foundPending' : 'foundNowhere');
      }),
    );
  }

  /** Reads the state of this member's records and seat. Rejects as Store.get does. */
  async storedState(): Promise<StoredState> {
    if (!(await this.sentinelStands())) return 'wiped';
    return (await this.#options.stillSeated()) ? 'kept' : 'lost';
  }

  /** Reads whether the sentinel is in the store. Rejects as Store.get does. */
  async sentinelStands(): Promise<boolean> {
    return (await this.#options.store.get(this.#sentinelKey)) !== undefined;
  }

  /** Logs that the store did not answer; reports other errors to the guard. */
  noteTrouble(error: unknown): void {
    if (!(error instanceof SipfarmError)) this.#options.guard.caught('records', error);
    else this.#options.log.debug({ err: error }, 'call records wait: the store does not answer, or refuses them');
  }

  get #sentinelKey(): string {
    return `${recordPrefix(this.#options.self().number)}mark`;
  }

  #sentinel(): Write {
    return { key: this.#sentinelKey, value: { v: 1, incarnation: this.#options.self().incarnation } };
  }

  /**
   * Returns the writes for a call, none for a call that must be read first; undefined when no write is needed.
   * `writePending`: calls that ring are written, too.
   */
  #writeOf(tracked: TrackedCall, writePending: boolean, media: MediaRecord | undefined): PendingWrite | undefined {
    const { durability } = tracked;
    const plan = planOf(durability, writePending);
    if (plan === 'none') return undefined;
    if (plan === 'read') return { tracked, writes: [] };
    const pending = recordKey(this.#options.self().number, 'trying', tracked.entry);
    const dialog = recordKey(this.#options.self().number, 'confirmed', tracked.entry);
    if (plan === 'deleteBoth') return { tracked, writes: [removal(pending), removal(dialog)] };
    if (plan === 'delete')
      return { tracked, writes: [removal(storedOf(durability) === Stored.pending ? pending : dialog)] };
    const [key, other] = wantedOf(durability) === Stored.pending ? [pending, dialog] : [dialog, pending];
    const value = tracked.record(this.#options.self().incarnation, media);
    if (plan === 'put') return { tracked, writes: [{ key, value }] };
    if (plan === 'putOver') return { tracked, writes: [{ key, value }, removal(other)] };
    if (plan === 'replace') return { tracked, writes: [{ key, value, expect: 'present' }] };
    return {
      tracked,
      writes: [
        { key, value },
        { ...removal(other), expect: 'present' },
      ],
    };
  }

  /** Updates a call after its write. `asked`: monotonic milliseconds at the start of the commit. */
  #written({ tracked, writes }: PendingWrite, asked: number): void {
    const { log, self, clock } = this.#options;
    const to = writingOf(tracked.durability);
    tracked.apply('written');
    this.outcomes[to === Stored.nowhere ? 'deleted' : 'written'].n++;
    if (!log.isLevelEnabled('debug')) return;
    const { number, incarnation } = self();
    const state = to === Stored.nowhere ? 'gone' : to === Stored.dialog ? 'confirmed' : 'pending';
    const { callId } = tracked;
    const tookMs = Math.round(clock.now() - asked);
    log.debug({ record: writes[0]?.key, callId, state, owner: number, incarnation, tookMs }, 'call record written');
  }
}

function removal(key: string): Write {
  return { key, value: undefined };
}
