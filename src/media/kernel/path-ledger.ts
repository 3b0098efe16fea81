// The paths of a member by their state, their numbers, and their counts. Pure: the shell (kernel-paths.ts) has the time
// and nft.
//
//    state       kernel forwards      leaves it by
//    queued      no                   takeChanges; remove
//    forwarding  yes                  remove
//    stopping    yes                  the end of its transaction
//    counted     no                   the next reading of the counters, which are final then
//    gone        no, or not known after `clear`
import { arrivalKey, departureKey, familyOf, type KernelPath } from './kernel-path.ts';
import type { Changes } from './nft-table.ts';
import { NumberPool } from './number-pool.ts';

export interface Entry {
  readonly path: KernelPath;
  readonly number: number;
  readonly onFailed: (reason: string) => void;
  /** Resolves when no packet takes this path any more. */
  readonly stopped: PromiseWithResolvers<void>;
  /** Resolves when its counts change no more. */
  readonly final: PromiseWithResolvers<void>;
  state: 'queued' | 'forwarding' | 'stopping' | 'counted' | 'gone';
  /** Readings that had begun before it was added: its number may be that of another path in them. */
  readonly readings: number;
  /** Packets that have left, and their octets without the headers of IP and UDP. */
  packets: number;
  octets: number;
  /** Packets that have come. Read only of paths that stand still. */
  came: number;
  /** No packet has left since the reading before. */
  still: boolean;
}

/** A transaction on its way. */
export interface EntryChanges extends Changes {
  readonly add: readonly Entry[];
  readonly stop: readonly Entry[];
  readonly forget: readonly Entry[];
}

/** Packets that come and do not leave, while none leaves: half a second of audio. */
const LOST = 25;
/** Changes of a kind in one transaction. Their text takes this process a millisecond. */
const MOST = 500;
/** Octets of the headers of IP and UDP, by family. */
const HEADERS = { 4: 28, 6: 48 } as const;

export class PathLedger {
  readonly #capacity: number;
  #numbers: NumberPool;
  readonly #byNumber = new Map<number, Entry>();
  /** Keys of arrival and of departure, in one map each, of all entries that are not gone. */
  readonly #arrivals = new Set<string>();
  readonly #departures = new Set<string>();
  readonly #queued = new Set<Entry>();
  readonly #stopping = new Set<Entry>();
  #counted = new Set<Entry>();
  readonly #forgotten = new Set<Entry>();
  /** Counted entries whose counts the reading on its way makes final. */
  #final = new Set<Entry>();
  #readings = 0;
  #forwarding = 0;
  /** Packets that all paths have forwarded since the start, and their octets as in `Entry`. */
  readonly total = { packets: 0, octets: 0 };

  constructor(capacity: number) {
    this.#capacity = capacity;
    this.#numbers = new NumberPool(capacity);
  }

  /** Paths that are queued or forwarding. */
  get size(): number {
    return this.#queued.size + this.#forwarding;
  }

  /** Entries of all states. */
  get isEmpty(): boolean {
    return this.#byNumber.size === 0;
  }

  get hasChanges(): boolean {
    return this.#queued.size + this.#stopping.size + this.#forgotten.size > 0;
  }

  /** Returns an entry, queued. taken: one with the same packets is not gone yet. */
  add(path: KernelPath, onFailed: (reason: string) => void): Entry | 'taken' | 'full' {
    const [arrival, departure] = [arrivalKey(path), departureKey(path)];
    if (this.#arrivals.has(arrival) || this.#departures.has(departure)) return 'taken';
    const number = this.#numbers.take();
    if (number === undefined) return 'full';
    const entry: Entry = {
      path,
      number,
      onFailed,
      stopped: Promise.withResolvers<void>(),
      final: Promise.withResolvers<void>(),
      state: 'queued',
      readings: this.#readings,
      packets: 0,
      octets: 0,
      came: 0,
      still: false,
    };
    this.#byNumber.set(number, entry);
    this.#arrivals.add(arrival);
    this.#departures.add(departure);
    this.#queued.add(entry);
    return entry;
  }

  /** Removes a path. Does nothing for one that is removed already. */
  remove(entry: Entry): void {
    if (entry.state === 'queued') {
      this.#queued.delete(entry);
      this.#release(entry);
      entry.stopped.resolve();
    } else if (entry.state === 'forwarding') {
      entry.state = 'stopping';
      this.#forwarding--;
      this.#stopping.add(entry);
    }
  }

  /** Returns the next changes, the oldest first. `changed` is to follow, or `clear`. */
  takeChanges(): EntryChanges {
    const changes = { add: takeFrom(this.#queued), stop: takeFrom(this.#stopping), forget: takeFrom(this.#forgotten) };
    for (const entry of changes.add) entry.state = 'forwarding';
    this.#forwarding += changes.add.length;
    return changes;
  }

  /** Notes that the kernel has these changes. */
  changed({ stop, forget }: EntryChanges): void {
    for (const entry of stop) {
      if (!this.#holds(entry)) continue;
      entry.state = 'counted';
      this.#counted.add(entry);
      entry.stopped.resolve();
    }
    for (const entry of forget) this.#release(entry);
  }

  /**
   * Forgets every entry: the table is to be made anew. all: what the kernel may still have. live: those of them that
   * nobody has removed.
   */
  clear(): { readonly all: readonly Entry[]; readonly live: readonly Entry[] } {
    const all = [...this.#byNumber.values()];
    const live = all.filter(({ state }) => state === 'queued' || state === 'forwarding');
    for (const entry of all) {
      entry.state = 'gone';
      entry.final.resolve();
    }
    for (const each of [this.#byNumber, this.#arrivals, this.#departures]) each.clear();
    for (const each of [this.#queued, this.#stopping, this.#counted, this.#forgotten, this.#final]) each.clear();
    this.#numbers = new NumberPool(this.#capacity);
    this.#forwarding = 0;
    return { all, live };
  }

  /** Begins a reading of the counters. The paths that have stopped until now get their final counts. */
  beginReading(): void {
    this.#readings++;
    this.#final = this.#counted;
    this.#counted = new Set();
  }

  /** Takes the counter of the packets that have left by the path of this number. `octets` include all headers. */
  left(number: number, packets: number, octets: number): void {
    const entry = this.#read(number);
    if (!entry) return;
    const payload = octets - packets * HEADERS[familyOf(entry.path)];
    this.total.packets += packets - entry.packets;
    this.total.octets += payload - entry.octets;
    entry.still = packets === entry.packets;
    entry.packets = packets;
    entry.octets = payload;
  }

  /** Takes the counter of the packets that have come to the path of this number. */
  came(number: number, packets: number): void {
    const entry = this.#read(number);
    if (entry) entry.came = packets;
  }

  /** Ends a reading. */
  endReading(): void {
    for (const entry of this.#final) this.#forgotten.add(entry);
    this.#final = new Set();
  }

  /** Returns true when no packet leaves by some path: they may be lost between arrival and departure. */
  get anyStill(): boolean {
    return this.#some(({ still }) => still);
  }

  /**
   * Returns true when packets come to a path and none leaves. The counters of packets that leave must have been read
   * again after those that come.
   */
  get anyLost(): boolean {
    return this.#some(({ still, came, packets }) => still && came - packets >= LOST);
  }

  #some(is: (entry: Entry) => boolean): boolean {
    for (const entry of this.#byNumber.values()) if (entry.state === 'forwarding' && is(entry)) return true;
    return false;
  }

  /** Returns the entry with this number; undefined when the number had another entry as the reading began. */
  #read(number: number): Entry | undefined {
    const entry = this.#byNumber.get(number);
    return entry && entry.readings < this.#readings ? entry : undefined;
  }

  /** Returns false when `clear` has come meanwhile. */
  #holds(entry: Entry): boolean {
    return this.#byNumber.get(entry.number) === entry;
  }

  /** Forgets an entry of which the kernel has nothing. */
  #release(entry: Entry): void {
    if (!this.#holds(entry)) return;
    entry.state = 'gone';
    entry.final.resolve();
    this.#byNumber.delete(entry.number);
    this.#arrivals.delete(arrivalKey(entry.path));
    this.#departures.delete(departureKey(entry.path));
    this.#numbers.release(entry.number);
  }
}

/** Moves the oldest entries out of the set. */
function takeFrom(set: Set<Entry>): readonly Entry[] {
  const taken: Entry[] = [];
  for (const entry of set) {
    if (taken.length === MOST) break;
    taken.push(entry);
    set.delete(entry);
  }
  return taken;
}
