// Watches members, view and orders, reports changes, and proposes the next view. Any member may propose:
// compare-and-swap in the store accepts one proposal, and random waiting times make it likely that only one member
// tries.
import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import type { Clock, Timer } from '../base/clock.ts';
import { SipfarmError } from '../base/errors.ts';
import type { Cell } from '../metrics/counters.ts';
import type { MemberLife, View } from '../ownership/view.ts';
import type { Entry, PrefixWatch, Store } from '../store/store.ts';
import { update } from '../store/update.ts';
import { type MemberRecord, parseMemberRecord } from './member-record.ts';
import { type OrderMap, readOrders } from './order.ts';
import { decideView, decideWithout, type ViewFacts } from './view-decision.ts';
import { parseView } from './view-value.ts';

/** Changes within this time make one view. */
const DAMPING_MS = 300;
/** Random spread of the waiting time between members. */
const SPREAD_MS = 200;
/**
 * The same for the seat of a member that a majority cannot reach: calls fail until the seat ends. Including 1.25 s of
 * silence, the new view is in force within 2 s.
 */
const URGENT_DAMPING_MS = 100;
const URGENT_SPREAD_MS = 200;
/** Wait after a failed proposal. */
const RETRY_MS = 1000;

const drawSeed = (): string => randomBytes(16).toString('hex');

/** A commit of `depart` fails only when the view or the record changes at the same time: few attempts suffice. */
const DEPART_ATTEMPTS = 5;
export interface ViewKeeperOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  /** Counts entries of the store that could not be read. */
  readonly badEntries: Cell;
  /** This member's current number and incarnation; undefined before it has joined. */
  readonly self: () => MemberLife | undefined;
  /** False while this member may not write. */
  readonly mayPropose: () => boolean;
  /** False for a node whose role is not `member`. */
  readonly inFarm: () => boolean;
  readonly onView: (view: View) => void;
  readonly onMembers: (records: readonly MemberRecord[]) => void;
  /** Called with all orders whenever they were read. */
  readonly onOrders: (orders: OrderMap) => void;
  /** Called once per incarnation when the view no longer has this member's seat. */
  readonly onSeatLost: () => void;
}

export class ViewKeeper {
  readonly #options: ViewKeeperOptions;
  #watches: PrefixWatch[] = [];
  #timer: Timer | undefined;
  /** `clock.now()` at which `#timer` runs. */
  #due = 0;
  #proposing = false;
  #refetching = false;
  #members: readonly MemberRecord[] = [];
  /** False until the first report of the watch, and while the watch may be behind. */
  #membersFresh = false;
  #viewFresh = false;
  #ordersFresh = false;
  #orders: OrderMap = new Map();
  /** The view in force here: the newest read so far. */
  #view: View | undefined;
  /** The key `view` of the store; its revision is 0n when it is absent. */
  #stored: View | undefined;
  #storedRevision = 0n;
  /** Members that a majority cannot reach: number to incarnation. */
  #suspected: ReadonlyMap<number, number> = new Map();
  /** Last incarnation of this member with a seat, and last incarnation whose loss was reported; 0 = none. */
  #seatedAs = 0;
  #lostAs = 0;

  constructor(options: ViewKeeperOptions) {
    this.#options = options;
  }

  /** The view in force. */
  get view(): View | undefined {
    return this.#view;
  }

  start(): void {
    const { store } = this.#options;
    this.#watches = [
      store.watch(
        'members/',
        (entries) => {
          this.#membersFresh = true;
          this.#takeMembers(entries);
          this.#consider();
        },
        () => {
          this.#membersFresh = false;
        },
      ),
      store.watch(
        'view',
        (entries) => {
          this.#viewFresh = true;
          this.#takeView(entries.find((entry) => entry.key === 'view'));
          this.#consider();
        },
        () => {
          this.#viewFresh = false;
        },
      ),
      store.watch(
        'orders/',
        (entries) => {
          this.#ordersFresh = true;
          this.#takeOrders(entries);
          this.#consider();
        },
        () => {
          this.#ordersFresh = false;
        },
      ),
    ];
  }

  stop(): void {
    for (const watch of this.#watches) watch.close();
    this.#watches = [];
    this.#rest();
  }

  /**
   * Takes the members that a majority cannot reach now; replaces the previous ones. Does not apply to a later
   * incarnation of such a member.
   */
  suspect(numbers: ReadonlySet<number>): void {
    const suspected = new Map<number, number>();
    for (const { number, incarnation } of this.#members) if (numbers.has(number)) suspected.set(number, incarnation);
    this.#suspected = suspected;
    this.#consider();
  }

  /** Reads the view from the store when another member has a newer one. No effect while a read is under way. */
  refetch(): void {
    if (this.#refetching) return;
    this.#refetching = true;
    this.#options.store
      .get('view')
      .then(
        (entry) => this.#takeView(entry),
        () => {},
      )
      .finally(() => {
        this.#refetching = false;
        this.#consider();
      });
  }

  /** Checks seat and next view again. Must be called when `self` or `mayPropose` have changed. */
  reconsider(): void {
    this.#checkSeat();
    this.#consider();
  }

  /** Reads the view. Resolves to true when it has the seat of `self`, or never had it. Rejects as Store.get does. */
  async stillSeated(): Promise<boolean> {
    this.#takeView(await this.#options.store.get('view'));
    const self = this.#options.self();
    return self !== undefined && (this.#hasSeat(self) || !this.#hadSeat(self));
  }

  /**
   * Writes the view without this member and deletes its record in one transaction. Resolves to false when the record is
   * not this process's, or after five conflicts. Rejects as Store.commit does.
   */
  async depart(id: string, claim: string): Promise<boolean> {
    const { store } = this.#options;
    return update(store, DEPART_ATTEMPTS, async () => {
      await this.#read();
      const key = `members/${id}`;
      const own = await store.get(key);
      if (!own || parseMemberRecord(id, own.value)?.claim !== claim) return undefined;
      const next = decideWithout(this.#facts(), id, drawSeed);
      const writes = [{ key, value: undefined, expect: own.revision }];
      return next ? [...writes, { key: 'view', value: next, expect: this.#storedRevision }] : writes;
    });
  }

  #takeMembers(entries: readonly Entry[]): void {
    const { badEntries, log, onMembers } = this.#options;
    const byNumber = new Map<number, MemberRecord>();
    for (const { key, value } of entries) {
      const record = parseMemberRecord(key.slice('members/'.length), value);
      if (!record) {
        badEntries.n++;
        log.warn({ entry: key }, 'this entry of the store is no member record; it is ignored');
        continue;
      }
      const other = byNumber.get(record.number);
      if (!other || other.incarnation < record.incarnation) byNumber.set(record.number, record);
    }
    this.#members = [...byNumber.values()].sort((a, b) => a.number - b.number);
    onMembers(this.#members);
  }

  #takeOrders(entries: readonly Entry[]): void {
    const { badEntries, log, onOrders } = this.#options;
    this.#orders = readOrders(entries, (key) => {
      badEntries.n++;
      log.warn({ entry: key }, 'this entry of the store is no order; it is ignored');
    });
    onOrders(this.#orders);
  }

  #takeView(entry: Entry | undefined): void {
    const { badEntries, log, onView } = this.#options;
    const view = parseView(entry?.value);
    if (entry && !view && entry.revision !== this.#storedRevision) {
      badEntries.n++;
      log.error('the view in the store cannot be read; the last valid one stays in force');
    }
    this.#stored = view;
    this.#storedRevision = entry?.revision ?? 0n;
    if (!view || (this.#view && view.epoch <= this.#view.epoch)) return;
    this.#view = view;
    log.info(
      { epoch: view.epoch, seats: view.seats.map((seat) => `${seat.id} ${seat.role ?? seat.state}`) },
      'new view',
    );
    onView(view);
    this.#checkSeat();
  }

  #checkSeat(): void {
    const self = this.#options.self();
    if (!self) return;
    if (this.#hasSeat(self)) {
      this.#seatedAs = self.incarnation;
      this.#lostAs = 0;
    } else if (this.#hadSeat(self) && this.#lostAs !== self.incarnation) {
      this.#lostAs = self.incarnation;
      this.#options.onSeatLost();
    }
  }

  #hasSeat({ number, incarnation }: MemberLife): boolean {
    return this.#view?.seats.some((seat) => seat.number === number && seat.incarnation === incarnation) ?? false;
  }

  /** Also true when the seat came and went between two views that this member has read. */
  #hadSeat({ number, incarnation }: MemberLife): boolean {
    if (this.#seatedAs === incarnation) return true;
    return this.#view?.out?.some((each) => each.number === number && each.incarnation === incarnation) ?? false;
  }

  #facts(): ViewFacts {
    const { self, inFarm } = this.#options;
    return {
      members: this.#members,
      orders: this.#orders,
      suspected: this.#suspected,
      last: this.#view,
      stored: this.#stored,
      self: self()?.number,
      inFarm: inFarm(),
    };
  }

  #rest(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #consider(waitMs = DAMPING_MS): void {
    const { clock, random, mayPropose } = this.#options;
    const fresh = this.#membersFresh && this.#viewFresh && this.#ordersFresh && this.#watches.length > 0;
    if (!fresh || this.#proposing || !mayPropose() || !decideView(this.#facts(), drawSeed)) {
      this.#rest();
      return;
    }
    const urgent = this.#view?.seats.some((seat) => this.#suspected.get(seat.number) === seat.incarnation);
    const wait =
      urgent && waitMs < RETRY_MS ? URGENT_DAMPING_MS + URGENT_SPREAD_MS * random() : waitMs + SPREAD_MS * random();
    const due = clock.now() + wait;
    if (this.#timer && (!urgent || this.#due <= due)) return;
    this.#rest();
    this.#due = due;
    this.#timer = clock.after(wait, () => {
      this.#timer = undefined;
      void this.#propose();
    });
  }

  /** Reads members, orders and view again before it writes: a watch may lag, and a view must not use old data. */
  async #propose(): Promise<void> {
    const { store, log, mayPropose } = this.#options;
    this.#proposing = true;
    let waitMs = DAMPING_MS;
    try {
      await this.#read();
      const next = decideView(this.#facts(), drawSeed);
      if (next && mayPropose()) {
        await store.commit([{ key: 'view', value: next, expect: this.#storedRevision }]);
        this.#takeView(await store.get('view'));
      }
    } catch (error) {
      if (!(error instanceof SipfarmError)) throw error;
      log.debug({ err: error }, 'the next view could not be proposed');
      waitMs = RETRY_MS;
    }
    this.#proposing = false;
    this.#consider(waitMs);
  }

  async #read(): Promise<void> {
    const { store } = this.#options;
    const [members, orders, view] = await Promise.all([
      store.list('members/'),
      store.list('orders/'),
      store.get('view'),
    ]);
    this.#takeMembers(members);
    this.#takeOrders(orders);
    this.#takeView(view);
  }
}
