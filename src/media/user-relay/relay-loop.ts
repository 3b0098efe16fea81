// The loop of the relay's thread: waits for packets and messages, receives, and sends what the port table decides. The
// system calls are most of its work. A thin shell: every decision is in port-table.ts.
import { C, EPOLL_EVENT } from '../../batch/layout.ts';
import type { Libc } from '../../batch/libc.ts';
import { NativeBlock } from '../../batch/native-block.ts';
import { systemError } from '../../batch/system-error.ts';
import { NONE, type PortTable, ROOM_OCTETS } from './port-table.ts';
import { type RelayMemory, Total } from './relay-memory.ts';
import type { RelayMessage } from './relay-messages.ts';

/** Events that one wait may return. */
const MOST_EVENTS = 512;
/** A process that ends without `stop` waits so long for the thread, ms. */
const WAIT_MS = 1000;
const STRIDE = EPOLL_EVENT.octets / 4;
const DATA = EPOLL_EVENT.data / 4;
/** Event of the descriptor that wakes the thread for messages; no port has this index. */
const WAKE = 0xffff_ffff;
/** Longest sockaddr. */
const NAME_OCTETS = 28;

export interface RelayLoopOptions {
  readonly libc: Libc;
  readonly table: PortTable;
  readonly memory: RelayMemory;
  readonly epoll: number;
  readonly wake: number;
  /** Monotonic milliseconds of the main thread. */
  readonly now: () => number;
  /** Returns the next message, or undefined. */
  readonly nextMessage: () => RelayMessage | undefined;
  /** A packet or a message made the program throw. */
  readonly onFault: (error: unknown) => void;
}

export class RelayLoop {
  readonly #options: RelayLoopOptions;
  readonly #events: NativeBlock;
  readonly #eventsAddress: number;
  readonly #room: number;
  readonly #source: number;
  readonly #nameOctets: NativeBlock;
  readonly #nameOctetsAddress: number;
  /** One event for epoll_ctl, or the eight octets of the eventfd. */
  readonly #small: NativeBlock;
  #running = true;

  constructor(options: RelayLoopOptions) {
    const { libc, table } = options;
    this.#options = options;
    this.#events = new NativeBlock(libc, MOST_EVENTS * EPOLL_EVENT.octets);
    this.#eventsAddress = Number(this.#events.address);
    this.#room = Number(table.room.address);
    this.#source = Number(table.source.address);
    this.#nameOctets = new NativeBlock(libc, 4);
    this.#nameOctetsAddress = Number(this.#nameOctets.address);
    this.#small = new NativeBlock(libc, EPOLL_EVENT.octets);
    this.#watch(options.wake, WAKE);
  }

  /**
   * Waits for packets or messages and handles them. Returns false after the message `stop`. Throws when it cannot wait.
   */
  turn(): boolean {
    const { libc, epoll, memory, now } = this.#options;
    const count = libc.epoll_wait(epoll, this.#eventsAddress, MOST_EVENTS, WAIT_MS);
    if (count < 0 && libc.errno() !== C.EINTR) throw systemError(libc.errno(), 'epoll_wait');
    const time = now();
    // First the messages: they are older than the packets, or as old.
    if (Atomics.exchange(memory.waiting, 0, 0) === 1) this.#takeMessages(time);
    const { words } = this.#events;
    for (let i = 0; i < count; i++) {
      const port = words[i * STRIDE + DATA]!;
      if (port !== WAKE) this.#forward(port, time);
    }
    return this.#running;
  }

  /** Receives one packet at `port` and sends it on. Another packet of the port makes another event. */
  #forward(port: number, now: number): void {
    const { libc, table, memory } = this.#options;
    const fd = table.descriptor(port);
    // A message has closed it.
    if (fd === NONE) return;
    this.#nameOctets.words[0] = NAME_OCTETS;
    const octets = libc.recvfrom(fd, this.#room, ROOM_OCTETS, C.MSG_DONTWAIT, this.#source, this.#nameOctetsAddress);
    if (octets < 0) {
      this.#refused(fd);
      return;
    }
    let out: number;
    try {
      out = table.take(port, octets, now);
    } catch (error) {
      memory.totals[Total['internal-error']]!++;
      this.#options.onFault(error);
      return;
    }
    if (out === NONE) return;
    const name = table.nameAddress(out);
    const sent = libc.sendto(table.descriptor(out), this.#room, octets, C.MSG_DONTWAIT, name, table.nameOctets(out));
    if (sent < 0) memory.totals[Total['send-error']]!++;
    else {
      memory.totals[Total.forwarded]!++;
      memory.totals[Total.octets]! += octets;
    }
  }

  /** Most errors end with the call that reports them. A descriptor that is no socket would keep the loop busy. */
  #refused(fd: number): void {
    const { libc, epoll } = this.#options;
    const errno = libc.errno();
    if (errno !== C.EBADF && errno !== C.ENOTSOCK && errno !== C.EINVAL) return;
    libc.epoll_ctl(epoll, C.EPOLL_CTL_DEL, fd, Number(this.#small.address));
  }

  #takeMessages(now: number): void {
    const { libc, wake, nextMessage, onFault } = this.#options;
    libc.read(wake, Number(this.#small.address), 8);
    for (let message = nextMessage(); message && this.#running; message = nextMessage()) {
      try {
        this.#apply(message, now);
      } catch (error) {
        onFault(error);
      }
    }
  }

  #apply(message: RelayMessage, now: number): void {
    const { libc, table, memory } = this.#options;
    // A socket that was open since the last stream is watched already: the second addition fails and changes nothing.
    if (message.kind === 'open') {
      table.apply(message, now);
      for (const { port, fd } of message.ports) this.#watch(fd, port);
    } else if (message.kind === 'close') {
      const fd = table.descriptor(message.port);
      table.apply(message, now);
      if (fd !== NONE) libc.close(fd);
      Atomics.store(memory.held, message.port, 0);
    } else if (message.kind === 'stop') {
      for (let port = 0; port < memory.ports; port++) {
        const fd = table.descriptor(port);
        if (fd !== NONE) libc.close(fd);
      }
      table.apply(message, now);
      memory.held.fill(0);
      this.#running = false;
    } else table.apply(message, now);
  }

  #watch(fd: number, data: number): void {
    const { libc, epoll } = this.#options;
    this.#small.words.fill(0);
    this.#small.words[0] = C.EPOLLIN;
    this.#small.words[DATA] = data;
    libc.epoll_ctl(epoll, C.EPOLL_CTL_ADD, fd, Number(this.#small.address));
  }
}
