// The calls this member owns, by the 53-bit key of their Call-ID: answers "do I hold it?" for the owner lookup, and says when a drain is over.
// One entry per Call-ID, some 54 octets in flat arrays that never grow, so that neither the garbage collector nor a rehash stops the packet path.
//
//    transaction   any other request, but for ACK and CANCEL            32 s after its last packet
//    inviting      INVITE without a final answer                        ringingSeconds
//    renewing      re-INVITE of a call that is not known here           ringingSeconds
//    confirmed     INVITE answered 2xx                                  longestCallSeconds, or by its Session-Expires
//    ending        BYE passed on, not answered yet                      32 s
//    subscribing   SUBSCRIBE without a final answer                     ringingSeconds
//    subscribed    SUBSCRIBE answered 2xx                               by its Expires; 3,900 s when there is none
//    failed        final answer >= 300; a 2xx or a new request revives  32 s, for retransmissions and the retry with credentials
//    ended         BYE answered, or BYE of a call that is not known     32 s, for retransmissions; a new INVITE revives
//                  here: its record, read later, does not bring it back
//
// A late copy of an INVITE that belongs to a call that is over is not a new one, and revives nothing (dialog-marks.ts).
//
// Each lifetime counts from the last packet and is one number per group, so a list per group in order of last packet is ordered by deadline too:
// expiry takes from the front, and so does eviction. A group is of states, or of dialogs that have named about the same lifetime: those are rounded
// up to a power of two.
// Limit: dialogs that share a Call-ID (forking) share an entry; the first BYE that is answered ends it. Their packets still arrive: they carry tokens.
import type { Cell } from '../metrics/counters.ts';
import { Method } from '../sip/scan.ts';
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

/** What a packet did to a call: nothing that a record would tell, made it (or brought it back to life), confirmed it, ended it. */
export const Step = { none: 0, began: 1, confirmed: 2, over: 3 } as const;
export type Step = (typeof Step)[keyof typeof Step];

const STATE_NAMES = Object.keys(State) as CallState[];

/** Lifetimes that dialogs name, in seconds as powers of two: from a minute to a day and a half. */
const SHORTEST = 6;
const LONGEST = 17;
const NAMED = LONGEST - SHORTEST + 1;

/**
 * Groups of entries with one lifetime, in the order in which a full table gives them up. Those of a named lifetime stand in front of those of their state
 * that have named none, the shortest first.
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

/** The part of a packet by which its call and its party are known. */
export interface Sender {
  /** Hashes of the tags of From and To (`tagHash`); 0 = there is none. */
  readonly from: number;
  readonly to: number;
  readonly cseq: number;
}

/** 64*T1, RFC 3261 17.1.1.2: as long may a retransmission be on its way. */
const TRANSACTION_SECONDS = 32;
/** Of a subscription whose 2xx names no time: an hour, the usual expiry (RFC 6665 lets the package decide), and a margin for a late refresh. */
const SUBSCRIPTION_SECONDS = 3900;
/** 8*T1: what a drain waits after the last packet of anything, so that its retransmissions find us. */
const LINGER_MS = 4000;
/** Entries that one sweep removes at most: some milliseconds. */
const MAX_SWEPT = 50_000;
/** Entries of a group that a look for the oldest call sees at most. */
const MAX_SEEN = 10_000;

export interface CallLifetimes {
  /** Seconds an INVITE may go without a packet before its final answer; RFC 3261 timer C asks for more than 180. */
  readonly ringingSeconds: number;
  /** Seconds a confirmed call may go without a packet. */
  readonly longestCallSeconds: number;
}

export interface CallTableOptions extends CallLifetimes {
  /** Hard cap; room for it is reserved at once, memory is used as entries come. Default 2,000,000. */
  readonly maxEntries?: number;
  /** Adds up the entries given up because the table was full. */
  readonly evicted: Cell;
  /** An entry of an INVITE or SUBSCRIBE call has been forgotten, by its age or for want of room. It may have been over before. */
  readonly onForgotten?: (key: number) => void;
}

export class CallTable {
  readonly #evicted: Cell;
  readonly #onForgotten: ((key: number) => void) | undefined;
  readonly #maxEntries: number;
  /** Seconds, per group. */
  readonly #lifetimes = new Uint32Array(GROUPS);
  // Entries are numbered from 1; 0 = none. All times in whole seconds of the monotonic clock.
  readonly #keys: Float64Array;
  readonly #states: Uint8Array;
  readonly #groups: Uint8Array;
  readonly #epochs: Uint32Array;
  readonly #touched: Uint32Array;
  /** When the call began, or began anew. */
  readonly #began: Uint32Array;
  /** Neighbours in the group's list, oldest packet first; `#after` also chains the free entries. */
  readonly #before: Uint32Array;
  readonly #after: Uint32Array;
  readonly #oldest = new Uint32Array(GROUPS);
  readonly #newest = new Uint32Array(GROUPS);
  /** Hash chains: first entry per bucket, next entry per entry. The key is a keyed hash already, so its low bits will do. */
  readonly #buckets: Uint32Array;
  readonly #chain: Uint32Array;
  readonly #mask: number;
  readonly #marks: DialogMarks;
  /** Entries per state. */
  readonly #counts = new Uint32Array(STATE_NAMES.length);
  /** Live entries per epoch of creation. */
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

  /** Sets how long calls live; counts for those that are there, too. */
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

  /** INVITE calls that are not over: what a drain waits for. */
  get calls(): number {
    const counts = this.#counts;
    return counts[State.inviting]! + counts[State.renewing]! + counts[State.confirmed]! + counts[State.ending]!;
  }

  /** Does this member hold the call? True also while the entry only lingers for retransmissions. */
  has(key: number): boolean {
    return this.#find(key) !== 0;
  }

  /** The state of a call; for people, not for the packet path. */
  stateOf(key: number): CallState | undefined {
    const entry = this.#find(key);
    return entry === 0 ? undefined : STATE_NAMES[this.#states[entry]!];
  }

  /** Number of entries per state. */
  counts(): Record<CallState, number> {
    return Object.fromEntries(STATE_NAMES.map((name, state) => [name, this.#counts[state]!])) as Record<
      CallState,
      number
    >;
  }

  /** The smallest epoch in which an entry that is not over was made; 0 when there is none. */
  oldestEpoch(): number {
    let oldest = 0;
    for (const epoch of this.#epochCounts.keys()) if (oldest === 0 || epoch < oldest) oldest = epoch;
    return oldest;
  }

  /** True when a drain may end: no INVITE call is left, and no packet came for 8*T1. `now` in monotonic milliseconds. */
  quiet(now: number): boolean {
    return this.calls === 0 && now - this.#lastPacket >= LINGER_MS;
  }

  /**
   * A request that this member handles as owner. `method` is a number of `Method`; `sender` is reused. `now` in monotonic milliseconds, `epoch` of
   * the view in force. Returns `Step.began` or `Step.none`.
   */
  onRequest(key: number, method: number, sender: Sender, now: number, epoch: number): Step {
    this.#lastPacket = now;
    const seconds = Math.floor(now / 1000);
    const entry = this.#find(key);
    if (entry === 0) {
      // ACK and CANCEL start nothing: were they entered, a stray one would hide that the call lives at another member.
      if (method === Method.ACK || method === Method.CANCEL) return Step.none;
      const state = firstState(method, sender.to !== 0);
      this.#mark(this.#insert(key, state, seconds, epoch), sender);
      return state === State.transaction || state === State.ended ? Step.none : Step.began;
    }
    this.#touch(entry, seconds);
    const state = this.#states[entry]!;
    if (method === Method.INVITE) {
      // An INVITE after the end is the retry with credentials, or a call that goes on in another dialog of this Call-ID.
      if (isCall(state)) return Step.none;
      return this.#beginAnew(entry, firstState(method, sender.to !== 0), sender, seconds, epoch);
    }
    if (method === Method.SUBSCRIBE) {
      if (state !== State.transaction && !isOver(state)) return Step.none;
      return this.#beginAnew(entry, State.subscribing, sender, seconds, epoch);
    }
    if (method === Method.BYE) {
      // RFC 3261 15.1.1: whoever sent a BYE is done with the session, answered or not. In an early dialog the answer to the INVITE decides.
      if (sender.to === 0) return Step.none;
      if (state === State.confirmed || state === State.renewing) this.#move(entry, State.ending, seconds, epoch);
      else if (state === State.transaction) {
        this.#mark(entry, sender);
        this.#move(entry, State.ended, seconds, epoch);
      }
    }
    return Step.none;
  }

  /** An opening request under an entry that is over, or is no call: it begins a call, unless it is late. */
  #beginAnew(entry: number, state: State, sender: Sender, seconds: number, epoch: number): Step {
    const { from, to, cseq } = sender;
    if (isOver(this.#states[entry]!) && this.#marks.isLate(entry, from, to, cseq)) return Step.none;
    this.#mark(entry, sender);
    this.#move(entry, state, seconds, epoch);
    return Step.began;
  }

  /** The entry begins with this request. One in a dialog names both parties. */
  #mark(entry: number, { from, to, cseq }: Sender): void {
    this.#marks.begin(entry, from, cseq);
    if (to !== 0) this.#marks.answered(entry, to);
  }

  /** Is it a call or a subscription that is not over? It may be an early dialog. */
  isDialog(key: number): boolean {
    const entry = this.#find(key);
    if (entry === 0) return false;
    const state = this.#states[entry]!;
    return state !== State.transaction && !isOver(state);
  }

  /** The parties of a call that this member has read from its record: hashes of the tags, and the CSeq number of the request that has opened it. */
  setParties(key: number, opened: number, answered: number, cseq: number): void {
    const entry = this.#find(key);
    if (entry === 0) return;
    this.#marks.begin(entry, opened, cseq);
    this.#marks.answered(entry, answered);
  }

  /** The SIP server has accepted a request with these tags. True when it is of the call's dialog and its CSeq has risen since the last one. */
  accepts(key: number, { from, to, cseq }: Sender): boolean {
    const entry = this.#find(key);
    return entry !== 0 && this.#marks.rises(entry, from, to, cseq);
  }

  /**
   * A response that this member handles as owner, to a request of method `cseqMethod`; `toTag` is the hash of its To tag. `now` in monotonic
   * milliseconds. Returns `Step.confirmed`, `Step.over` or `Step.none`.
   */
  onResponse(key: number, cseqMethod: number, status: number, toTag: number, now: number): Step {
    const entry = this.#find(key);
    if (entry === 0) return Step.none;
    this.#lastPacket = now;
    const seconds = Math.floor(now / 1000);
    this.#touch(entry, seconds);
    if (status < 200) {
      // Early dialogs of a fork: the one that has answered last counts until there is a 2xx.
      if (toTag !== 0 && this.#states[entry] === State.inviting) this.#marks.answered(entry, toTag);
      return Step.none;
    }
    const next = afterFinal(this.#states[entry]! as State, cseqMethod, status);
    if (next === undefined) return Step.none;
    this.#move(entry, next, seconds, this.#epochs[entry]!);
    if (isOver(next)) return Step.over;
    this.#marks.answered(entry, toTag);
    return Step.confirmed;
  }

  /**
   * A 2xx to a request of method `cseqMethod`, which `onResponse` has just been told of, gives the dialog `seconds` without a packet; 0: it names no
   * time. What refreshes a dialog says it anew (RFC 4028 10).
   */
  setLife(key: number, cseqMethod: number, seconds: number): void {
    const entry = this.#find(key);
    if (entry === 0) return;
    const state = this.#states[entry]!;
    const named = cseqMethod === Method.SUBSCRIBE ? State.subscribed : State.confirmed;
    if (state === named) this.#regroup(entry, groupOf(state, seconds));
  }

  /**
   * Puts in a call that this member has read from its record: an INVITE call, or a `subscription`, that rings or is `confirmed`, and then lives
   * `life` seconds without a packet; 0: it has named no time. One that is here already stays as it is, unless only some request of its dialog is
   * known; ask `hasEnded` before. `now` in monotonic milliseconds, `epoch` in which the call began.
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
      this.#move(entry, state, seconds, epoch);
    }
    if (confirmed) this.#regroup(this.#find(key), groupOf(state, life));
  }

  /**
   * Has the call of these parties, by the hashes of their tags, ended here a moment ago? So it is where its BYE was faster than its record. A BYE of
   * anybody else ends nothing.
   */
  hasEnded(key: number, opened: number, answered: number): boolean {
    const entry = this.#find(key);
    if (entry === 0 || this.#states[entry] !== State.ended) return false;
    const sender = this.#marks.opener(entry);
    return sender !== 0 && (sender === opened || sender === answered);
  }

  /** Forgets a call that is another member's now. `onForgotten` is not called. */
  giveUp(key: number): void {
    const entry = this.#find(key);
    if (entry !== 0) this.#remove(entry);
  }

  /**
   * Seconds since the oldest INVITE call began that is not over; 0 when there is none. Looks at a bounded number of calls, those without a packet
   * for longest first: among more than that it may be older. `now` in monotonic milliseconds.
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

  /** Forgets every call: somebody else owns them now. Some milliseconds. */
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

  /** Removes what has outlived its time, a bounded number; to be called each second. `now` in monotonic milliseconds. */
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

  /** Returns the new entry. Its marks are those of the one before. */
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

  /** Makes room: the entry whose last packet is oldest, in the first group that has one. */
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

  /** Moves the entry to the end of its list, once a second at most. */
  #touch(entry: number, seconds: number): void {
    if (this.#touched[entry] === seconds) return;
    this.#unlink(entry);
    this.#touched[entry] = seconds;
    this.#append(entry, this.#groups[entry]!);
  }

  /** Changes the state of an entry that was touched just now. An entry that comes back to life is as young as `epoch`. */
  #move(entry: number, state: State, seconds: number, epoch: number): void {
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

  /** Moves an entry that was touched just now to the end of the group's list. */
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

/** The group of a confirmed call or a subscription that lives so many seconds without a packet; 0: it has named no time. */
function groupOf(state: number, seconds: number): number {
  if (seconds === 0) return GROUP_OF[state]!;
  const power = Math.min(Math.max(Math.ceil(Math.log2(seconds)), SHORTEST), LONGEST);
  return GROUP_OF[state]! - 1 - (LONGEST - power);
}

/** The state that follows `state` after a final response; undefined when it stays. */
function afterFinal(state: State, cseqMethod: number, status: number): State | undefined {
  if (cseqMethod === Method.INVITE) {
    // After `failed`: a late retransmission of the challenge came behind the retry. After `ended` it is a retransmission itself.
    const asks = state === State.inviting || state === State.renewing;
    if (status < 300) return asks || state === State.failed ? State.confirmed : undefined;
    if (asks) return status === 481 && state === State.renewing ? State.ended : State.failed;
    return state === State.confirmed && status === 481 ? State.ended : undefined;
  }
  if (cseqMethod === Method.BYE) {
    // A challenge does not end it yet: the BYE comes again with credentials, or the entry runs out.
    if (status === 401 || status === 407) return undefined;
    return state === State.confirmed || state === State.renewing || state === State.ending ? State.ended : undefined;
  }
  if (cseqMethod !== Method.SUBSCRIBE) return undefined;
  if (status < 300) return state === State.subscribing || state === State.failed ? State.subscribed : undefined;
  if (state === State.subscribing) return State.failed;
  return state === State.subscribed && status === 481 ? State.ended : undefined;
}

/** The state of an entry that begins with this request. Only a dialog that is confirmed has a re-INVITE (RFC 3261 14), and a BYE ends it. */
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
