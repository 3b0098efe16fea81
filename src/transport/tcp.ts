// The TCP connections of a member: accepted and made, bounded in number, time and bytes. One table and one sweep timer for all listeners.
import { canonicalAddress } from '../base/address-octets.ts';
import type { Clock, Timer } from '../base/clock.ts';
import type { Endpoint } from '../base/endpoint.ts';
import type { Guard } from '../base/guard.ts';
import type { ByteStream, Network } from '../base/network.ts';
import { sourceOf } from '../base/source.ts';
import type { Cell } from '../metrics/counters.ts';
import { Packet, SecondChance } from '../packet/packet.ts';
import { isResponse, PacketClass } from './classify.ts';
import { DueAnswers } from './due-answers.ts';
import { type FrameFault, Framer } from './framer.ts';
import { Gate } from './gate.ts';
import type { TransportLimits } from './limits.ts';
import { ProxyHeader, type ProxyOutcome } from './proxy-protocol.ts';
import { ProxyOpening, type ProxyRule } from './proxy-rule.ts';
import type { Self } from './udp.ts';

/** Why a connection was closed, or refused. Values of the label `reason` of closed_connections_total. */
export const CLOSE_REASONS = {
  peer: 'the other side closed it',
  'half-closed': 'the other side had shut its sending half; its answers have left, or did not come in time',
  error: 'the system reported an error on it',
  framing: 'a framing fault',
  'half-message': 'a message did not end in time',
  silent: 'no whole message and no keep-alive since it was accepted',
  idle: 'no octets for limits.idleSeconds',
  'send-queue': 'its reader is too slow',
  'proxy-header': 'its PROXY header was missing, late, malformed or untrusted; proxy_headers_total has the outcome',
  'buffered-bytes': 'unfinished messages of all connections exceed limits.bufferedBytes, and it was among the largest',
  'connect-failed': 'it could not be opened, or not in time',
  'source-limit': 'refused: too many connections of one source',
  'connection-limit': 'refused: too many connections',
  'before-seat': 'refused: this member has no seat yet',
  'moved-on': 'its client must connect to another member: this one drains, or has lost its seat',
  stop: 'the member stops',
} as const;
export type CloseReason = keyof typeof CLOSE_REASONS;

export interface ConnectionTableOptions {
  readonly clock: Clock;
  /** Read anew each time: its fields may change while the table is in use, but for the sizes of messages. */
  readonly limits: TransportLimits;
  readonly self: Readonly<Self>;
  readonly onPacket: (packet: Packet) => void;
  readonly onFault: (packet: Packet, fault: FrameFault) => void;
  readonly onFlowClosed: (connection: number, reason: CloseReason) => void;
  readonly onUnsent: (message: Buffer) => void;
  readonly guard: Guard;
  /** By listener, then by `PacketClass`. */
  readonly received: readonly (readonly Cell[])[];
  /** By listener: what PROXY headers it believes; undefined: none, they are not looked for. */
  readonly proxies: readonly (ProxyRule | undefined)[];
  readonly closed: Readonly<Record<CloseReason, Cell>>;
}

const SWEEP_MS = 1_000;
const KERNEL_KEEPALIVE_MS = 60_000;
const PONG = Buffer.from('\r\n');
const NOTHING = Buffer.alloc(0);

/** `I`: both INVITE and INFO belong to a call (RFC 6086 4.2.1). */
const INVITE_OR_INFO = 0x49;

/** The last connection id; one count for the process, so that members of one process never share an id. */
let lastConnection = 0;

/** One of the table's connections. Kept to plain fields: the table does the work. */
interface Connection {
  readonly id: number;
  readonly listener: number;
  readonly stream: ByteStream;
  readonly framer: Framer;
  /** The client's, once a PROXY header has named it. */
  remote: Endpoint;
  /** Place in the index by remote endpoint. */
  key: string;
  local: Endpoint;
  /** False for a connection we made. */
  readonly accepted: boolean;
  /** What the limit per source counts it by; undefined while it is not counted: we made it, or its PROXY header is still to come. */
  source: string | undefined;
  /** Until it is known whose connection it is, and that no second header follows. */
  opening: ProxyOpening | undefined;
  fromBalancer: boolean;
  readonly openedAt: number;
  connected: boolean;
  /** Messages that wait until it is connected. */
  readonly waiting: Buffer[];
  failed: boolean;
  lastOctetAt: number;
  /** When the half message began, or -1. */
  halfSince: number;
  /** Octets its framer held when last looked at: its share of the table's sum. */
  held: number;
  readonly answers: DueAnswers;
  /** The client has shut its sending half and waits for answers: it is sent nothing else. */
  halfClosed: boolean;
  /** When it stopped taking messages to flush and close, or -1. */
  closingSince: number;
  /** An INVITE has passed it, one way or the other. */
  hasCalls: boolean;
  gone: boolean;
}

function remoteKey(listener: number, remote: Endpoint): string {
  return `${listener}|${remote.port}|${canonicalAddress(remote.address)}`;
}

export class ConnectionTable {
  readonly #options: ConnectionTableOptions;
  readonly #connections = new Map<number, Connection>();
  readonly #byRemote = new Map<string, Connection>();
  readonly #sources = new Map<string, Gate>();
  readonly #all: Gate;
  readonly #packet = new Packet();
  readonly #header = new ProxyHeader();
  #buffered = 0;
  #sweep: Timer | undefined;

  constructor(options: ConnectionTableOptions) {
    this.#options = options;
    this.#all = new Gate(() => options.limits.connections);
  }

  /** Connections that are open, those that flush their last answer included. */
  get size(): number {
    return this.#connections.size;
  }

  /** Octets held by half messages. */
  get bufferedBytes(): number {
    return this.#buffered;
  }

  start(): void {
    this.#sweep ??= this.#options.clock.every(SWEEP_MS, () => this.#sweepOnce());
  }

  stop(): void {
    this.#sweep?.cancel();
    this.#sweep = undefined;
    for (const connection of this.#connections.values()) this.#destroy(connection, 'stop');
  }

  /** Takes an accepted connection, or destroys it when a limit says so. */
  accept(listener: number, stream: ByteStream): void {
    try {
      this.#accept(listener, stream);
    } catch (error) {
      this.#options.guard.caught('connection', error);
      stream.destroy();
    }
  }

  #accept(listener: number, stream: ByteStream): void {
    const { remoteAddress, remotePort, localAddress, localPort } = stream;
    stream.on('error', ignore);
    if (remoteAddress === undefined || remotePort === undefined) {
      // The other side is gone before we came to look.
      this.#options.closed.peer.n++;
      stream.destroy();
      return;
    }
    const rule = this.#options.proxies[listener];
    const opening = rule && new ProxyOpening(rule.trusted().matches(remoteAddress), rule.required);
    const source = opening?.trusted ? undefined : sourceOf(remoteAddress);
    const full = source !== undefined && this.#sources.get(source)?.open === false;
    if (!this.#all.open || full) {
      this.#options.closed[this.#all.open ? 'source-limit' : 'connection-limit'].n++;
      stream.destroy();
      return;
    }
    const remote = { address: remoteAddress, port: remotePort };
    const local = { address: localAddress ?? '', port: localPort ?? 0 };
    this.#add(listener, stream, remote, local, true, source, opening);
  }

  /** The connection this member has opened to `remote`, or a new one; 0 when the limit is reached. */
  connect(network: Network, listener: number, remote: Endpoint, from: string | undefined): number {
    const open = this.#byRemote.get(remoteKey(listener, remote));
    if (open) return open.id;
    if (!this.#all.open) {
      this.#options.closed['connection-limit'].n++;
      return 0;
    }
    const stream = network.connectTcp(remote, from === undefined ? undefined : { address: from });
    const connection = this.#add(listener, stream, remote, { address: from ?? '', port: 0 }, false);
    // Only what this member opened is used again: who connected to us has not asked to be sent requests (RFC 5923). Flows reach those who have.
    this.#byRemote.set(connection.key, connection);
    stream.once('connect', () => {
      connection.connected = true;
      connection.local = { address: stream.localAddress ?? from ?? '', port: stream.localPort ?? 0 };
      connection.lastOctetAt = this.#options.clock.now();
      for (const message of connection.waiting.splice(0)) stream.write(message);
    });
    return connection.id;
  }

  /** Requests can be sent on the connection, and answered on it. */
  holds(id: number): boolean {
    const connection = this.#connections.get(id);
    return connection !== undefined && connection.closingSince < 0 && !connection.halfClosed;
  }

  /** Queues a copy of `bytes`; false when the connection is gone or goes now, or could not bring the answer to a request. */
  send(id: number, bytes: Uint8Array): boolean {
    const connection = this.#connections.get(id);
    if (!connection || connection.closingSince >= 0) return false;
    if (bytes[0] === INVITE_OR_INFO) connection.hasCalls = true;
    if (isResponse(bytes, 0)) connection.answers.gave(bytes, this.#options.clock.now());
    else if (connection.halfClosed) return false;
    if (!this.#write(connection, Buffer.from(bytes))) return false;
    if (connection.halfClosed && connection.answers.none) this.#closeFlushed(connection, 'half-closed');
    return true;
  }

  /** Closes a connection that no call has used, once what is queued has left: its client comes back elsewhere. */
  moveOn(id: number): void {
    const connection = this.#connections.get(id);
    if (connection && !connection.hasCalls) this.#closeFlushed(connection, 'moved-on');
  }

  /** Closes all connections, each once what is queued has left. */
  moveAllOn(): void {
    for (const connection of this.#connections.values()) this.#closeFlushed(connection, 'moved-on');
  }

  #add(
    listener: number,
    stream: ByteStream,
    remote: Endpoint,
    local: Endpoint,
    accepted: boolean,
    source?: string,
    opening?: ProxyOpening,
  ): Connection {
    const now = this.#options.clock.now();
    const framer = new Framer(
      {
        onMessage: (bytes, start, end) => this.#message(connection, bytes, start, end),
        onKeepalive: () => {
          this.#options.received[listener]![PacketClass.keepalive]!.n++;
        },
        onFault: (fault, bytes, start, end) => this.#fault(connection, fault, bytes, start, end),
      },
      this.#options.limits,
    );
    const connection: Connection = {
      id: this.#nextId(),
      listener,
      stream,
      framer,
      remote,
      key: remoteKey(listener, remote),
      local,
      accepted,
      source,
      opening,
      fromBalancer: false,
      openedAt: now,
      connected: accepted,
      waiting: [],
      failed: false,
      lastOctetAt: now,
      halfSince: -1,
      held: 0,
      answers: new DueAnswers(),
      halfClosed: false,
      closingSince: -1,
      hasCalls: false,
      gone: false,
    };
    this.#connections.set(connection.id, connection);
    this.#all.enter();
    if (source !== undefined) this.#enterSource(source);
    stream.setNoDelay?.(true);
    stream.setKeepAlive?.(true, KERNEL_KEEPALIVE_MS);
    stream.on('data', (chunk: Buffer) => this.#read(connection, chunk));
    stream.on('error', () => {
      connection.failed = true;
    });
    stream.once('end', () => this.#endOf(connection));
    stream.once('close', () => {
      this.#remove(connection, !connection.connected ? 'connect-failed' : connection.failed ? 'error' : 'peer');
    });
    return connection;
  }

  #enterSource(source: string): void {
    let gate = this.#sources.get(source);
    if (!gate) {
      gate = new Gate(() => this.#options.limits.connectionsPerSource);
      this.#sources.set(source, gate);
    }
    gate.enter();
  }

  #nextId(): number {
    do lastConnection = lastConnection === 0xffff_ffff ? 1 : lastConnection + 1;
    while (this.#connections.has(lastConnection));
    return lastConnection;
  }

  #read(connection: Connection, chunk: Buffer): void {
    if (connection.gone || connection.closingSince >= 0 || connection.halfClosed) return;
    connection.lastOctetAt = this.#options.clock.now();
    const { opening } = connection;
    try {
      if (!opening) this.#feed(connection, chunk);
      else if (opening.waiting) this.#open(connection, opening, opening.take(chunk, this.#header));
      else this.#watch(connection, opening, chunk);
    } catch (error) {
      // Nobody can say where the next message begins.
      this.#options.guard.caught('connection', error, chunk, 0, chunk.length);
      this.#destroy(connection, 'error');
    }
  }

  /** Acts on what the first octets have turned out to be. */
  #open(connection: Connection, opening: ProxyOpening, outcome: ProxyOutcome | undefined): void {
    if (outcome === undefined) {
      this.#hold(connection, opening.held.length);
      return;
    }
    this.#options.proxies[connection.listener]!.outcomes[outcome].n++;
    const header = this.#header;
    switch (outcome) {
      case 'proxied':
        connection.remote = { address: header.address, port: header.port };
        connection.local = { address: header.localAddress, port: header.localPort };
        break;
      case 'local':
        connection.fromBalancer = true;
        break;
      case 'unknown':
        break;
      case 'none':
        connection.opening = undefined;
        break;
      default:
        connection.opening = undefined;
        this.#options.received[connection.listener]![PacketClass.garbage]!.n++;
        this.#destroy(connection, 'proxy-header');
        return;
    }
    if (!this.#admit(connection)) return;
    const rest = opening.held;
    opening.held = NOTHING;
    this.#hold(connection, 0);
    if (rest.length === 0) return;
    if (outcome === 'none') this.#feed(connection, rest);
    else this.#watch(connection, opening, rest);
  }

  /** The connection's source is known now, and counts. False when it has too many: the connection is closed. */
  #admit(connection: Connection): boolean {
    if (connection.source === undefined) {
      const source = sourceOf(connection.remote.address);
      if (this.#sources.get(source)?.open === false) {
        this.#destroy(connection, 'source-limit');
        return false;
      }
      connection.source = source;
      this.#enterSource(source);
    }
    return true;
  }

  #watch(connection: Connection, opening: ProxyOpening, chunk: Buffer): void {
    const seen = opening.watch(chunk);
    if (seen !== 'so-far') connection.opening = undefined;
    if (seen === 'nested') {
      this.#options.proxies[connection.listener]!.outcomes.nested.n++;
      this.#options.received[connection.listener]![PacketClass.garbage]!.n++;
      this.#destroy(connection, 'proxy-header');
    } else this.#feed(connection, chunk);
  }

  /** How many octets the connection holds now. */
  #hold(connection: Connection, octets: number): void {
    this.#buffered += octets - connection.held;
    connection.held = octets;
    if (this.#buffered > this.#options.limits.bufferedBytes) this.#shedHalfMessages();
  }

  #feed(connection: Connection, chunk: Buffer): void {
    const framer = connection.framer;
    const { messages, pings } = framer;
    const now = this.#options.clock.now();
    framer.feed(chunk);
    // The messages may have had the connection closed.
    if (connection.gone || connection.closingSince >= 0) return;
    // One pong for all pings of a chunk: who floods pings gets no flood back.
    if (framer.pings !== pings && !this.#write(connection, PONG)) return;
    if (!framer.half) connection.halfSince = -1;
    else if (connection.halfSince < 0 || framer.messages !== messages) connection.halfSince = now;
    this.#hold(connection, framer.heldBytes);
  }

  #message(connection: Connection, bytes: Buffer, start: number, end: number): void {
    this.#options.received[connection.listener]![PacketClass.sip]!.n++;
    if (bytes[start] === INVITE_OR_INFO) connection.hasCalls = true;
    connection.answers.took(bytes, start, this.#options.clock.now());
    this.#options.onPacket(this.#fill(connection, bytes, start, end));
  }

  #fault(connection: Connection, fault: FrameFault, bytes: Buffer, start: number, end: number): void {
    this.#options.received[connection.listener]![PacketClass.garbage]!.n++;
    this.#options.onFault(this.#fill(connection, bytes, start, end), fault);
    this.#closeFlushed(connection, 'framing');
  }

  #fill(connection: Connection, bytes: Buffer, start: number, end: number): Packet {
    const packet = this.#packet;
    packet.bytes = bytes;
    packet.start = start;
    packet.end = end;
    packet.address = connection.remote.address;
    packet.port = connection.remote.port;
    packet.localAddress = connection.local.address;
    packet.localPort = connection.local.port;
    packet.listener = connection.listener;
    packet.connection = connection.id;
    packet.fromBalancer = connection.fromBalancer;
    packet.ingress = this.#options.self.member;
    packet.ingressIncarnation = this.#options.self.incarnation;
    packet.hops = 0;
    packet.secondChance = SecondChance.none;
    packet.orphan = false;
    return packet;
  }

  /** `bytes` becomes the stream's. */
  #write(connection: Connection, bytes: Buffer): boolean {
    const stream = connection.stream;
    if (!stream.writable) return false;
    const queued = connection.connected ? stream.writableLength : sumOf(connection.waiting);
    if (queued > 0 && queued + bytes.length > this.#options.limits.sendQueueBytes) {
      this.#destroy(connection, 'send-queue');
      return false;
    }
    connection.lastOctetAt = this.#options.clock.now();
    if (connection.connected) stream.write(bytes);
    else connection.waiting.push(bytes);
    return true;
  }

  /** Takes no more messages, lets go what is queued, and closes; the sweep ends it when the other side does not. Incoming octets are still read, since a reset would overtake the answer. */
  #closeFlushed(connection: Connection, reason: CloseReason): void {
    if (connection.gone || connection.closingSince >= 0) return;
    this.#retire(connection, reason);
    connection.stream.end();
  }

  /** The other side sends no more. Its connection stays for the answers it may get yet; one that we made does not, its network closes it. */
  #endOf(connection: Connection): void {
    const { accepted, answers, framer } = connection;
    const waits = accepted && answers.some && answers.mayCome(this.#options.clock.now(), this.#options.limits);
    if (!waits || connection.closingSince >= 0) {
      this.#closeFlushed(connection, 'peer');
      return;
    }
    connection.halfClosed = true;
    connection.halfSince = -1;
    framer.stop();
    this.#hold(connection, 0);
  }

  #destroy(connection: Connection, reason: CloseReason): void {
    this.#remove(connection, reason);
    connection.stream.destroy();
  }

  /** The flow ends here, whatever becomes of the socket. */
  #retire(connection: Connection, reason: CloseReason): void {
    connection.closingSince = this.#options.clock.now();
    connection.framer.stop();
    this.#buffered -= connection.held;
    connection.held = 0;
    this.#noteCut(connection, reason);
    if (this.#byRemote.get(connection.key) === connection) this.#byRemote.delete(connection.key);
    this.#options.closed[reason].n++;
    this.#options.onFlowClosed(connection.id, reason);
  }

  /** A header was begun, and the other side is gone. */
  #noteCut(connection: Connection, reason: CloseReason): void {
    const { opening } = connection;
    connection.opening = undefined;
    if (!opening?.waiting || opening.held.length === 0 || (reason !== 'peer' && reason !== 'error')) return;
    this.#options.proxies[connection.listener]!.outcomes.cut.n++;
  }

  #remove(connection: Connection, reason: CloseReason): void {
    if (connection.gone) return;
    connection.gone = true;
    this.#connections.delete(connection.id);
    this.#all.leave();
    const gate = connection.source === undefined ? undefined : this.#sources.get(connection.source);
    gate?.leave();
    if (connection.source !== undefined && gate?.inside === 0) this.#sources.delete(connection.source);
    if (connection.closingSince < 0) this.#retire(connection, reason);
    for (const message of connection.waiting.splice(0)) this.#options.onUnsent(message);
  }

  #sweepOnce(): void {
    const limits = this.#options.limits;
    const now = this.#options.clock.now();
    let queued = 0;
    for (const connection of this.#connections.values()) {
      this.#expireOpening(connection, now);
      if (connection.halfClosed && !connection.answers.mayCome(now, limits))
        this.#closeFlushed(connection, 'half-closed');
      const due = this.#overdue(connection, now);
      if (due) this.#destroy(connection, due);
      else queued += connection.stream.writableLength + sumOf(connection.waiting);
    }
    if (queued > limits.sendQueueTotalBytes) this.#shedSlowReaders(queued);
  }

  #expireOpening(connection: Connection, now: number): void {
    const { opening } = connection;
    if (!opening?.waiting || now - connection.openedAt < this.#options.limits.proxyHeaderMs) return;
    const outcome = opening.expire();
    if (outcome !== undefined) this.#open(connection, opening, outcome);
  }

  #overdue(connection: Connection, now: number): CloseReason | undefined {
    const limits = this.#options.limits;
    if (connection.closingSince >= 0) return now - connection.closingSince >= limits.lingerMs ? 'framing' : undefined;
    if (connection.halfClosed) return undefined;
    if (!connection.connected) return now - connection.openedAt >= limits.connectMs ? 'connect-failed' : undefined;
    if (connection.halfSince >= 0 && now - connection.halfSince >= limits.halfMessageMs) return 'half-message';
    const { messages, keepalives } = connection.framer;
    const silent = connection.accepted && messages === 0 && keepalives === 0;
    if (silent && now - connection.openedAt >= limits.silentMs) return 'silent';
    return now - connection.lastOctetAt >= limits.idleMs ? 'idle' : undefined;
  }

  /** Goes well below the limit at once, so that the walk over all connections is not repeated for each chunk. */
  #shedHalfMessages(): void {
    const target = this.#options.limits.bufferedBytes * 0.875;
    const halves = [...this.#connections.values()].filter((connection) => connection.held > 0);
    halves.sort((a, b) => b.held - a.held || a.halfSince - b.halfSince);
    for (const connection of halves) {
      if (this.#buffered <= target) return;
      this.#destroy(connection, 'buffered-bytes');
    }
  }

  #shedSlowReaders(queued: number): void {
    let left = queued;
    const slow = [...this.#connections.values()].filter((connection) => connection.stream.writableLength > 0);
    slow.sort((a, b) => b.stream.writableLength - a.stream.writableLength);
    for (const connection of slow) {
      if (left <= this.#options.limits.sendQueueTotalBytes * 0.875) return;
      left -= connection.stream.writableLength;
      this.#destroy(connection, 'send-queue');
    }
  }
}

/** A stream without an error listener throws; what the error means comes with `close`. */
function ignore(): void {}

function sumOf(messages: readonly Buffer[]): number {
  let octets = 0;
  for (const message of messages) octets += message.length;
  return octets;
}
