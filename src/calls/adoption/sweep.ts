// Adopts all records of a gone member in this member's slots: first pending ones, then dialogs, in batches. Repeats
// while records are left that other members have to adopt.
import type { Logger } from 'pino';
import type { Clock } from '../../base/clock.ts';
import { SipfarmError } from '../../base/errors.ts';
import { MAX_COMMIT_OCTETS } from '../../store/store.ts';
import type { Claim } from './claim.ts';
import { type DeadMembers, type Gone, type KnownRecord, octetsOf } from './dead-members.ts';
import type { Pauses } from './pauses.ts';

/** Records adopted in one transaction, two writes each. */
const BATCH = 40;
/** Milliseconds between two batches. */
const BATCH_PAUSE_MS = 50;
/** Longest pause between sweeps; the first one is in dead-members.ts. */
const LONGEST_SWEEP_MS = 300_000;

export interface SweepOptions {
  readonly clock: Clock;
  readonly log: Logger;
  readonly pauses: Pauses;
  readonly dead: DeadMembers;
  readonly claim: Claim;
  readonly owns: (callId: string) => boolean;
  readonly mayAdopt: () => boolean;
  /** Returns whether this member holds the call already. */
  readonly holds: (entry: number) => boolean;
  /** This member has won the record in a transaction of several. */
  readonly won: (known: KnownRecord) => void;
  /** Claims one record. `maybe`: an unanswered transaction may have won it. Resolves to false: its owner is open. */
  readonly takeOne: (known: KnownRecord, maybe: boolean) => Promise<boolean>;
}

export class Sweep {
  readonly #options: SweepOptions;

  constructor(options: SweepOptions) {
    this.#options = options;
  }

  /** Sweeps until no record of the member is left. Has no effect while a sweep of it is under way. */
  async sweep(gone: Gone): Promise<void> {
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
    if (!this.#options.dead.isCurrent(gone)) return;
    if (left === 0 && gone.pending.size === 0) {
      this.#options.dead.delete(gone);
      return;
    }
    gone.timer = this.#options.clock.after(gone.pause, () => void this.sweep(gone));
    gone.pause = Math.min(gone.pause * 2, LONGEST_SWEEP_MS);
  }

  /** Adopts the records in this member's slots. Resolves to the number of records that are left. */
  async #sweepOnce(gone: Gone): Promise<number> {
    const seen = new Set<number>();
    const left = (await this.#sweepKind(gone, 'pending', seen)) + (await this.#sweepKind(gone, 'dialog', seen));
    // Records read before but not found by the sweep are no longer in the store.
    for (const known of gone.pending.values())
      if (!seen.has(known.entry) && !known.waiting) this.#options.dead.forget(known);
    return left;
  }

  async #sweepKind(gone: Gone, kind: 'pending' | 'dialog', seen: Set<number>): Promise<number> {
    const { owns } = this.#options;
    let left = 0;
    let batch: KnownRecord[] = [];
    let octets = 0;
    for await (const found of this.#options.dead.records(gone, kind)) {
      if (!this.#options.dead.isCurrent(gone)) return 1;
      seen.add(found.entry);
      const before = gone.pending.get(found.entry);
      if (before?.waiting || !owns(found.record.callId)) {
        left++;
        continue;
      }
      // A record read before may have changed: its owner could still write after it lost the seat.
      if (before) this.#options.dead.forget(before);
      this.#options.dead.remember(gone, found);
      batch.push(found);
      octets += 2 * octetsOf(found.record);
      if (batch.length < BATCH && octets < MAX_COMMIT_OCTETS / 2) continue;
      left += await this.#takeMany(batch);
      batch = [];
      octets = 0;
      await this.#options.pauses.pause(BATCH_PAUSE_MS);
    }
    return left + (await this.#takeMany(batch));
  }

  /** Claims these records. Resolves to the number of those whose owner is still open. */
  async #takeMany(batch: readonly KnownRecord[]): Promise<number> {
    const { dead, claim, holds, won, takeOne } = this.#options;
    const free = batch.filter((known) => !known.waiting && dead.get(known.owner)?.pending.get(known.entry) === known);
    for (const known of free) known.waiting = [];
    const fresh = free.filter(({ entry }) => !holds(entry));
    const together = fresh.length > 1 ? await claim.together(fresh) : false;
    let left = 0;
    for (const known of free) {
      const tried = fresh.includes(known);
      if (together === true && tried) won(known);
      // Only records of an unanswered transaction are in doubt. A call that was held before was not part of it.
      else if (!(await takeOne(known, together === undefined && tried))) left++;
    }
    return left;
  }
}
