// A UDP socket that receives and sends many datagrams per system call. libuv watches it and reads the first datagram;
// this file reads and sends the others.
//
//    libuv ──first datagram──> handler ─┐
//    recvmmsg ──up to 64 more──> handler ┴──> send: gathered ──> sendmmsg when the batch ends
import type dgram from 'node:dgram';
import type { Endpoint } from '../base/endpoint.ts';
import type { DatagramHandlers, DatagramSocket, GrantedOptions } from '../base/network.ts';
import type { Cell } from '../metrics/counters.ts';
import type { Metrics } from '../metrics/metrics.ts';
import { C } from './layout.ts';
import type { Libc } from './libc.ts';
import { BATCH } from './message-block.ts';
import { ReceiveBlock } from './receive-block.ts';
import { LONGEST_OCTETS, SendBlock } from './send-block.ts';
import { Destinations, SourceNames } from './socket-address.ts';
import { systemError } from './system-error.ts';
import { Zones } from './zones.ts';

/** Datagrams that one socket may take from one turn of the event loop. Other sockets, timers and TCP come next. */
const MOST_PER_TURN = 512;
/**
 * Datagrams of one socket that may wait in libuv while the kernel's queue is full. Further ones are lost and counted as
 * send errors.
 */
const MOST_WAITING = 1024;

export interface BatchCells {
  /** recvmmsg and sendmmsg calls that moved something. */
  readonly callsIn: Cell;
  readonly callsOut: Cell;
  /** Datagrams moved by them. */
  readonly datagramsIn: Cell;
  readonly datagramsOut: Cell;
}

/** Returns the cells of a member's metrics. */
export function batchCells(metrics: Pick<Metrics, 'batchCalls' | 'batchDatagrams'>): BatchCells {
  const { batchCalls, batchDatagrams } = metrics;
  return {
    callsIn: batchCalls.cell({ direction: 'in' }),
    callsOut: batchCalls.cell({ direction: 'out' }),
    datagramsIn: batchDatagrams.cell({ direction: 'in' }),
    datagramsOut: batchDatagrams.cell({ direction: 'out' }),
  };
}

/** State that the sockets of one process share. */
export class BatchTurn {
  readonly libc: Libc;
  readonly cells: BatchCells;
  readonly received: ReceiveBlock;
  readonly zones: Zones;
  readonly mostPerTurn: number;
  /** Rises at the end of each turn of the event loop that received datagrams. */
  turn = 0;
  #turnEnds = false;
  /** True while a batch is handled. Datagrams sent meanwhile wait for its end. */
  #inBatch = false;
  #flushComes = false;
  readonly #gathered: BatchSocket[] = [];

  constructor(libc: Libc, cells: BatchCells, mostPerTurn = MOST_PER_TURN) {
    this.libc = libc;
    this.cells = cells;
    this.mostPerTurn = mostPerTurn;
    this.zones = new Zones(libc);
    this.received = new ReceiveBlock(libc);
  }

  begin(): void {
    this.#inBatch = true;
    if (this.#turnEnds) return;
    this.#turnEnds = true;
    setImmediate(this.#endTurn);
  }

  /** Ends a batch. Sends the gathered datagrams now, or, with `more` to come in this turn, at the end of the turn. */
  end(more: boolean): void {
    this.#inBatch = false;
    if (!more) this.flush();
  }

  /** Notes that `socket` has datagrams to send. */
  note(socket: BatchSocket): void {
    this.#gathered.push(socket);
    if (this.#inBatch || this.#flushComes) return;
    this.#flushComes = true;
    process.nextTick(this.#flushNow);
  }

  flush(): void {
    const gathered = this.#gathered;
    for (let i = 0; i < gathered.length; i++) gathered[i]!.flush();
    gathered.length = 0;
  }

  readonly #endTurn = (): void => {
    this.#turnEnds = false;
    this.turn++;
    this.flush();
  };

  readonly #flushNow = (): void => {
    this.#flushComes = false;
    this.flush();
  };
}

export interface BatchSocketOptions {
  readonly turn: BatchTurn;
  /** Bound to `fd`, which it owns and closes. */
  readonly socket: dgram.Socket;
  readonly fd: number;
  readonly local: Endpoint;
  readonly granted: GrantedOptions;
  readonly ipv6: boolean;
  readonly handlers: DatagramHandlers;
}

export class BatchSocket implements DatagramSocket {
  readonly local: Endpoint;
  readonly granted: GrantedOptions;
  readonly #turn: BatchTurn;
  readonly #socket: dgram.Socket;
  readonly #fd: number;
  readonly #handlers: DatagramHandlers;
  readonly #sources: SourceNames;
  readonly #destinations: Destinations;
  readonly #block: SendBlock;
  #open = true;
  #flushing = false;
  /** The turn that `#taken` belongs to. */
  #takenIn = -1;
  #taken = 0;
  /** Datagrams that libuv holds. */
  #waiting = 0;

  constructor(options: BatchSocketOptions) {
    const { turn, socket, fd, local, granted, ipv6, handlers } = options;
    const { libc } = turn;
    this.local = local;
    this.granted = granted;
    this.#turn = turn;
    this.#socket = socket;
    this.#fd = fd;
    this.#handlers = handlers;
    this.#sources = new SourceNames(ipv6, turn.zones);
    this.#destinations = new Destinations(ipv6, turn.zones);
    this.#block = new SendBlock(libc, ipv6, {
      refused: (errno) => handlers.onSendError(systemError(errno, 'sendmmsg')),
      busy: (bytes, address, port) => this.#wait(Buffer.from(bytes), address, port),
    });
    socket.on('message', (bytes, remote) => this.#take(bytes, remote.address, remote.port));
  }

  send(bytes: Uint8Array, address: string, port: number): void {
    if (!this.#open || !(port >= 1 && port <= 65_535)) {
      this.#handlers.onSendError(new RangeError(this.#open ? `no port to send to: ${port}` : 'the socket is closed'));
      return;
    }
    const destination = this.#destinations.find(address);
    if (!destination || bytes.length > LONGEST_OCTETS) {
      this.#handlers.onSendError(systemError(destination ? C.EMSGSIZE : C.EINVAL, 'sendmmsg'));
      return;
    }
    const block = this.#block;
    if (!block.fits(bytes.length)) this.flush();
    // Not before datagrams that wait already.
    if (this.#waiting > 0 || this.#flushing) {
      this.#wait(bytes, address, port);
      return;
    }
    if (block.count === 0) this.#turn.note(this);
    block.add(bytes, destination, address, port);
  }

  /** Sends the gathered datagrams. */
  flush(): void {
    const block = this.#block;
    if (block.count === 0 || this.#flushing || !this.#open) return;
    const { callsOut, datagramsOut } = this.#turn.cells;
    this.#flushing = true;
    block.flush(this.#fd);
    this.#flushing = false;
    callsOut.n += block.calls;
    datagramsOut.n += block.sent;
  }

  /**
   * Closes the socket. Datagrams passed to `send` have then gone to the kernel or libuv, unless a handler closes the
   * socket during an error callback.
   */
  close(): Promise<void> {
    this.flush();
    this.#open = false;
    // From here on the descriptor may belong to another socket.
    this.#block.clear();
    return new Promise((closed) => this.#socket.close(() => closed()));
  }

  /** True while the guards around the memory shared with the kernel are unchanged. */
  get intact(): boolean {
    return this.#block.intact && this.#turn.received.intact;
  }

  /** Takes the datagram that libuv has read, then further ones. */
  #take(bytes: Buffer, address: string, port: number): void {
    const turn = this.#turn;
    turn.begin();
    try {
      this.#handlers.onDatagram(bytes, address, port);
      this.#drain();
    } finally {
      // libuv continues by itself for a while when the rest of this turn belongs to others.
      turn.end(this.#taken >= turn.mostPerTurn);
    }
  }

  #drain(): void {
    const turn = this.#turn;
    const { received, cells } = turn;
    if (this.#takenIn !== turn.turn) {
      this.#takenIn = turn.turn;
      this.#taken = 0;
    }
    // A handler may close the socket. The descriptor may then belong to another socket.
    while (this.#open && this.#taken < turn.mostPerTurn) {
      const count = received.take(this.#fd);
      if (count === 0) return;
      cells.callsIn.n++;
      cells.datagramsIn.n += count;
      this.#taken += count;
      for (let slot = 0; slot < count && this.#open; slot++) {
        const bytes = received.copy(slot);
        this.#handlers.onDatagram(bytes, received.address(slot, this.#sources), received.port(slot));
      }
      turn.flush();
      if (count < BATCH) return;
    }
  }

  /** Passes a datagram to libuv, which sends it when the kernel's queue has room. */
  #wait(bytes: Uint8Array, address: string, port: number): void {
    if (this.#waiting >= MOST_WAITING) {
      this.#handlers.onSendError(systemError(C.EAGAIN, 'sendmmsg'));
      return;
    }
    this.#waiting++;
    this.#socket.send(bytes, port, address, this.#onSent);
  }

  readonly #onSent = (error: Error | null): void => {
    this.#waiting--;
    if (error) this.#handlers.onSendError(error);
  };
}
