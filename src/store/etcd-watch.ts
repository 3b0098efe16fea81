// Keeps a table of one prefix equal to etcd: lists at revision R, watches from R+1, and lists again after any fault. It
// uses the bare watch stream: the resume of etcd3's own Watcher can skip a backlog silently.
import type { Etcd3, IWatchResponse } from 'etcd3';
import type { Clock, Timer } from '../base/clock.ts';
import { Backoff } from './backoff.ts';
import type { EtcdConnection } from './etcd-connection.ts';
import type { Entry, PrefixWatch } from './store.ts';

/** Interval in which the stream must send something; progress requests make it do so. */
const PULSE_MS = 5000;

export interface Listing {
  readonly entries: readonly Entry[];
  /** Revision of the store at which `entries` is the whole prefix. */
  readonly revision: bigint;
}

export interface EtcdWatchOptions {
  readonly clock: Clock;
  readonly random: () => number;
  readonly connection: EtcdConnection;
  /** First key, and the key after the last, as octets. */
  readonly range: { readonly key: Buffer; readonly range_end: Buffer };
  readonly list: () => Promise<Listing>;
  readonly decode: (kv: { readonly key: Buffer; readonly value: Buffer; readonly mod_revision: string }) => Entry;
  /** Milliseconds between regular listings: the last protection against lost events. */
  readonly relistMs: number;
  readonly onChange: (entries: readonly Entry[]) => void;
  readonly onStale: () => void;
}

type End = 'lost' | 'relist' | 'closed';

export class EtcdWatch implements PrefixWatch {
  readonly #options: EtcdWatchOptions;
  readonly #backoff: Backoff;
  #table = new Map<string, Entry>();
  #revision = 0n;
  /** True from a listing until the next fault. */
  #fresh = false;
  #closed = false;
  #end: (end: End) => void = () => {};

  constructor(options: EtcdWatchOptions) {
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
      const listing = await this.#options.list().catch(() => undefined);
      if (this.#closed) return;
      if (listing) {
        this.#load(listing);
        const end = await this.#follow();
        if (end === 'closed') return;
        if (end === 'relist') continue;
      }
      this.#stale();
      await this.#backoff.pause();
    }
  }

  #load(listing: Listing): void {
    const same =
      this.#fresh &&
      listing.entries.length === this.#table.size &&
      listing.entries.every((entry) => this.#table.get(entry.key)?.revision === entry.revision);
    this.#revision = listing.revision;
    this.#fresh = true;
    if (same) return;
    this.#table = new Map(listing.entries.map((entry) => [entry.key, entry]));
    this.#options.onChange(listing.entries);
  }

  #stale(): void {
    if (!this.#fresh) return;
    this.#fresh = false;
    this.#options.onStale();
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

  /** Applies the events of one answer. Ignores an event that is not newer than the table. */
  #take(answer: IWatchResponse): void {
    let changed = false;
    for (const { type, kv } of answer.events) {
      const entry = this.#options.decode(kv);
      if (entry.revision < this.#revision || entry.revision === this.#table.get(entry.key)?.revision) continue;
      this.#revision = entry.revision;
      changed = true;
      if (type === 'Delete') this.#table.delete(entry.key);
      else this.#table.set(entry.key, entry);
    }
    if (!changed) return;
    const entries = [...this.#table.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
    this.#options.onChange(entries);
  }
}
