// The ports of one side with their sockets. A socket stays open while its port rests: the thread then counts late
// packets. When the port is free again, the socket is closed, or serves the next stream.
import type { Clock } from '../../base/clock.ts';
import type { LegPorts } from '../media-relay.ts';
import { NO_PORT, type PortAllocator } from '../port-allocator.ts';
import type { RelayMemory } from './relay-memory.ts';

/** Ports that one `take` may try. The ports of other programs are skipped. */
const MOST_TRIES = 64;

const NO_DESCRIPTOR = -1;

export interface SidePortsOptions {
  readonly allocator: PortAllocator;
  readonly memory: RelayMemory;
  /** Index of the first port in the memory, and the port's number. */
  readonly firstIndex: number;
  readonly firstPort: number;
  readonly ports: number;
  readonly now: Clock['now'];
  /** Opens a socket. Returns its descriptor, or the reason why there is none. */
  readonly bind: (port: number) => number | BindFault;
  /** Closes a descriptor that the thread does not have. */
  readonly close: (fd: number) => void;
  /** The thread must close the descriptor of the port with this index. */
  readonly shut: (index: number) => void;
}

/** foreign: another program has the port. */
export type BindFault = 'foreign' | 'failed';

export class SidePorts {
  readonly #options: SidePortsOptions;
  readonly #fds: Int32Array;
  /** Indexes of ports that rest or are free, and whose sockets are open. */
  readonly #idle = new Set<number>();

  constructor(options: SidePortsOptions) {
    this.#options = options;
    this.#fds = new Int32Array(options.ports).fill(NO_DESCRIPTOR);
  }

  get allocator(): PortAllocator {
    return this.#options.allocator;
  }

  indexOf(port: number): number {
    return this.#options.firstIndex + port - this.#options.firstPort;
  }

  /** Returns the descriptor of a used port. */
  descriptor(port: number): number {
    return this.#fds[port - this.#options.firstPort]!;
  }

  /** Takes a pair, or one port when `single`, with open sockets. */
  take(single: boolean): LegPorts | undefined {
    const { allocator, now } = this.#options;
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      const port = single ? allocator.takeSingle(now()) : allocator.takePair(now());
      if (port === NO_PORT) return undefined;
      const ports = { port, rtcpPort: single ? port : port + 1 };
      const fault = this.#open(ports);
      if (fault === undefined) return ports;
      if (fault === 'failed') return undefined;
    }
    return undefined;
  }

  /** Takes these very ports. Returns false when one of them is not free. */
  claim(ports: LegPorts): boolean {
    const { allocator, now } = this.#options;
    const numbers = numbersOf(ports);
    const claimed = numbers.filter((port) => allocator.claim(port, now()));
    if (claimed.length === numbers.length) return this.#open(ports) === undefined;
    for (const port of claimed) allocator.release(port, now());
    return false;
  }

  /** Lets ports rest. */
  release(numbers: readonly number[]): void {
    const { allocator, now, firstPort } = this.#options;
    for (const port of numbers) {
      allocator.release(port, now());
      if (this.descriptor(port) !== NO_DESCRIPTOR) this.#idle.add(port - firstPort);
    }
  }

  /** Closes the sockets of the ports that have rested. */
  sweep(): void {
    const { allocator, now, firstIndex, firstPort, shut } = this.#options;
    allocator.freePairs(now());
    for (const index of this.#idle) {
      if (allocator.stateOf(firstPort + index) !== 'free') continue;
      this.#idle.delete(index);
      this.#fds[index] = NO_DESCRIPTOR;
      shut(firstIndex + index);
    }
  }

  /** Closes every socket. Only without the thread. */
  closeAll(): void {
    for (const fd of this.#fds) if (fd !== NO_DESCRIPTOR) this.#options.close(fd);
    this.forgetAll();
  }

  /** Forgets every socket: the thread has closed them. */
  forgetAll(): void {
    this.#fds.fill(NO_DESCRIPTOR);
    this.#idle.clear();
  }

  /** Opens the sockets of used ports; all, or none. */
  #open(ports: LegPorts): BindFault | 'closing' | undefined {
    const { allocator, memory, now, bind, close, firstIndex, firstPort } = this.#options;
    const numbers = numbersOf(ports);
    const opened: number[] = [];
    let fault: BindFault | 'closing' | undefined;
    for (const port of numbers) {
      const index = port - firstPort;
      if (this.#fds[index] !== NO_DESCRIPTOR) continue;
      // The thread has still to close the descriptor of the last stream.
      const fd = Atomics.load(memory.held, firstIndex + index) === 1 ? 'closing' : bind(port);
      if (typeof fd === 'number') {
        this.#fds[index] = fd;
        opened.push(port);
        continue;
      }
      fault = fd;
      if (fault === 'foreign') allocator.markForeign(port, now());
      break;
    }
    if (fault === undefined) {
      for (const port of numbers) {
        this.#idle.delete(port - firstPort);
        Atomics.store(memory.held, firstIndex + port - firstPort, 1);
      }
      return undefined;
    }
    for (const port of opened) {
      close(this.descriptor(port));
      this.#fds[port - firstPort] = NO_DESCRIPTOR;
    }
    this.release(numbers);
    return fault;
  }
}

/** Returns the one or two ports of a leg. */
export function numbersOf({ port, rtcpPort }: LegPorts): readonly number[] {
  return port === rtcpPort ? [port] : [port, rtcpPort];
}
