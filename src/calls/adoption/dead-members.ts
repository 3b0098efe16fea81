// Which members are gone, what did they leave behind, and may they still come back? A member that has lost its seat has
// five seconds to return and keep its calls. Meanwhile its pending records in this member's slots are read into memory.
import type { Logger } from 'pino';
import type { Clock, Timer } from '../../base/clock.ts';
import { SipfarmError } from '../../base/errors.ts';
import type { Entry, Store } from '../../store/store.ts';
import { type CallRecord, recordPrefix } from '../records/call-record.ts';
import { recordPages, type StoredRecord } from '../records/record-pages.ts';
import type { Pauses } from './pauses.ts';

/** Milliseconds after the loss of its seat in which a member may come back and keep its calls. */
export const GRACE_MS = 5000;

/** Stands for the pending records of all gone members in `decided`; member numbers begin at 1. */
export const RECORDS = 0;

/** A record that a member has left behind, read but not adopted. */
export interface LeftCall {
  readonly owner: number;
  readonly entry: number;
  readonly record: CallRecord;
}

export interface DeadMembersOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  readonly pauses: Pauses;
  /** Returns this member's current values. */
  readonly self: () => { readonly number: number };
  /** Returns true when this member owns the slot of the Call-ID. */
  readonly owns: (callId: string) => boolean;
  /** Called when that member is back or its grace is over; with RECORDS, when pending records have been read. */
  readonly decided: (owner: number) => void;
  /** Called when the grace of a member is over. */
  readonly opened: (gone: Gone) => void;
}

/** Maximum of records of gone members in memory. Further ones wait for the sweep. */
const MAX_KNOWN = 20_000;
const MAX_KNOWN_OCTETS = 128 * 1024 * 1024;
/** Pause after a read that the store did not answer. */
const RETRY_MS = 300;
/** First pause between sweeps. */
const SWEEP_MS = 10_000;
/** Maximum time that packets wait for the pending records to be read. */
const READING_MS = 1000;
/** At the start, records of numbers that were last seen longer ago than a day are not read. */
const FORGOTTEN_MS = 86_400_000;
/** Estimated octets of a record in JSON without the texts of its legs. */
const RECORD_OCTETS = 2000;

export interface KnownRecord extends StoredRecord {
  /** Callbacks of packets that need the call; undefined while it is not being adopted. */
  waiting: ((won: boolean) => void)[] | undefined;
}

export interface Gone {
  readonly number: number;
  readonly since: number;
  phase: 'grace' | 'open';
  /** Its pending records have been read. */
  read: boolean;
  readonly pending: Map<number, KnownRecord>;
  timer: Timer | undefined;
  sweeping: boolean;
  /** Milliseconds until the next sweep. */
  pause: number;
}

export class DeadMembers {
  readonly #options: DeadMembersOptions;
  readonly #gone = new Map<number, Gone>();
  #known = 0;
  #knownOctets = 0;
  #closed = false;

  constructor(options: DeadMembersOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#gone.size;
  }

  /** True while the pending records of a gone member are being read, at most READING_MS after its loss. */
  get reading(): boolean {
    const now = this.#options.clock.now();
    for (const { read, since } of this.#gone.values()) if (!read && now - since < READING_MS) return true;
    return false;
  }

  get(number: number): Gone | undefined {
    return this.#gone.get(number);
  }

  /** Yields the members whose grace is over. */
  *open(): Generator<Gone, void, void> {
    for (const gone of this.#gone.values()) if (gone.phase === 'open') yield gone;
  }

  /** Returns the pending record of a gone member for this Call-ID key, if it has been read. */
  left(callKey: number): LeftCall | undefined {
    for (const { pending } of this.#gone.values()) {
      const known = pending.get(callKey) ?? pending.get(-callKey);
      if (known && known.record.state !== 'confirmed') return known;
    }
    return undefined;
  }

  /** Finds members that were gone before this one's first view: numbers in the store without a seat. */
  async discover(isSeated: (number: number) => boolean): Promise<void> {
    const { clock } = this.#options;
    const entries = await this.#numbers();
    for (const { key, value } of entries) {
      const number = Number(key.slice('numbers/'.length));
      const seen = Date.parse(String((value as { lastSeen?: unknown } | undefined)?.lastSeen));
      if (!Number.isInteger(number) || clock.wall() - seen > FORGOTTEN_MS) continue;
      if (!this.#closed && !isSeated(number)) this.lose(number, true);
    }
  }

  /** Starts the grace of a member. `longAgo`: it was gone before this member's first view. */
  lose(number: number, longAgo: boolean): void {
    const { clock, self, pauses, decided } = this.#options;
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
    if (!longAgo) void pauses.pause(READING_MS).then(() => gone.read || decided(RECORDS));
  }

  /** The member has a seat again: all that was read of it is forgotten. */
  back(number: number): void {
    const gone = this.#gone.get(number);
    if (!gone) return;
    gone.timer?.cancel();
    this.#gone.delete(number);
    // The store decides about claims that are under way.
    for (const known of gone.pending.values()) this.#uncount(known);
    this.#options.decided(number);
    this.#options.decided(RECORDS);
  }

  /** Forgets a member whose calls have all been adopted. */
  delete(gone: Gone): void {
    this.#gone.delete(gone.number);
  }

  isCurrent(gone: Gone): boolean {
    return !this.#closed && this.#gone.get(gone.number) === gone;
  }

  remember(gone: Gone, known: KnownRecord): void {
    gone.pending.set(known.entry, known);
    this.#known++;
    this.#knownOctets += octetsOf(known.record);
  }

  forget(known: KnownRecord): void {
    const pending = this.#gone.get(known.owner)?.pending;
    if (pending?.get(known.entry) !== known) return;
    pending.delete(known.entry);
    this.#uncount(known);
  }

  /** Reads the records of one kind, page by page. Rejects as Store.page does. */
  async *records({ number }: Gone, kind: 'pending' | 'dialog'): AsyncGenerator<KnownRecord, void, void> {
    for await (const page of recordPages(this.#options.store, recordPrefix(number, kind)))
      for (const record of page) yield { ...record, waiting: undefined };
  }

  /** Cancels all timers and forgets all members. */
  close(): void {
    this.#closed = true;
    for (const { timer } of this.#gone.values()) timer?.cancel();
    this.#gone.clear();
  }

  async #numbers(): Promise<readonly Entry[]> {
    const { store, log, pauses } = this.#options;
    while (!this.#closed) {
      try {
        return await store.list('numbers/');
      } catch (error) {
        if (!(error instanceof SipfarmError)) throw error;
        log.debug({ err: error }, 'numbers of earlier members cannot be read yet');
        await pauses.pause(RETRY_MS);
      }
    }
    return [];
  }

  async #readPending(gone: Gone): Promise<void> {
    const { store, owns, log, decided, pauses } = this.#options;
    while (this.isCurrent(gone) && gone.phase === 'grace') {
      try {
        for await (const entry of this.records(gone, 'pending')) {
          if (!this.isCurrent(gone)) return;
          const full = this.#known >= MAX_KNOWN || this.#knownOctets >= MAX_KNOWN_OCTETS;
          if (!full && owns(entry.record.callId) && !gone.pending.has(entry.entry)) this.remember(gone, entry);
        }
        if (!this.isCurrent(gone)) return;
        gone.read = true;
        log.info(
          { member: gone.number, calls: gone.pending.size },
          'a member is gone; its ringing calls have been read',
        );
        decided(RECORDS);
        return;
      } catch (error) {
        if (!(error instanceof SipfarmError)) throw error;
        log.debug({ err: error, store: store.kind }, 'records of a member that is gone cannot be read yet');
        await pauses.pause(RETRY_MS);
      }
    }
  }

  #open(gone: Gone): void {
    if (!this.isCurrent(gone)) return;
    gone.phase = 'open';
    gone.read = true;
    const { decided, opened, log } = this.#options;
    log.info({ member: gone.number }, 'a member has not come back: its calls are adopted');
    decided(RECORDS);
    decided(gone.number);
    opened(gone);
  }

  #uncount({ record }: KnownRecord): void {
    this.#known--;
    this.#knownOctets -= octetsOf(record);
  }
}

/** Returns the estimated octets of a record in JSON. */
export function octetsOf({ legs }: CallRecord): number {
  return legs.reduce((sum, { request, answer }) => sum + request.length + (answer?.length ?? 0), RECORD_OCTETS);
}
