// Writes the records of this member's calls into the store, behind the packet path: what happens to a call is noted here by a few assignments,
// made into text and written later, many at a time, one commit under way. Nothing waits for it.
//
//    began    -> 50 ms, or as soon as the request has left the server again -> pending/<key>        (a call that fails before is never written)
//    answered -> dialog/<key> in place of pending/<key>
//    over     -> deleted
//
// The journal keeps what it has written as one short text per call, so that a store that has lost everything gets it again, slowly: a call that
// is confirmed and written rests (packed-calls.ts) until it ends. A write that finds its key gone asks whether this member still has its seat:
// if not, another member has adopted the call, and it is given up here.
import type { Timer } from '../../base/clock.ts';
import { SipfarmError } from '../../base/errors.ts';
import { type Cell, type CellFamily, cellsBy } from '../../metrics/counters.ts';
import type { Way } from '../../packet/flow.ts';
import { MAX_WRITES } from '../../store/store.ts';
import { type CallRecord, MAX_CALL_ID, MAX_LEGS, type RecordMethod, recordPrefix } from './call-record.ts';
import type { CapturedMessage } from './leg-text.ts';
import { Mark, PackedCalls } from './packed-calls.ts';
import type { RecordBody } from './record-octets.ts';
import { recordPages } from './record-pages.ts';
import { type PendingWrite, RecordWriter, type WriterOptions } from './record-writer.ts';
import { type CapturedLeg, recordOf, Stored, storedAs, TrackedCall } from './tracked-call.ts';

/** none: no records. dialogs: of confirmed calls only. calls: of those that ring, too. */
export type RecordsMode = 'none' | 'dialogs' | 'calls';

export interface JournalOptions extends WriterOptions {
  readonly mode: RecordsMode;
  /** False while this member may write nothing (it is isolated, or has not joined). */
  readonly mayWrite: () => boolean;
  /** Another member has adopted this call; it is forgotten here. */
  readonly onTaken: (entry: number) => void;
  readonly dropped: CellFamily<'reason'>;
}

/** Why a record was not written, or not in time: the label `reason` of call_records_dropped_total. */
const RECORD_DROPS = ['queue', 'size', 'room'] as const;
type RecordDrop = (typeof RECORD_DROPS)[number];

/** A call whose end comes sooner, as that of most challenges, is never written. */
const FIRST_WRITE_MS = 50;
const FLUSH_MS = 20;
/** Of calls whose texts are made, and of commits, in one step: some milliseconds. */
const TEXTS_PER_STEP = 500;
const COMMITS_PER_STEP = 10;
/** Calls that wait for their write. */
const MAX_WAITING = 20_000;
/** After a commit that failed. */
const RETRY_MS = 500;
/** What is behind is queued again in steps of so many calls: a thousand a second. */
const HEAL_MS = 100;
const HEALED_PER_STEP = 100;
const SEEN_PER_STEP = 5000;
/** How often the store is asked whether it still has our records, and what it has refused is tried again. */
const MARK_MS = 30_000;
/** Octets of all texts kept: as many calls as the call table takes. */
const MAX_OCTETS = 512 * 1024 * 1024;

export class CallJournal {
  readonly #options: JournalOptions;
  readonly #writer: RecordWriter;
  readonly #drops: Readonly<Record<RecordDrop, Cell>>;
  /** Calls that change, or whose records are not where they should be. */
  readonly #tracked = new Map<number, TrackedCall>();
  /** Those that rest. No call is in both. */
  readonly #packed = new PackedCalls();
  // A call waits in one of these: until its first write is due, until its texts are made, until it is written.
  readonly #fresh = new Set<TrackedCall>();
  readonly #soon = new Set<TrackedCall>();
  readonly #ready = new Set<TrackedCall>();
  /** What the store has refused, until it is tried again. */
  readonly #refused = new Set<TrackedCall>();
  #mode: RecordsMode;
  #octets = 0;
  #timer: Timer | undefined;
  #healer: Timer | undefined;
  #marker: Timer | undefined;
  /** Where the healer is, and whether it has to begin again. */
  #walk: Iterator<TrackedCall> | undefined;
  #walkAgain = false;
  #flushing: Promise<void> | undefined;
  /** Records are being read from the store: nothing is written until it is known what stands there. */
  #reading = false;
  #readings = 0;
  #notBefore = 0;
  /** Calls in one commit. */
  #most = MAX_WRITES;
  #number = 0;
  #closed = false;
  readonly #tick = (): void => {
    this.#timer = undefined;
    this.#work();
  };

  constructor(options: JournalOptions) {
    this.#options = options;
    this.#mode = options.mode;
    this.#writer = new RecordWriter(options);
    this.#drops = cellsBy(options.dropped, 'reason', RECORD_DROPS);
  }

  /** Calls that wait to be written. */
  get waiting(): number {
    return this.#fresh.size + this.#soon.size + this.#ready.size;
  }

  /** Calls that are kept here. */
  get size(): number {
    return this.#tracked.size + this.#packed.size;
  }

  /** Counts for calls that begin from now on. */
  setMode(mode: RecordsMode): void {
    this.#mode = mode;
  }

  /** Is there such a call, and is it not over? */
  has(entry: number): boolean {
    const tracked = this.#tracked.get(entry);
    return tracked ? tracked.state !== 'gone' : this.#packed.has(entry);
  }

  /** May the call get a leg of this branch? False for one that has it already. */
  lacks(entry: number, branch: string): boolean {
    const tracked = this.#tracked.get(entry);
    return tracked?.open === true && tracked.legs < MAX_LEGS && !tracked.hasBranch(branch);
  }

  /** The record of a call, as it would be written now; undefined when there is none. */
  recordOf(entry: number): CallRecord | undefined {
    const tracked = this.#tracked.get(entry);
    return tracked ? this.#recordOf(tracked) : this.#packedRecord(entry);
  }

  /** The calls that are not over: those that rest, for longest first, then those that change. They may change while they are walked. */
  *tracked(): Generator<{ readonly entry: number; readonly record: CallRecord }, void, void> {
    for (const entry of this.#packed.entries()) {
      const record = this.#packedRecord(entry);
      if (record) yield { entry, record };
    }
    for (const tracked of this.#tracked.values()) {
      const record = this.#recordOf(tracked);
      if (record) yield { entry: tracked.entry, record };
    }
  }

  /** A request has begun the call. What was there under this entry is over. */
  began(entry: number, method: RecordMethod, callId: string, leg: CapturedLeg): void {
    if (this.#mode === 'none' || callId.length > MAX_CALL_ID) return;
    const { clock } = this.#options;
    let tracked = this.#tracked.get(entry) ?? this.#unpack(entry);
    if (!tracked) {
      if (this.#full) {
        this.#drops.room.n++;
        return;
      }
      tracked = new TrackedCall(entry, method, callId, clock.wall(), this.#options.self().epoch);
      this.#tracked.set(entry, tracked);
    } else {
      this.#empty(tracked);
      tracked.method = method;
      tracked.callId = callId;
      tracked.since = clock.wall();
      tracked.epoch = this.#options.self().epoch;
      tracked.state = 'trying';
      tracked.ownershipOpen = false;
      // Without the seat the deletion of the ended call may have succeeded unheard: a missing record then does not show an adoption of this call.
      if (this.#reading && tracked.inDoubt) tracked.stored = Stored.nowhere;
    }
    tracked.addLeg(leg);
    tracked.due = clock.now() + FIRST_WRITE_MS;
    this.#wait(tracked, leg.from === 'server' ? this.#soon : this.#fresh);
  }

  /** The SIP server has sent the call's request out. A retransmission changes nothing. */
  branched(entry: number, leg: CapturedLeg): void {
    const tracked = this.#tracked.get(entry);
    if (!tracked || !this.lacks(entry, leg.branch)) return;
    tracked.addLeg(leg);
    this.#wait(tracked, this.#soon);
  }

  /** A provisional response with a To tag. Not worth a write of its own. */
  rings(entry: number): void {
    const tracked = this.#tracked.get(entry);
    if (tracked?.state === 'trying') tracked.state = 'early';
  }

  /** A 2xx for the leg of `branch` (empty: the `client` leg), as it stood outside. `confirms`: the call is a dialog now. */
  answered(entry: number, branch: string, answer: CapturedMessage, confirms: boolean): void {
    const tracked = this.#tracked.get(entry);
    if (!tracked?.open) return;
    tracked.setAnswer(branch, answer);
    if (!confirms) return;
    tracked.state = 'confirmed';
    this.#wait(tracked, this.#soon);
  }

  /** A call that rang by its record is a dialog, as a request in it shows; its 2xx was not seen here. */
  confirmed(entry: number): void {
    const tracked = this.#tracked.get(entry);
    if (!tracked?.open) return;
    tracked.state = 'confirmed';
    this.#wait(tracked, this.#soon);
  }

  /** The party of leg number `leg` of a call, as in `recordOf`, is reached by another way now. Rare, so it may cost a write. */
  moved(entry: number, leg: number, way: Readonly<Way>): void {
    const tracked = this.#tracked.get(entry) ?? this.#unpack(entry);
    if (!tracked || tracked.state === 'gone') return;
    tracked.moveLeg(leg, way);
    this.#wait(tracked, this.#soon);
  }

  /** The call has failed, ended, or been forgotten. */
  over(entry: number): void {
    const tracked = this.#tracked.get(entry) ?? this.#unpack(entry);
    if (!tracked || tracked.state === 'gone') return;
    tracked.state = 'gone';
    this.#empty(tracked);
    if (tracked.stored === Stored.nowhere && !tracked.inDoubt && !tracked.maybeStale && !tracked.writing)
      this.#drop(tracked);
    else this.#wait(tracked, this.#soon);
  }

  /**
   * A call whose record stands in the store under this member's number: it was read there, or this member has just adopted it. False when
   * the entry is in use, or there is no room.
   */
  restore(entry: number, record: CallRecord): boolean {
    if (this.#tracked.has(entry) || this.#packed.has(entry) || this.#full) return false;
    const { method, callId, epoch, legs } = record;
    const since = Date.parse(record.since) || this.#options.clock.wall();
    const body = { method, callId, since, epoch, legs };
    if (record.state === 'confirmed' && this.#packed.add(entry, body)) return true;
    const tracked = this.#hold(entry, body);
    tracked.state = record.state;
    tracked.stored = storedAs(record.state);
    return true;
  }

  /** Forgets a call that is another member's now, and writes nothing. */
  forget(entry: number): void {
    const tracked = this.#tracked.get(entry);
    if (tracked) this.#drop(tracked);
    else this.#packed.remove(entry);
  }

  /** Forgets all calls, and writes nothing. */
  clear(): void {
    for (const tracked of [...this.#tracked.values()]) this.#drop(tracked);
    this.#packed.clear();
  }

  /** The member has lost its seat: others may adopt its calls. Nothing is written until `regain` has seen which are left. */
  openOwnership(): void {
    this.#readings++;
    this.#reading = true;
    for (const tracked of this.#tracked.values()) tracked.ownershipOpen = true;
    this.#packed.flagAll(Mark.ownershipOpen, true);
  }

  /**
   * Reads this member's records after it has joined, or joined anew: what is not known here, or was forfeited, is given to `onRecord`, which
   * calls `restore`; what should stand there and does not has been adopted, unless the store has lost everything. Resolves when done; never rejects.
   */
  async regain(onRecord: (entry: number, record: CallRecord) => void): Promise<void> {
    if (this.#closed) return;
    const { clock } = this.#options;
    const run = ++this.#readings;
    this.#reading = true;
    this.#marker ??= clock.every(MARK_MS, () => void this.#reconcile());
    await this.#flushing;
    while (run === this.#readings && !this.#closed) {
      try {
        if (await this.#readOwn(run, onRecord)) {
          this.#reading = false;
          this.#arm();
          return;
        }
      } catch (error) {
        this.#noteTrouble(error);
        await new Promise<void>((resolve) => clock.after(RETRY_MS, resolve));
      }
    }
  }

  /** Writes what waits, as far as the store takes it at once. Never rejects. */
  async flush(): Promise<void> {
    for (const tracked of this.#fresh) tracked.due = 0;
    let waiting: number;
    do {
      await this.#flushing;
      waiting = this.waiting;
      this.#work(waiting);
      await this.#flushing;
    } while (this.waiting > 0 && this.waiting < waiting);
  }

  /** Ends all timers. */
  close(): void {
    this.#closed = true;
    for (const timer of [this.#timer, this.#healer, this.#marker]) timer?.cancel();
  }

  #recordOf(tracked: TrackedCall): CallRecord | undefined {
    return tracked.state === 'gone' ? undefined : tracked.record(tracked.state, this.#options.self().incarnation);
  }

  #packedRecord(entry: number): CallRecord | undefined {
    const body = this.#packed.read(entry);
    return body && recordOf(body, 'confirmed', this.#options.self().incarnation);
  }

  get #full(): boolean {
    return this.#octets + this.#packed.octets >= MAX_OCTETS;
  }

  #hold(entry: number, { method, callId, since, epoch, legs }: RecordBody): TrackedCall {
    const tracked = new TrackedCall(entry, method, callId, since, epoch);
    tracked.takeLegs(legs);
    this.#tracked.set(entry, tracked);
    this.#octets += tracked.octets;
    return tracked;
  }

  /** Takes a call that rests among those that change; undefined when there is none. */
  #unpack(entry: number): TrackedCall | undefined {
    const body = this.#packed.read(entry);
    if (!body) return undefined;
    const marks = this.#packed.flagsOf(entry);
    this.#packed.remove(entry);
    const tracked = this.#hold(entry, body);
    tracked.state = 'confirmed';
    tracked.maybeStale = (marks & Mark.maybeStale) !== 0;
    tracked.dirty = tracked.maybeStale;
    tracked.stored = tracked.maybeStale ? Stored.nowhere : Stored.dialog;
    tracked.ownershipOpen = (marks & Mark.ownershipOpen) !== 0;
    return tracked;
  }

  /** Puts a call that has changed into `queue`, and out of the others. */
  #wait(tracked: TrackedCall, queue: Set<TrackedCall>): void {
    tracked.dirty = true;
    this.#unqueue(tracked);
    if (this.waiting < MAX_WAITING) {
      queue.add(tracked);
      this.#arm();
      return;
    }
    this.#drops.queue.n++;
    this.#makeTexts(tracked);
    this.#fallBehind();
  }

  #unqueue(tracked: TrackedCall): void {
    this.#fresh.delete(tracked);
    this.#soon.delete(tracked);
    this.#ready.delete(tracked);
  }

  #isQueued(tracked: TrackedCall): boolean {
    return this.#fresh.has(tracked) || this.#soon.has(tracked) || this.#ready.has(tracked);
  }

  #arm(): void {
    if (!this.#timer && !this.#closed && this.waiting > 0)
      this.#timer = this.#options.clock.after(FLUSH_MS, this.#tick);
  }

  #work(texts = TEXTS_PER_STEP): void {
    this.#prepare(texts);
    const { mayWrite, clock } = this.#options;
    const may = !this.#flushing && !this.#reading && this.#ready.size > 0 && clock.now() >= this.#notBefore;
    if (may && mayWrite())
      this.#flushing = this.#flush().finally(() => {
        this.#flushing = undefined;
        this.#arm();
      });
    this.#arm();
  }

  /** Makes the texts of what is due, of so many calls. */
  #prepare(atOnce: number): void {
    const now = this.#options.clock.now();
    for (const tracked of this.#fresh) {
      if (tracked.due > now) break;
      this.#fresh.delete(tracked);
      this.#soon.add(tracked);
    }
    let left = atOnce;
    for (const tracked of this.#soon) {
      if (left-- === 0) break;
      this.#soon.delete(tracked);
      try {
        if (this.#makeTexts(tracked)) this.#ready.add(tracked);
      } catch (error) {
        this.#options.guard.caught('records', error);
      }
    }
  }

  /** False when the call is too long for a record: it is forgotten. */
  #makeTexts(tracked: TrackedCall): boolean {
    const before = tracked.octets;
    const made = tracked.makeTexts();
    this.#octets += tracked.octets - before;
    if (made) return true;
    this.#drops.size.n++;
    this.over(tracked.entry);
    return false;
  }

  #empty(tracked: TrackedCall): void {
    this.#octets -= tracked.octets;
    tracked.empty();
  }

  #drop(tracked: TrackedCall): void {
    this.#empty(tracked);
    tracked.dirty = false;
    this.#unqueue(tracked);
    this.#refused.delete(tracked);
    if (this.#tracked.get(tracked.entry) === tracked) this.#tracked.delete(tracked.entry);
  }

  /** Writes what is ready, one commit after the other. */
  async #flush(): Promise<void> {
    try {
      for (let left = COMMITS_PER_STEP; left > 0; left--) {
        if (this.#ready.size === 0 || this.#reading || !this.#options.mayWrite()) return;
        const moves = this.#writer.take(this.#ready, this.#most, this.#mode === 'calls', (tracked) =>
          this.#settle(tracked),
        );
        if (moves.length > 0) await this.#write(moves);
      }
    } catch (error) {
      this.#notBefore = this.#options.clock.now() + RETRY_MS;
      this.#noteTrouble(error);
    }
  }

  /** Rejects when this had better wait; what was not written is in the queue again. */
  async #write(moves: readonly PendingWrite[]): Promise<void> {
    try {
      const inDoubt = moves.map(({ tracked }) => tracked).filter((tracked) => tracked.inDoubt);
      if (inDoubt.length > 0) {
        await this.#makeSure(inDoubt);
        this.#putBack(moves);
        return;
      }
      const missing = await this.#writer.commit(moves);
      for (const { tracked } of moves) if (!tracked.writing) this.#settle(tracked);
      if (missing.length > 0) await this.#judge(missing);
      this.#most = MAX_WRITES;
    } catch (error) {
      const refused = isRefused(error);
      for (const { tracked } of moves) tracked.inDoubt ||= tracked.writing && !refused;
      this.#putBack(moves);
      if (refused) this.#writeFewer(moves);
      this.#writer.outcomes.failed.n++;
      throw error;
    }
  }

  /** After a write, or when none was needed. */
  #settle(tracked: TrackedCall): void {
    if (tracked.dirty || this.#tracked.get(tracked.entry) !== tracked) return;
    if (tracked.state === 'gone') this.#drop(tracked);
    else if (tracked.state === 'confirmed' && tracked.stored === Stored.dialog) this.#pack(tracked);
  }

  /** Keeps a call as one short text from now on, if nothing is open about it. */
  #pack(tracked: TrackedCall): void {
    if (tracked.inDoubt || tracked.writing || tracked.ownershipOpen) return;
    try {
      if (this.#packed.add(tracked.entry, tracked.body)) this.#drop(tracked);
    } catch (error) {
      this.#options.guard.caught('records', error);
    }
  }

  /** Finds out where calls stand whose last write had no answer. Rejects as Store.get does. */
  async #makeSure(inDoubt: readonly TrackedCall[]): Promise<void> {
    await this.#writer.lookUp(inDoubt);
    const standing = await this.#writer.storedState();
    if (standing === 'wiped') this.#wiped();
    for (const tracked of inDoubt) {
      tracked.inDoubt = false;
      if (tracked.stored === Stored.nowhere && standing === 'lost') this.#taken(tracked);
    }
  }

  /** The keys of these calls are gone although we wrote them. */
  async #judge(missing: readonly TrackedCall[]): Promise<void> {
    const standing = await this.#writer.storedState();
    if (standing === 'wiped') this.#wiped();
    for (const tracked of missing) {
      tracked.writing = false;
      tracked.stored = Stored.nowhere;
      if (standing === 'lost') this.#taken(tracked);
      else this.#again(tracked);
    }
  }

  #taken(tracked: TrackedCall): void {
    if (this.#tracked.get(tracked.entry) !== tracked) return;
    this.#drop(tracked);
    this.#noteTaken(tracked.entry);
  }

  #noteTaken(entry: number): void {
    this.#writer.outcomes.taken.n++;
    this.#options.onTaken(entry);
  }

  /** Nothing of ours is in the store: all is written anew, bit by bit. */
  #wiped(): void {
    this.#writer.hasSentinel = false;
    for (const tracked of this.#tracked.values()) {
      // To delete expects nothing, and what was written since the loss has to go.
      if (tracked.state === 'gone') continue;
      tracked.maybeStale ||= tracked.stored !== Stored.nowhere;
      tracked.stored = Stored.nowhere;
      tracked.inDoubt = false;
      tracked.dirty = true;
    }
    this.#packed.flagAll(Mark.maybeStale, true);
    if (this.size > 0) this.#fallBehind();
  }

  #putBack(moves: readonly PendingWrite[]): void {
    for (const { tracked } of moves) {
      if (!tracked.writing) continue;
      tracked.writing = false;
      this.#again(tracked);
    }
  }

  /** Back into the queue, when it is still a call of ours and waits for nothing else. */
  #again(tracked: TrackedCall): void {
    if (this.#tracked.get(tracked.entry) !== tracked) return;
    tracked.dirty = true;
    if (!this.#isQueued(tracked)) this.#ready.add(tracked);
  }

  /** The store takes none of these: fewer at a time. What it does not take alone is left for half a minute. */
  #writeFewer(moves: readonly PendingWrite[]): void {
    this.#most = Math.max(1, moves.length >> 1);
    if (moves.length > 1) return;
    this.#drops.size.n++;
    for (const { tracked } of moves) if (this.#ready.delete(tracked)) this.#refused.add(tracked);
  }

  #noteTrouble(error: unknown): void {
    if (!(error instanceof SipfarmError)) this.#options.guard.caught('records', error);
    else this.#options.log.debug({ err: error }, 'call records wait: the store does not take or tell them');
  }

  #fallBehind(): void {
    if (this.#closed) return;
    this.#walkAgain = true;
    this.#healer ??= this.#options.clock.every(HEAL_MS, () => this.#heal());
  }

  /** Queues some of what is behind; ends when a whole walk has found nothing that it had to leave. */
  #heal(): void {
    if (this.waiting > MAX_WAITING / 2 || this.#reading || !this.#options.mayWrite()) return;
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
      if (!tracked.dirty || tracked.writing || this.#isQueued(tracked)) continue;
      this.#wait(tracked, this.#soon);
      queued++;
    }
  }

  /** The calls that change, and those that should rest and have no record any more. */
  *#behind(): Generator<TrackedCall, void, void> {
    yield* this.#tracked.values();
    for (const entry of this.#packed.flagged(Mark.maybeStale)) {
      const tracked = this.#unpack(entry);
      if (tracked) yield tracked;
    }
  }

  /** Now and then: tries again what was refused, and looks whether the store still has what is ours. */
  async #reconcile(): Promise<void> {
    for (const tracked of this.#refused) this.#again(tracked);
    this.#refused.clear();
    this.#arm();
    const idle = (): boolean =>
      this.#writer.hasSentinel && !this.#reading && !this.#flushing && this.#options.mayWrite();
    if (!idle()) return;
    try {
      if (!(await this.#writer.sentinelStands()) && idle()) this.#wiped();
    } catch (error) {
      this.#noteTrouble(error);
    }
  }

  /** One reading of all that is ours; false when another has begun meanwhile. Rejects as Store.page does. */
  async #readOwn(run: number, onRecord: (entry: number, record: CallRecord) => void): Promise<boolean> {
    const { store, self } = this.#options;
    const { number } = self();
    if (number !== this.#number) this.#wiped();
    this.#number = number;
    const expected = [...this.#tracked.values()].filter((tracked) => tracked.ownershipOpen || isWritten(tracked));
    this.#packed.flagAll(Mark.unseen, true);
    const marked = await this.#writer.sentinelStands();
    const seen = new Set<TrackedCall>();
    for await (const page of recordPages(store, recordPrefix(number))) {
      if (run !== this.#readings || this.#closed) return false;
      for (const { entry, record } of page) {
        if (this.#packed.has(entry)) {
          this.#packed.flag(entry, Mark.unseen, false);
          if ((this.#packed.flagsOf(entry) & Mark.maybeStale) === 0) continue;
          // Not so lost after all, but perhaps as it was before.
          const unpacked = this.#unpack(entry)!;
          expected.push(unpacked);
        }
        const tracked = this.#tracked.get(entry);
        if (!tracked) onRecord(entry, record);
        else {
          seen.add(tracked);
          if (!isWritten(tracked) || tracked.inDoubt) tracked.stored = storedAs(record.state);
          tracked.inDoubt = false;
        }
      }
    }
    if (run !== this.#readings || this.#closed) return false;
    this.#writer.hasSentinel = marked;
    if (!marked) this.#wiped();
    for (const tracked of expected) {
      if (this.#tracked.get(tracked.entry) !== tracked) continue;
      // A record that was never written is not lost: the call was given up with the seat, and the slot's owner has begun it anew.
      if (tracked.ownershipOpen && !isWritten(tracked) && !tracked.maybeStale) this.#drop(tracked);
      else if (!marked || seen.has(tracked)) this.#keep(tracked, onRecord);
      else if (tracked.state === 'gone' || !isWritten(tracked)) this.#drop(tracked);
      // Its one write was never heard, and the seat was ours all the time: nobody can have adopted it.
      else if (tracked.stored === Stored.nowhere && !tracked.ownershipOpen) this.#unheard(tracked);
      else this.#taken(tracked);
    }
    for (const entry of this.#packed.flagged(Mark.unseen | Mark.ownershipOpen))
      this.#judgePacked(entry, marked, onRecord);
    this.#packed.flagAll(Mark.unseen, false);
    return true;
  }

  #unheard(tracked: TrackedCall): void {
    tracked.inDoubt = false;
    this.#again(tracked);
  }

  /** The same for a call that rests. */
  #judgePacked(entry: number, marked: boolean, onRecord: (entry: number, record: CallRecord) => void): void {
    const marks = this.#packed.flagsOf(entry);
    const ownershipOpen = (marks & Mark.ownershipOpen) !== 0;
    if (!marked || (marks & Mark.unseen) === 0) {
      this.#packed.flag(entry, Mark.ownershipOpen, false);
      const record = ownershipOpen ? this.#packedRecord(entry) : undefined;
      if (record) onRecord(entry, record);
    } else if ((marks & Mark.maybeStale) === 0) {
      this.#packed.remove(entry);
      this.#noteTaken(entry);
    } else if (ownershipOpen) this.#packed.remove(entry);
  }

  /** It is ours after all. */
  #keep(tracked: TrackedCall, onRecord: (entry: number, record: CallRecord) => void): void {
    const record = tracked.ownershipOpen ? this.#recordOf(tracked) : undefined;
    tracked.ownershipOpen = false;
    if (record) onRecord(tracked.entry, record);
    this.#settle(tracked);
  }
}

function isWritten(tracked: TrackedCall): boolean {
  return tracked.stored !== Stored.nowhere || tracked.inDoubt;
}

function isRefused(error: unknown): boolean {
  return error instanceof SipfarmError && error.code === 'SF_STORE_REFUSED';
}
