// The shared memory of the farm: a small revisioned key-value store. Two implementations, one contract suite (test/unit/store/).
// Keys are relative: the implementation puts /sipfarm/<farm>/v1/ in front. Values are JSON that `etcdctl get --prefix` shows readably.

/** A value with the revision of its last change. Revisions rise over the whole store. */
export interface Entry {
  readonly key: string;
  /** undefined when what is stored is not JSON: somebody else wrote it. */
  readonly value: unknown;
  readonly revision: bigint;
}

/** Below the 128 operations that etcd takes in one transaction. */
export const MAX_WRITES = 100;
/** Keys and values of one commit; etcd takes 1.5 MiB per request. */
export const MAX_COMMIT_OCTETS = 1024 * 1024;

export interface Write {
  readonly key: string;
  /** undefined deletes the key. */
  readonly value: unknown;
  /** Only if the key's revision is still this one; 0n = only if the key is absent; `present` = only if there is one; left out = always. */
  readonly expect?: bigint | 'present';
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
  /** Where it is, for people to read, without credentials. Empty for one in this process. */
  readonly places: readonly string[];
  /** Linearizable. */
  get(key: string): Promise<Entry | undefined>;
  /** Linearizable, all keys that start with `prefix`, ordered by key; paged inside, all pages at one revision. */
  list(prefix: string): Promise<readonly Entry[]>;
  /** Linearizable, the first `most` keys that start with `prefix` and come behind the key `after` ('' = from the first), ordered by key. */
  page(prefix: string, after: string, most: number): Promise<readonly Entry[]>;
  /**
   * All writes or none. Resolves to true when applied, false when an expectation failed. When an answer is lost the same writes are
   * asked again, and found already there they count as ours: so a claim must hold something that no other claimant would write.
   * At most MAX_WRITES writes and MAX_COMMIT_OCTETS, one write per key.
   * Rejects with SF_STORE_UNREACHABLE (the outcome is unknown), SF_STORE_REFUSED, or SF_STORE_CONFLICT when a lease is gone.
   */
  commit(writes: readonly Write[]): Promise<boolean>;
  grantLease(seconds: number): Promise<Lease>;
  /** Calls `onChange` with the whole prefix at once and after every change (changes close together may be one call), and heals itself over cuts and compaction. `onStale` tells that the table may be old since now. */
  watch(prefix: string, onChange: (entries: readonly Entry[]) => void, onStale?: () => void): PrefixWatch;
  /** True while requests succeed; turns false when one has failed for good. */
  readonly up: boolean;
  close(): Promise<void>;
}
