// Takes over the calls of members that are gone, by their records: each by one member, once. Cold: driven by views, timers, and by packets that
// need a call at once; what the packet path asks is answered from memory.
//
//    seat lost      what rang there, and belongs to a slot that is this member's now, is read into memory, and adopted only by need
//    back in time   the member restarted in front of a server that lived on: all that was read is forgotten
//    grace over     by sweep: every record of a slot of ours, first what rings, then the dialogs; again while records are left
//
// Whoever wins the claim of a record (claim.ts) acts.
import type { Logger } from 'pino';
import type { Clock, Timer } from '../../base/clock.ts';
import { SipfarmError } from '../../base/errors.ts';
import { RateLimit } from '../../base/rate-limit.ts';
import type { CellFamily } from '../../metrics/counters.ts';
import { type Entry, MAX_COMMIT_OCTETS } from '../../store/store.ts';
import { type CallRecord, recordKey, recordPrefix } from '../records/call-record.ts';
import { recordPages, type StoredRecord, storedRecord } from '../records/record-pages.ts';
import { Claim, type ClaimOptions } from './claim.ts';

/** Milliseconds after the loss of its seat in which a member may come back and go on as if nothing had been. */
export const GRACE_MS = 5000;

/** by need: a packet asked for it; by sweep: nobody did. */
export type AdoptionReason = 'need' | 'sweep';

/** What became of an adopted call, the label `outcome` of adopted_calls_total. */
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

/** Keeps the records that are this member's: the call journal. */
export interface RecordKeeper {
  has(entry: number): boolean;
  /** A record that stands in the store under this member's number now. False when it is not kept. */
  restore(entry: number, record: CallRecord): boolean;
}

/** What the packets wait for that wait for the reading of records, and for no member: no member has this number. */
export const RECORDS = 0;

/** What is done with calls: the service. */
export interface Successor {
  /** The call, which was `owner`'s, is this member's now, and nobody else's. Once per adoption. */
  adopted(entry: number, record: CallRecord, owner: number): AdoptionOutcome;
  /** That member has a seat again: the dialogs that name it are its own. */
  seated(owner: number): void;
  /**
   * That member is back, or its grace is over: what waits for either goes on. `RECORDS` stands for no member: what rang at the members that are
   * gone is read, or the reading has taken too long.
   */
  decided(owner: number): void;
}

/** `mayAdopt` is false while this member is isolated, or has no seat. */
export interface AdoptionOptions extends ClaimOptions {
  readonly clock: Clock;
  readonly log: Logger;
  /** The Call-ID's slot is this member's. */
  readonly owns: (callId: string) => boolean;
  readonly keeper: RecordKeeper;
  readonly successor: Successor;
  readonly adopted: CellFamily<'why' | 'outcome'>;
}

/** Records kept in memory of what rang at members that are gone. What is more waits for the sweep. */
const MAX_KNOWN = 20_000;
const MAX_KNOWN_OCTETS = 128 * 1024 * 1024;
/** Records adopted in one transaction of a sweep, two writes each. */
const BATCH = 40;
/** Milliseconds between two batches. */
const BATCH_PAUSE_MS = 50;
const RETRY_MS = 300;
/** How often the store is asked what became of a transaction whose answer was lost. */
const MAX_TRIES = 20;
/** Pauses between sweeps while others have records to adopt. */
const SWEEP_MS = 10_000;
const LONGEST_SWEEP_MS = 300_000;
/** So long at most may packets wait for the reading. */
const READING_MS = 1000;
/** Packets that wait for one adoption by need. */
const MAX_WAITING = 8;
/** Dialogs looked for by need at one time, and in a second: whoever has had a call here can make up Call-IDs. */
const MAX_WANTED = 1000;
const WANTED_PER_SECOND = 200;
/** Nobody asks for the records of a number that was not seen since. */
const FORGOTTEN_MS = 86_400_000;
/** Of a record in JSON, beside its texts. */
const RECORD_OCTETS = 2000;

interface KnownRecord extends StoredRecord {
  /** Those who asked for it by need; undefined while nobody takes it. */
  waiting: ((won: boolean) => void)[] | undefined;
}

interface Gone {
  readonly number: number;
  readonly since: number;
  phase: 'grace' | 'open';
  /** Its pending records are in memory. */
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

  /** True while a member is gone and its calls are not all in other hands. */
  get watching(): boolean {
    return this.#gone.size > 0;
  }

  /** True for a moment after a member has gone: what rang there is not known yet. */
  get reading(): boolean {
    const now = this.#options.clock.now();
    for (const { read, since } of this.#gone.values()) if (!read && now - since < READING_MS) return true;
    return false;
  }

  /** That member has lost its seat a moment ago, and may come back as if nothing had been. */
  inGrace(owner: number): boolean {
    return this.#gone.get(owner)?.phase === 'grace';
  }

  /** What is known of a call that rang at a member that is gone; `callKey`: of its Call-ID. */
  left(callKey: number): LeftCall | undefined {
    for (const { pending } of this.#gone.values()) {
      const known = pending.get(callKey) ?? pending.get(-callKey);
      if (known && known.record.state !== 'confirmed') return known;
    }
    return undefined;
  }

  /** The seats of the view in force. */
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
   * Adopts the call at once, because a packet needs it. `then` is told whether it is ours; the heir has heard of it before. Whoever comes when too
   * many wait already is not told.
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

  /** The call begins anew here: what the dead member has left of it is deleted. */
  supersede(left: LeftCall): void {
    const known = this.#gone.get(left.owner)?.pending.get(left.entry);
    if (!known || known.waiting) return;
    this.#forget(known);
    this.#options.adopted.cell({ why: 'need', outcome: 'over-already' }).n++;
    void this.#claim.abandon(known);
  }

  /** A packet of a dialog of that member has come: its record is adopted before its turn. Only after the grace. */
  wantDialog(owner: number, callKey: number): void {
    const { keeper, clock } = this.#options;
    if (this.#gone.get(owner)?.phase !== 'open' || keeper.has(callKey) || keeper.has(-callKey)) return;
    if (this.#wanted.has(callKey) || this.#wanted.size >= MAX_WANTED || !this.#wants.allow(0, clock.now())) return;
    this.#wanted.add(callKey);
    void this.#fetchDialog(owner, callKey).finally(() => this.#wanted.delete(callKey));
  }

  /** A dialog of that member has ended here, in its grace: when it comes back it shall not find the record, and wait for the end of the call. */
  endDialog(owner: number, callKey: number, concerns: (record: CallRecord) => boolean): void {
    const { mayAdopt } = this.#options;
    if (!this.inGrace(owner) || this.#wanted.has(callKey) || this.#wanted.size >= MAX_WANTED || !mayAdopt()) return;
    const left = this.left(callKey);
    if (left?.owner === owner && concerns(left.record)) this.supersede(left);
    this.#wanted.add(callKey);
    void this.#deleteDialog(owner, callKey, concerns).finally(() => this.#wanted.delete(callKey));
  }

  /** Ends all timers; what is under way is left to itself. */
  close(): void {
    this.#closed = true;
    for (const { timer } of this.#gone.values()) timer?.cancel();
    for (const timer of this.#timers) timer.cancel();
    this.#gone.clear();
  }

  /** Members that were gone before this one has seen its first view: their numbers are given, and have no seat. */
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
    // What is being adopted at this moment is decided by the store.
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

  /** Never resolves once all is closed. */
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

  /** The records of one kind, page by page. Rejects as Store.page does. */
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

  /** Adopts what is ours. Resolves to the number of records that are left. */
  async #sweepOnce(gone: Gone): Promise<number> {
    const seen = new Set<number>();
    const left = (await this.#sweepKind(gone, 'pending', seen)) + (await this.#sweepKind(gone, 'dialog', seen));
    // Of what had been read before, the rest has gone meanwhile.
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
      // What has been read before may have changed since: its owner was slow to die.
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

  /** Resolves to the number of those that could not be decided. */
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
      // What was ours before, from a page read too early, is not to be taken for what this transaction has done.
      else if (!(await this.#takeOne(known, 'sweep', together === undefined && tried))) left++;
    }
    return left;
  }

  /** Takes one; `waiting` is set. `maybe`: it may be ours already. Resolves to false when it is still open whose it is. Never rejects. */
  async #takeOne(known: KnownRecord, why: AdoptionReason, maybe = false): Promise<boolean> {
    const { keeper, log } = this.#options;
    if (!maybe && keeper.has(known.entry)) {
      // Here it has begun anew.
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

  /** Never rejects. What cannot be deleted now is adopted after the grace, and deleted then. */
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
