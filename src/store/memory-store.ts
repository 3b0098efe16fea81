// The store in the memory of one process: for the demo, a farm of one, and tests. Same contract as etcd, leases
// included.
import type { Clock, Timer } from '../base/clock.ts';
import { SipfarmError } from '../base/errors.ts';
import { encodeWrites } from './commit-check.ts';
import type { Entry, Lease, PrefixWatch, Store, Write } from './store.ts';

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
  readonly #watches = new Set<MemoryWatch>();
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
    const watch: MemoryWatch = new MemoryWatch(prefix, () => {
      if (!this.up) onStale?.();
      else onChange(this.#farm.readAll(prefix));
    });
    this.#watches.add(watch);
    watch.wake();
    return {
      close: () => {
        watch.closed = true;
        this.#watches.delete(watch);
      },
    };
  }

  changed(keys: readonly string[]): void {
    if (!this.up) return;
    for (const watch of this.#watches) if (keys.some((key) => key.startsWith(watch.prefix))) watch.wake();
  }

  reachabilityChanged(): void {
    for (const watch of this.#watches) watch.wake();
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
    for (const watch of this.#watches) watch.closed = true;
    this.#watches.clear();
    this.#farm.forget(this);
  }
}

/** Calls its watcher in a later microtask, once for all changes until then. */
class MemoryWatch {
  readonly prefix: string;
  readonly #tell: () => void;
  #awake = false;
  closed = false;

  constructor(prefix: string, tell: () => void) {
    this.prefix = prefix;
    this.#tell = tell;
  }

  wake(): void {
    if (this.#awake) return;
    this.#awake = true;
    queueMicrotask(() => {
      this.#awake = false;
      if (!this.closed) this.#tell();
    });
  }
}
