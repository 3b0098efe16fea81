// The store in the memory of one process: for the demo, a farm of one, and tests. Same contract as etcd, leases
// included.
import type { Clock, Timer } from '../base/clock.ts';
import { SipfarmError } from '../base/errors.ts';
import { encodeWrites } from './commit-check.ts';
import type { Entry, Lease, PrefixWatch, Store, StoreEvent, Write } from './store.ts';
import { watchWhole } from './whole-prefix.ts';

interface Held {
  readonly json: string;
  readonly revision: bigint;
  readonly lease: MemoryLease | undefined;
}

/** The data that the members of one process share. Each member opens its own store on it. */
export class MemoryFarm {
  readonly clock: Clock;
  readonly #held = new Map<string, Held>();
  readonly #stores = new Set<MemoryStore>();
  readonly #leases = new Set<MemoryLease>();
  #revision = 0n;
  #reachable = true;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** Opens a store for one member. */
  open(): MemoryStore {
    const store = new MemoryStore(this);
    this.#stores.add(store);
    return store;
  }

  /**
   * For tests: makes the data unreachable for all stores. Leases stand still meanwhile, as in an etcd without quorum.
   */
  down(): void {
    this.#reachable = false;
    for (const lease of this.#leases) lease.pause();
    for (const store of this.#stores) store.reachabilityChanged();
  }

  /** For tests: ends `down`. Every lease has its full time again, as after an election of etcd. */
  up(): void {
    this.#reachable = true;
    for (const lease of this.#leases) lease.restart();
    for (const store of this.#stores) store.reachabilityChanged();
  }

  get reachable(): boolean {
    return this.#reachable;
  }

  read(key: string): Entry | undefined {
    const held = this.#held.get(key);
    return held && { key, value: JSON.parse(held.json), revision: held.revision };
  }

  readAll(prefix: string): readonly Entry[] {
    return this.readPage(prefix, '', Number.POSITIVE_INFINITY);
  }

  /** Keys that start with `prefix`, in no order. */
  keys(prefix: string): readonly string[] {
    return [...this.#held.keys()].filter((key) => key.startsWith(prefix));
  }

  /** Revision of the last change. */
  get revision(): bigint {
    return this.#revision;
  }

  readPage(prefix: string, after: string, most: number): readonly Entry[] {
    const keys = [...this.#held.keys()].filter((key) => key.startsWith(prefix) && key > after).sort();
    return keys.slice(0, most).map((key) => this.read(key)!);
  }

  apply(writes: readonly Write[]): boolean {
    const encoded = encodeWrites(writes);
    for (const { lease } of writes) {
      if (lease && !this.#leases.has(lease as MemoryLease)) throw leaseGone();
    }
    for (const { key, expect } of writes) {
      if (expect === undefined) continue;
      const revision = this.#held.get(key)?.revision ?? 0n;
      if (expect === 'present' ? revision === 0n : revision !== expect) return false;
    }
    this.#revision++;
    for (const { write, octets } of encoded) {
      if (!octets) this.#held.delete(write.key);
      else {
        const lease = write.lease as MemoryLease | undefined;
        this.#held.set(write.key, { json: octets.toString(), revision: this.#revision, lease });
      }
    }
    this.#tell(writes.map((write) => write.key));
    return true;
  }

  grant(store: MemoryStore, seconds: number): Lease {
    const lease = new MemoryLease(this, store, seconds);
    this.#leases.add(lease);
    lease.restart();
    return lease;
  }

  holds(lease: MemoryLease): boolean {
    return this.#leases.has(lease);
  }

  /** Ends a lease and deletes its keys. */
  drop(lease: MemoryLease): void {
    lease.pause();
    this.#leases.delete(lease);
    const keys = [...this.#held].filter(([, held]) => held.lease === lease).map(([key]) => key);
    if (keys.length === 0) return;
    this.#revision++;
    for (const key of keys) this.#held.delete(key);
    this.#tell(keys);
  }

  forget(store: MemoryStore): void {
    this.#stores.delete(store);
  }

  #tell(keys: readonly string[]): void {
    for (const store of this.#stores) store.changed(keys);
  }
}

function leaseGone(): SipfarmError {
  return new SipfarmError('SF_STORE_CONFLICT', 'the lease is gone');
}

class MemoryLease implements Lease {
  readonly #farm: MemoryFarm;
  readonly #store: MemoryStore;
  readonly #ms: number;
  #timer: Timer | undefined;

  constructor(farm: MemoryFarm, store: MemoryStore, seconds: number) {
    this.#farm = farm;
    this.#store = store;
    this.#ms = seconds * 1000;
  }

  async keepAlive(): Promise<void> {
    await this.#store.reach();
    if (!this.#farm.holds(this)) throw leaseGone();
    this.restart();
  }

  async revoke(): Promise<void> {
    try {
      await this.#store.reach();
    } catch {
      return;
    }
    this.#farm.drop(this);
  }

  restart(): void {
    this.pause();
    this.#timer = this.#farm.clock.after(this.#ms, () => this.#farm.drop(this));
  }

  pause(): void {
    this.#timer?.cancel();
  }
}

/** One member's store. A test may cut it off alone. */
export class MemoryStore implements Store {
  readonly kind = 'memory';
  readonly places = [];
  readonly #farm: MemoryFarm;
  readonly #follows = new Set<MemoryFollow>();
  #cut = false;
  #closed = false;

  constructor(farm: MemoryFarm) {
    this.#farm = farm;
  }

  get up(): boolean {
    return this.#farm.reachable && !this.#cut && !this.#closed;
  }

  /** Resolves in a later microtask, like an answer from a network. Rejects with SF_STORE_UNREACHABLE. */
  async reach(): Promise<void> {
    await Promise.resolve();
    if (!this.up) throw new SipfarmError('SF_STORE_UNREACHABLE', 'the memory store is out of reach');
  }

  async get(key: string): Promise<Entry | undefined> {
    await this.reach();
    return this.#farm.read(key);
  }

  async list(prefix: string): Promise<readonly Entry[]> {
    await this.reach();
    return this.#farm.readAll(prefix);
  }

  async page(prefix: string, after: string, most: number): Promise<readonly Entry[]> {
    await this.reach();
    return this.#farm.readPage(prefix, after, most);
  }

  async commit(writes: readonly Write[]): Promise<boolean> {
    await this.reach();
    return this.#farm.apply(writes);
  }

  async grantLease(seconds: number): Promise<Lease> {
    await this.reach();
    return this.#farm.grant(this, seconds);
  }

  watch(prefix: string, onChange: (entries: readonly Entry[]) => void, onStale?: () => void): PrefixWatch {
    return watchWhole(this, prefix, onChange, onStale);
  }

  follow(prefix: string, onEvent: (event: StoreEvent) => void): PrefixWatch {
    const follow: MemoryFollow = new MemoryFollow(this.#farm, prefix, () => this.up, onEvent);
    this.#follows.add(follow);
    follow.wake();
    return {
      close: () => {
        follow.closed = true;
        this.#follows.delete(follow);
      },
    };
  }

  changed(keys: readonly string[]): void {
    if (!this.up) return;
    for (const follow of this.#follows) follow.changed(keys);
  }

  reachabilityChanged(): void {
    for (const follow of this.#follows) follow.wake();
  }

  /** For tests: cuts off this member alone; its lease runs out. */
  cut(): void {
    this.#cut = true;
    this.reachabilityChanged();
  }

  /** Ends `cut`. */
  heal(): void {
    this.#cut = false;
    this.reachabilityChanged();
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const follow of this.#follows) follow.closed = true;
    this.#follows.clear();
    this.#farm.forget(this);
  }
}

/** Hands over the changes of a prefix in a later microtask, once for all changes until then. */
class MemoryFollow {
  readonly #farm: MemoryFarm;
  readonly #prefix: string;
  readonly #isUp: () => boolean;
  readonly #onEvent: (event: StoreEvent) => void;
  /** Revision of each key that has been handed over. */
  readonly #revisions = new Map<string, bigint>();
  /** Keys to compare; undefined: all. */
  #changed: Set<string> | undefined;
  #awake = false;
  closed = false;

  constructor(farm: MemoryFarm, prefix: string, isUp: () => boolean, onEvent: (event: StoreEvent) => void) {
    this.#farm = farm;
    this.#prefix = prefix;
    this.#isUp = isUp;
    this.#onEvent = onEvent;
  }

  changed(keys: readonly string[]): void {
    const mine = keys.filter((key) => key.startsWith(this.#prefix));
    if (mine.length === 0) return;
    for (const key of mine) this.#changed?.add(key);
    this.#rouse();
  }

  /** Compares all keys: the store has been out of reach, or is new. */
  wake(): void {
    this.#changed = undefined;
    this.#rouse();
  }

  #rouse(): void {
    if (this.#awake) return;
    this.#awake = true;
    queueMicrotask(() => {
      this.#awake = false;
      if (!this.closed) this.#handOver();
    });
  }

  #handOver(): void {
    if (!this.#isUp()) {
      this.#onEvent({ type: 'stale' });
      return;
    }
    const { revision } = this.#farm;
    const keys = this.#changed ?? new Set([...this.#farm.keys(this.#prefix), ...this.#revisions.keys()]);
    this.#changed = new Set();
    for (const key of keys) {
      const entry = this.#farm.read(key);
      if (entry?.revision === this.#revisions.get(key)) continue;
      if (entry) this.#revisions.set(key, entry.revision);
      else this.#revisions.delete(key);
      this.#onEvent(entry ? { type: 'put', entry } : { type: 'delete', key, revision });
    }
    this.#onEvent({ type: 'current', revision });
  }
}
