// The shared memory of the farm: a small revisioned key-value store. Two implementations, one contract suite (test/unit/store-contract.test.ts).
// Keys are relative: the implementation puts /sipfarm/<farm>/v1/ in front. Values are JSON that `etcdctl get --prefix` shows readably.

/** A value with the revision of its last change. Revisions rise over the whole store. */
export interface Entry {
  readonly key: string;
  readonly value: unknown;
  readonly revision: bigint;
}

export interface Write {
  readonly key: string;
  /** undefined deletes the key. */
  readonly value: unknown;
  /** Only if the key's revision is still this one; 0n = only if the key is absent; left out = always. */
  readonly expect?: bigint;
  /** Bind the key to the lease: it goes when the lease goes. */
  readonly lease?: Lease;
}

/** One lease per member. Its end is noticed by the holder's own clock, not by the store's word (membership/lease.ts). */
export interface Lease {
  /** Proves life. Resolves when the store has confirmed; rejects when it could not, or when the lease is gone (SF_STORE_CONFLICT). */
  keepAlive(): Promise<void>;
  /** Gives the lease up at once, and its keys with it. Never rejects. */
  revoke(): Promise<void>;
}

/** What a watcher is told. `entries` is always the whole prefix: whoever missed an event is healed by the next call. */
export interface PrefixWatch {
  close(): void;
}

export interface Store {
  readonly kind: 'etcd' | 'memory';
  /** Linearizable. */
  get(key: string): Promise<Entry | undefined>;
  /** Linearizable, all keys that start with `prefix`, ordered by key; paged inside, all pages at one revision. */
  list(prefix: string): Promise<readonly Entry[]>;
  /**
   * All writes or none. Resolves to true when applied, false when an expectation failed; an unclear outcome (the answer was lost) is
   * resolved by reading back, so that a write that was applied is never reported as lost against itself. At most 100 writes, one per key.
   * Rejects with SF_STORE_UNREACHABLE or SF_STORE_REFUSED.
   */
  commit(writes: readonly Write[]): Promise<boolean>;
  grantLease(seconds: number): Promise<Lease>;
  /** Calls `onChange` with the whole prefix at once and after every change (changes close together may be one call), and heals itself over cuts and compaction. `onStale` tells that the table may be old since now. */
  watch(prefix: string, onChange: (entries: readonly Entry[]) => void, onStale?: () => void): PrefixWatch;
  /** True while requests succeed. */
  readonly up: boolean;
  close(): Promise<void>;
}
