// Writes the records of this member's calls into the store, behind the packet path. An event of a call costs a few
// assignments here. Later it is made into text and written, many calls at a time. Nothing waits for it.
//
//    began    -> after 50 ms, or as soon as the request has left the server again -> pending/<key>
//    answered -> dialog/<key> in place of pending/<key>
//    over     -> deleted
//
// A call that fails before its first write is never written. The journal keeps the text of each record, so that a store
// that has lost everything gets the records again. The parts: durability.ts (transitions), held-calls.ts (the calls),
// write-queue.ts, record-flush.ts (commits), reconcile.ts (reading, repair).
import type { Way } from '../../packet/flow.ts';
import { type CallRecord, type CseqShift, MAX_CALL_ID, MAX_LEGS, type RecordMethod } from './call-record.ts';
import { Stored, storedOf } from './durability.ts';
import { HeldCalls, type HeldOptions } from './held-calls.ts';
import type { CapturedMessage } from './leg-text.ts';
import { type OnRecord, Reconciler } from './reconcile.ts';
import { RecordFlush } from './record-flush.ts';
import { RecordWriter, type WriterOptions } from './record-writer.ts';
import type { CapturedLeg } from './tracked-call.ts';

/** none: no records. dialogs: of confirmed calls only. calls: of those that ring, too. */
export type RecordsMode = 'none' | 'dialogs' | 'calls';

export interface JournalOptions extends WriterOptions, Pick<HeldOptions, 'onTaken' | 'dropped' | 'mediaOf'> {
  readonly mode: RecordsMode;
  /** False while this member may write nothing (it is isolated, or has not joined). */
  readonly mayWrite: () => boolean;
}

export class CallJournal {
  readonly #held: HeldCalls;
  readonly #flush: RecordFlush;
  readonly #reconciler: Reconciler;
  readonly #mayWrite: () => boolean;
  #mode: RecordsMode;

  constructor(options: JournalOptions) {
    this.#mode = options.mode;
    this.#mayWrite = options.mayWrite;
    const writer = new RecordWriter(options);
    const onTaken = (entry: number): void => {
      writer.outcomes.taken.n++;
      options.onTaken(entry);
    };
    const held = new HeldCalls(
      { ...options, onTaken },
      () => this.#flush.work(),
      () => this.#reconciler.fallBehind(),
    );
    this.#held = held;
    this.#reconciler = new Reconciler({ ...options, held, writer, flushing: () => this.#flush.running });
    this.#flush = new RecordFlush({
      held,
      writer,
      blocked: () => this.#reconciler.reading || !options.mayWrite(),
      writePending: () => this.#mode === 'calls',
      wiped: () => this.#reconciler.wiped(),
    });
  }

  /** True until the records in the store are known. */
  get reading(): boolean {
    return this.#reconciler.reading;
  }

  /** Number of calls that wait to be written. */
  get waiting(): number {
    return this.#held.queue.waiting;
  }

  /** Number of calls that are held here. */
  get size(): number {
    return this.#held.size;
  }

  /** Sets the mode for calls that begin from now on. */
  setMode(mode: RecordsMode): void {
    this.#mode = mode;
  }

  /** Returns whether there is such a call that is not over. */
  has(entry: number): boolean {
    return this.#held.has(entry);
  }

  /** Returns whether the first record of the call is still to be written, and may be written now. */
  unwritten(entry: number): boolean {
    if (this.#mode !== 'calls' || this.#reconciler.reading || !this.#mayWrite()) return false;
    const tracked = this.#held.get(entry);
    return tracked?.open === true && storedOf(tracked.durability) === Stored.nowhere;
  }

  /** Returns whether the call can get a leg of this branch. False for a call that has it already. */
  lacks(entry: number, branch: string): boolean {
    const tracked = this.#held.get(entry);
    return tracked?.open === true && tracked.legs < MAX_LEGS && !tracked.hasBranch(branch);
  }

  /** Returns the record of a call as it would be written now; undefined when there is none. */
  recordOf(entry: number): CallRecord | undefined {
    return this.#held.recordOf(entry);
  }

  /** Yields the calls that are not over: resting ones, oldest first, then changing ones. They may change meanwhile. */
  tracked(): Generator<{ readonly entry: number; readonly record: CallRecord }, void, void> {
    return this.#held.records();
  }

  /** A request has begun the call. An earlier call under this entry is over. */
  began(entry: number, method: RecordMethod, callId: string, leg: CapturedLeg): void {
    if (this.#mode === 'none' || callId.length > MAX_CALL_ID) return;
    const held = this.#held;
    let tracked = held.take(entry);
    if (tracked) held.beginAnew(tracked, method, callId, this.#reconciler.reading);
    else {
      if (held.full) {
        held.drops.room.n++;
        return;
      }
      tracked = held.begin(entry, method, callId);
    }
    tracked.addLeg(leg);
    held.wait(tracked, leg.from === 'client');
  }

  /** The SIP server has sent the call's request out. A retransmission changes nothing. */
  branched(entry: number, leg: CapturedLeg): void {
    const tracked = this.#held.get(entry);
    if (!tracked || !this.lacks(entry, leg.branch)) return;
    tracked.addLeg(leg);
    tracked.apply('changed');
    this.#held.wait(tracked);
  }

  /** A provisional response with a To tag. It causes no write of its own. */
  rings(entry: number): void {
    const tracked = this.#held.get(entry);
    if (tracked?.open) tracked.early = true;
  }

  /**
   * A 2xx for the leg of `branch` (empty: the `client` leg), in its form outside the farm. `confirms`: the call is a
   * dialog now.
   */
  answered(entry: number, branch: string, answer: CapturedMessage, confirms: boolean): void {
    const tracked = this.#held.get(entry);
    if (!tracked?.open) return;
    tracked.setAnswer(branch, answer);
    if (confirms) this.confirmed(entry);
  }

  /** A call that rang by its record is a dialog, as a request in it shows. Its 2xx was not received here. */
  confirmed(entry: number): void {
    const tracked = this.#held.get(entry);
    if (!tracked?.open) return;
    tracked.apply('confirmed');
    this.#held.wait(tracked);
  }

  /** The flow to the party of leg number `leg` of a call, as in `recordOf`, has changed. Causes a write. */
  moved(entry: number, leg: number, way: Readonly<Way>): void {
    const tracked = this.#held.take(entry);
    if (!tracked || tracked.gone) return;
    tracked.moveLeg(leg, way);
    tracked.apply('changed');
    this.#held.wait(tracked);
  }

  /**
   * The party of leg number `leg` of a call, as in `recordOf`, has a new target: this Contact value (RFC 3261 12.2).
   * Causes a write.
   */
  retargeted(entry: number, leg: number, contact: string): void {
    const tracked = this.#held.take(entry);
    if (!tracked || tracked.gone) return;
    this.#held.setContact(tracked, leg, contact);
    tracked.apply('changed');
    this.#held.wait(tracked);
  }

  /** Requests in the dialog of leg number `leg` have these shifts of CSeq from now on. Causes a write. */
  shifted(entry: number, leg: number, shift: CseqShift): void {
    const tracked = this.#held.take(entry);
    if (!tracked || tracked.gone) return;
    tracked.shiftLeg(leg, shift);
    tracked.apply('changed');
    this.#held.wait(tracked);
  }

  /**
   * The media of the calls under this key of a Call-ID has changed. Causes a write of a confirmed call. The record of
   * one that rings is written anyway when it is answered.
   */
  mediaChanged(key: number): void {
    for (const entry of [key, -key]) {
      if (this.#held.get(entry)?.open) continue;
      const tracked = this.#held.take(entry);
      if (!tracked || tracked.gone) continue;
      tracked.apply('changed');
      this.#held.wait(tracked);
    }
  }

  /** The call has failed, ended, or been forgotten. */
  over(entry: number): void {
    const tracked = this.#held.take(entry);
    if (tracked && !tracked.gone) this.#held.end(tracked);
  }

  /**
   * Adds a call whose record is in the store under this member's number: it was read there, or this member has just
   * adopted it. Returns false when the entry is in use, or there is no room.
   */
  restore(entry: number, record: CallRecord): boolean {
    const held = this.#held;
    if (held.get(entry) || held.packed.has(entry) || held.full) return false;
    held.restore(entry, record);
    return true;
  }

  /** Forgets a call that another member has now. Writes nothing. */
  forget(entry: number): void {
    const tracked = this.#held.get(entry);
    if (tracked) this.#held.drop(tracked);
    else this.#held.packed.remove(entry);
  }

  /** Forgets all calls. Writes nothing. */
  clear(): void {
    this.#held.clear();
  }

  /** The member has lost its seat: others may adopt its calls. Nothing is written until `regain` is done. */
  openOwnership(): void {
    this.#reconciler.openOwnership();
  }

  /**
   * Reads this member's records after a join. Calls `onRecord`, which calls `restore`, for records that are not held
   * here and for calls whose owner was open. A call whose record is missing has been adopted, unless the store has lost
   * everything. Resolves when done; never rejects.
   */
  regain(onRecord: OnRecord): Promise<void> {
    return this.#reconciler.regain(onRecord);
  }

  /** Writes all that waits and that the store accepts. Never rejects. */
  flush(): Promise<void> {
    return this.#flush.all();
  }

  /** Cancels all timers. */
  close(): void {
    this.#held.queue.close();
    this.#reconciler.close();
  }
}
