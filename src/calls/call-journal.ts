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
import type { Timer } from '../base/clock.ts';
import { SipfarmError } from '../base/errors.ts';
import type { Cell, CellFamily } from '../metrics/counters.ts';
import type { Way } from '../ownership/flow.ts';
import { MAX_WRITES } from '../store/store.ts';
import { type CallRecord, MAX_CALL_ID, MAX_LEGS, type RecordMethod, recordPrefix } from './call-record.ts';
import { HeldCall, recordOf, type SeenLeg, Stored, storedAs } from './held-call.ts';
import type { Sighting } from './leg-text.ts';
import { Mark, PackedCalls } from './packed-calls.ts';
import type { RecordBody } from './record-octets.ts';
import { recordPages } from './record-pages.ts';
import { type Move, RecordWriter, type WriterOptions } from './record-writer.ts';

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
export const RECORD_DROPS = ['queue', 'size', 'room'] as const;
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
  readonly #held = new Map<number, HeldCall>();
  /** Those that rest. No call is in both. */
  readonly #packed = new PackedCalls();
  // A call waits in one of these: until its first write is due, until its texts are made, until it is written.
  readonly #fresh = new Set<HeldCall>();
  readonly #soon = new Set<HeldCall>();
  readonly #ready = new Set<HeldCall>();
  /** What the store has refused, until it is tried again. */
  readonly #refused = new Set<HeldCall>();
  #mode: RecordsMode;
  #octets = 0;
  #timer: Timer | undefined;
  #healer: Timer | undefined;
  #marker: Timer | undefined;
  /** Where the healer is, and whether it has to begin again. */
  #walk: Iterator<HeldCall> | undefined;
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
    const cells = RECORD_DROPS.map((reason) => [reason, options.dropped.cell({ reason })] as const);
    this.#drops = Object.fromEntries(cells) as Record<RecordDrop, Cell>;
  }

  /** True until it is known which records stand in the store. */
  get reading(): boolean {
    return this.#reading;
  }

  /** Calls that wait to be written. */
  get waiting(): number {
    return this.#fresh.size + this.#soon.size + this.#ready.size;
  }

  /** Calls that are kept here. */
  get size(): number {
    return this.#held.size + this.#packed.size;
  }

  /** Counts for calls that begin from now on. */
  setMode(mode: RecordsMode): void {
    this.#mode = mode;
  }

  /** Is there such a call, and is it not over? */
  has(entry: number): boolean {
    const held = this.#held.get(entry);
    return held ? held.state !== 'gone' : this.#packed.has(entry);
  }

  /** May the call get a leg of this branch? False for one that has it already. */
  lacks(entry: number, branch: string): boolean {
    const held = this.#held.get(entry);
    return held?.open === true && held.legs < MAX_LEGS && !held.hasBranch(branch);
  }

  /** The record of a call, as it would be written now; undefined when there is none. */
  recordOf(entry: number): CallRecord | undefined {
    const held = this.#held.get(entry);
    return held ? this.#recordOf(held) : this.#packedRecord(entry);
  }

  /** The calls that are not over: those that rest, for longest first, then those that change. They may change while they are walked. */
  *held(): Generator<{ readonly entry: number; readonly record: CallRecord }, void, void> {
    for (const entry of this.#packed.entries()) {
      const record = this.#packedRecord(entry);
      if (record) yield { entry, record };
    }
    for (const held of this.#held.values()) {
      const record = this.#recordOf(held);
      if (record) yield { entry: held.entry, record };
    }
  }

  /** A request has begun the call. What was there under this entry is over. */
  began(entry: number, method: RecordMethod, callId: string, leg: SeenLeg): void {
    if (this.#mode === 'none' || callId.length > MAX_CALL_ID) return;
    const { clock } = this.#options;
    let held = this.#held.get(entry) ?? this.#rouse(entry);
    if (!held) {
      if (this.#full) {
        this.#drops.room.n++;
        return;
      }
      held = new HeldCall(entry, method, callId, clock.wall(), this.#options.self().epoch);
      this.#held.set(entry, held);
    } else {
      this.#empty(held);
      held.method = method;
      held.callId = callId;
      held.since = clock.wall();
      held.epoch = this.#options.self().epoch;
      held.state = 'trying';
      held.forfeited = false;
    }
    held.addLeg(leg);
    held.due = clock.now() + FIRST_WRITE_MS;
    this.#wait(held, leg.from === 'server' ? this.#soon : this.#fresh);
  }

  /** The SIP server has sent the call's request out. A retransmission changes nothing. */
  branched(entry: number, leg: SeenLeg): void {
    const held = this.#held.get(entry);
    if (!held || !this.lacks(entry, leg.branch)) return;
    held.addLeg(leg);
    this.#wait(held, this.#soon);
  }

  /** A provisional response with a To tag. Not worth a write of its own. */
  rings(entry: number): void {
    const held = this.#held.get(entry);
    if (held?.state === 'trying') held.state = 'early';
  }

  /** A 2xx for the leg of `branch` (empty: the `client` leg), as it stood outside. `confirms`: the call is a dialog now. */
  answered(entry: number, branch: string, answer: Sighting, confirms: boolean): void {
    const held = this.#held.get(entry);
    if (!held?.open) return;
    held.setAnswer(branch, answer);
    if (!confirms) return;
    held.state = 'confirmed';
    this.#wait(held, this.#soon);
  }

  /** A call that rang by its record is a dialog, as a request in it shows; its 2xx was not seen here. */
  confirmed(entry: number): void {
    const held = this.#held.get(entry);
    if (!held?.open) return;
    held.state = 'confirmed';
    this.#wait(held, this.#soon);
  }

  /** The party of leg number `leg` of a call, as in `recordOf`, is reached by another way now. Rare, so it may cost a write. */
  moved(entry: number, leg: number, way: Readonly<Way>): void {
    const held = this.#held.get(entry) ?? this.#rouse(entry);
    if (!held || held.state === 'gone') return;
    held.moveLeg(leg, way);
    this.#wait(held, this.#soon);
  }

  /** The call has failed, ended, or been forgotten. */
  over(entry: number): void {
    const held = this.#held.get(entry) ?? this.#rouse(entry);
    if (!held || held.state === 'gone') return;
    held.state = 'gone';
    this.#empty(held);
    if (held.stored === Stored.nowhere && !held.unsure && !held.astray && !held.writing) this.#drop(held);
    else this.#wait(held, this.#soon);
  }

  /**
   * A call whose record stands in the store under this member's number: it was read there, or this member has just adopted it. False when
   * the entry is in use, or there is no room.
   */
  restore(entry: number, record: CallRecord): boolean {
    if (this.#held.has(entry) || this.#packed.has(entry) || this.#full) return false;
    const { method, callId, epoch, legs } = record;
    const since = Date.parse(record.since) || this.#options.clock.wall();
    const body = { method, callId, since, epoch, legs };
    if (record.state === 'confirmed' && this.#packed.add(entry, body)) return true;
    const held = this.#hold(entry, body);
    held.state = record.state;
    held.stored = storedAs(record.state);
    return true;
  }

  /** Forgets a call that is another member's now, and writes nothing. */
  giveUp(entry: number): void {
    const held = this.#held.get(entry);
    if (held) this.#drop(held);
    else this.#packed.remove(entry);
  }

  /** Forgets all calls, and writes nothing. */
  clear(): void {
    for (const held of [...this.#held.values()]) this.#drop(held);
    this.#packed.clear();
  }

  /** The member has lost its seat: others may adopt its calls. Nothing is written until `regain` has seen which are left. */
  forfeit(): void {
    this.#readings++;
    this.#reading = true;
    for (const held of this.#held.values()) held.forfeited = true;
    this.#packed.markAll(Mark.forfeited, true);
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
    this.#marker ??= clock.every(MARK_MS, () => void this.#lookAfter());
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
    for (const held of this.#fresh) held.due = 0;
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

  #recordOf(held: HeldCall): CallRecord | undefined {
    return held.state === 'gone' ? undefined : held.record(held.state, this.#options.self().incarnation);
  }

  #packedRecord(entry: number): CallRecord | undefined {
    const body = this.#packed.read(entry);
    return body && recordOf(body, 'confirmed', this.#options.self().incarnation);
  }

  get #full(): boolean {
    return this.#octets + this.#packed.octets >= MAX_OCTETS;
  }

  #hold(entry: number, { method, callId, since, epoch, legs }: RecordBody): HeldCall {
    const held = new HeldCall(entry, method, callId, since, epoch);
    held.takeLegs(legs);
    this.#held.set(entry, held);
    this.#octets += held.octets;
    return held;
  }

  /** Takes a call that rests among those that change; undefined when there is none. */
  #rouse(entry: number): HeldCall | undefined {
    const body = this.#packed.read(entry);
    if (!body) return undefined;
    const marks = this.#packed.marksOf(entry);
    this.#packed.remove(entry);
    const held = this.#hold(entry, body);
    held.state = 'confirmed';
    held.astray = (marks & Mark.astray) !== 0;
    held.dirty = held.astray;
    held.stored = held.astray ? Stored.nowhere : Stored.dialog;
    held.forfeited = (marks & Mark.forfeited) !== 0;
    return held;
  }

  /** Puts a call that has changed into `queue`, and out of the others. */
  #wait(held: HeldCall, queue: Set<HeldCall>): void {
    held.dirty = true;
    this.#unqueue(held);
    if (this.waiting < MAX_WAITING) {
      queue.add(held);
      this.#arm();
      return;
    }
    this.#drops.queue.n++;
    this.#makeTexts(held);
    this.#fallBehind();
  }

  #unqueue(held: HeldCall): void {
    this.#fresh.delete(held);
    this.#soon.delete(held);
    this.#ready.delete(held);
  }

  #isQueued(held: HeldCall): boolean {
    return this.#fresh.has(held) || this.#soon.has(held) || this.#ready.has(held);
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
    for (const held of this.#fresh) {
      if (held.due > now) break;
      this.#fresh.delete(held);
      this.#soon.add(held);
    }
    let left = atOnce;
    for (const held of this.#soon) {
      if (left-- === 0) break;
      this.#soon.delete(held);
      try {
        if (this.#makeTexts(held)) this.#ready.add(held);
      } catch (error) {
        this.#options.guard.caught('records', error);
      }
    }
  }

  /** False when the call is too long for a record: it is forgotten. */
  #makeTexts(held: HeldCall): boolean {
    const before = held.octets;
    const made = held.makeTexts();
    this.#octets += held.octets - before;
    if (made) return true;
    this.#drops.size.n++;
    this.over(held.entry);
    return false;
  }

  #empty(held: HeldCall): void {
    this.#octets -= held.octets;
    held.empty();
  }

  #drop(held: HeldCall): void {
    this.#empty(held);
    held.dirty = false;
    this.#unqueue(held);
    this.#refused.delete(held);
    if (this.#held.get(held.entry) === held) this.#held.delete(held.entry);
  }

  /** Writes what is ready, one commit after the other. */
  async #flush(): Promise<void> {
    try {
      for (let left = COMMITS_PER_STEP; left > 0; left--) {
        if (this.#ready.size === 0 || this.#reading || !this.#options.mayWrite()) return;
        const moves = this.#writer.take(this.#ready, this.#most, this.#mode === 'calls', (held) => this.#settle(held));
        if (moves.length > 0) await this.#write(moves);
      }
    } catch (error) {
      this.#notBefore = this.#options.clock.now() + RETRY_MS;
      this.#noteTrouble(error);
    }
  }

  /** Rejects when this had better wait; what was not written is in the queue again. */
  async #write(moves: readonly Move[]): Promise<void> {
    try {
      const unsure = moves.map(({ held }) => held).filter((held) => held.unsure);
      if (unsure.length > 0) {
        await this.#makeSure(unsure);
        this.#putBack(moves);
        return;
      }
      const missing = await this.#writer.commit(moves);
      for (const { held } of moves) if (!held.writing) this.#settle(held);
      if (missing.length > 0) await this.#judge(missing);
      this.#most = MAX_WRITES;
    } catch (error) {
      const refused = isRefused(error);
      for (const { held } of moves) held.unsure ||= held.writing && !refused;
      this.#putBack(moves);
      if (refused) this.#writeFewer(moves);
      this.#writer.outcomes.failed.n++;
      throw error;
    }
  }

  /** After a write, or when none was needed. */
  #settle(held: HeldCall): void {
    if (held.dirty || this.#held.get(held.entry) !== held) return;
    if (held.state === 'gone') this.#drop(held);
    else if (held.state === 'confirmed' && held.stored === Stored.dialog) this.#rest(held);
  }

  /** Keeps a call as one short text from now on, if nothing is open about it. */
  #rest(held: HeldCall): void {
    if (held.unsure || held.writing || held.forfeited) return;
    try {
      if (this.#packed.add(held.entry, held.body)) this.#drop(held);
    } catch (error) {
      this.#options.guard.caught('records', error);
    }
  }

  /** Finds out where calls stand whose last write had no answer. Rejects as Store.get does. */
  async #makeSure(unsure: readonly HeldCall[]): Promise<void> {
    await this.#writer.lookUp(unsure);
    const standing = await this.#writer.standing();
    if (standing === 'wiped') this.#wiped();
    for (const held of unsure) {
      held.unsure = false;
      if (held.stored === Stored.nowhere && standing === 'lost') this.#taken(held);
    }
  }

  /** The keys of these calls are gone although we wrote them. */
  async #judge(missing: readonly HeldCall[]): Promise<void> {
    const standing = await this.#writer.standing();
    if (standing === 'wiped') this.#wiped();
    for (const held of missing) {
      held.writing = false;
      held.stored = Stored.nowhere;
      if (standing === 'lost') this.#taken(held);
      else this.#again(held);
    }
  }

  #taken(held: HeldCall): void {
    if (this.#held.get(held.entry) !== held) return;
    this.#drop(held);
    this.#noteTaken(held.entry);
  }

  #noteTaken(entry: number): void {
    this.#writer.outcomes.taken.n++;
    this.#options.onTaken(entry);
  }

  /** Nothing of ours is in the store: all is written anew, bit by bit. */
  #wiped(): void {
    this.#writer.marked = false;
    for (const held of this.#held.values()) {
      // To delete expects nothing, and what was written since the loss has to go.
      if (held.state === 'gone') continue;
      held.astray ||= held.stored !== Stored.nowhere;
      held.stored = Stored.nowhere;
      held.unsure = false;
      held.dirty = true;
    }
    this.#packed.markAll(Mark.astray, true);
    if (this.size > 0) this.#fallBehind();
  }

  #putBack(moves: readonly Move[]): void {
    for (const { held } of moves) {
      if (!held.writing) continue;
      held.writing = false;
      this.#again(held);
    }
  }

  /** Back into the queue, when it is still a call of ours and waits for nothing else. */
  #again(held: HeldCall): void {
    if (this.#held.get(held.entry) !== held) return;
    held.dirty = true;
    if (!this.#isQueued(held)) this.#ready.add(held);
  }

  /** The store takes none of these: fewer at a time. What it does not take alone is left for half a minute. */
  #writeFewer(moves: readonly Move[]): void {
    this.#most = Math.max(1, moves.length >> 1);
    if (moves.length > 1) return;
    this.#drops.size.n++;
    for (const { held } of moves) if (this.#ready.delete(held)) this.#refused.add(held);
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
      const { done, value: held } = this.#walk.next();
      if (done) {
        this.#walk = undefined;
        if (this.#walkAgain) return;
        this.#healer?.cancel();
        this.#healer = undefined;
        return;
      }
      if (!held.dirty || held.writing || this.#isQueued(held)) continue;
      this.#wait(held, this.#soon);
      queued++;
    }
  }

  /** The calls that change, and those that should rest and have no record any more. */
  *#behind(): Generator<HeldCall, void, void> {
    yield* this.#held.values();
    for (const entry of this.#packed.marked(Mark.astray)) {
      const held = this.#rouse(entry);
      if (held) yield held;
    }
  }

  /** Now and then: tries again what was refused, and looks whether the store still has what is ours. */
  async #lookAfter(): Promise<void> {
    for (const held of this.#refused) this.#again(held);
    this.#refused.clear();
    this.#arm();
    const idle = (): boolean => this.#writer.marked && !this.#reading && !this.#flushing && this.#options.mayWrite();
    if (!idle()) return;
    try {
      if (!(await this.#writer.markStands()) && idle()) this.#wiped();
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
    const expected = [...this.#held.values()].filter((held) => held.forfeited || isWritten(held));
    this.#packed.markAll(Mark.unseen, true);
    const marked = await this.#writer.markStands();
    const seen = new Set<HeldCall>();
    for await (const page of recordPages(store, recordPrefix(number))) {
      if (run !== this.#readings || this.#closed) return false;
      for (const { entry, record } of page) {
        if (this.#packed.has(entry)) {
          this.#packed.mark(entry, Mark.unseen, false);
          if ((this.#packed.marksOf(entry) & Mark.astray) === 0) continue;
          // Not so lost after all, but perhaps as it was before.
          const roused = this.#rouse(entry)!;
          expected.push(roused);
        }
        const held = this.#held.get(entry);
        if (!held) onRecord(entry, record);
        else {
          seen.add(held);
          if (!isWritten(held) || held.unsure) held.stored = storedAs(record.state);
          held.unsure = false;
        }
      }
    }
    if (run !== this.#readings || this.#closed) return false;
    this.#writer.marked = marked;
    if (!marked) this.#wiped();
    for (const held of expected) {
      if (this.#held.get(held.entry) !== held) continue;
      // What never stood there the store has not lost: it was given up with the seat, and whoever owned the slot then has begun it anew.
      if (held.forfeited && !isWritten(held) && !held.astray) this.#drop(held);
      else if (!marked || seen.has(held)) this.#keep(held, onRecord);
      else if (held.state === 'gone' || !isWritten(held)) this.#drop(held);
      // Its one write was never heard, and the seat was ours all the time: nobody can have adopted it.
      else if (held.stored === Stored.nowhere && !held.forfeited) this.#unheard(held);
      else this.#taken(held);
    }
    for (const entry of this.#packed.marked(Mark.unseen | Mark.forfeited)) this.#judgePacked(entry, marked, onRecord);
    this.#packed.markAll(Mark.unseen, false);
    return true;
  }

  #unheard(held: HeldCall): void {
    held.unsure = false;
    this.#again(held);
  }

  /** The same for a call that rests. */
  #judgePacked(entry: number, marked: boolean, onRecord: (entry: number, record: CallRecord) => void): void {
    const marks = this.#packed.marksOf(entry);
    const forfeited = (marks & Mark.forfeited) !== 0;
    if (!marked || (marks & Mark.unseen) === 0) {
      this.#packed.mark(entry, Mark.forfeited, false);
      const record = forfeited ? this.#packedRecord(entry) : undefined;
      if (record) onRecord(entry, record);
    } else if ((marks & Mark.astray) === 0) {
      this.#packed.remove(entry);
      this.#noteTaken(entry);
    } else if (forfeited) this.#packed.remove(entry);
  }

  /** It is ours after all. */
  #keep(held: HeldCall, onRecord: (entry: number, record: CallRecord) => void): void {
    const record = held.forfeited ? this.#recordOf(held) : undefined;
    held.forfeited = false;
    if (record) onRecord(held.entry, record);
    this.#settle(held);
  }
}

function isWritten(held: HeldCall): boolean {
  return held.stored !== Stored.nowhere || held.unsure;
}

function isRefused(error: unknown): boolean {
  return error instanceof SipfarmError && error.code === 'SF_STORE_REFUSED';
}
