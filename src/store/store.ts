// The shared data of the farm: a small key-value store with revisions. Two implementations, one contract suite
// (test/unit/store/). Keys are relative: the implementation prepends /sipfarm/<farm>/v1/. Values are JSON, readable
// with `etcdctl get --prefix`.

/** A value with the revision of its last change. Revisions rise over the whole store. */
export interface Entry {
  readonly key: string;
  /** undefined when the stored value is not JSON: another program wrote it. */
  readonly value: unknown;
  readonly revision: bigint;
}

/** Most writes of one commit. etcd takes 128 operations in one transaction. */
export const MAX_WRITES = 100;
/** Most octets of the keys and values of one commit. etcd takes 1.5 MiB per request. */
export const MAX_COMMIT_OCTETS = 1024 * 1024;

export interface Write {
  readonly key: string;
  /** undefined deletes the key. */
  readonly value: unknown;
  /**
   * Condition of the write. A revision: the key still has it. 0n: the key is absent. `present`: the key exists. Left
   * out: none.
   */
  readonly expect?: bigint | 'present';
  /** Binds the key to the lease: the key ends with the lease. */
  readonly lease?: Lease;
}

/** One lease per member. The holder detects its end by its own clock, not by the store (membership/lease.ts). */
export interface Lease {
  /**
   * Renews the lease. Resolves when the store has confirmed. Rejects when the store could not confirm, or with
   * SF_STORE_CONFLICT when the lease is gone.
   */
  keepAlive(): Promise<void>;
  /** Ends the lease and its keys at once. Never rejects. */
  revoke(): Promise<void>;
}

/** One event of a followed prefix. Revisions are those of the store. */
export type StoreEvent =
  | { readonly type: 'put'; readonly entry: Entry }
  | { readonly type: 'delete'; readonly key: string; readonly revision: bigint }
  /**
   * With all events up to here the prefix is whole: after the first listing, each batch of changes, and each recovery.
   */
  | { readonly type: 'current'; readonly revision: bigint }
  /** The events so far may be out of date, until the next `current`. */
  | { readonly type: 'stale' };

/** A running watch. */
export interface PrefixWatch {
  close(): void;
}

export interface Store {
  readonly kind: 'etcd' | 'memory';
  /** Addresses of the store for people to read, without credentials. Empty for a store in this process. */
  readonly places: readonly string[];
  /** Returns the entry of `key`, or undefined. Linearizable. */
  get(key: string): Promise<Entry | undefined>;
  /** Returns all keys that start with `prefix`, ordered by key. Linearizable; internal pages all have one revision. */
  list(prefix: string): Promise<readonly Entry[]>;
  /**
   * Returns the first `most` keys that start with `prefix` and follow the key `after`, ordered by key. Linearizable.
   * `after` '' = from the first.
   */
  page(prefix: string, after: string, most: number): Promise<readonly Entry[]>;
  /**
   * Applies all writes or none. Resolves to true when applied, false when an expectation failed. When an answer is lost
   * the same writes are sent again; if they are already in the store, they count as applied. So a claim must contain
   * something that no other claimant would write. At most MAX_WRITES writes and MAX_COMMIT_OCTETS, one write per key.
   * Rejects with:
   * - SF_STORE_UNREACHABLE: the outcome is unknown.
   * - SF_STORE_REFUSED: the store refuses these writes.
   * - SF_STORE_CONFLICT: a lease is gone.
   */
  commit(writes: readonly Write[]): Promise<boolean>;
  grantLease(seconds: number): Promise<Lease>;
  /**
   * Calls `onChange` with the whole prefix at once and after every change; one call may cover several changes. The
   * watch recovers from cuts and compaction, and the next call repairs a missed event. Calls `onStale` when the last
   * entries may be out of date from now on.
   */
  watch(prefix: string, onChange: (entries: readonly Entry[]) => void, onStale?: () => void): PrefixWatch;
  /**
   * Follows a prefix by its single changes, for prefixes too large to hand over whole. Calls `onEvent` with every key,
   * in pages, then with `current`, and from then on with each change. After a cut or a compaction it compares a new
   * listing with the revisions that it has handed over, and sends only the differences.
   */
  follow(prefix: string, onEvent: (event: StoreEvent) => void): PrefixWatch;
  /** True while requests succeed; false after one has finally failed. */
  readonly up: boolean;
  close(): Promise<void>;
}
