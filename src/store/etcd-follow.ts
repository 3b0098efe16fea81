// Follows one prefix of etcd by single events: lists at revision R, watches from R+1, and lists again after any fault.
// It uses the bare watch stream: the resume of etcd3's own Watcher can skip a backlog silently. A new listing is
// compared with the revisions handed over so far, because the revisions of a restored etcd may have gone back.
import type { Etcd3, IWatchResponse } from 'etcd3';
import type { Clock, Timer } from '../base/clock.ts';
import { Backoff } from './backoff.ts';
import type { EtcdConnection } from './etcd-connection.ts';
import type { Entry, PrefixWatch, StoreEvent } from './store.ts';

/** Interval in which the stream must send something; progress requests make it do so. */
const PULSE_MS = 5000;

export interface EtcdFollowOptions {
  readonly clock: Clock;
  readonly random: () => number;
  readonly connection: EtcdConnection;
  /** First key, and the key after the last, as octets. */
  readonly range: { readonly key: Buffer; readonly range_end: Buffer };
  /** Lists the prefix in pages of one revision, and resolves with it. May begin again with a newer revision. */
  readonly list: (onPage: (entries: readonly Entry[]) => void) => Promise<bigint>;
  readonly decode: (kv: { readonly key: Buffer; readonly value: Buffer; readonly mod_revision: string }) => Entry;
  /** Milliseconds between regular listings: the last protection against lost events. */
  readonly relistMs: number;
  readonly onEvent: (event: StoreEvent) => void;
}

type End = 'lost' | 'relist' | 'closed';

export class EtcdFollow implements PrefixWatch {
  readonly #options: EtcdFollowOptions;
  readonly #backoff: Backoff;
  /** Revision of each key that has been handed over. */
  readonly #revisions = new Map<string, bigint>();
  #revision = 0n;
  /** True from a listing until the next fault. */
  #fresh = false;
  #closed = false;
  #end: (end: End) => void = () => {};

  constructor(options: EtcdFollowOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.clock, options.random, 100, 2000);
    void this.#run();
  }

  close(): void {
    this.#closed = true;
    this.#backoff.stop();
    this.#end('closed');
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      const seen = new Set<string>();
      const revision = await this.#options.list((entries) => this.#takePage(entries, seen)).catch(() => undefined);
      if (this.#closed) return;
      if (revision !== undefined) {
        this.#takeListing(revision, seen);
        const end = await this.#follow();
        if (end === 'closed') return;
        if (end === 'relist') continue;
      }
      this.#stale();
      await this.#backoff.pause();
    }
  }

  #takePage(entries: readonly Entry[], seen: Set<string>): void {
    if (this.#closed) return;
    for (const entry of entries) {
      seen.add(entry.key);
      if (this.#revisions.get(entry.key) !== entry.revision) this.#put(entry);
    }
  }

  /** The listing at `revision` is complete: what it has not is deleted. */
  #takeListing(revision: bigint, seen: ReadonlySet<string>): void {
    for (const key of this.#revisions.keys()) if (!seen.has(key)) this.#delete(key, revision);
    this.#revision = revision;
    this.#fresh = true;
    this.#options.onEvent({ type: 'current', revision });
  }

  #put(entry: Entry): void {
    this.#revisions.set(entry.key, entry.revision);
    this.#options.onEvent({ type: 'put', entry });
  }

  #delete(key: string, revision: bigint): void {
    if (this.#revisions.delete(key)) this.#options.onEvent({ type: 'delete', key, revision });
  }

  #stale(): void {
    if (!this.#fresh) return;
    this.#fresh = false;
    this.#options.onEvent({ type: 'stale' });
  }

  /**
   * Follows the stream from the revision after the table's. Resolves when the stream ends for any reason. Never
   * rejects.
   */
  async #follow(): Promise<End> {
    const { clock, random, connection, range, relistMs } = this.#options;
    let client: Etcd3;
    let stream: Awaited<ReturnType<Etcd3['watchClient']['watch']>>;
    try {
      client = connection.client;
      stream = await client.watchClient.watch();
    } catch {
      return 'lost';
    }
    const timers: Timer[] = [];
    let heard = true;
    const end = await new Promise<End>((resolve) => {
      this.#end = resolve;
      stream.on('error', () => resolve('lost'));
      stream.on('end', () => resolve('lost'));
      stream.on('data', (answer) => {
        heard = true;
        if (answer.created && !answer.canceled) this.#backoff.reset();
        if (answer.canceled) resolve('lost');
        else if (this.#end === resolve) this.#take(answer);
      });
      timers.push(
        clock.every(PULSE_MS, () => {
          if (!heard) return resolve('lost');
          heard = false;
          stream.write({ progress_request: {} });
        }),
        clock.after(relistMs * (0.9 + 0.2 * random()), () => resolve('relist')),
      );
      const start = (this.#revision + 1n).toString();
      stream.write({ create_request: { ...range, start_revision: start, progress_notify: true } });
      if (this.#closed) resolve('closed');
    });
    this.#end = () => {};
    for (const timer of timers) timer.cancel();
    // Ends before it cancels: etcd3 treats a stream that fails while writable as a fault of the host. It would close
    // the channel of all watches.
    stream.end();
    stream.cancel();
    if (end === 'lost') connection.renew(client);
    return end;
  }

  /** Takes the events of one answer. Ignores an event that is not newer than those before it. */
  #take(answer: IWatchResponse): void {
    let changed = false;
    for (const { type, kv } of answer.events) {
      const entry = this.#options.decode(kv);
      if (entry.revision < this.#revision || entry.revision === this.#revisions.get(entry.key)) continue;
      this.#revision = entry.revision;
      changed = true;
      if (type === 'Delete') this.#delete(entry.key, entry.revision);
      else this.#put(entry);
    }
    if (changed) this.#options.onEvent({ type: 'current', revision: this.#revision });
  }
}
