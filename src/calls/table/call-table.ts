// The calls that this member owns, by the 53-bit key of their Call-ID. The owner lookup checks here whether this member
// holds a call, and a drain checks here whether it may end. One entry per Call-ID, some 54 octets in flat arrays that
// never grow, so that neither the garbage collector nor a rehash stops the packet path.
//
//    state         meaning                                              lifetime after the last packet
//    transaction   any other request, but for ACK and CANCEL            32 s
//    inviting      INVITE without a final answer                        ringingSeconds
//    renewing      re-INVITE of a call that is not known here           ringingSeconds
//    confirmed     INVITE answered 2xx                                  longestCallSeconds, or by its Session-Expires
//    ending        BYE passed on, not answered yet                      32 s
//    subscribing   SUBSCRIBE without a final answer                     ringingSeconds
//    subscribed    SUBSCRIBE answered 2xx                               by its Expires; 3,900 s when there is none
//    failed        final answer >= 300; a 2xx or new request revives    32 s, for retransmissions and the retry
//    ended         BYE answered, or BYE of an unknown call; a new       32 s, for retransmissions; a record that is read
//                  INVITE revives                                       later does not revive
//
// A late copy of the INVITE of a finished call is not a new INVITE and revives nothing (dialog-marks.ts).
//
// Each lifetime counts from the last packet and is one number per group. So a list per group in the order of the last
// packets is also ordered by deadline: expiry and eviction take from its front. A group holds entries of certain
// states, or dialogs whose named lifetimes are equal when rounded up to a power of two.
// Limit: dialogs that share a Call-ID (forking) share an entry; the first answered BYE ends it. Packets of the other
// dialogs still arrive, because they carry tokens.
import type { Cell } from '../../metrics/counters.ts';
import { Method } from '../../sip/scan.ts';
import { DialogMarks } from './dialog-marks.ts';

const State = {
  transaction: 0,
  inviting: 1,
  confirmed: 2,
  ending: 3,
  subscribing: 4,
  subscribed: 5,
  failed: 6,
  ended: 7,
  renewing: 8,
} as const;
type State = (typeof State)[keyof typeof State];

export type CallState = keyof typeof State;

/** Effect of a packet on its call. none: not recorded. began: new or revived. confirmed. over. */
export const Step = { none: 0, began: 1, confirmed: 2, over: 3 } as const;
export type Step = (typeof Step)[keyof typeof Step];

const STATE_NAMES = Object.keys(State) as CallState[];

/** Exponents of the lifetimes that dialogs name, in seconds as powers of two: 64 s to 131,072 s (a day and a half). */
const SHORTEST = 6;
const LONGEST = 17;
const NAMED = LONGEST - SHORTEST + 1;

/**
 * Groups of entries with one lifetime, in the order in which a full table evicts them. Groups of a named lifetime come
 * before the group of the same state without one, the shortest first.
 */
const Group = { short: 0, pending: 1, subscribed: 2 + NAMED, confirmed: 3 + 2 * NAMED } as const;
const GROUPS = Group.confirmed + 1;
const GROUP_OF = Uint8Array.of(
  Group.short,
  Group.pending,
  Group.confirmed,
  Group.short,
  Group.pending,
  Group.subscribed,
  Group.short,
  Group.short,
  Group.pending,
);

/** The fields of a packet that identify its dialog and its party. */
export interface Sender {
  /** Hashes of the tags of From and To (`tagHash`); 0 = no tag. */
  readonly from: number;
  readonly to: number;
  readonly cseq: number;
}

/** 64*T1 (RFC 3261 17.1.1.2): retransmissions may arrive that long. */
const TRANSACTION_SECONDS = 32;
/**
 * Lifetime of a subscription whose 2xx names none: the usual expiry of an hour (RFC 6665 leaves it to the package), and
 * a margin for a late refresh.
 */
const SUBSCRIPTION_SECONDS = 3900;
/** 8*T1: a drain waits that long after the last packet, so that retransmissions still reach this member. */
const LINGER_MS = 4000;
/** Maximum of entries that one sweep removes: some milliseconds. */
const MAX_SWEPT = 50_000;
/** Maximum of entries per group that the search for the oldest call reads. */
const MAX_SEEN = 10_000;

export interface CallLifetimes {
  /** Maximum seconds without a packet before the final answer to an INVITE; RFC 3261 timer C must exceed 180 s. */
  readonly ringingSeconds: number;
  /** Maximum seconds without a packet in a confirmed call. */
  readonly longestCallSeconds: number;
}

export interface CallTableOptions extends CallLifetimes {
  /** Hard limit. Address space is reserved at once, memory is used as entries come. Default 2,000,000. */
  readonly maxEntries?: number;
  /** Counts the entries evicted because the table was full. */
  readonly evicted: Cell;
  /** Called when an INVITE or SUBSCRIBE entry was removed by age or for room. The call may have been over before. */
  readonly onForgotten?: (key: number) => void;
}

export class CallTable {
  readonly #evicted: Cell;
  readonly #onForgotten: ((key: number) => void) | undefined;
  readonly #maxEntries: number;
  /** Seconds, per group. */
  readonly #lifetimes = new Uint32Array(GROUPS);
  // Entries are numbered from 1; 0 = none. All times are whole seconds of the monotonic clock.
  readonly #keys: Float64Array;
  readonly #states: Uint8Array;
  readonly #groups: Uint8Array;
  readonly #epochs: Uint32Array;
  readonly #touched: Uint32Array;
  /** Time at which the call began or was revived. */
  readonly #began: Uint32Array;
  /** Neighbours in the group's list, oldest last packet first; `#after` also chains the free entries. */
  readonly #before: Uint32Array;
  readonly #after: Uint32Array;
  readonly #oldest = new Uint32Array(GROUPS);
  readonly #newest = new Uint32Array(GROUPS);
  /** Hash chains: first entry per bucket, next entry per entry. The key is a keyed hash, so its low bits suffice. */
  readonly #buckets: Uint32Array;
  readonly #chain: Uint32Array;
  readonly #mask: number;
  readonly #marks: DialogMarks;
  /** Entries per state. */
  readonly #counts = new Uint32Array(STATE_NAMES.length);
  /** Entries that are not over, per epoch of their begin. */
  readonly #epochCounts = new Map<number, number>();
  #free = 0;
  #unused = 1;
  #size = 0;
  #lastPacket = Number.NEGATIVE_INFINITY;

  constructor(options: CallTableOptions) {
    const entries = options.maxEntries ?? 2_000_000;
    this.#maxEntries = entries;
    this.#evicted = options.evicted;
    this.#onForgotten = options.onForgotten;
    this.setLifetimes(options);
    const buckets = 2 ** Math.ceil(Math.log2(Math.max(entries, 2)));
    this.#mask = buckets - 1;
    this.#buckets = new Uint32Array(buckets);
    this.#keys = new Float64Array(entries + 1);
    this.#states = new Uint8Array(entries + 1);
    this.#groups = new Uint8Array(entries + 1);
    this.#epochs = new Uint32Array(entries + 1);
    this.#touched = new Uint32Array(entries + 1);
    this.#began = new Uint32Array(entries + 1);
    this.#before = new Uint32Array(entries + 1);
    this.#after = new Uint32Array(entries + 1);
    this.#chain = new Uint32Array(entries + 1);
    this.#marks = new DialogMarks(entries);
  }

  /** Sets the lifetimes; they apply to existing entries, too. */
  setLifetimes(lifetimes: CallLifetimes): void {
    this.#lifetimes[Group.short] = TRANSACTION_SECONDS;
    this.#lifetimes[Group.pending] = lifetimes.ringingSeconds;
    this.#lifetimes[Group.subscribed] = SUBSCRIPTION_SECONDS;
    this.#lifetimes[Group.confirmed] = lifetimes.longestCallSeconds;
    for (let named = 1; named <= NAMED; named++) {
      const seconds = 2 ** (LONGEST - named + 1);
      this.#lifetimes[Group.subscribed - named] = seconds;
      this.#lifetimes[Group.confirmed - named] = Math.min(seconds, lifetimes.longestCallSeconds);
    }
  }

  /** Entries of every state. */
  get size(): number {
    return this.#size;
  }

  /** INVITE calls that are not over; a drain waits for their end. */
  get calls(): number {
    const counts = this.#counts;
    return counts[State.inviting]! + counts[State.renewing]! + counts[State.confirmed]! + counts[State.ending]!;
  }

  /** Returns true when this member holds the call, even if its entry only remains for retransmissions. */
  has(key: number): boolean {
    return this.#find(key) !== 0;
  }

  /** Returns the epoch in which the call began, or began anew; -1 when this member does not hold it. */
  epochOf(key: number): number {
    const entry = this.#find(key);
    return entry === 0 ? -1 : this.#epochs[entry]!;
  }

  /** Returns the state of a call; for people, not for the packet path. */
  stateOf(key: number): CallState | undefined {
    const entry = this.#find(key);
    return entry === 0 ? undefined : STATE_NAMES[this.#states[entry]!];
  }

  /** Returns true when this member holds no call with this key, or one that has failed or ended. */
  isOver(key: number): boolean {
    const entry = this.#find(key);
    if (entry === 0) return true;
    const state = this.#states[entry];
    return state === State.failed || state === State.ended;
  }

  /** Returns the smallest epoch in which an entry that is not over began; 0 when there is none. */
  oldestEpoch(): number {
    let oldest = 0;
    for (const epoch of this.#epochCounts.keys()) if (oldest === 0 || epoch < oldest) oldest = epoch;
    return oldest;
  }

  /** Returns true when a drain may end: no INVITE call, and no packet for 8*T1. `now` in monotonic milliseconds. */
  quiet(now: number): boolean {
    return this.calls === 0 && now - this.#lastPacket >= LINGER_MS;
  }

  /**
   * Takes a request that this member handles as owner. `method` is a number of `Method`; `sender` is not kept. `now` in
   * monotonic milliseconds, `epoch` of the view in force. Returns `Step.began` or `Step.none`.
   */
  onRequest(key: number, method: number, sender: Sender, now: number, epoch: number): Step {
    this.#lastPacket = now;
    const seconds = Math.floor(now / 1000);
    const entry = this.#find(key);
    if (entry === 0) {
      // ACK and CANCEL make no entry: with one, `has` would be true for a call that another member holds.
      if (method === Method.ACK || method === Method.CANCEL) return Step.none;
      const state = firstState(method, sender.to !== 0);
      this.#mark(this.#insert(key, state, seconds, epoch), sender);
      return state === State.transaction || state === State.ended ? Step.none : Step.began;
    }
    this.#touch(entry, seconds);
    const state = this.#states[entry]!;
    if (method === Method.INVITE) {
      // An INVITE after the end is the retry with credentials, or belongs to another dialog with this Call-ID.
      if (isCall(state)) return Step.none;
      return this.#beginAnew(entry, firstState(method, sender.to !== 0), sender, seconds, epoch);
    }
    if (method === Method.SUBSCRIBE) {
      if (state !== State.transaction && !isOver(state)) return Step.none;
      return this.#beginAnew(entry, State.subscribing, sender, seconds, epoch);
    }
    if (method === Method.BYE) {
      // RFC 3261 15.1.1: for the sender of a BYE the session is over, answered or not. In an early dialog the answer to
      // the INVITE decides.
      if (sender.to === 0) return Step.none;
      if (state === State.confirmed || state === State.renewing) this.#setState(entry, State.ending, seconds, epoch);
      else if (state === State.transaction) {
        this.#mark(entry, sender);
        this.#setState(entry, State.ended, seconds, epoch);
      }
    }
    return Step.none;
  }

  /** Takes an opening request whose entry is over or no call: it begins a call, unless it is a late copy. */
  #beginAnew(entry: number, state: State, sender: Sender, seconds: number, epoch: number): Step {
    const { from, to, cseq } = sender;
    if (isOver(this.#states[entry]!) && this.#marks.isLate(entry, from, to, cseq)) return Step.none;
    this.#mark(entry, sender);
    this.#setState(entry, state, seconds, epoch);
    return Step.began;
  }

  /** Begins the entry with this request. A request in a dialog names both parties. */
  #mark(entry: number, { from, to, cseq }: Sender): void {
    this.#marks.begin(entry, from, cseq);
    if (to !== 0) this.#marks.answered(entry, to);
  }

  /** Returns true for a call or subscription that is not over; early dialogs count. */
  isDialog(key: number): boolean {
    const entry = this.#find(key);
    if (entry === 0) return false;
    const state = this.#states[entry]!;
    return state !== State.transaction && !isOver(state);
  }

  /**
   * Sets the parties of a call that this member has read from its record: hashes of their tags, and the CSeq number of
   * the request that opened the call.
   */
  setParties(key: number, opened: number, answered: number, cseq: number): void {
    const entry = this.#find(key);
    if (entry === 0) return;
    this.#marks.begin(entry, opened, cseq);
    this.#marks.answered(entry, answered);
  }

  /**
   * Takes a request that the SIP server has accepted. Returns true when it has the tags of the call's dialog and a CSeq
   * number above the last one.
   */
  accepts(key: number, { from, to, cseq }: Sender): boolean {
    const entry = this.#find(key);
    return entry !== 0 && this.#marks.rises(entry, from, to, cseq);
  }

  /**
   * Takes a response that this member handles as owner, to a request of method `cseqMethod`. `toTag` is the hash of its
   * To tag. `now` in monotonic milliseconds. Returns `Step.confirmed`, `Step.over` or `Step.none`.
   */
  onResponse(key: number, cseqMethod: number, status: number, toTag: number, now: number): Step {
    const entry = this.#find(key);
    if (entry === 0) return Step.none;
    this.#lastPacket = now;
    const seconds = Math.floor(now / 1000);
    this.#touch(entry, seconds);
    if (status < 200) {
      // The last early dialog of a fork that answered counts, until there is a 2xx.
      if (toTag !== 0 && this.#states[entry] === State.inviting) this.#marks.answered(entry, toTag);
      return Step.none;
    }
    const next = afterFinal(this.#states[entry]! as State, cseqMethod, status);
    if (next === undefined) return Step.none;
    this.#setState(entry, next, seconds, this.#epochs[entry]!);
    if (isOver(next)) return Step.over;
    this.#marks.answered(entry, toTag);
    return Step.confirmed;
  }

  /**
   * Sets the lifetime of a dialog without a packet, from the 2xx to `cseqMethod` that `onResponse` has just taken.
   * `seconds` 0: the 2xx names no time. Each refresh of a dialog names its time again (RFC 4028 section 10).
   */
  setLife(key: number, cseqMethod: number, seconds: number): void {
    const entry = this.#find(key);
    if (entry === 0) return;
    const state = this.#states[entry]!;
    const named = cseqMethod === Method.SUBSCRIBE ? State.subscribed : State.confirmed;
    if (state === named) this.#regroup(entry, groupOf(state, seconds));
  }

  /**
   * Adds a call that this member has read from its record: an INVITE call or a `subscription`, ringing or `confirmed`.
   * A confirmed one lives `life` seconds without a packet; 0: it has named no time. A present entry does not change,
   * unless its state is `transaction`; check `hasEnded` before. `now` in monotonic milliseconds, `epoch` in which the
   * call began.
   */
  restore(key: number, subscription: boolean, confirmed: boolean, life: number, now: number, epoch: number): void {
    const entry = this.#find(key);
    const known = entry === 0 ? State.transaction : this.#states[entry]!;
    if (known !== State.transaction && known !== State.renewing && known !== State.ended) return;
    const state = subscription
      ? confirmed
        ? State.subscribed
        : State.subscribing
      : confirmed
        ? State.confirmed
        : State.inviting;
    const seconds = Math.floor(now / 1000);
    if (entry === 0) this.#marks.begin(this.#insert(key, state, seconds, epoch), 0, 0);
    else {
      this.#touch(entry, seconds);
      this.#setState(entry, state, seconds, epoch);
    }
    if (confirmed) this.#regroup(this.#find(key), groupOf(state, life));
  }

  /**
   * Returns true when the call of these parties (hashes of their tags) has just ended here: its BYE was faster than its
   * record. A BYE of any other party ends nothing.
   */
  hasEnded(key: number, opened: number, answered: number): boolean {
    const entry = this.#find(key);
    if (entry === 0 || this.#states[entry] !== State.ended) return false;
    const sender = this.#marks.opener(entry);
    return sender !== 0 && (sender === opened || sender === answered);
  }

  /** Forgets a call that another member owns now. Does not call `onForgotten`. */
  forget(key: number): void {
    const entry = this.#find(key);
    if (entry !== 0) this.#remove(entry);
  }

  /**
   * Returns the seconds since the begin of the oldest INVITE call that is not over; 0 when there is none. Reads at most
   * MAX_SEEN entries per group, those with the oldest packets first, so the true value may be higher. `now` in
   * monotonic milliseconds.
   */
  oldestCallSeconds(now: number): number {
    const seconds = Math.floor(now / 1000);
    let began = seconds;
    for (let group = GROUPS - 1; group >= 0; group--) {
      if (group > Group.pending && group <= Group.subscribed) continue;
      let left = MAX_SEEN;
      for (let entry = this.#oldest[group]!; entry !== 0 && left > 0; entry = this.#after[entry]!, left--) {
        const state = this.#states[entry]!;
        if (isCall(state) && this.#began[entry]! < began) began = this.#began[entry]!;
      }
    }
    return seconds - began;
  }

  /** Clears the table when other members own its calls now. Takes some milliseconds. */
  clear(): void {
    this.#buckets.fill(0);
    this.#counts.fill(0);
    this.#oldest.fill(0);
    this.#newest.fill(0);
    this.#epochCounts.clear();
    this.#free = 0;
    this.#unused = 1;
    this.#size = 0;
  }

  /** Removes expired entries, at most MAX_SWEPT. Must be called each second. `now` in monotonic milliseconds. */
  sweep(now: number): void {
    const seconds = Math.floor(now / 1000);
    let left = MAX_SWEPT;
    for (let group = 0; group < GROUPS; group++) {
      const before = seconds - this.#lifetimes[group]!;
      for (let entry = this.#oldest[group]!; entry !== 0 && left > 0; entry = this.#oldest[group]!) {
        if (this.#touched[entry]! >= before) break;
        this.#forget(entry);
        left--;
      }
    }
  }

  #find(key: number): number {
    let entry = this.#buckets[key & this.#mask]!;
    while (entry !== 0 && this.#keys[entry] !== key) entry = this.#chain[entry]!;
    return entry;
  }

  /** Returns a new entry. Its marks are still those of the entry that used the place before. */
  #insert(key: number, state: State, seconds: number, epoch: number): number {
    if (this.#size === this.#maxEntries) this.#evict();
    let entry = this.#free;
    if (entry !== 0) this.#free = this.#after[entry]!;
    else entry = this.#unused++;
    const bucket = key & this.#mask;
    this.#keys[entry] = key;
    this.#chain[entry] = this.#buckets[bucket]!;
    this.#buckets[bucket] = entry;
    this.#states[entry] = state;
    this.#epochs[entry] = epoch;
    this.#touched[entry] = seconds;
    this.#began[entry] = seconds;
    this.#counts[state]!++;
    this.#size++;
    if (!isOver(state)) this.#countEpoch(epoch, 1);
    this.#append(entry, GROUP_OF[state]!);
    return entry;
  }

  #remove(entry: number): void {
    const state = this.#states[entry]! as State;
    this.#unlink(entry);
    const bucket = this.#keys[entry]! & this.#mask;
    const next = this.#chain[entry]!;
    let at = this.#buckets[bucket]!;
    if (at === entry) this.#buckets[bucket] = next;
    else {
      while (this.#chain[at] !== entry) at = this.#chain[at]!;
      this.#chain[at] = next;
    }
    this.#counts[state]!--;
    this.#size--;
    if (!isOver(state)) this.#countEpoch(this.#epochs[entry]!, -1);
    this.#after[entry] = this.#free;
    this.#free = entry;
  }

  /** Evicts one entry: the one with the oldest last packet in the first group that is not empty. */
  #evict(): void {
    let group = 0;
    while (this.#oldest[group] === 0) group++;
    this.#forget(this.#oldest[group]!);
    this.#evicted.n++;
  }

  #forget(entry: number): void {
    const key = this.#keys[entry]!;
    const state = this.#states[entry]!;
    this.#remove(entry);
    if (state !== State.transaction) this.#onForgotten?.(key);
  }

  /** Moves the entry to the end of its list, at most once a second. */
  #touch(entry: number, seconds: number): void {
    if (this.#touched[entry] === seconds) return;
    this.#unlink(entry);
    this.#touched[entry] = seconds;
    this.#append(entry, this.#groups[entry]!);
  }

  /** Changes the state of an entry that was just touched. A revived entry gets `epoch` as the epoch of its begin. */
  #setState(entry: number, state: State, seconds: number, epoch: number): void {
    const last = this.#states[entry]! as State;
    if (last === state) return;
    this.#counts[last]!--;
    this.#counts[state]!++;
    this.#states[entry] = state;
    if (isOver(last) && !isOver(state)) {
      this.#epochs[entry] = epoch;
      this.#began[entry] = seconds;
      this.#countEpoch(epoch, 1);
    } else if (!isOver(last) && isOver(state)) this.#countEpoch(this.#epochs[entry]!, -1);
    this.#touched[entry] = seconds;
    this.#regroup(entry, GROUP_OF[state]!);
  }

  /** Moves an entry that was just touched to the end of the group's list. */
  #regroup(entry: number, group: number): void {
    if (this.#groups[entry] === group) return;
    this.#unlink(entry);
    this.#append(entry, group);
  }

  #countEpoch(epoch: number, change: number): void {
    const count = (this.#epochCounts.get(epoch) ?? 0) + change;
    if (count === 0) this.#epochCounts.delete(epoch);
    else this.#epochCounts.set(epoch, count);
  }

  #append(entry: number, group: number): void {
    const last = this.#newest[group]!;
    this.#groups[entry] = group;
    this.#before[entry] = last;
    this.#after[entry] = 0;
    if (last === 0) this.#oldest[group] = entry;
    else this.#after[last] = entry;
    this.#newest[group] = entry;
  }

  #unlink(entry: number): void {
    const group = this.#groups[entry]!;
    const before = this.#before[entry]!;
    const after = this.#after[entry]!;
    if (before === 0) this.#oldest[group] = after;
    else this.#after[before] = after;
    if (after === 0) this.#newest[group] = before;
    else this.#before[after] = before;
  }
}

/** Returns the group of a confirmed call or subscription with this lifetime in seconds; 0: it has named no time. */
function groupOf(state: number, seconds: number): number {
  if (seconds === 0) return GROUP_OF[state]!;
  const power = Math.min(Math.max(Math.ceil(Math.log2(seconds)), SHORTEST), LONGEST);
  return GROUP_OF[state]! - 1 - (LONGEST - power);
}

/** Returns the state after a final response; undefined when `state` does not change. */
function afterFinal(state: State, cseqMethod: number, status: number): State | undefined {
  if (cseqMethod === Method.INVITE) {
    // `failed`: a late copy of the challenge may have arrived after the retry. After `ended` a 2xx is a retransmission.
    const asks = state === State.inviting || state === State.renewing;
    if (status < 300) return asks || state === State.failed ? State.confirmed : undefined;
    if (asks) return status === 481 && state === State.renewing ? State.ended : State.failed;
    return state === State.confirmed && status === 481 ? State.ended : undefined;
  }
  if (cseqMethod === Method.BYE) {
    // A challenge does not end the call: the BYE comes again with credentials, or the entry expires.
    if (status === 401 || status === 407) return undefined;
    return state === State.confirmed || state === State.renewing || state === State.ending ? State.ended : undefined;
  }
  if (cseqMethod !== Method.SUBSCRIBE) return undefined;
  if (status < 300) return state === State.subscribing || state === State.failed ? State.subscribed : undefined;
  if (state === State.subscribing) return State.failed;
  return state === State.subscribed && status === 481 ? State.ended : undefined;
}

/**
 * Returns the state of an entry that begins with this request. Only a confirmed dialog has a re-INVITE (RFC 3261 14). A
 * BYE ends it.
 */
function firstState(method: number, inDialog: boolean): State {
  if (method === Method.INVITE) return inDialog ? State.renewing : State.inviting;
  if (method === Method.SUBSCRIBE) return State.subscribing;
  return method === Method.BYE && inDialog ? State.ended : State.transaction;
}

/** An INVITE call that is not over. */
function isCall(state: number): boolean {
  return state === State.inviting || state === State.renewing || state === State.confirmed || state === State.ending;
}

function isOver(state: number): boolean {
  return state === State.failed || state === State.ended;
}
