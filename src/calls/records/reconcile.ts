// Are this member's records in the store the ones that it holds? Reads them after a join, and checks every 30 s that
// the store still has them. Lost records are written again, slowly.
import type { Clock, Timer } from '../../base/clock.ts';
import type { Store } from '../../store/store.ts';
import { type CallRecord, recordPrefix } from './call-record.ts';
import { Action, actionOf, Flag, next, packedFlags, valueAfter, valueOfPacked } from './durability.ts';
import type { HeldCalls } from './held-calls.ts';
import { recordPages } from './record-pages.ts';
import type { RecordWriter } from './record-writer.ts';
import type { TrackedCall } from './tracked-call.ts';
import { MAX_WAITING, RETRY_MS } from './write-queue.ts';

/** Calls whose records are behind are queued in steps: a thousand a second. */
const HEAL_MS = 100;
const HEALED_PER_STEP = 100;
const SEEN_PER_STEP = 5000;
/** Interval at which the sentinel is checked and refused records are tried again. */
const CHECK_MS = 30_000;

export interface ReconcileOptions {
  readonly held: HeldCalls;
  readonly writer: RecordWriter;
  readonly store: Store;
  readonly clock: Clock;
  /** Returns this member's current number. */
  readonly self: () => { readonly number: number };
  /** False while this member may write nothing (it is isolated, or has not joined). */
  readonly mayWrite: () => boolean;
  /** Returns the commits under way. */
  readonly flushing: () => Promise<void> | undefined;
}

/** Receives a record that was read and is not held here, or whose owner was open. Calls `CallJournal.restore`. */
export type OnRecord = (entry: number, record: CallRecord) => void;

export class Reconciler {
  readonly #options: ReconcileOptions;
  #healer: Timer | undefined;
  #checker: Timer | undefined;
  /** Position of the healer, and whether another walk must follow. */
  #walk: Iterator<TrackedCall> | undefined;
  #walkAgain = false;
  #reading = false;
  #readings = 0;
  #number = 0;
  #closed = false;

  constructor(options: ReconcileOptions) {
    this.#options = options;
  }

  /** True from the loss of the seat until this member's records have been read. Nothing may be written meanwhile. */
  get reading(): boolean {
    return this.#reading;
  }

  /** The member has lost its seat: others may adopt its calls. Nothing is written until `regain` is done. */
  openOwnership(): void {
    const { held } = this.#options;
    this.#readings++;
    this.#reading = true;
    for (const tracked of held.tracked()) tracked.apply('seatLost');
    held.packed.flagAll(Flag.ownershipOpen, true);
  }

  /** See CallJournal.regain. */
  async regain(onRecord: OnRecord): Promise<void> {
    if (this.#closed) return;
    const { clock, writer, held, flushing } = this.#options;
    const run = ++this.#readings;
    this.#reading = true;
    this.#checker ??= clock.every(CHECK_MS, () => void this.#check());
    await flushing();
    while (run === this.#readings && !this.#closed) {
      try {
        if (await this.#readOwn(run, onRecord)) {
          this.#reading = false;
          held.queue.arm();
          return;
        }
      } catch (error) {
        writer.noteTrouble(error);
        await new Promise<void>((resolve) => clock.after(RETRY_MS, resolve));
      }
    }
  }

  /** The store has lost all records of this member: they are written again bit by bit. */
  wiped(): void {
    const { held, writer } = this.#options;
    writer.hasSentinel = false;
    for (const tracked of held.tracked()) tracked.apply('wiped');
    held.packed.flagAll(Flag.maybeStale, true);
    if (held.size > 0) this.fallBehind();
  }

  /** Starts a walk over all calls that queues those with an outdated record. */
  fallBehind(): void {
    if (this.#closed) return;
    this.#walkAgain = true;
    this.#healer ??= this.#options.clock.every(HEAL_MS, () => this.#heal());
  }

  close(): void {
    this.#closed = true;
    this.#healer?.cancel();
    this.#checker?.cancel();
  }

  /** Queues some calls with outdated records. Ends when a whole walk has queued all that it found. */
  #heal(): void {
    const { held } = this.#options;
    if (held.queue.waiting > MAX_WAITING / 2 || this.#reading || !this.#options.mayWrite()) return;
    if (!this.#walk) {
      this.#walkAgain = false;
      this.#walk = this.#behind();
    }
    let queued = 0;
    for (let seen = 0; seen < SEEN_PER_STEP && queued < HEALED_PER_STEP; seen++) {
      const { done, value: tracked } = this.#walk.next();
      if (done) {
        this.#walk = undefined;
        if (this.#walkAgain) return;
        this.#healer?.cancel();
        this.#healer = undefined;
        return;
      }
      if (!tracked.is(Flag.dirty) || tracked.writing || held.queue.has(tracked)) continue;
      held.wait(tracked);
      queued++;
    }
  }

  /** Yields the tracked calls, and the packed ones whose records the store has lost. */
  *#behind(): Generator<TrackedCall, void, void> {
    const { held } = this.#options;
    yield* held.tracked();
    for (const entry of held.packed.flagged(Flag.maybeStale)) {
      const tracked = held.unpack(entry);
      if (tracked) yield tracked;
    }
  }

  /** Tries refused records again, and checks that the store still has this member's sentinel. */
  async #check(): Promise<void> {
    const { held, writer, mayWrite, flushing } = this.#options;
    held.queue.retryRefused((tracked) => held.apply(tracked, 'changed'));
    const idle = (): boolean => writer.hasSentinel && !this.#reading && !flushing() && mayWrite();
    if (!idle()) return;
    try {
      if (!(await writer.sentinelStands()) && idle()) this.wiped();
    } catch (error) {
      writer.noteTrouble(error);
    }
  }

  /** Reads all records of this member once. Returns false when another run has begun. Rejects as Store.page does. */
  async #readOwn(run: number, onRecord: OnRecord): Promise<boolean> {
    const { store, self, held, writer } = this.#options;
    const { number } = self();
    if (number !== this.#number) this.wiped();
    this.#number = number;
    const expected: TrackedCall[] = [];
    for (const tracked of held.tracked()) {
      tracked.apply('reading');
      if (tracked.is(Flag.unseen)) expected.push(tracked);
    }
    held.packed.flagAll(Flag.unseen, true);
    const sentinel = await writer.sentinelStands();
    for await (const page of recordPages(store, recordPrefix(number))) {
      if (run !== this.#readings || this.#closed) return false;
      for (const { entry, record } of page) this.#seen(entry, record, expected, onRecord);
    }
    if (run !== this.#readings || this.#closed) return false;
    writer.hasSentinel = sentinel;
    if (!sentinel) this.wiped();
    const event = sentinel ? 'read' : 'readWiped';
    for (const tracked of expected) {
      if (!held.holds(tracked)) continue;
      const action = tracked.apply(event);
      if (action === Action.kept || action === Action.regained) this.#keep(tracked, action, onRecord);
      else held.act(tracked, action);
    }
    for (const entry of held.packed.flagged(Flag.unseen | Flag.ownershipOpen))
      this.#judgePacked(entry, event, onRecord);
    held.packed.flagAll(Flag.unseen, false);
    return true;
  }

  /** Handles one record that was read. */
  #seen(entry: number, record: CallRecord, expected: TrackedCall[], onRecord: OnRecord): void {
    const { held } = this.#options;
    const event = record.state === 'confirmed' ? 'seenDialog' : 'seenPending';
    if (held.packed.has(entry)) {
      const value = valueAfter(next(valueOfPacked(held.packed.flagsOf(entry)), event));
      const flags = packedFlags(value);
      if (flags >= 0) held.packed.setFlags(entry, flags);
      else {
        // The store had lost this record, but an earlier version may be there.
        const unpacked = held.unpack(entry)!;
        unpacked.durability = value;
        expected.push(unpacked);
      }
      return;
    }
    const tracked = held.get(entry);
    if (tracked) tracked.apply(event);
    else onRecord(entry, record);
  }

  #judgePacked(entry: number, event: 'read' | 'readWiped', onRecord: OnRecord): void {
    const { held } = this.#options;
    const result = next(valueOfPacked(held.packed.flagsOf(entry)), event);
    const action = actionOf(result);
    if (action === Action.drop || action === Action.taken) {
      held.packed.remove(entry);
      if (action === Action.taken) held.taken(entry);
      return;
    }
    held.packed.setFlags(entry, packedFlags(valueAfter(result)));
    const record = action === Action.regained ? held.packedRecord(entry) : undefined;
    if (record) onRecord(entry, record);
  }

  #keep(tracked: TrackedCall, action: Action, onRecord: OnRecord): void {
    const { held } = this.#options;
    const record = action === Action.regained ? held.recordOf(tracked.entry) : undefined;
    if (record) onRecord(tracked.entry, record);
    held.settle(tracked);
  }
}
