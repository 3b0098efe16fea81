// This member's place in the farm: its number, its lease, its record, and the view. The node talks to this file only.
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import type { Logger } from 'pino';
import type { Clock } from '../base/clock.ts';
import { SipfarmError } from '../base/errors.ts';
import type { Cell } from '../metrics/counters.ts';
import { type MemberLife, takesCalls, type View } from '../ownership/view.ts';
import { Backoff } from '../store/backoff.ts';
import type { Lease, Store } from '../store/store.ts';
import { isGone, type LeaseEnd, LeaseKeeper } from './lease.ts';
import {
  type MemberRecord,
  type MemberRecordParts,
  type MemberRecordState,
  parseMemberRecord,
} from './member-record.ts';
import type { OrderMap } from './order.ts';
import { Reminder } from './reminder.ts';
import { claimSeat, LAST_SEEN_MS, type SeatRecord, touchNumber } from './seat-claim.ts';
import { ViewKeeper } from './view-keeper.ts';
import { parseView } from './view-value.ts';

/** Longest time that leaving may take when the store does not answer. */
const LEAVE_MS = 2000;
/** A member that had its place for so long before it lost the seat comes back after the first pause. */
const SETTLED_MS = 60_000;

export interface MembershipOptions {
  readonly store: Store;
  readonly clock: Clock;
  /** 0 to below 1; spreads pauses between members. */
  readonly random?: () => number;
  readonly log: Logger;
  /** Unique in the farm. */
  readonly id: string;
  readonly leaseSeconds: number;
  /** Name of this machine; default the system's host name. */
  readonly host?: string;
  /** Entries of the store that could not be read. */
  readonly badEntries?: Cell;
  /** What the member says of itself now. */
  readonly record: () => MemberRecordParts;
  /** Before each claim of a process that starts: whether other members have a weight in the view. Left out: it is not looked up. */
  readonly onJoining?: (farmAtWork: boolean) => void;
  /** Each newer view; epochs only rise. */
  readonly onView: (view: View) => void;
  /** All member records, this one's included, ordered by number, whenever they change. */
  readonly onMembers: (records: readonly MemberRecord[]) => void;
  /** What operators want of members; told again whenever it was read. */
  readonly onOrders?: (orders: OrderMap) => void;
  /** From now on adopt nothing and write nothing; go on with what is here, on the last view. */
  readonly onIsolated: () => void;
  /** Isolation is over. The incarnation is the old one when the store has not missed us, else a higher one. */
  readonly onRejoined: (given: MemberLife) => void;
  /** The farm has given this member's seat up although the member lives. `onIsolated` follows, and a new incarnation when it has rejoined. */
  readonly onSeatLost: () => void;
}

type Phase = 'outside' | 'joining' | 'joined' | 'isolated' | 'left';

export class Membership {
  readonly #options: MembershipOptions;
  readonly #random: () => number;
  /** Names this process in its record. */
  readonly #claim = randomBytes(8).toString('hex');
  readonly #views: ViewKeeper;
  #phase: Phase = 'outside';
  #state: MemberRecordState = 'active';
  /** The record in the store says less than `record` and `#state`. */
  #unpublished = false;
  #given: MemberLife | undefined;
  #keeper: LeaseKeeper | undefined;
  /** `clock.now()` of the claim whose incarnation this is. */
  #joinedAt = 0;
  /** Seats lost, each within a minute of its claim. */
  #losses = 0;
  /** The next claim waits for `#lostSeat`. */
  #waits = false;
  #seenAt = 0;
  /** Text of the last error of the store that a claim ended with. */
  #storeFault = '';
  /** Pauses between attempts to come back. */
  readonly #pause: Backoff;
  /** Pauses before a lost seat is claimed again. */
  readonly #lostSeat: Backoff;

  constructor(options: MembershipOptions) {
    const { clock, random = Math.random } = options;
    this.#options = options;
    this.#random = random;
    this.#pause = new Backoff(clock, random, 50, Math.min(1000, options.leaseSeconds * 200));
    this.#lostSeat = new Backoff(clock, random, 1000, 60_000);
    this.#views = new ViewKeeper({
      store: options.store,
      clock,
      random,
      log: options.log,
      badEntries: options.badEntries ?? { n: 0 },
      self: () => this.#given,
      mayPropose: () => !this.isolated,
      inFarm: () => options.record().role === 'member',
      onView: options.onView,
      onMembers: options.onMembers,
      onOrders: (orders) => options.onOrders?.(orders),
      onSeatLost: () => this.#seatLost(),
    });
  }

  /** True while this member may adopt and write nothing: before it has joined, past its deadline, after it has left. */
  get isolated(): boolean {
    return this.#phase !== 'joined' || !this.#keeper?.alive;
  }

  /** The view in force: the newest seen. */
  get view(): View | undefined {
    return this.#views.view;
  }

  /** As of the last join; undefined before. */
  get given(): MemberLife | undefined {
    return this.#given;
  }

  get state(): MemberRecordState {
    return this.#state;
  }

  /**
   * Resolves when the member has its number; its seat follows with the next view. Waits for a store that does not answer. The relay address
   * in `record` must be bound before: see claimSeat. Rejects with SF_MEMBER_ID_TAKEN when another process still holds the id after twice the
   * lease, with SF_KEY_MISMATCH, SF_NUMBERS_EXHAUSTED, SF_STORE_REFUSED, or with SF_STORE_UNREACHABLE when `leave` ends the waiting.
   */
  async join(): Promise<MemberLife> {
    const { store, clock, log, id, leaseSeconds } = this.#options;
    if (this.#phase === 'left') throw new SipfarmError('SF_STORE_UNREACHABLE', `${id} has left before it had joined`);
    this.#phase = 'joining';
    let takenSince: number | undefined;
    const reminder = new Reminder(clock);
    for (;;) {
      const outcome = await this.#claimOnce(true);
      // Read anew: `leave` may have been called meanwhile.
      if ((this.#phase as Phase) === 'left') {
        throw new SipfarmError('SF_STORE_UNREACHABLE', `${id} has left before it had joined`);
      }
      if (typeof outcome === 'object') {
        this.#views.start();
        log.info({ ...outcome, id }, 'joined the farm');
        return outcome;
      }
      if (outcome === 'taken') {
        takenSince ??= clock.now();
        if (clock.now() - takenSince >= leaseSeconds * 2000) {
          throw new SipfarmError('SF_MEMBER_ID_TAKEN', `another process holds the member id ${id}`);
        }
      }
      if (reminder.due(outcome)) {
        const trouble = outcome === 'unreachable' ? { store: store.places, reason: this.#storeFault } : {};
        log.warn({ id, outcome, ...trouble }, 'cannot join the farm yet; trying on');
      }
      await this.#pause.pause();
    }
  }

  /** Says in the record that the member is active, draining or away; the view follows. Resolves when written, or at once while isolated: then it is written on the return. Rejects as Store.commit does, and is tried again with each keepalive. */
  async setState(state: MemberRecordState): Promise<void> {
    this.#state = state;
    await this.publish();
  }

  /** Writes the record anew when `record` has changed. As `setState`. */
  async publish(): Promise<void> {
    this.#unpublished = true;
    const { store, id } = this.#options;
    const key = `members/${id}`;
    while (!this.isolated && this.#keeper && this.#given) {
      const { lease } = this.#keeper;
      const entry = await store.get(key);
      if (!entry || parseMemberRecord(id, entry.value)?.claim !== this.#claim) return;
      const value: MemberRecord = { ...this.#record(), ...this.#given };
      if (!(await store.commit([{ key, value, expect: entry.revision, lease }]))) continue;
      this.#unpublished = false;
      return;
    }
  }

  /** Writes a key that goes with this member's lease; undefined deletes it. Does nothing while isolated. Rejects as Store.commit does. */
  async note(key: string, value: unknown): Promise<void> {
    const lease = this.#keeper?.lease;
    if (this.isolated || !lease) return;
    await this.#options.store.commit([value === undefined ? { key, value } : { key, value, lease }]);
  }

  /** Gives up seat, record and lease. The view without this member is written in the same transaction. Never rejects; takes at most two seconds. */
  async leave(): Promise<void> {
    const { clock, id, log } = this.#options;
    if (this.#phase === 'left') return;
    const orderly = !this.isolated;
    this.#phase = 'left';
    this.#pause.stop();
    this.#lostSeat.stop();
    const lease = this.#keeper?.lease;
    this.#keeper?.stop();
    const gone = (async () => {
      if (orderly) await this.#views.depart(id, this.#claim).catch(() => false);
      await lease?.revoke();
    })();
    await new Promise<void>((resolve) => {
      const timer = clock.after(LEAVE_MS, resolve);
      void gone.then(() => {
        timer.cancel();
        resolve();
      });
    });
    this.#views.stop();
    log.info({ id }, 'left the farm');
  }

  /** Somebody was seen that knows a newer view. */
  refetch(): void {
    this.#views.refetch();
  }

  /** Asks the store whether this member has the seat it had; when it has lost it, `onSeatLost` comes before the answer. Rejects as Store.get does. */
  confirmSeat(): Promise<boolean> {
    return this.#views.stillSeated();
  }

  /** Numbers of members that a majority cannot reach now; replaces what was said before. */
  suspect(numbers: ReadonlySet<number>): void {
    this.#views.suspect(numbers);
  }

  #record(): SeatRecord {
    const { id, host = hostname(), record } = this.#options;
    return { v: 1, id, ...record(), state: this.#state, host, claim: this.#claim };
  }

  /** Claims number and record until somebody else is no longer faster. Rejects only with what trying on cannot heal. */
  async #claimOnce(starting: boolean): Promise<MemberLife | 'taken' | 'unreachable'> {
    const { store, clock, leaseSeconds } = this.#options;
    let held: { readonly lease: Lease; readonly sentAt: number } | undefined;
    const lease = async (): Promise<Lease> => {
      const sentAt = clock.now();
      held ??= { lease: await store.grantLease(leaseSeconds), sentAt };
      return held.lease;
    };
    const conflict = new Backoff(clock, this.#random, 10, 250);
    let outcome: Awaited<ReturnType<typeof claimSeat>> = 'conflict';
    try {
      if (starting) await this.#checkFarm();
      for (let conflicts = 0; outcome === 'conflict' && this.#phase !== 'left'; conflicts++) {
        if (conflicts > 0) await conflict.pause();
        this.#unpublished = false;
        const record = this.#record();
        outcome = await claimSeat({
          ...{ store, record, starting, conflicts, lease, before: this.#given },
          wall: clock.wall(),
          random: this.#random,
        });
      }
    } catch (error) {
      void held?.lease.revoke();
      const code = error instanceof SipfarmError ? error.code : 'SF_INTERNAL';
      if (code !== 'SF_STORE_UNREACHABLE' && code !== 'SF_STORE_CONFLICT') throw error;
      this.#storeFault = (error as SipfarmError).message;
      return 'unreachable';
    }
    if (typeof outcome === 'string' || !held || this.#phase === 'left') {
      void held?.lease.revoke();
      return outcome === 'taken' ? 'taken' : 'unreachable';
    }
    this.#enter(outcome, held.lease, held.sentAt);
    return outcome;
  }

  /** Rejects as Store.list does. */
  async #checkFarm(): Promise<void> {
    const { store, id, onJoining } = this.#options;
    if (!onJoining) return;
    const [entry, members] = await Promise.all([store.get('view'), store.list('members/')]);
    // What is left of a farm that was killed has seats, but no records.
    const incarnations = new Map(
      members.map(({ key, value }) => {
        const other = key.slice('members/'.length);
        return [other, parseMemberRecord(other, value)?.incarnation];
      }),
    );
    const seats = parseView(entry?.value)?.seats ?? [];
    onJoining(
      seats.some((seat) => seat.id !== id && takesCalls(seat) && incarnations.get(seat.id) === seat.incarnation),
    );
  }

  #enter(given: MemberLife, lease: Lease, sentAt: number): void {
    const { clock } = this.#options;
    this.#given = given;
    this.#seenAt = clock.now();
    this.#joinedAt = clock.now();
    this.#keepLease(lease, sentAt);
    // What changed while the claim was under way is not in it.
    if (this.#unpublished) this.publish().catch(() => {});
  }

  #keepLease(lease: Lease, sentAt: number): void {
    const { clock, leaseSeconds } = this.#options;
    this.#keeper?.stop();
    this.#keeper = new LeaseKeeper({
      ...{ clock, lease, sentAt },
      seconds: leaseSeconds,
      onKept: () => this.#kept(),
      onEnd: (end) => this.#isolate(end),
    });
    this.#phase = 'joined';
    this.#pause.reset();
  }

  #kept(): void {
    const { store, clock, id } = this.#options;
    if (this.#unpublished) this.publish().catch(() => {});
    if (clock.now() - this.#seenAt < LAST_SEEN_MS || !this.#given) return;
    this.#seenAt = clock.now();
    touchNumber(store, id, this.#given, clock.wall()).catch(() => {});
  }

  #seatLost(): void {
    if (this.#phase === 'left') return;
    const joined = this.#phase === 'joined';
    this.#options.onSeatLost();
    this.#isolate('seat-lost');
    this.#losses++;
    // A member that was isolated meanwhile has been away long enough already, the first time.
    this.#waits = joined || this.#losses > 1;
  }

  #isolate(why: LeaseEnd | 'seat-lost'): void {
    const { clock, log, onIsolated } = this.#options;
    if (this.#phase !== 'joined') return;
    if (clock.now() - this.#joinedAt > SETTLED_MS) {
      this.#losses = 0;
      this.#lostSeat.reset();
    }
    const lease = this.#keeper?.lease;
    this.#keeper?.stop();
    this.#phase = 'isolated';
    log.warn({ why }, 'isolated: going on with the calls and the view that are here, adopting and writing nothing');
    onIsolated();
    void this.#rejoin(why === 'deadline' ? lease : undefined);
  }

  /** `lease`: the old one, when the store may not have ended it. */
  async #rejoin(lease: Lease | undefined): Promise<void> {
    const { clock, log, id, onRejoined } = this.#options;
    let old = lease;
    const reminder = new Reminder(clock);
    while (this.#phase === 'isolated') {
      const resumed = old && (await this.#resume(old));
      if (resumed === 'over') old = undefined;
      if (resumed !== true && resumed !== false) {
        const outcome = await this.#claimAgain().catch((error: unknown) => {
          const code = error instanceof SipfarmError ? error.code : 'SF_INTERNAL';
          if (reminder.due(code)) log.error({ err: error }, 'cannot rejoin the farm; trying on');
          return 'refused' as const;
        });
        if (outcome === 'taken' && reminder.due(outcome))
          log.error({ id }, 'another process has taken this member id; waiting for it to go');
      }
      if ((this.#phase as Phase) === 'joined' && this.#given) {
        log.info({ ...this.#given, id }, 'rejoined the farm');
        onRejoined(this.#given);
        if (this.#unpublished) this.publish().catch(() => {});
        this.#views.reconsider();
        return;
      }
      await this.#pause.pause();
    }
  }

  /** Claims anew, but not before it is known whether the seat of the old incarnation was lost: afterwards nobody would find out. Each further loss waits longer. */
  async #claimAgain(): Promise<MemberLife | 'taken' | 'unreachable'> {
    const known = await this.confirmSeat().then(
      () => true,
      () => false,
    );
    if (!known) return 'unreachable';
    if (this.#waits) await this.#lostSeat.pause();
    this.#waits = false;
    return this.#claimOnce(false);
  }

  /**
   * Goes on with the old lease and incarnation when the store has kept lease, record and seat all the time (it was away for all, or for us
   * shorter than the lease): then nobody can have acted as if we were gone. true: resumed. false: no answer. over: they are lost.
   */
  async #resume(lease: Lease): Promise<boolean | 'over'> {
    const { store, clock, id } = this.#options;
    const sentAt = clock.now();
    try {
      await lease.keepAlive();
      const record = parseMemberRecord(id, (await store.get(`members/${id}`))?.value);
      if (record?.claim !== this.#claim || record.incarnation !== this.#given?.incarnation) return 'over';
      if (!(await this.#views.stillSeated())) return 'over';
    } catch (error) {
      if (!(error instanceof SipfarmError)) throw error;
      return isGone(error) ? 'over' : false;
    }
    if (this.#phase !== 'isolated') return false;
    this.#keepLease(lease, sentAt);
    return true;
  }
}
