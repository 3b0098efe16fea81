// A network in memory: every address exists, datagrams can be lost, doubled and delayed, connections are pairs of
// streams. Without a delay, data arrives on a later turn of the event loop (`settle` waits for it), else by the clock.
import { Duplex } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import type { Clock } from '../../src/base/clock.ts';
import { type Endpoint, formatEndpoint } from '../../src/base/endpoint.ts';
import type {
  Accepting,
  ByteStream,
  DatagramHandlers,
  DatagramSocket,
  Network,
  StreamServer,
} from '../../src/base/network.ts';
import type { RawSocket } from '../../src/base/raw-socket.ts';
import { IpReader } from './ip.ts';

export interface FakeNetworkOptions {
  readonly clock: Clock;
  /** Seed of the random loss, duplication and delay; the same seed gives the same run. */
  readonly seed?: number;
  /** Shares of the datagrams, 0 to 1. */
  readonly loss?: number;
  readonly duplication?: number;
  /**
   * Milliseconds in one direction, drawn evenly for each datagram. A TCP connection uses the lower bound, which keeps
   * its order.
   */
  readonly delay?: { readonly min: number; readonly max: number };
}

function systemError(code: string, what: string): Error {
  return Object.assign(new Error(`${what}: ${code}`), { code });
}

/** Returns a generator of random numbers in [0, 1) from a seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

interface Outgoing {
  bytes: Uint8Array;
  readonly from: Endpoint;
  readonly to: Endpoint;
}

export class FakeNetwork implements Network {
  /** Loss, duplication and delay can be changed between two packets. */
  loss: number;
  duplication: number;
  delay: { readonly min: number; readonly max: number } | undefined;
  /**
   * Returns whether octets pass from one endpoint to another. A test replaces it to cut the network: datagrams are
   * lost, streams wait and continue.
   */
  reaches: (from: Endpoint, to: Endpoint) => boolean = () => true;
  /** Returns whether the hosts have this address for a bind. */
  hasAddress: (address: string) => boolean = () => true;
  /** Handles each datagram when it is sent. */
  onSent: (from: Endpoint, to: Endpoint, bytes: Buffer) => void = () => {};
  /** Delivers a datagram to the socket bound to `to`; a test can replace it to watch. */
  handle: (handlers: DatagramHandlers, bytes: Buffer, from: Endpoint, to: Endpoint) => void = (
    handlers,
    bytes,
    { address, port },
  ) => handlers.onDatagram(bytes, address, port);
  /** Returns whether the system accepts an IP packet of a raw socket. */
  takesRaw: (packet: Buffer) => boolean = () => true;
  sent = 0;
  /** Number of IP packets that raw sockets have sent. */
  rawSent = 0;
  /** Number of open raw sockets. */
  rawOpen = 0;
  delivered = 0;
  lost = 0;

  readonly clock: Clock;
  readonly #random: () => number;
  readonly #udp = new Map<string, DatagramHandlers>();
  readonly #tcp = new Map<
    string,
    { readonly onConnection: (stream: ByteStream) => void; readonly halfOpen: boolean }
  >();
  readonly #ip = new IpReader();
  #outgoing: Outgoing[] = [];
  #lastPort = 39_999;
  #underway = 0;

  constructor(options: FakeNetworkOptions) {
    this.clock = options.clock;
    this.#random = seededRandom(options.seed ?? 1);
    this.loss = options.loss ?? 0;
    this.duplication = options.duplication ?? 0;
    this.delay = options.delay;
  }

  bindUdp(local: Endpoint, handlers: DatagramHandlers): Promise<DatagramSocket> {
    if (!this.hasAddress(local.address)) return Promise.reject(systemError('EADDRNOTAVAIL', formatEndpoint(local)));
    const bound = this.#bind(local, this.#udp);
    if (!bound) return Promise.reject(systemError('EADDRINUSE', formatEndpoint(local)));
    const key = formatEndpoint(bound);
    this.#udp.set(key, handlers);
    let open = true;
    return Promise.resolve({
      local: bound,
      send: (bytes, address, port) => {
        if (!open) handlers.onSendError(systemError('ERR_SOCKET_DGRAM_NOT_RUNNING', key));
        else if (bytes.length > 65_507) handlers.onSendError(systemError('EMSGSIZE', key));
        else this.#sendDatagram(bytes, bound, { address, port });
      },
      close: () => {
        open = false;
        this.#udp.delete(key);
        return Promise.resolve();
      },
    });
  }

  listenTcp(
    local: Endpoint,
    onConnection: (stream: ByteStream) => void,
    { halfOpen = false }: Accepting = {},
  ): Promise<StreamServer> {
    if (!this.hasAddress(local.address)) return Promise.reject(systemError('EADDRNOTAVAIL', formatEndpoint(local)));
    const bound = this.#bind(local, this.#tcp);
    if (!bound) return Promise.reject(systemError('EADDRINUSE', formatEndpoint(local)));
    const key = formatEndpoint(bound);
    this.#tcp.set(key, { onConnection, halfOpen });
    return Promise.resolve({
      local: bound,
      close: () => {
        this.#tcp.delete(key);
        return Promise.resolve();
      },
    });
  }

  connectUdp(
    remote: Endpoint,
    onRefused: () => void,
  ): Promise<{ probe(bytes: Uint8Array): void; close(): Promise<void> }> {
    const local = { address: remote.address, port: this.#freePort() };
    let open = true;
    return Promise.resolve({
      probe: (bytes) => {
        const octets = Buffer.from(bytes);
        this.later(this.delay?.min ?? 0, () => {
          if (this.#udp.has(formatEndpoint(remote))) this.hand(octets, local, remote);
          else if (open && this.reaches(local, remote)) onRefused();
        });
      },
      close: () => {
        open = false;
        return Promise.resolve();
      },
    });
  }

  connectTcp(remote: Endpoint, from?: { readonly address: string }): FakeStream {
    const local = { address: from?.address ?? remote.address, port: this.#freePort() };
    const stream = new FakeStream(this, local, remote);
    const connect = (): void => {
      if (stream.destroyed) return;
      if (!this.reaches(local, remote) || !this.reaches(remote, local)) {
        this.clock.after(200, connect);
        return;
      }
      const server = this.#tcp.get(formatEndpoint(remote));
      if (!server) {
        stream.destroy(systemError('ECONNREFUSED', formatEndpoint(remote)));
        return;
      }
      const accepted = new FakeStream(this, remote, local, server.halfOpen);
      accepted.join(stream);
      stream.join(accepted);
      server.onConnection(accepted);
      stream.emit('connect');
    };
    this.later(this.delay?.min ?? 0, connect);
    return stream;
  }

  /**
   * Opens a raw socket, which accepts IP packets with any source and throws at an invalid one. A datagram is sent on
   * when its last fragment has come.
   */
  openRaw(ipv6: boolean): RawSocket {
    let open = true;
    this.rawOpen++;
    return {
      send: (bytes, octets, address) => {
        const packet = Buffer.from(bytes.subarray(0, octets));
        if (!open || packet[0]! >> 4 !== (ipv6 ? 6 : 4) || !this.takesRaw(packet)) return false;
        this.rawSent++;
        const datagram = this.#ip.take(packet);
        if (datagram && datagram.to.address !== address)
          throw new Error(`a packet for ${datagram.to.address} to ${address}`);
        if (datagram) this.#sendDatagram(datagram.bytes, datagram.from, datagram.to);
        return true;
      },
      close: () => {
        if (open) this.rawOpen--;
        open = false;
      },
    };
  }

  /** Waits until nothing is in transit except what waits for the clock. */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < 3; quiet++) {
      if (this.#underway > 0 || this.#outgoing.length > 0) quiet = 0;
      await turn();
    }
  }

  /** Runs `what` after `ms` of the clock, or on a later turn of the event loop when `ms` is 0. */
  later(ms: number, what: () => void): void {
    if (ms > 0) {
      this.clock.after(ms, what);
      return;
    }
    this.#underway++;
    setImmediate(() => {
      this.#underway--;
      what();
    });
  }

  #bind(local: Endpoint, taken: ReadonlyMap<string, unknown>): Endpoint | undefined {
    const bound = { address: local.address, port: local.port === 0 ? this.#freePort() : local.port };
    return taken.has(formatEndpoint(bound)) ? undefined : bound;
  }

  #freePort(): number {
    this.#lastPort = this.#lastPort >= 65_535 ? 40_000 : this.#lastPort + 1;
    return this.#lastPort;
  }

  /**
   * Reads the octets at the end of the turn, like the system's socket: a sender that reuses them earlier fails its
   * test.
   */
  #sendDatagram(bytes: Uint8Array, from: Endpoint, to: Endpoint): void {
    if (this.#outgoing.length === 0) process.nextTick(() => this.#flush());
    this.#outgoing.push({ bytes, from, to });
  }

  #flush(): void {
    const outgoing = this.#outgoing;
    this.#outgoing = [];
    for (const { bytes, from, to } of outgoing) {
      const copies = this.#random() < this.duplication ? 2 : 1;
      const lost = this.#random() < this.loss;
      this.sent++;
      this.onSent(from, to, Buffer.from(bytes));
      for (let copy = 0; copy < copies; copy++) {
        const octets = Buffer.from(bytes);
        const ms = this.delay ? this.delay.min + this.#random() * (this.delay.max - this.delay.min) : 0;
        if (lost) this.lost++;
        else this.later(ms, () => this.hand(octets, from, to));
      }
    }
  }

  /** Delivers a datagram to `to` at once. */
  hand(bytes: Buffer, from: Endpoint, to: Endpoint): void {
    const handlers = this.#udp.get(formatEndpoint(to));
    if (!handlers || !this.reaches(from, to)) {
      this.lost++;
      return;
    }
    this.delivered++;
    this.handle(handlers, bytes, from, to);
  }
}

/**
 * One end of a connection. Written octets wait until the other end reads, as in a socket with a small kernel buffer.
 */
export class FakeStream extends Duplex {
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly localAddress: string;
  readonly localPort: number;
  readonly #network: FakeNetwork;
  readonly #local: Endpoint;
  readonly #remote: Endpoint;
  #peer: FakeStream | undefined;
  /** Chunk in transit; null is the end. A Duplex delivers one chunk at a time. */
  #crossing: { readonly bytes: Buffer | null; readonly done: (error?: Error | null) => void } | undefined;
  #moving = false;
  #peerWaits: (() => void) | undefined;

  constructor(network: FakeNetwork, local: Endpoint, remote: Endpoint, allowHalfOpen = false) {
    super({ allowHalfOpen });
    this.#network = network;
    this.#local = local;
    this.#remote = remote;
    this.localAddress = local.address;
    this.localPort = local.port;
    this.remoteAddress = remote.address;
    this.remotePort = remote.port;
  }

  /** Connects this end; the network calls it once both ends exist. */
  join(peer: FakeStream): void {
    this.#peer = peer;
    this.#move();
  }

  override _write(bytes: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#crossing = { bytes, done };
    this.#move();
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#crossing = { bytes: null, done };
    this.#move();
  }

  override _read(): void {
    const resume = this.#peerWaits;
    this.#peerWaits = undefined;
    resume?.();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    const peer = this.#peer;
    const resume = this.#peerWaits;
    this.#peerWaits = undefined;
    if (resume) resume();
    if (peer) {
      this.#network.later(this.#network.delay?.min ?? 0, () => {
        if (!peer.destroyed && !peer.readableEnded) peer.push(null);
      });
    }
    done(error);
  }

  #move(): void {
    if (!this.#peer || !this.#crossing || this.#moving) return;
    this.#moving = true;
    this.#network.later(this.#network.delay?.min ?? 0, () => this.#arrive());
  }

  #arrive(): void {
    const crossing = this.#crossing;
    const peer = this.#peer;
    if (!crossing || !peer || this.destroyed) return;
    if (!this.#network.reaches(this.#local, this.#remote)) {
      this.#network.clock.after(200, () => this.#arrive());
      return;
    }
    this.#crossing = undefined;
    this.#moving = false;
    if (peer.destroyed) {
      crossing.done(crossing.bytes === null ? null : systemError('ECONNRESET', formatEndpoint(this.#remote)));
      return;
    }
    if (crossing.bytes === null) {
      if (!peer.readableEnded) peer.push(null);
      crossing.done();
    } else if (peer.push(Buffer.from(crossing.bytes))) crossing.done();
    else peer.#peerWaits = () => crossing.done();
  }
}
