// Adopts the calls of members that are gone, from their records: each call once, by one member. Cold code, driven by
// views, timers, and packets that need a call at once. The packet path is answered from memory.
//
//    seat lost      pending records in slots that this member owns now are read into memory, and adopted only on demand
//    back in time   the member restarted while its SIP server kept running: all records read are forgotten
//    grace over     sweep: adopts every record in the own slots, first pending ones, then dialogs; repeated while
//                   records are left
//
// Only the member that wins the claim of a record (claim.ts) acts on the call.
import type { Logger } from 'pino';
import type { Clock, Timer } from '../../base/clock.ts';
import { SipfarmError } from '../../base/errors.ts';
import { RateLimit } from '../../base/rate-limit.ts';
import type { CellFamily } from '../../metrics/counters.ts';
import { type Entry, MAX_COMMIT_OCTETS } from '../../store/store.ts';
import { type CallRecord, recordKey, recordPrefix } from '../records/call-record.ts';
import { recordPages, type StoredRecord, storedRecord } from '../records/record-pages.ts';
import { Claim, type ClaimOptions } from './claim.ts';

/** Milliseconds after the loss of its seat in which a member may come back and keep its calls. */
export const GRACE_MS = 5000;

/** need: a packet needed the call. sweep: the sweep found its record. */
export type AdoptionReason = 'need' | 'sweep';

/** Outcomes of an adoption: the label `outcome` of adopted_calls_total. */
export const ADOPTION_OUTCOMES = {
  ringing: 'goes on ringing',
  dialog: 'goes on as a dialog',
  refused: 'could not go on: its caller got an error',
  cancelled: 'was cancelled, by its caller or because its server was gone',
  ended: 'could not go on: its parties got a BYE, or a last NOTIFY',
  'over-already': 'had ended meanwhile, or has begun anew here',
  'internal-error': 'could not go on for a fault of this member, which its log names: it is forgotten',
  'by-another': 'another member was faster, or the owner is back',
  unreachable: 'the store did not answer',
} as const;
export type AdoptionOutcome = keyof typeof ADOPTION_OUTCOMES;

/** A record that a member has left behind, read but not adopted. */
export interface LeftCall {
  readonly owner: number;
  readonly entry: number;
  readonly record: CallRecord;
}

/** Keeps this member's own records: the call journal. */
interface RecordKeeper {
  has(entry: number): boolean;
  /** Takes a record that the store now has under this member's number. Returns false when it is not kept. */
  restore(entry: number, record: CallRecord): boolean;
}

/** Handles adopted calls: the service. */
export const RECORDS = 0;

/** Called once per adoption: this member alone owns the call of `owner` now. Returns the outcome. */
export interface Successor {
  /** Called when that member has a seat again: it owns the dialogs whose tokens name it. */
  adopted(entry: number, record: CallRecord, owner: number): AdoptionOutcome;
  /** Called when that member is back or its grace is over: packets that waited for that are handled now. */
  seated(owner: number): void;
  /** Called when the pending records of a gone member have been read, or READING_MS have passed. */
  decided(owner: number): void;
}

/** `mayAdopt` is false while this member is isolated, or has no seat. */
export interface AdoptionOptions extends ClaimOptions {
  readonly clock: Clock;
  readonly log: Logger;
  /** Returns true when this member owns the slot of the Call-ID. */
  readonly owns: (callId: string) => boolean;
  readonly keeper: RecordKeeper;
  readonly successor: Successor;
  readonly adopted: CellFamily<'why' | 'outcome'>;
}

/** Maximum of records of gone members in memory. Further ones wait for the sweep. */
const MAX_KNOWN = 20_000;
const MAX_KNOWN_OCTETS = 128 * 1024 * 1024;
/** Records adopted in one transaction of a sweep, two writes each. */
const BATCH = 40;
/** Milliseconds between two batches. */
const BATCH_PAUSE_MS = 50;
const RETRY_MS = 300;
/** Maximum of attempts for one claim while the store does not answer. */
const MAX_TRIES = 20;
/** First and longest pause between sweeps while records are left that other members have to adopt. */
const SWEEP_MS = 10_000;
const LONGEST_SWEEP_MS = 300_000;
/** Maximum time that packets wait for the pending records to be read. */
const READING_MS = 1000;
/** Maximum of packets that wait for one adoption on demand. */
const MAX_WAITING = 8;
/** Maximum of dialogs read on demand at one time, and per second: a former party can send invented Call-IDs. */
const MAX_WANTED = 1000;
const WANTED_PER_SECOND = 200;
/** At the start, records of numbers that were last seen longer ago than a day are not read. */
const FORGOTTEN_MS = 86_400_000;
/** Estimated octets of a record in JSON without the texts of its legs. */
const RECORD_OCTETS = 2000;

interface KnownRecord extends StoredRecord {
  /** Callbacks of packets that need the call; undefined while it is not being adopted. */
  waiting: ((won: boolean) => void)[] | undefined;
}

interface Gone {
  readonly number: number;
  readonly since: number;
  phase: 'grace' | 'open';
  /** Its pending records have been read. */
  read: boolean;
  readonly pending: Map<number, KnownRecord>;
  timer: Timer | undefined;
  sweeping: boolean;
  pause: number;
}

export class Adoption {
  readonly #options: AdoptionOptions;
  readonly #gone = new Map<number, Gone>();
  #seated: ReadonlySet<number> | undefined;
  readonly #claim: Claim;
  #known = 0;
  #knownOctets = 0;
  readonly #timers = new Set<Timer>();
  readonly #wanted = new Set<number>();
  readonly #wants = new RateLimit({ perSecond: WANTED_PER_SECOND, burst: WANTED_PER_SECOND, maxSources: 1 });
  #closed = false;

  constructor(options: AdoptionOptions) {
    this.#options = options;
    this.#claim = new Claim(options);
  }

  /** True while a member is gone and not all of its calls are adopted. */
  get watching(): boolean {
    return this.#gone.size > 0;
  }

  /** True while the pending records of a gone member are being read, at most READING_MS after its loss. */
  get reading(): boolean {
    const now = this.#options.clock.now();
    for (const { read, since } of this.#gone.values()) if (!read && now - since < READING_MS) return true;
    return false;
  }

  /** Returns true while that member has lost its seat and may still come back and keep its calls. */
  inGrace(owner: number): boolean {
    return this.#gone.get(owner)?.phase === 'grace';
  }

  /** Returns the pending record of a gone member for this Call-ID key, if it has been read. */
  left(callKey: number): LeftCall | undefined {
    for (const { pending } of this.#gone.values()) {
      const known = pending.get(callKey) ?? pending.get(-callKey);
      if (known && known.record.state !== 'confirmed') return known;
    }
    return undefined;
  }

  /** Takes the seats of the view in force: starts grace for lost ones, ends it for returned members, and sweeps. */
  takeSeats(numbers: ReadonlySet<number>): void {
    if (this.#closed) return;
    const before = this.#seated;
    this.#seated = numbers;
    for (const number of numbers) {
      if (before && !before.has(number)) this.#options.successor.seated(number);
      this.#back(number);
    }
    if (!before) void this.#discover();
    else for (const number of before) if (!numbers.has(number)) this.#lose(number, false);
    for (const gone of this.#gone.values()) if (gone.phase === 'open') void this.#sweep(gone);
  }

  /**
   * Adopts the call at once, because a packet needs it. Calls `then` with true when this member owns it now;
   * `onAdopted` has been called before. Does not call `then` when MAX_WAITING callbacks already wait.
   */
  take(left: LeftCall, then: (won: boolean) => void): void {
    const known = this.#gone.get(left.owner)?.pending.get(left.entry);
    if (!known) then(false);
    else if (known.waiting) {
      if (known.waiting.length < MAX_WAITING) known.waiting.push(then);
    } else {
      known.waiting = [then];
      void this.#takeOne(known, 'need');
    }
  }

  /** Deletes the dead member's record of a call that begins again at this member. */
  supersede(left: LeftCall): void {
    const known = this.#gone.get(left.owner)?.pending.get(left.entry);
    if (!known || known.waiting) return;
    this.#forget(known);
    this.#options.adopted.cell({ why: 'need', outcome: 'over-already' }).n++;
    void this.#claim.abandon(known);
  }

  /** Adopts a dialog of that member ahead of the sweep, for a packet of it. No effect before its grace is over. */
  wantDialog(owner: number, callKey: number): void {
    const { keeper, clock } = this.#options;
    if (this.#gone.get(owner)?.phase !== 'open' || keeper.has(callKey) || keeper.has(-callKey)) return;
    if (this.#wanted.has(callKey) || this.#wanted.size >= MAX_WANTED || !this.#wants.allow(0, clock.now())) return;
    this.#wanted.add(callKey);
    void this.#fetchDialog(owner, callKey).finally(() => this.#wanted.delete(callKey));
  }

  /**
   * Deletes the record of that member's dialog, which has ended here during its grace. Otherwise the member would
   * restore the call when it comes back. `concerns` returns true when the record is that of the dialog.
   */
  endDialog(owner: number, callKey: number, concerns: (record: CallRecord) => boolean): void {
    const { mayAdopt } = this.#options;
    if (!this.inGrace(owner) || this.#wanted.has(callKey) || this.#wanted.size >= MAX_WANTED || !mayAdopt()) return;
    const left = this.left(callKey);
    if (left?.owner === owner && concerns(left.record)) this.supersede(left);
    this.#wanted.add(callKey);
    void this.#deleteDialog(owner, callKey, concerns).finally(() => this.#wanted.delete(callKey));
  }

  /** Cancels all timers. Store operations under way are not cancelled. */
  close(): void {
    this.#closed = true;
    for (const { timer } of this.#gone.values()) timer?.cancel();
    for (const timer of this.#timers) timer.cancel();
    this.#gone.clear();
  }

  /** Finds members that were gone before this one's first view: numbers in the store without a seat. */
  async #discover(): Promise<void> {
    const { clock } = this.#options;
    const entries = await this.#numbers();
    for (const { key, value } of entries) {
      const number = Number(key.slice('numbers/'.length));
      const seen = Date.parse(String((value as { lastSeen?: unknown } | undefined)?.lastSeen));
      if (!Number.isInteger(number) || clock.wall() - seen > FORGOTTEN_MS) continue;
      if (!this.#closed && !this.#seated?.has(number)) this.#lose(number, true);
    }
  }

  async #numbers(): Promise<readonly Entry[]> {
    const { store, log } = this.#options;
    while (!this.#closed) {
      try {
        return await store.list('numbers/');
      } catch (error) {
        if (!(error instanceof SipfarmError)) throw error;
        log.debug({ err: error }, 'who was a member before cannot be read yet');
        await this.#pause(RETRY_MS);
      }
    }
    return [];
  }

  #lose(number: number, longAgo: boolean): void {
    const { clock, self } = this.#options;
    if (number === self().number || this.#gone.has(number)) return;
    const gone: Gone = {
      number,
      since: longAgo ? clock.now() - READING_MS : clock.now(),
      phase: 'grace',
      read: false,
      pending: new Map(),
      timer: undefined,
      sweeping: false,
      pause: SWEEP_MS,
    };
    gone.timer = clock.after(GRACE_MS, () => this.#open(gone));
    this.#gone.set(number, gone);
    void this.#readPending(gone);
    if (!longAgo) void this.#pause(READING_MS).then(() => gone.read || this.#options.successor.decided(RECORDS));
  }

  #back(number: number): void {
    const gone = this.#gone.get(number);
    if (!gone) return;
    gone.timer?.cancel();
    this.#gone.delete(number);
    // The store decides about claims that are under way.
    for (const known of gone.pending.values()) this.#uncount(known);
    this.#options.successor.decided(number);
    this.#options.successor.decided(RECORDS);
  }

  #isCurrent(gone: Gone): boolean {
    return !this.#closed && this.#gone.get(gone.number) === gone;
  }

  #remember(gone: Gone, known: KnownRecord): void {
    gone.pending.set(known.entry, known);
    this.#known++;
    this.#knownOctets += octetsOf(known.record);
  }

  #forget(known: KnownRecord): void {
    const pending = this.#gone.get(known.owner)?.pending;
    if (pending?.get(known.entry) !== known) return;
    pending.delete(known.entry);
    this.#uncount(known);
  }

  #uncount({ record }: KnownRecord): void {
    this.#known--;
    this.#knownOctets -= octetsOf(record);
  }

  /** Resolves after `ms`; never after `close`. */
  #pause(ms: number): Promise<void> {
    return new Promise<void>((resolve) => {
      const timer = this.#options.clock.after(ms, () => {
        this.#timers.delete(timer);
        resolve();
      });
      if (this.#closed) timer.cancel();
      else this.#timers.add(timer);
    });
  }

  async #readPending(gone: Gone): Promise<void> {
    const { store, owns, log, successor } = this.#options;
    while (this.#isCurrent(gone) && gone.phase === 'grace') {
      try {
        for await (const entry of this.#records(gone, 'pending')) {
          if (!this.#isCurrent(gone)) return;
          const full = this.#known >= MAX_KNOWN || this.#knownOctets >= MAX_KNOWN_OCTETS;
          if (!full && owns(entry.record.callId) && !gone.pending.has(entry.entry)) this.#remember(gone, entry);
        }
        gone.read = true;
        log.info({ member: gone.number, calls: gone.pending.size }, 'a member is gone; what rang there is known');
        successor.decided(RECORDS);
        return;
      } catch (error) {
        if (!(error instanceof SipfarmError)) throw error;
        log.debug({ err: error, store: store.kind }, 'records of a member that is gone cannot be read yet');
        await this.#pause(RETRY_MS);
      }
    }
  }

  /** Reads the records of one kind, page by page. Rejects as Store.page does. */
  async *#records({ number }: Gone, kind: 'pending' | 'dialog'): AsyncGenerator<KnownRecord, void, void> {
    for await (const page of recordPages(this.#options.store, recordPrefix(number, kind)))
      for (const record of page) yield { ...record, waiting: undefined };
  }

  #open(gone: Gone): void {
    if (!this.#isCurrent(gone)) return;
    gone.phase = 'open';
    gone.read = true;
    const { successor, log } = this.#options;
    log.info({ member: gone.number }, 'a member has not come back: its calls are adopted');
    successor.decided(RECORDS);
    successor.decided(gone.number);
    void this.#sweep(gone);
  }

  async #sweep(gone: Gone): Promise<void> {
    if (gone.sweeping) return;
    gone.sweeping = true;
    gone.timer?.cancel();
    let left = 1;
    try {
      if (this.#options.mayAdopt()) left = await this.#sweepOnce(gone);
    } catch (error) {
      if (!(error instanceof SipfarmError)) throw error;
      this.#options.log.debug({ err: error }, 'the sweep of a member that is gone is interrupted');
    } finally {
      gone.sweeping = false;
    }
    if (!this.#isCurrent(gone)) return;
    if (left === 0 && gone.pending.size === 0) {
      this.#gone.delete(gone.number);
      return;
    }
    gone.timer = this.#options.clock.after(gone.pause, () => void this.#sweep(gone));
    gone.pause = Math.min(gone.pause * 2, LONGEST_SWEEP_MS);
  }

  /** Adopts the records in this member's slots. Resolves to the number of records that are left. */
  async #sweepOnce(gone: Gone): Promise<number> {
    const seen = new Set<number>();
    const left = (await this.#sweepKind(gone, 'pending', seen)) + (await this.#sweepKind(gone, 'dialog', seen));
    // Records read before but not found by the sweep are no longer in the store.
    for (const known of gone.pending.values()) if (!seen.has(known.entry) && !known.waiting) this.#forget(known);
    return left;
  }

  async #sweepKind(gone: Gone, kind: 'pending' | 'dialog', seen: Set<number>): Promise<number> {
    const { owns } = this.#options;
    let left = 0;
    let batch: KnownRecord[] = [];
    let octets = 0;
    for await (const found of this.#records(gone, kind)) {
      if (!this.#isCurrent(gone)) return 1;
      seen.add(found.entry);
      const before = gone.pending.get(found.entry);
      if (before?.waiting || !owns(found.record.callId)) {
        left++;
        continue;
      }
      // A record read before may have changed: its owner could still write after it lost the seat.
      if (before) this.#forget(before);
      this.#remember(gone, found);
      batch.push(found);
      octets += 2 * octetsOf(found.record);
      if (batch.length < BATCH && octets < MAX_COMMIT_OCTETS / 2) continue;
      left += await this.#takeMany(batch);
      batch = [];
      octets = 0;
      await this.#pause(BATCH_PAUSE_MS);
    }
    return left + (await this.#takeMany(batch));
  }

  /** Claims these records. Resolves to the number of those whose owner is still open. */
  async #takeMany(batch: readonly KnownRecord[]): Promise<number> {
    const { keeper } = this.#options;
    const free = batch.filter(
      (known) => !known.waiting && this.#gone.get(known.owner)?.pending.get(known.entry) === known,
    );
    for (const known of free) known.waiting = [];
    const fresh = free.filter(({ entry }) => !keeper.has(entry));
    const together = fresh.length > 1 ? await this.#claim.together(fresh) : false;
    let left = 0;
    for (const known of free) {
      const tried = fresh.includes(known);
      if (together === true && tried) this.#decided(known, 'sweep', 'won');
      // Only records of an unanswered transaction are in doubt. A call that was held before was not part of it.
      else if (!(await this.#takeOne(known, 'sweep', together === undefined && tried))) left++;
    }
    return left;
  }

  /**
   * Claims one record whose `waiting` is set. `maybe`: an unanswered transaction may already have won it. Resolves to
   * false when its owner is still open. Never rejects for store errors.
   */
  async #takeOne(known: KnownRecord, why: AdoptionReason, maybe = false): Promise<boolean> {
    const { keeper, log } = this.#options;
    if (!maybe && keeper.has(known.entry)) {
      // The call has begun again at this member.
      await this.#claim.abandon(known);
      this.#decided(known, why, 'over-already');
      return true;
    }
    let inDoubt = maybe;
    for (let tries = 0; tries < MAX_TRIES && !this.#closed; tries++) {
      try {
        const outcome = await this.#claim.one(known, inDoubt);
        this.#decided(known, why, outcome);
        return true;
      } catch (error) {
        if (!(error instanceof SipfarmError)) throw error;
        log.debug({ err: error, record: known.key }, 'an adoption has no answer; asked again');
        inDoubt = true;
        await this.#pause(RETRY_MS);
      }
    }
    this.#decided(known, why, 'unreachable');
    return false;
  }

  #decided(known: KnownRecord, why: AdoptionReason, how: 'won' | AdoptionOutcome): void {
    const { keeper, successor, adopted, log } = this.#options;
    const { entry, owner } = known;
    const waiting = known.waiting ?? [];
    this.#forget(known);
    known.waiting = undefined;
    let outcome = how as AdoptionOutcome;
    if (how === 'won') {
      const record = this.#claim.own(known);
      const kept = keeper.restore(entry, record);
      outcome = successor.adopted(entry, record, owner);
      log.info({ callId: record.callId, from: owner, why, outcome, state: record.state }, 'call adopted');
      if (!kept || outcome === 'internal-error') void this.#claim.renounce(known);
    }
    adopted.cell({ why, outcome }).n++;
    for (const then of waiting) then(how === 'won');
  }

  /** Deletes the record of a dialog. Never rejects. A record that stays is adopted after the grace and deleted then. */
  async #deleteDialog(owner: number, callKey: number, concerns: (record: CallRecord) => boolean): Promise<void> {
    const { store, adopted } = this.#options;
    for (const entry of [callKey, -callKey]) {
      const found = await store.get(recordKey(owner, 'confirmed', entry)).catch(() => undefined);
      const record = found && storedRecord(found)?.record;
      if (!record || !concerns(record)) continue;
      const done = await store
        .commit([{ key: found.key, value: undefined, expect: found.revision }])
        .catch(() => undefined);
      if (done) adopted.cell({ why: 'need', outcome: 'over-already' }).n++;
      return;
    }
  }

  async #fetchDialog(owner: number, callKey: number): Promise<void> {
    const { store } = this.#options;
    for (const entry of [callKey, -callKey]) {
      const gone = this.#gone.get(owner);
      if (!gone || gone.pending.has(entry)) return;
      const found = await store.get(recordKey(owner, 'confirmed', entry)).catch(() => undefined);
      const record = found && storedRecord(found);
      if (!record || gone.pending.has(entry) || !this.#isCurrent(gone)) continue;
      const known: KnownRecord = { ...record, waiting: [] };
      this.#remember(gone, known);
      await this.#takeOne(known, 'need');
      return;
    }
  }
}

function octetsOf({ legs }: CallRecord): number {
  return legs.reduce((sum, { request, answer }) => sum + request.length + (answer?.length ?? 0), RECORD_OCTETS);
}
