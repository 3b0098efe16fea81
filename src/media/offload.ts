// Moves the packets of RTP ports into the kernel once both parties are locked, and back before anything changes. RTCP
// stays in user space, which reads its reports. The sockets stay open, and their latches stay locked.
//
//    every 200 ms                 each port makes the step that offload-step.ts decides
//    a new offer or answer, end   the session releases the port: its path, and those that lead to it, end first
//    a reading of the counters    packets, octets and the time of the last packet
import type { Clock, Timer } from '../base/clock.ts';
import type { Endpoint } from '../base/endpoint.ts';
import type { AddRefusal, KernelPaths, PathCounts, PathHandle } from './kernel/kernel-paths.ts';
import { type Locks, nextStep, type OffloadFacts, type OffloadState, pauseAfter } from './offload-step.ts';

/** An RTP port of the relay in user space. */
export interface RelayPort {
  /** Local place. */
  readonly at: Endpoint;
  /** The port by which its packets leave. */
  readonly facing: RelayPort;
  /** Number of the lock; 0: no source is locked. Each lock has another number. */
  readonly lock: number;
  /** Packets of its party that have come to user space. */
  readonly packets: number;
  /** Returns the source of this lock; undefined when the lock is another one by now. */
  sourceOf(lock: number): Endpoint | undefined;
  /** See `Latch.hold`. */
  hold(held: boolean): void;
}

const TICK_MS = 200;
/** Tries in one tick, also those that are refused. They take this process a millisecond or two. */
const MOST_TRIES = 500;
const NO_LOCKS: Locks = { own: 0, far: 0 };
/** Refusals that pass with the next reading of the counters. */
const SHORT: readonly AddRefusal[] = ['taken', 'unproven'];
/** Other refusals that may pass. */
const LONG: readonly AddRefusal[] = ['full', 'unavailable'];

export class Offload {
  readonly #paths: Pick<KernelPaths, 'add'>;
  readonly #clock: Clock;
  readonly #ports = new Map<RelayPort, OffloadPort>();
  readonly #ticks: Timer;

  constructor(paths: Pick<KernelPaths, 'add'>, clock: Clock) {
    this.#paths = paths;
    this.#clock = clock;
    this.#ticks = clock.every(TICK_MS, () => {
      const now = clock.now();
      let tries = 0;
      for (const port of this.#ports.values()) if (port.step(now, tries < MOST_TRIES)) tries++;
    });
  }

  /** Offloads the packets of this port from now on, until it is closed. */
  follow(port: RelayPort): OffloadPort {
    const followed = new OffloadPort(port, this.#paths, (other) => this.#ports.get(other));
    this.#ports.set(port, followed);
    return followed;
  }

  /** Forwards nothing more of this port. */
  close(followed: OffloadPort): void {
    followed.close();
    this.#ports.delete(followed.port);
  }

  /** Notes that the counters of the paths have been read. */
  counted(): void {
    const now = this.#clock.now();
    for (const port of this.#ports.values()) port.counted(now);
  }

  stop(): void {
    this.#ticks.cancel();
  }
}

/** One port. The path of its packets leads to the port that it faces. */
export class OffloadPort implements OffloadFacts {
  readonly port: RelayPort;
  readonly #paths: Pick<KernelPaths, 'add'>;
  readonly #find: (port: RelayPort) => OffloadPort | undefined;
  /** Ports whose paths lead to this one. */
  readonly #incoming = new Set<OffloadPort>();
  /** Only with a path: that one, and the port to which it leads. */
  #path: PathHandle | undefined;
  #target: OffloadPort | undefined;
  /** Paths whose counts may change, and the sum of all earlier ones. */
  readonly #counting = new Set<PathHandle>();
  #sum: PathCounts = { packets: 0, octets: 0 };
  /** Packets of the path at the last reading. */
  #seen = 0;
  #tries = 0;
  #closed = false;
  state: OffloadState = 'user';
  tried: Locks = NO_LOCKS;
  barred = false;
  quiet = 0;
  packetsBefore = 0;
  notBefore = Number.NEGATIVE_INFINITY;
  /** Time of the last reading that had new packets, ms; 0 = none. */
  lastAt = 0;

  constructor(port: RelayPort, paths: Pick<KernelPaths, 'add'>, find: (port: RelayPort) => OffloadPort | undefined) {
    this.port = port;
    this.#paths = paths;
    this.#find = find;
  }

  get locks(): Locks {
    return { own: this.port.lock, far: this.port.facing.lock };
  }

  get packets(): number {
    return this.port.packets;
  }

  /** Packets that the kernel has forwarded, as of the last reading. */
  get counts(): PathCounts {
    let { packets, octets } = this.#sum;
    for (const { counts } of this.#counting) {
      packets += counts.packets;
      octets += counts.octets;
    }
    return { packets, octets };
  }

  /** Resolves when the counts of the paths until now are final: some seconds after `close`. */
  get final(): Promise<unknown> {
    return Promise.all([...this.#counting].map((path) => path.final));
  }

  /** Makes the next step; adds no path unless `mayAdd`. Returns true when it has tried to add one. */
  step(now: number, mayAdd: boolean): boolean {
    const step = nextStep(this, now);
    if (step === 'remove') {
      this.#leave();
      // A party that was silent may be so again.
      this.notBefore = now + pauseAfter(++this.#tries);
    }
    if (step !== 'add' || !mayAdd) return false;
    this.#add(now);
    return true;
  }

  /** Ends the path of this port: it is about to face another one. */
  redirect(): void {
    this.#leave();
  }

  /** Ends the path of this port and those that lead to it: its source is about to change. */
  release(): void {
    this.#leave();
    for (const port of [...this.#incoming]) port.#leave();
    this.#tries = 0;
    this.notBefore = Number.NEGATIVE_INFINITY;
  }

  close(): void {
    this.#closed = true;
    this.release();
  }

  counted(now: number): void {
    if (this.state !== 'kernel' || !this.#path) return;
    const { packets } = this.#path.counts;
    if (packets <= this.#seen) {
      this.quiet++;
      return;
    }
    this.#seen = packets;
    this.#tries = this.quiet = 0;
    this.lastAt = now;
  }

  #add(now: number): void {
    const { port, locks } = this;
    const { facing } = port;
    const [from, to, target] = [port.sourceOf(locks.own), facing.sourceOf(locks.far), this.#find(facing)];
    if (!from || !to || !target) return;
    this.tried = locks;
    const added = this.#paths.add({ from, at: port.at, by: facing.at, to }, () => this.#leave());
    if (typeof added === 'string') {
      this.barred = ![...SHORT, ...LONG].includes(added);
      this.#tries = SHORT.includes(added) ? 1 : this.#tries + 1;
      this.notBefore = now + pauseAfter(this.#tries);
      return;
    }
    port.hold(true);
    this.state = 'kernel';
    this.#path = added;
    this.#counting.add(added);
    this.#seen = this.quiet = 0;
    this.#target = target;
    target.#incoming.add(this);
  }

  #leave(): void {
    const [path, target] = [this.#path, this.#target];
    if (!path || !target) return;
    this.state = 'leaving';
    this.#path = this.#target = undefined;
    target.#incoming.delete(this);
    this.packetsBefore = this.port.packets;
    void path.remove().then(() => {
      this.state = 'user';
      // Its silence counts from now on. The port of a closed stream may belong to another one.
      if (!this.#closed) this.port.hold(false);
    });
    void path.final.then(() => {
      const { packets, octets } = path.counts;
      this.#sum = { packets: this.#sum.packets + packets, octets: this.#sum.octets + octets };
      this.#counting.delete(path);
    });
  }
}
