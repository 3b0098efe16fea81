// The store in etcd (3.4 or later) through npm etcd3. Leases, watches and requests have a connection each, so that a
// failed write cuts no lease.
import type { Etcd3, ITxnRequest, ITxnResponse } from 'etcd3';
import type { Clock } from '../base/clock.ts';
import { SipfarmError } from '../base/errors.ts';
import { LATE, within } from '../base/within.ts';
import { Backoff } from './backoff.ts';
import { type EncodedWrite, encodeWrites } from './commit-check.ts';
import { type EtcdAccess, EtcdConnection, etcdFault, reasonOf, withoutCredentials } from './etcd-connection.ts';
import { EtcdFollow } from './etcd-follow.ts';
import type { Entry, Lease, PrefixWatch, Store, StoreEvent, Write } from './store.ts';
import { watchWhole } from './whole-prefix.ts';

/** Values of the label `operation` of sipfarm_store_request_seconds. */
export type StoreOperation = 'get' | 'list' | 'commit' | 'grant' | 'keepalive' | 'revoke';

export interface EtcdStoreOptions extends EtcdAccess {
  /** The farm's name. All keys are under /sipfarm/<farm>/v1/. */
  readonly farm: string;
  readonly clock: Clock;
  /** Returns 0 to below 1; spreads pauses. */
  readonly random?: () => number;
  /** Called after each attempt with its duration in seconds, and whether etcd answered without an error. */
  readonly observe?: (operation: StoreOperation, seconds: number, ok: boolean) => void;
  /** Deadline of one attempt, in milliseconds. */
  readonly requestMs?: number;
  /** Attempts per request, over all hosts in turn. */
  readonly attempts?: number;
  /** Keys per page of a listing. */
  readonly pageKeys?: number;
  /** Milliseconds between regular listings of a watched prefix, made without a fault too. */
  readonly relistMs?: number;
}

const REQUEST_MS = 2000;
const PAGE_KEYS = 256;
const RELIST_MS = 300_000;
/** A listing starts again when its history is compacted during it. More starts than this are a fault. */
const MAX_LISTINGS = 5;

interface KeyValue {
  readonly key: Buffer;
  readonly value: Buffer;
  readonly mod_revision: string;
}

export class EtcdStore implements Store {
  readonly kind = 'etcd';
  readonly places: readonly string[];
  readonly #options: EtcdStoreOptions;
  readonly #prefix: string;
  readonly #random: () => number;
  readonly #attempts: number;
  readonly #requests: EtcdConnection;
  readonly #leases: EtcdConnection;
  readonly #watching: EtcdConnection;
  readonly #watches = new Set<PrefixWatch>();
  readonly #pauses = new Set<Backoff>();
  #up = false;
  #closed = false;

  constructor(options: EtcdStoreOptions) {
    const { requestMs = REQUEST_MS, random = Math.random } = options;
    const hosts = options.hosts.map(withoutCredentials);
    const access = { ...options, hosts };
    this.places = hosts;
    this.#options = options;
    this.#prefix = `/sipfarm/${options.farm}/v1/`;
    this.#random = random;
    this.#attempts = options.attempts ?? Math.max(3, hosts.length + 1);
    const first = Math.floor(random() * hosts.length);
    this.#requests = new EtcdConnection(access, requestMs, first);
    this.#leases = new EtcdConnection(access, requestMs, first);
    this.#watching = new EtcdConnection(access, requestMs, first);
  }

  get up(): boolean {
    return this.#up && !this.#closed;
  }

  async get(key: string): Promise<Entry | undefined> {
    const answer = await this.#ask('get', this.#requests, (client) => client.kv.range({ key: this.#key(key) }));
    return answer.kvs[0] && this.#decode(answer.kvs[0]);
  }

  async list(prefix: string): Promise<readonly Entry[]> {
    let entries: Entry[] = [];
    await this.#list(prefix, this.#requests, (page, first) => {
      entries = first ? [...page] : entries.concat(page);
    });
    return entries;
  }

  async page(prefix: string, after: string, most: number): Promise<readonly Entry[]> {
    const { key, range_end } = this.#range(prefix);
    const start = after < prefix ? key : Buffer.concat([this.#key(after), Buffer.of(0)]);
    const answer = await this.#ask('list', this.#requests, (client) =>
      client.kv.range({ key: start, range_end, limit: most }),
    );
    return answer.kvs.map((kv) => this.#decode(kv));
  }

  async commit(writes: readonly Write[]): Promise<boolean> {
    const encoded = encodeWrites(writes);
    if (encoded.length === 0) return true;
    const request = this.#transaction(encoded);
    let unclear = false;
    return this.#ask('commit', this.#requests, async (client) => {
      let answer: ITxnResponse;
      try {
        answer = await client.kv.txn(request);
      } catch (error) {
        unclear ||= etcdFault(error) === 'unclear';
        throw error;
      }
      return answer.succeeded || (unclear && standsAsWritten(encoded, answer));
    });
  }

  async grantLease(seconds: number): Promise<Lease> {
    const { ID } = await this.#ask('grant', this.#leases, (client) => client.leaseClient.leaseGrant({ TTL: seconds }));
    // A keepalive that hangs must leave time for another before the lease ends.
    const keepAliveMs = Math.min(REQUEST_MS, seconds * 200);
    return new EtcdLease(
      ID,
      () => this.#ask('keepalive', this.#leases, (client) => this.#keepAlive(client, ID, keepAliveMs), 1),
      () => this.#ask('revoke', this.#leases, (client) => client.leaseClient.leaseRevoke({ ID }), 2),
    );
  }

  watch(prefix: string, onChange: (entries: readonly Entry[]) => void, onStale?: () => void): PrefixWatch {
    return watchWhole(this, prefix, onChange, onStale);
  }

  follow(prefix: string, onEvent: (event: StoreEvent) => void): PrefixWatch {
    const follow = new EtcdFollow({
      clock: this.#options.clock,
      random: this.#random,
      connection: this.#watching,
      range: this.#range(prefix),
      list: (onPage) => this.#list(prefix, this.#watching, onPage),
      decode: (kv) => this.#decode(kv),
      relistMs: this.#options.relistMs ?? RELIST_MS,
      onEvent,
    });
    this.#watches.add(follow);
    return {
      close: () => {
        this.#watches.delete(follow);
        follow.close();
      },
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const watch of this.#watches) watch.close();
    for (const pause of this.#pauses) pause.stop();
    for (const connection of [this.#requests, this.#leases, this.#watching]) connection.close();
  }

  #key(key: string): Buffer {
    return Buffer.from(this.#prefix + key);
  }

  #range(prefix: string): { key: Buffer; range_end: Buffer } {
    const key = this.#key(prefix);
    const end = Buffer.from(key);
    end[end.length - 1]!++;
    return { key, range_end: end };
  }

  #decode(kv: KeyValue): Entry {
    return {
      key: kv.key.toString().slice(this.#prefix.length),
      value: parseJson(kv.value),
      revision: BigInt(kv.mod_revision),
    };
  }

  /**
   * Lists a prefix in pages of one revision, and resolves with it. Begins again, with `first` true, when that revision
   * has been compacted meanwhile.
   */
  async #list(
    prefix: string,
    connection: EtcdConnection,
    onPage: (entries: readonly Entry[], first: boolean) => void,
  ): Promise<bigint> {
    for (let listings = 1; ; listings++) {
      try {
        return await this.#listOnce(prefix, connection, onPage);
      } catch (error) {
        if (!(error instanceof Compacted)) throw error;
        if (listings === MAX_LISTINGS) throw new SipfarmError('SF_STORE_REFUSED', `${prefix}: ${error.message}`);
      }
    }
  }

  async #listOnce(
    prefix: string,
    connection: EtcdConnection,
    onPage: (entries: readonly Entry[], first: boolean) => void,
  ): Promise<bigint> {
    const { key, range_end } = this.#range(prefix);
    let start = key;
    let revision: string | undefined;
    for (;;) {
      const answer = await this.#ask('list', connection, (client) =>
        client.kv.range({
          key: start,
          range_end,
          limit: this.#options.pageKeys ?? PAGE_KEYS,
          ...(revision && { revision }),
        }),
      );
      onPage(
        answer.kvs.map((kv) => this.#decode(kv)),
        revision === undefined,
      );
      revision ??= answer.header.revision;
      const last = answer.kvs.at(-1);
      if (!answer.more || !last) return BigInt(revision);
      start = Buffer.concat([last.key, Buffer.of(0)]);
    }
  }

  /**
   * Returns the transaction of the writes with their expectations. When one fails, the answer contains the state of the
   * keys.
   */
  #transaction(encoded: readonly EncodedWrite[]): ITxnRequest {
    const expecting = encoded.filter(({ write }) => write.expect !== undefined);
    return {
      compare: expecting.map(({ write: { key, expect } }) => ({
        key: this.#key(key),
        target: 'Mod',
        result: expect === 'present' ? 'Greater' : 'Equal',
        mod_revision: expect === 'present' ? '0' : expect!.toString(),
      })),
      success: encoded.map(({ write, octets }) => {
        const key = this.#key(write.key);
        if (!octets) return { request_delete_range: { key } };
        return { request_put: { key, value: octets, ...(write.lease && { lease: (write.lease as EtcdLease).id }) } };
      }),
      failure:
        expecting.length === 0 ? [] : encoded.map(({ write }) => ({ request_range: { key: this.#key(write.key) } })),
    };
  }

  /** Sends one keepalive on its own stream. Rejects when the lease is gone or no answer came in `ms` milliseconds. */
  async #keepAlive(client: Etcd3, id: string, ms: number): Promise<void> {
    const stream = await client.leaseClient.leaseKeepAlive();
    const answered = Promise.withResolvers<void>();
    stream.on('error', answered.reject);
    stream.on('end', () => answered.reject(new Unanswered()));
    stream.on('data', ({ TTL }) => (Number(TTL) > 0 ? answered.resolve() : answered.reject(new LeaseGone())));
    stream.write({ ID: id });
    try {
      if ((await within(this.#options.clock, ms, answered.promise)) === LATE) throw new Unanswered();
    } finally {
      stream.end();
      stream.cancel();
    }
  }

  /**
   * Sends a request until an answer is clear, each time to the next host. Rejects with a SipfarmError, or Compacted.
   */
  async #ask<T>(
    operation: StoreOperation,
    connection: EtcdConnection,
    send: (client: Etcd3) => Promise<T>,
    attempts = this.#attempts,
  ): Promise<T> {
    const { clock, observe } = this.#options;
    let pause: Backoff | undefined;
    try {
      for (let attempt = 1; ; attempt++) {
        if (this.#closed) throw new SipfarmError('SF_STORE_UNREACHABLE', 'the store is closed');
        const client = connection.client;
        const sentAt = clock.now();
        try {
          const answer = await send(client);
          observe?.(operation, (clock.now() - sentAt) / 1000, true);
          this.#up = true;
          return answer;
        } catch (error) {
          observe?.(operation, (clock.now() - sentAt) / 1000, false);
          const final = this.#judge(`${operation} at ${connection.host}`, error, attempt === attempts);
          if (isUnreachable(final)) connection.renew(client);
          if (final !== 'again') throw final;
        }
        pause ??= this.#newPause();
        await pause.pause();
      }
    } finally {
      if (pause) this.#pauses.delete(pause);
    }
  }

  #newPause(): Backoff {
    const pause = new Backoff(this.#options.clock, this.#random, 50, 500);
    this.#pauses.add(pause);
    return pause;
  }

  #judge(what: string, error: unknown, last: boolean): Error | 'again' {
    const fault =
      error instanceof LeaseGone ? 'lease-gone' : error instanceof Unanswered ? 'unclear' : etcdFault(error);
    const text = `${what}: ${reasonOf(error)}`;
    if (fault === 'unclear') {
      if (!last) return 'again';
      this.#up = false;
      return new SipfarmError('SF_STORE_UNREACHABLE', text, { cause: error });
    }
    if (fault === 'compacted') return new Compacted(text);
    return new SipfarmError(fault === 'lease-gone' ? 'SF_STORE_CONFLICT' : 'SF_STORE_REFUSED', text, { cause: error });
  }
}

function isUnreachable(judged: Error | 'again'): boolean {
  return judged === 'again' || (judged instanceof SipfarmError && judged.code === 'SF_STORE_UNREACHABLE');
}

class Compacted extends Error {}
class LeaseGone extends Error {
  override readonly message = 'the lease is gone';
}
class Unanswered extends Error {
  override readonly message = 'no answer in time';
}

class EtcdLease implements Lease {
  readonly id: string;
  readonly keepAlive: () => Promise<void>;
  readonly #revoke: () => Promise<unknown>;

  constructor(id: string, keepAlive: () => Promise<void>, revoke: () => Promise<unknown>) {
    this.id = id;
    this.keepAlive = keepAlive;
    this.#revoke = revoke;
  }

  async revoke(): Promise<void> {
    await this.#revoke().catch(() => undefined);
  }
}

/** Returns true when every key is exactly as these writes would leave it, written by one transaction. */
function standsAsWritten(encoded: readonly EncodedWrite[], answer: ITxnResponse): boolean {
  const revisions = new Set<string>();
  const equal = encoded.every(({ octets }, i) => {
    const kv = answer.responses[i]?.response_range.kvs[0];
    if (!octets || !kv) return !octets && !kv;
    revisions.add(kv.mod_revision);
    return kv.value.equals(octets);
  });
  return equal && revisions.size <= 1;
}

function parseJson(octets: Buffer): unknown {
  try {
    return JSON.parse(octets.toString());
  } catch {
    return undefined;
  }
}
