// This member's membership in the farm: its number, its lease, its record, and the view. The node uses only this file
// of the room for them.
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import type { Logger } from 'pino';
import type { Clock } from '../base/clock.ts';
import { SipfarmError } from '../base/errors.ts';
import { within } from '../base/within.ts';
import type { Cell } from '../metrics/counters.ts';
import { type MemberLife, takesCalls, type View } from '../ownership/view.ts';
import { Backoff } from '../store/backoff.ts';
import type { Lease, Store, Write } from '../store/store.ts';
import { update } from '../store/update.ts';
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

/** Maximum time of `leave` when the store does not answer. */
const LEAVE_MS = 2000;
/** After this time in the farm, earlier seat losses no longer lengthen the pause before the next claim. */
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
  /** Counts entries of the store that could not be read. */
  readonly badEntries?: Cell;
  /** Returns the current values of this member's record. */
  readonly record: () => MemberRecordParts;
  /**
   * Called before each join attempt of a starting process. `farmAtWork`: other running members take calls by the view.
   * Left out: this is not read.
   */
  readonly onJoining?: (farmAtWork: boolean) => void;
  /** Called with each newer view; epochs only rise. */
  readonly onView: (view: View) => void;
  /** Called with all member records, this one's included, ordered by number, whenever they were read. */
  readonly onMembers: (records: readonly MemberRecord[]) => void;
  /** Called with the orders of operators whenever they were read. */
  readonly onOrders?: (orders: OrderMap) => void;
  /** Isolation begins: the node may not adopt calls or write. It continues with its calls on the last view. */
  readonly onIsolated: () => void;
  /** Isolation ends. The incarnation is the old one if lease, record and seat survived, else a higher one. */
  readonly onRejoined: (given: MemberLife) => void;
  /** The view took this living member's seat. `onIsolated` follows; the member rejoins with a new incarnation. */
  readonly onSeatLost: () => void;
}

type Phase = 'outside' | 'joining' | 'joined' | 'isolated' | 'left';

export class Membership {
  readonly #options: MembershipOptions;
  readonly #random: () => number;
  /** Identifies this process in its record. */
  readonly #claim = randomBytes(8).toString('hex');
  readonly #views: ViewKeeper;
  #phase: Phase = 'outside';
  #state: MemberRecordState = 'active';
  /** The record in the store is older than `record` and `#state`. */
  #unpublished = false;
  #given: MemberLife | undefined;
  #keeper: LeaseKeeper | undefined;
  /** `clock.now()` of the claim that gave the current incarnation. */
  #joinedAt = 0;
  /** Consecutive seat losses, each within SETTLED_MS of its claim. */
  #losses = 0;
  /** The next claim waits for `#lostSeat`. */
  #waits = false;
  #seenAt = 0;
  /** Text of the last store error of a claim. */
  #storeFault = '';
  /** Pauses between attempts to join or rejoin. */
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

  /** True while this member may not adopt or write: before it has joined, past its deadline, after it has left. */
  get isolated(): boolean {
    return this.#phase !== 'joined' || !this.#keeper?.alive;
  }

  /** The view in force: the newest read so far. */
  get view(): View | undefined {
    return this.#views.view;
  }

  /** Number and incarnation of the last join; undefined before it. */
  get given(): MemberLife | undefined {
    return this.#given;
  }

  get state(): MemberRecordState {
    return this.#state;
  }

  /**
   * Joins the farm. Resolves when the member has its number; its seat follows with the next view. Waits for a store
   * that does not answer. The relay address in `record` must already be bound (see claimSeat).
   *
   * Rejects with SF_MEMBER_ID_TAKEN when another process still holds the id after twice the lease. Also rejects with
   * SF_KEY_MISMATCH, SF_NUMBERS_EXHAUSTED, SF_STORE_REFUSED, and with SF_STORE_UNREACHABLE when `leave` is called
   * meanwhile.
   */
  async join(): Promise<MemberLife> {
    const { store, clock, log, id, leaseSeconds } = this.#options;
    if (this.#phase === 'left') throw new SipfarmError('SF_STORE_UNREACHABLE', `${id} has left before it had joined`);
    this.#phase = 'joining';
    let takenSince: number | undefined;
    const reminder = new Reminder(clock);
    for (;;) {
      const outcome = await this.#claimOnce(true);
      // The cast undoes TypeScript's narrowing: `leave` may have been called meanwhile.
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

  /**
   * Publishes the state active, draining or away in the record; the view follows. Resolves when it is written. While
   * isolated it resolves at once, and the state is written after the rejoin. Rejects as Store.commit does; each
   * keepalive repeats a failed write.
   */
  async setState(state: MemberRecordState): Promise<void> {
    this.#state = state;
    await this.publish();
  }

  /** Writes the record again after `record` has changed. Resolves and rejects as `setState`. */
  async publish(): Promise<void> {
    this.#unpublished = true;
    const { store, id } = this.#options;
    const key = `members/${id}`;
    const done = await update(store, Number.POSITIVE_INFINITY, async () => {
      if (this.isolated || !this.#keeper || !this.#given) return undefined;
      const { lease } = this.#keeper;
      const entry = await store.get(key);
      if (!entry || parseMemberRecord(id, entry.value)?.claim !== this.#claim) return undefined;
      const value: MemberRecord = { ...this.#record(), ...this.#given };
      return [{ key, value, expect: entry.revision, lease }];
    });
    if (done) this.#unpublished = false;
  }

  /**
   * Writes a key bound to this member's lease; undefined deletes it. No effect while isolated. Rejects as Store.commit
   * does.
   */
  async note(key: string, value: unknown): Promise<void> {
    const lease = this.#keeper?.lease;
    if (this.isolated || !lease) return;
    await this.#options.store.commit([value === undefined ? { key, value } : { key, value, lease }]);
  }

  /**
   * Commits the writes that `writes` makes of this member's lease. Resolves to undefined while isolated, without a
   * commit. Resolves and rejects otherwise as Store.commit does.
   */
  async commit(writes: (lease: Lease) => readonly Write[]): Promise<boolean | undefined> {
    const lease = this.#keeper?.lease;
    if (this.isolated || !lease) return undefined;
    return this.#options.store.commit(writes(lease));
  }

  /**
   * Gives up seat, record and lease. One transaction writes the view without this member and deletes the record. Never
   * rejects; takes at most LEAVE_MS.
   */
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
    await within(clock, LEAVE_MS, gone);
    this.#views.stop();
    log.info({ id }, 'left the farm');
  }

  /** Reads the view again: another member has a newer one. */
  refetch(): void {
    this.#views.refetch();
  }

  /**
   * Reads the view from the store. Resolves to false when this member has lost its seat; `onSeatLost` is called before
   * that. Rejects as Store.get does.
   */
  confirmSeat(): Promise<boolean> {
    return this.#views.stillSeated();
  }

  /** Takes the numbers of the members that a majority cannot reach now; replaces the previous ones. */
  suspect(numbers: ReadonlySet<number>): void {
    this.#views.suspect(numbers);
  }

  #record(): SeatRecord {
    const { id, host = hostname(), record } = this.#options;
    return { v: 1, id, ...record(), state: this.#state, host, claim: this.#claim };
  }

  /** Claims number and record, again after each conflict. Rejects only with errors that more attempts cannot cure. */
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

  /** Reads whether the farm is at work and calls `onJoining`. Rejects as Store.get and Store.list do. */
  async #checkFarm(): Promise<void> {
    const { store, id, onJoining } = this.#options;
    if (!onJoining) return;
    const [entry, members] = await Promise.all([store.get('view'), store.list('members/')]);
    // A farm that was killed leaves seats without records: a seat counts only with a record of the same incarnation.
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
    // Changes made during the claim are not in the record yet.
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
    // The first loss needs no pause if the member was already isolated: it has been away long enough.
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
    log.warn({ why }, 'isolated: goes on with its calls and its last view; adopts and writes nothing');
    onIsolated();
    void this.#rejoin(why === 'deadline' ? lease : undefined);
  }

  /** Resumes or claims until it has joined. `lease`: the old one, if the store may still hold it. */
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

  /**
   * Claims a new incarnation. First reads whether the old incarnation lost its seat: that cannot be detected later. The
   * pause grows with each further loss.
   */
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
   * Resumes with the old lease and incarnation if the store still has lease, record and seat. Then no other member can
   * have treated this one as dead: the store was unreachable for all, or for this member shorter than the lease.
   * Resolves to true: resumed. false: no answer. 'over': lease, record or seat are lost.
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
