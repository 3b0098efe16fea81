// Which calls does the journal hold, and in which form? A call that changes is a TrackedCall. A confirmed call with an
// up-to-date record is one short text in PackedCalls. No call is in both.
import type { Clock } from '../../base/clock.ts';
import type { Guard } from '../../base/guard.ts';
import type { Cell, CellFamily } from '../../metrics/counters.ts';
import type { CallRecord, RecordMethod } from './call-record.ts';
import {
  Action,
  type Durability,
  type DurabilityEvent,
  Flag,
  storedAs,
  storedAt,
  valueOfPacked,
} from './durability.ts';
import type { MediaRecord } from './media-record.ts';
import { PackedCalls } from './packed-calls.ts';
import type { RecordBody } from './record-octets.ts';
import { recordOf, TrackedCall } from './tracked-call.ts';
import { WriteQueue } from './write-queue.ts';

export interface HeldOptions {
  readonly clock: Clock;
  readonly guard: Guard;
  /** Returns this member's current values. */
  readonly self: () => { readonly incarnation: number; readonly epoch: number };
  /** Another member has adopted this call; it is forgotten here. */
  readonly onTaken: (entry: number) => void;
  /** Returns the media of the call that this member relays now. The journal keeps no copy of it. */
  readonly mediaOf: (entry: number) => MediaRecord | undefined;
  readonly dropped: CellFamily<'reason'>;
}

/** Why a record was not written, or not in time: the label `reason` of call_records_dropped_total. */
const RECORD_DROPS = ['queue', 'size', 'room'] as const;
type RecordDrop = (typeof RECORD_DROPS)[number];

/** Limit for the octets of all texts: as many calls as the call table takes. */
const MAX_OCTETS = 512 * 1024 * 1024;

export class HeldCalls {
  readonly #options: HeldOptions;
  readonly #behind: () => void;
  readonly #tracked = new Map<number, TrackedCall>();
  #octets = 0;
  readonly packed = new PackedCalls();
  readonly queue: WriteQueue<TrackedCall>;
  readonly drops: Readonly<Record<RecordDrop, Cell>>;

  /** `work` runs soon after a call waits for a write. `behind` runs when the queue has no room for a call. */
  constructor(options: HeldOptions, work: () => void, behind: () => void) {
    this.#options = options;
    this.#behind = behind;
    this.queue = new WriteQueue(options.clock, work);
    const cells = RECORD_DROPS.map((reason) => [reason, options.dropped.cell({ reason })] as const);
    this.drops = Object.fromEntries(cells) as Record<RecordDrop, Cell>;
  }

  get size(): number {
    return this.#tracked.size + this.packed.size;
  }

  get full(): boolean {
    return this.#octets + this.packed.octets >= MAX_OCTETS;
  }

  /** Returns whether there is such a call that is not over. */
  has(entry: number): boolean {
    const tracked = this.#tracked.get(entry);
    return tracked ? !tracked.gone : this.packed.has(entry);
  }

  /** Returns the call if it is tracked. */
  get(entry: number): TrackedCall | undefined {
    return this.#tracked.get(entry);
  }

  /** Returns the call as a tracked one; undefined when there is none. */
  take(entry: number): TrackedCall | undefined {
    return this.#tracked.get(entry) ?? this.unpack(entry);
  }

  /** The tracked calls, also those that are over. They may change meanwhile. */
  tracked(): IterableIterator<TrackedCall> {
    return this.#tracked.values();
  }

  /** Returns whether this call is still held in this form. */
  holds(tracked: TrackedCall): boolean {
    return this.#tracked.get(tracked.entry) === tracked;
  }

  /** Returns the record of a call as it would be written now; undefined when there is none. */
  recordOf(entry: number): CallRecord | undefined {
    const tracked = this.#tracked.get(entry);
    const { self, mediaOf } = this.#options;
    return tracked ? tracked.record(self().incarnation, mediaOf(entry)) : this.packedRecord(entry);
  }

  packedRecord(entry: number): CallRecord | undefined {
    const body = this.packed.read(entry);
    const { self, mediaOf } = this.#options;
    return body && recordOf(body, 'confirmed', self().incarnation, mediaOf(entry));
  }

  /** Yields the calls that are not over: resting ones, oldest first, then changing ones. They may change meanwhile. */
  *records(): Generator<{ readonly entry: number; readonly record: CallRecord }, void, void> {
    for (const entry of this.packed.entries()) {
      const record = this.packedRecord(entry);
      if (record) yield { entry, record };
    }
    for (const { entry } of this.#tracked.values()) {
      const record = this.recordOf(entry);
      if (record) yield { entry, record };
    }
  }

  /** Adds a call that begins now. */
  begin(entry: number, method: RecordMethod, callId: string): TrackedCall {
    const tracked = new TrackedCall(entry, method, callId, this.#options.clock.wall(), this.#options.self().epoch);
    this.#tracked.set(entry, tracked);
    return tracked;
  }

  /** Begins the call anew under the entry of an earlier one. */
  beginAnew(tracked: TrackedCall, method: RecordMethod, callId: string, unread: boolean): void {
    this.#empty(tracked);
    tracked.method = method;
    tracked.callId = callId;
    tracked.since = this.#options.clock.wall();
    tracked.epoch = this.#options.self().epoch;
    tracked.early = false;
    tracked.apply(unread ? 'begunUnread' : 'begun');
  }

  /** Adds a call whose record is in the store. The entry must be new. */
  restore(entry: number, record: CallRecord): void {
    const { method, callId, epoch, legs, state } = record;
    const since = Date.parse(record.since) || this.#options.clock.wall();
    const body = { method, callId, since, epoch, legs };
    if (state === 'confirmed' && this.packed.add(entry, body)) return;
    const tracked = this.#hold(entry, body, storedAt(storedAs(state)));
    tracked.early = state === 'early';
  }

  /** Makes a packed call a tracked one. Returns undefined when there is none. */
  unpack(entry: number): TrackedCall | undefined {
    const body = this.packed.read(entry);
    if (!body) return undefined;
    const flags = this.packed.flagsOf(entry) & ~Flag.unseen;
    this.packed.remove(entry);
    return this.#hold(entry, body, valueOfPacked(flags));
  }

  /** Sets the Contact of the party of leg number `leg`. */
  setContact(tracked: TrackedCall, leg: number, contact: string): void {
    const before = tracked.octets;
    tracked.setContact(leg, contact);
    this.#octets += tracked.octets - before;
  }

  /** Ends a call: it is forgotten, or waits for the deletion of its record. */
  end(tracked: TrackedCall): void {
    this.#empty(tracked);
    if (tracked.apply('over') === Action.drop) this.drop(tracked);
    else this.wait(tracked);
  }

  /** Queues a changed call. `fresh`: it is not due for 50 ms. */
  wait(tracked: TrackedCall, fresh = false): void {
    if (fresh ? this.queue.addFresh(tracked) : this.queue.add(tracked)) return;
    this.drops.queue.n++;
    this.#makeTexts(tracked);
    this.#behind();
  }

  /** Makes the texts of a call. Returns false when it is too long for a record; then it has ended. */
  readonly prepare = (tracked: TrackedCall): boolean => {
    try {
      return this.#makeTexts(tracked);
    } catch (error) {
      this.#options.guard.caught('records', error);
      return false;
    }
  };

  /** Performs an action of the durability on a tracked call that is still held. */
  act(tracked: TrackedCall, action: Action): void {
    if (!this.holds(tracked)) return;
    if (action === Action.queue) this.queue.again(tracked);
    else if (action === Action.drop) this.drop(tracked);
    else if (action === Action.pack) this.#pack(tracked);
    else if (action === Action.taken) {
      this.drop(tracked);
      this.taken(tracked.entry);
    }
  }

  /** Reports a call that another member has adopted. */
  taken(entry: number): void {
    this.#options.onTaken(entry);
  }

  /** Applies an event to a tracked call and performs its action. */
  apply(tracked: TrackedCall, event: DurabilityEvent): void {
    this.act(tracked, tracked.apply(event));
  }

  /** Packs or forgets a call that needs no further write. */
  readonly settle = (tracked: TrackedCall): void => this.apply(tracked, 'settled');

  /** Forgets a call without a trace. */
  drop(tracked: TrackedCall): void {
    this.#empty(tracked);
    tracked.apply('picked');
    this.queue.remove(tracked);
    if (this.holds(tracked)) this.#tracked.delete(tracked.entry);
  }

  clear(): void {
    for (const tracked of [...this.#tracked.values()]) this.drop(tracked);
    this.packed.clear();
  }

  #hold(entry: number, body: RecordBody, durability: Durability): TrackedCall {
    const tracked = new TrackedCall(entry, body.method, body.callId, body.since, body.epoch);
    tracked.durability = durability;
    tracked.takeLegs(body.legs);
    this.#tracked.set(entry, tracked);
    this.#octets += tracked.octets;
    return tracked;
  }

  #pack(tracked: TrackedCall): void {
    try {
      if (this.packed.add(tracked.entry, tracked.body)) this.drop(tracked);
    } catch (error) {
      this.#options.guard.caught('records', error);
    }
  }

  #makeTexts(tracked: TrackedCall): boolean {
    const before = tracked.octets;
    const made = tracked.makeTexts();
    this.#octets += tracked.octets - before;
    if (made) return true;
    this.drops.size.n++;
    if (!tracked.gone) this.end(tracked);
    return false;
  }

  #empty(tracked: TrackedCall): void {
    this.#octets -= tracked.octets;
    tracked.empty();
  }
}
