// The relay in the kernel: paths that nftables forwards, without a kernel module of ours. The relay in user space adds
// a path once both of its sides are latched, and keeps its sockets. Packets that the kernel does not forward reach them
// as before: nft-table.ts lists it.
//
// Changes of 50 ms are one transaction of nft, in another process. No method waits for it. When one fails, every path
// is reported to its owner, and the table is made anew. No rule of before forwards a packet afterwards.
import type { Logger } from 'pino';
import type { Clock, Timer } from '../../base/clock.ts';
import { CounterReader } from './counter-reader.ts';
import type { KernelHost } from './host.ts';
import { FAMILIES, type KernelPath, type PathRefusal, refusalOf } from './kernel-path.ts';
import type { Nft } from './nft.ts';
import { type Count, changeText, listCounters, makeTable, removeTable, tableName } from './nft-table.ts';
import { type Entry, PathLedger } from './path-ledger.ts';

export interface KernelPathsOptions {
  /** Name of the member, for the name of its table. */
  readonly member: string;
  /** Paths at one time, with those that have stopped in the last seconds: twice the number of media ports is enough. */
  readonly capacity: number;
  /** Code point of the packets that leave. Left out: that of the party. */
  readonly dscp?: number;
  /** Local addresses of the media ports. */
  readonly addresses: readonly string[];
  readonly host: KernelHost;
  readonly clock: Clock;
  readonly log: Logger;
  /** Opens a process that runs nft. Called twice: for changes, and for counters. */
  readonly openNft: () => Nft;
  /** Called after each reading of the counters. */
  readonly onCounted?: () => void;
}

/** Packets that the kernel has forwarded, and their octets without the headers of IP and UDP. */
export interface PathCounts {
  readonly packets: number;
  readonly octets: number;
}

/**
 * Reason why a path stays in user space for now.
 * - taken: a path with the same packets is in the kernel, or was there some seconds ago
 * - full: the table has no room
 * - unproven: the first path since the start has not forwarded a packet yet; one call at most is silent where a packet
 *   filter of this host drops what is forwarded
 * - unavailable: nft has failed, or forwarded packets were dropped; it is tried again
 */
export type AddRefusal = PathRefusal | 'taken' | 'full' | 'unproven' | 'unavailable';

export interface PathHandle {
  /**
   * Counts of the last reading, some seconds old. They are final some seconds after `remove`. After `onFailed` they
   * stay as they are.
   */
  readonly counts: PathCounts;
  /** Resolves when the counts are final. Never rejects. */
  readonly final: Promise<void>;
  /**
   * Takes the path out of the kernel; may be called again. Once the promise has resolved, no packet that arrives is
   * forwarded by this path: it reaches the socket of `at`. A packet that has arrived before may leave microseconds
   * later. The promise never rejects. It resolves after one transaction; while nft fails, after the first that
   * succeeds.
   */
  remove(): Promise<void>;
}

/** Time between two transactions, ms. */
const BATCH_MS = 50;
/** Time between two readings of the counters, ms. */
const READ_MS = 5000;
/** The same until the first path has forwarded a packet. */
const TRIAL_MS = 1000;
/** Readings take one part in so many of the time at most, as long as the pause between them is not the longest one. */
const READ_SHARE = 20;
/** Longest time between two readings, ms, also where nft waits for the processor. */
const LONGEST_MS = 15_000;
/** Time between two tries to make the table after a fault, ms. */
const RETRY_MS = 1000;
/** Time without paths after a fault, ms. */
const PAUSE_MS = 10_000;
/** Time without paths after packets were lost on their way through this host, ms. */
const LOST_MS = 600_000;
const DROPPED = 'packets arrive and do not leave: a packet filter of this host drops them, or it does not forward';

export class KernelPaths {
  readonly #options: KernelPathsOptions;
  readonly #table: string;
  readonly #nft: Nft;
  readonly #counters: Nft;
  readonly #ledger: PathLedger;
  #state: 'ready' | 'failed' | 'closed' = 'ready';
  /** A path has forwarded a packet. */
  #proven = false;
  /** Paths that may be there before that: one, and one more for each reading without a packet to them. */
  #trials = 1;
  /** No path is added before this time. */
  #notBefore = Number.NEGATIVE_INFINITY;
  #batch: Timer | undefined;
  #lastBatchAt = Number.NEGATIVE_INFINITY;
  /** The transaction on its way. */
  #running: Promise<void> | undefined;
  #reading: Timer | undefined;
  #retry: Timer | undefined;
  /** Entries of before a fault, which the kernel may still have. */
  #left: Entry[] = [];

  /**
   * Makes the table of this member, in place of one that a crash has left. Returns the reason where there can be no
   * paths: nft or the right CAP_NET_ADMIN is missing, or the host does not forward.
   */
  static async start(options: KernelPathsOptions): Promise<KernelPaths | string> {
    const paths = new KernelPaths(options);
    const lack = options.host.lacks(options.addresses);
    // The table that a crash has left ends in either case.
    const fault = lack === '' ? await paths.#makeTable() : await paths.#nft.run('-f -', removeTable(paths.#table));
    if (fault === '' && lack === '') return paths;
    paths.#close();
    return lack === '' ? fault : lack;
  }

  /** Deletes the table that a crash of this member has left, where nft can do it. Closes `nft`. */
  static async removeTable(member: string, nft: Nft): Promise<void> {
    await nft.run('-f -', removeTable(tableName(member)));
    nft.close();
  }

  private constructor(options: KernelPathsOptions) {
    this.#options = options;
    this.#table = tableName(options.member);
    this.#nft = options.openNft();
    this.#counters = options.openNft();
    this.#ledger = new PathLedger(options.capacity);
  }

  /** Paths in the kernel, or on their way into it. */
  get size(): number {
    return this.#ledger.size;
  }

  /** Counts of all paths since the start, as of the last reading. */
  get total(): PathCounts {
    return this.#ledger.total;
  }

  /**
   * Adds a path with the next transaction. Until then its packets reach the socket. `onFailed` is called at most once,
   * and never after `remove`: from then on the packets reach the socket again. Some may still be forwarded; `remove`
   * resolves when that is over.
   */
  add(path: KernelPath, onFailed: (reason: string) => void): PathHandle | AddRefusal {
    if (this.#state !== 'ready' || this.#options.clock.now() < this.#notBefore) return 'unavailable';
    const refusal = refusalOf(path, (address) => this.#options.host.isLocal(address));
    if (refusal) return refusal;
    if (!this.#proven && this.#ledger.size >= this.#trials) return 'unproven';
    const entry = this.#ledger.add(path, onFailed);
    if (typeof entry === 'string') return entry;
    this.#batchLater();
    this.#readLater();
    return {
      get counts() {
        return { packets: entry.packets, octets: entry.octets };
      },
      final: entry.final.promise,
      remove: () => {
        this.#ledger.remove(entry);
        this.#batchLater();
        return entry.stopped.promise;
      },
    };
  }

  /**
   * Reads the counters for the last time and removes the table. All packets reach the sockets afterwards. Never
   * rejects.
   */
  async stop(): Promise<void> {
    if (this.#state === 'closed') return;
    const counts = this.#state === 'ready' && !this.#ledger.isEmpty;
    this.#state = 'closed';
    for (const timer of [this.#batch, this.#reading, this.#retry]) timer?.cancel();
    await this.#running;
    if (counts) await this.#readLast();
    const fault = await this.#nft.run('-f -', removeTable(this.#table));
    if (fault !== '') {
      const mend = `nft delete table inet ${this.#table}`;
      this.#options.log.error({ reason: fault, mend }, 'the nftables table of the media relay could not be deleted');
    }
    this.#left.push(...this.#ledger.clear().all);
    this.#release();
    this.#close();
  }

  #close(): void {
    this.#nft.close();
    this.#counters.close();
  }

  #makeTable(): Promise<string> {
    const { capacity, dscp } = this.#options;
    const text = makeTable({ name: this.#table, capacity, ...(dscp === undefined ? {} : { dscp }) });
    return this.#nft.run('-f -', text);
  }

  /** Sends the changes that wait, 50 ms after the last ones at the earliest. */
  #batchLater(): void {
    if (this.#state !== 'ready' || this.#batch || this.#running || !this.#ledger.hasChanges) return;
    const { clock } = this.#options;
    this.#batch = clock.after(Math.max(0, this.#lastBatchAt + BATCH_MS - clock.now()), () => {
      this.#batch = undefined;
      // The paths may have been removed before they were in the kernel.
      if (!this.#ledger.hasChanges) return;
      this.#running = this.#change().finally(() => {
        this.#running = undefined;
        this.#batchLater();
      });
    });
  }

  async #change(): Promise<void> {
    this.#lastBatchAt = this.#options.clock.now();
    const changes = this.#ledger.takeChanges();
    const fault = await this.#nft.run('-f -', changeText(this.#table, changes));
    if (fault !== '') this.#fail(fault);
    else this.#ledger.changed(changes);
  }

  #readLater(ms = this.#proven ? READ_MS : TRIAL_MS): void {
    if (this.#state !== 'ready' || this.#reading || this.#ledger.isEmpty) return;
    this.#reading = this.#options.clock.after(ms, () => {
      const begun = this.#options.clock.now();
      void this.#read().then(() => {
        this.#reading = undefined;
        const taken = this.#options.clock.now() - begun;
        this.#readLater(Math.max(this.#proven ? READ_MS : TRIAL_MS, Math.min(READ_SHARE * taken, LONGEST_MS)));
        this.#batchLater();
      });
    });
  }

  async #readLast(): Promise<void> {
    this.#ledger.beginReading();
    await this.#list('left', (...of) => this.#ledger.left(...of));
    this.#options.onCounted?.();
  }

  async #read(): Promise<void> {
    const ledger = this.#ledger;
    const onLeft = (number: number, packets: number, octets: number): void => {
      if (packets > 0) this.#proven = true;
      ledger.left(number, packets, octets);
    };
    ledger.beginReading();
    let fault = await this.#list('left', onLeft);
    if (fault === '' && ledger.anyStill) {
      fault = await this.#list('came', (number, packets) => ledger.came(number, packets));
      // Packets may have begun to flow between the two listings.
      if (fault === '' && ledger.anyLost) fault = await this.#list('left', onLeft);
    }
    if (this.#state !== 'ready') return;
    if (fault !== '') this.#fail(fault);
    else if (ledger.anyLost) this.#fail(DROPPED, LOST_MS);
    else {
      ledger.endReading();
      if (!this.#proven) this.#trials++;
      this.#options.onCounted?.();
    }
  }

  /** Lists the counters of both families. Returns the fault, '' for none. */
  async #list(count: Count, onCounter: (number: number, packets: number, octets: number) => void): Promise<string> {
    for (const family of FAMILIES) {
      const reader = new CounterReader(onCounter);
      const fault = await this.#counters.run(listCounters(this.#table, count, family), '', (piece) =>
        reader.take(piece),
      );
      if (fault !== '') return fault;
    }
    return '';
  }

  /** Gives up all paths, and makes the table anew. */
  #fail(reason: string, pauseMs = PAUSE_MS): void {
    if (this.#state !== 'ready') return;
    const { clock, log } = this.#options;
    this.#state = 'failed';
    this.#proven = false;
    this.#trials = 1;
    this.#notBefore = clock.now() + pauseMs;
    this.#batch?.cancel();
    this.#batch = undefined;
    const { all, live } = this.#ledger.clear();
    log.error({ reason, paths: live.length }, 'media leaves the kernel, and is relayed in user space');
    this.#left.push(...all);
    void this.#mend();
    for (const { onFailed } of live) onFailed(reason);
  }

  async #mend(): Promise<void> {
    await this.#running;
    const fault = await this.#makeTable();
    if (this.#state !== 'failed') return;
    if (fault !== '') {
      this.#retry = this.#options.clock.after(RETRY_MS, () => void this.#mend());
      return;
    }
    this.#release();
    this.#state = 'ready';
  }

  /** Notes that the kernel has none of the paths of before. */
  #release(): void {
    for (const { stopped } of this.#left.splice(0)) stopped.resolve();
  }
}
