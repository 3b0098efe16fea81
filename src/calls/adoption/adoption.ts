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
import type { Clock } from '../../base/clock.ts';
import { SipfarmError } from '../../base/errors.ts';
import { RateLimit } from '../../base/rate-limit.ts';
import type { CellFamily } from '../../metrics/counters.ts';
import { type CallRecord, recordKey } from '../records/call-record.ts';
import { storedRecord } from '../records/record-pages.ts';
import { Claim, type ClaimOptions, type GivenBack } from './claim.ts';
import { DeadMembers, type KnownRecord, type LeftCall } from './dead-members.ts';
import { Pauses } from './pauses.ts';
import { Sweep } from './sweep.ts';

export type { GivenBack } from './claim.ts';
export { GRACE_MS, type LeftCall, RECORDS } from './dead-members.ts';

/** need: a packet needed the call. sweep: the sweep found its record. */
export type AdoptionReason = 'need' | 'sweep';

/** Outcomes of an adoption: the label `outcome` of adopted_calls_total. */
export const ADOPTION_OUTCOMES = {
  ringing: 'goes on ringing',
  dialog: 'goes on as a dialog',
  refused: 'could not go on: its caller got an error',
  cancelled: 'was cancelled, by its caller or because its server was gone',
  ended: 'could not go on: its parties got a BYE, or a last NOTIFY',
  'over-already': 'had ended in the meantime, or began again here',
  'internal-error': 'could not go on because of a fault of this member, which its log names: its record is deleted',
  'by-another': 'another member was faster, or the owner is back',
  unreachable: 'the store did not answer',
} as const;
export type AdoptionOutcome = keyof typeof ADOPTION_OUTCOMES;

/** Keeps this member's own records: the call journal. */
interface RecordKeeper {
  has(entry: number): boolean;
  /** Takes a record that the store now has under this member's number. Returns false when it is not kept. */
  restore(entry: number, record: CallRecord): boolean;
}

/** Handles adopted calls: the service. */
export interface Successor {
  /** Called once per adoption: this member alone owns the call of `owner` now. Returns the outcome. */
  adopted(entry: number, record: CallRecord, owner: number): AdoptionOutcome;
  /** Called when that member has a seat again: it owns the dialogs whose tokens name it. */
  seated(owner: number): void;
  /**
   * Called when that member is back or its grace is over: packets that waited for that are handled now. With RECORDS:
   * the pending records of a gone member have been read, or a second has passed since its loss.
   */
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

/** Pause after a claim that the store did not answer. */
const RETRY_MS = 300;
/** Maximum of attempts for one claim while the store does not answer. */
const MAX_TRIES = 20;
/** Maximum of packets that wait for one adoption on demand. */
const MAX_WAITING = 8;
/** Maximum of dialogs read on demand at one time, and per second: a former party can send invented Call-IDs. */
const MAX_WANTED = 1000;
const WANTED_PER_SECOND = 200;
export class Adoption {
  readonly #options: AdoptionOptions;
  #seated: ReadonlySet<number> | undefined;
  readonly #claim: Claim;
  readonly #pauses: Pauses;
  readonly #dead: DeadMembers;
  readonly #sweep: Sweep;
  readonly #wanted = new Set<number>();
  readonly #wants = new RateLimit({ perSecond: WANTED_PER_SECOND, burst: WANTED_PER_SECOND, maxSources: 1 });
  #closed = false;

  constructor(options: AdoptionOptions) {
    this.#options = options;
    this.#claim = new Claim(options);
    const { clock, keeper, successor } = options;
    this.#pauses = new Pauses(clock);
    this.#dead = new DeadMembers({
      ...options,
      pauses: this.#pauses,
      decided: (owner) => successor.decided(owner),
      opened: (gone) => void this.#sweep.sweep(gone),
    });
    this.#sweep = new Sweep({
      ...options,
      pauses: this.#pauses,
      dead: this.#dead,
      claim: this.#claim,
      holds: (entry) => keeper.has(entry),
      won: (known) => this.#decided(known, 'sweep', 'won'),
      takeOne: (known, maybe) => this.#takeOne(known, 'sweep', maybe),
    });
  }

  /** True while a member is gone and not all of its calls are adopted. */
  get watching(): boolean {
    return this.#dead.size > 0;
  }

  /** True while the pending records of a gone member are being read, at most a second after its loss. */
  get reading(): boolean {
    return this.#dead.reading;
  }

  /** Returns true while that member has lost its seat and may still come back and keep its calls. */
  inGrace(owner: number): boolean {
    return this.#dead.get(owner)?.phase === 'grace';
  }

  /** Returns the pending record of a gone member for this Call-ID key, if it has been read. */
  left(callKey: number): LeftCall | undefined {
    return this.#dead.left(callKey);
  }

  /** Takes the seats of the view in force: starts grace for lost ones, ends it for returned members, and sweeps. */
  takeSeats(numbers: ReadonlySet<number>): void {
    if (this.#closed) return;
    const before = this.#seated;
    this.#seated = numbers;
    for (const number of numbers) {
      if (before && !before.has(number)) this.#options.successor.seated(number);
      this.#dead.back(number);
    }
    if (!before) void this.#dead.discover((number) => this.#seated?.has(number) === true);
    else for (const number of before) if (!numbers.has(number)) this.#dead.lose(number, false);
    for (const gone of this.#dead.open()) void this.#sweep.sweep(gone);
  }

  /**
   * Adopts the call at once, because a packet needs it. Calls `then` with true when this member owns it now;
   * `onAdopted` has been called before. Does not call `then` when MAX_WAITING callbacks already wait.
   */
  take(left: LeftCall, then: (won: boolean) => void): void {
    const known = this.#dead.get(left.owner)?.pending.get(left.entry);
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
    const known = this.#dead.get(left.owner)?.pending.get(left.entry);
    if (!known || known.waiting) return;
    this.#dead.forget(known);
    this.#options.adopted.cell({ why: 'need', outcome: 'over-already' }).n++;
    void this.#claim.abandon(known);
  }

  /** Adopts a dialog of that member ahead of the sweep, for a packet of it. No effect before its grace is over. */
  wantDialog(owner: number, callKey: number): void {
    const { keeper, clock } = this.#options;
    if (this.#dead.get(owner)?.phase !== 'open' || keeper.has(callKey) || keeper.has(-callKey)) return;
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

  /** Writes records of confirmed calls under the number of that member, which is back and reads them soon. */
  giveBack(owner: number, given: readonly GivenBack[]): void {
    void this.#claim.giveBack(owner, given);
  }

  /** Cancels all timers. Store operations under way are not cancelled. */
  close(): void {
    this.#closed = true;
    this.#dead.close();
    this.#pauses.close();
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
        log.debug({ err: error, record: known.key }, 'an adoption has no answer; it is tried again');
        inDoubt = true;
        await this.#pauses.pause(RETRY_MS);
      }
    }
    this.#decided(known, why, 'unreachable');
    return false;
  }

  #decided(known: KnownRecord, why: AdoptionReason, how: 'won' | AdoptionOutcome): void {
    const { keeper, successor, adopted, log } = this.#options;
    const { entry, owner } = known;
    const waiting = known.waiting ?? [];
    this.#dead.forget(known);
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
      const gone = this.#dead.get(owner);
      if (!gone || gone.pending.has(entry)) return;
      const found = await store.get(recordKey(owner, 'confirmed', entry)).catch(() => undefined);
      const record = found && storedRecord(found);
      if (!record || gone.pending.has(entry) || !this.#dead.isCurrent(gone)) continue;
      const known: KnownRecord = { ...record, waiting: [] };
      this.#dead.remember(gone, known);
      await this.#takeOne(known, 'need');
      return;
    }
  }
}
