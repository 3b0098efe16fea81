// The TCP connections of a member: accepted and made, bounded in number, time and bytes. One table and one sweep timer
// for all listeners.

import { canonicalAddress } from '../base/address-octets.ts';
import type { Clock, Timer } from '../base/clock.ts';
import type { Endpoint } from '../base/endpoint.ts';
import type { Guard } from '../base/guard.ts';
import type { ByteStream, Network } from '../base/network.ts';
import { sourceOf } from '../base/source.ts';
import type { Cell } from '../metrics/counters.ts';
import { Packet } from '../packet/packet.ts';
import { Admission } from './admission.ts';
import { PacketClass } from './classify.ts';
import type { CloseReason } from './close-reason.ts';
import { Connection, type ConnectionOwner } from './connection.ts';
import type { FrameFault } from './framer.ts';
import type { TransportLimits } from './limits.ts';
import { ProxyHeader, type ProxyOutcome } from './proxy-protocol.ts';
import { ProxyOpening, type ProxyRule } from './proxy-rule.ts';
import { ProxyStage, type ProxyStageOptions } from './proxy-stage.ts';
import type { MakeStage } from './stage.ts';
import type { Self } from './udp.ts';

export interface ConnectionTableOptions {
  readonly clock: Clock;
  /** Read anew each time: its fields may change while the table is in use, except the sizes of messages. */
  readonly limits: TransportLimits;
  readonly self: Readonly<Self>;
  readonly onPacket: (packet: Packet) => void;
  readonly onFault: (packet: Packet, fault: FrameFault) => void;
  readonly onFlowClosed: (connection: number, reason: CloseReason) => void;
  readonly onUnsent: (message: Buffer) => void;
  readonly guard: Guard;
  /** By listener, then by `PacketClass`. */
  readonly received: readonly (readonly Cell[])[];
  /** By listener: the PROXY headers that it accepts. Undefined: connections are not searched for headers. */
  readonly proxies: readonly (ProxyRule | undefined)[];
  /** By listener: the stages of accepted connections between PROXY header and framer. */
  readonly stages: readonly (readonly MakeStage[])[];
  readonly closed: Readonly<Record<CloseReason, Cell>>;
}

const SWEEP_MS = 1_000;
/** A shed goes this far below its limit, so that the walk over all connections is not repeated for each chunk. */
const SHED_TO = 0.875;

/** The last connection id; one count for the process, so that members of one process never share an id. */
let lastConnection = 0;

function remoteKey(listener: number, remote: Endpoint): string {
  return `${listener}|${remote.port}|${canonicalAddress(remote.address)}`;
}

export class ConnectionTable implements ConnectionOwner {
  readonly limits: TransportLimits;
  readonly guard: Guard;
  readonly #options: ConnectionTableOptions;
  readonly #connections = new Map<number, Connection>();
  /** Connections that this member made, by listener and remote endpoint. */
  readonly #byRemote = new Map<string, Connection>();
  readonly #admission: Admission;
  readonly #packet = new Packet();
  readonly #header = new ProxyHeader();
  #buffered = 0;
  #sweep: Timer | undefined;

  constructor(options: ConnectionTableOptions) {
    this.#options = options;
    this.limits = options.limits;
    this.guard = options.guard;
    this.#admission = new Admission(options.limits);
  }

  /** Connections that are open, including those that send the rest of their queue. */
  get size(): number {
    return this.#connections.size;
  }

  /** Octets held by half messages and by stages. */
  get bufferedBytes(): number {
    return this.#buffered;
  }

  start(): void {
    this.#sweep ??= this.#options.clock.every(SWEEP_MS, () => this.#sweepOnce());
  }

  stop(): void {
    this.#sweep?.cancel();
    this.#sweep = undefined;
    for (const connection of this.#connections.values()) connection.destroy('stop');
  }

  /** Takes an accepted connection, or destroys it when a limit refuses it. */
  accept(listener: number, stream: ByteStream): void {
    try {
      this.#accept(listener, stream);
    } catch (error) {
      this.guard.caught('connection', error);
      stream.destroy();
    }
  }

  #accept(listener: number, stream: ByteStream): void {
    const { remoteAddress, remotePort, localAddress, localPort } = stream;
    stream.on('error', ignore);
    if (remoteAddress === undefined || remotePort === undefined) {
      // The other side has closed it before this call.
      this.#options.closed.peer.n++;
      stream.destroy();
      return;
    }
    const rule = this.#options.proxies[listener];
    const opening = rule && new ProxyOpening(rule.trusted().matches(remoteAddress), rule.required);
    const source = opening?.trusted ? undefined : sourceOf(remoteAddress);
    const refusal = this.#admission.refusal(source);
    if (refusal) {
      this.#options.closed[refusal].n++;
      stream.destroy();
      return;
    }
    const remote = { address: remoteAddress, port: remotePort };
    const local = { address: localAddress ?? '', port: localPort ?? 0 };
    let connection: Connection;
    const stages = [...this.#options.stages[listener]!];
    if (rule && opening)
      stages.unshift(
        (exit) =>
          new ProxyStage(
            this.#proxyOf(rule, opening, () => connection),
            exit,
          ),
      );
    connection = new Connection(
      { id: this.#nextId(), listener, stream, remote, local, accepted: true, source },
      this,
      stages,
    );
    this.#add(connection);
  }

  #proxyOf(rule: ProxyRule, opening: ProxyOpening, connection: () => Connection): ProxyStageOptions {
    return {
      opening,
      rule,
      header: this.#header,
      headerMs: () => this.limits.proxyHeaderMs,
      onKnown: (outcome, header) => this.#known(connection(), outcome, header),
    };
  }

  /**
   * Notes the client that a PROXY header names, and counts its source. Returns false when that closes the connection.
   */
  #known(connection: Connection, outcome: ProxyOutcome, header: ProxyHeader): boolean {
    if (outcome === 'proxied') {
      connection.remote = { address: header.address, port: header.port };
      connection.local = { address: header.localAddress, port: header.localPort };
    }
    connection.fromBalancer = outcome === 'local';
    if (connection.source !== undefined) return true;
    const source = sourceOf(connection.remote.address);
    if (!this.#admission.admits(source)) {
      connection.destroy('source-limit');
      return false;
    }
    connection.source = source;
    this.#admission.enterSource(source);
    return true;
  }

  /**
   * Returns the connection that this member has opened to `remote`, or opens one. Returns 0 when the limit is reached.
   */
  connect(network: Network, listener: number, remote: Endpoint, from: string | undefined): number {
    const key = remoteKey(listener, remote);
    const open = this.#byRemote.get(key);
    if (open) return open.id;
    const refusal = this.#admission.refusal(undefined);
    if (refusal) {
      this.#options.closed[refusal].n++;
      return 0;
    }
    const stream = network.connectTcp(remote, from === undefined ? undefined : { address: from });
    // Callers reuse `remote`.
    const party = { address: remote.address, port: remote.port };
    const local = { address: from ?? '', port: 0 };
    const connection = new Connection(
      { id: this.#nextId(), listener, stream, remote: party, local, accepted: false, source: undefined },
      this,
      [],
    );
    this.#add(connection);
    // Only connections that this member opened are used again: a client that connected here does not expect requests
    // (RFC 5923). Flows reach those that do.
    this.#byRemote.set(key, connection);
    return connection.id;
  }

  /** Returns true when requests can be sent on the connection, and answered on it. */
  holds(id: number): boolean {
    return this.#connections.get(id)?.taking === true;
  }

  /** Queues a copy of `bytes`. Returns false as `Connection.send` does, and when there is no such connection. */
  send(id: number, bytes: Uint8Array): boolean {
    return this.#connections.get(id)?.send(bytes) === true;
  }

  /** Closes a connection that no call has used, after its queue has been sent: its client connects elsewhere. */
  moveOn(id: number): void {
    const connection = this.#connections.get(id);
    if (connection && !connection.hasCalls) connection.closeFlushed('moved-on');
  }

  /** Closes all connections, each after its queue has been sent. */
  moveAllOn(): void {
    for (const connection of this.#connections.values()) connection.closeFlushed('moved-on');
  }

  now(): number {
    return this.#options.clock.now();
  }

  onMessage(connection: Connection, bytes: Buffer, start: number, end: number): void {
    this.#options.received[connection.listener]![PacketClass.sip]!.n++;
    this.#options.onPacket(this.#fill(connection, bytes, start, end));
  }

  onKeepalive({ listener }: Connection): void {
    this.#options.received[listener]![PacketClass.keepalive]!.n++;
  }

  onFrameFault(connection: Connection, fault: FrameFault, bytes: Buffer, start: number, end: number): void {
    this.onStageFault(connection);
    this.#options.onFault(this.#fill(connection, bytes, start, end), fault);
  }

  onStageFault({ listener }: Connection): void {
    this.#options.received[listener]![PacketClass.garbage]!.n++;
  }

  onHeld(change: number): void {
    this.#buffered += change;
    if (change >= 0 && this.#buffered > this.limits.bufferedBytes) this.#shedHalfMessages();
  }

  onClosed(connection: Connection, reason: CloseReason): void {
    if (!connection.accepted) {
      const key = remoteKey(connection.listener, connection.remote);
      if (this.#byRemote.get(key) === connection) this.#byRemote.delete(key);
    }
    this.#options.closed[reason].n++;
    this.#options.onFlowClosed(connection.id, reason);
  }

  onGone(connection: Connection): void {
    this.#connections.delete(connection.id);
    this.#admission.leave(connection.source);
  }

  onUnsent(message: Buffer): void {
    this.#options.onUnsent(message);
  }

  #add(connection: Connection): void {
    this.#admission.enter(connection.source);
    this.#connections.set(connection.id, connection);
    connection.start();
  }

  #nextId(): number {
    do lastConnection = lastConnection === 0xffff_ffff ? 1 : lastConnection + 1;
    while (this.#connections.has(lastConnection));
    return lastConnection;
  }

  #fill(connection: Connection, bytes: Buffer, start: number, end: number): Packet {
    const { remote, local, listener, id, fromBalancer } = connection;
    const { member, incarnation } = this.#options.self;
    return this.#packet
      .begin(bytes, start, end)
      .cameFrom(remote.address, remote.port, id, fromBalancer)
      .cameTo(local.address, local.port, listener, 0)
      .enteredAt(member, incarnation, 0);
  }

  #sweepOnce(): void {
    const now = this.now();
    let queued = 0;
    for (const connection of this.#connections.values()) {
      connection.sweep(now);
      if (connection.state.kind !== 'gone') queued += connection.queued;
    }
    if (queued > this.limits.sendQueueTotalBytes) this.#shedSlowReaders(queued);
  }

  /** Destroys the connections that hold the most octets, among equal ones those with the oldest half messages. */
  #shedHalfMessages(): void {
    const target = this.limits.bufferedBytes * SHED_TO;
    const halves = [...this.#connections.values()].filter((connection) => connection.held > 0);
    halves.sort((a, b) => b.held - a.held || a.halfSince - b.halfSince);
    for (const connection of halves) {
      if (this.#buffered <= target) return;
      connection.destroy('buffered-bytes');
    }
  }

  /** Destroys the connections with the longest queues. `queued`: octets of all queues. */
  #shedSlowReaders(queued: number): void {
    const target = this.limits.sendQueueTotalBytes * SHED_TO;
    let left = queued;
    const slow = [...this.#connections.values()].filter(({ stream }) => stream.writableLength > 0);
    slow.sort((a, b) => b.stream.writableLength - a.stream.writableLength);
    for (const connection of slow) {
      if (left <= target) return;
      left -= connection.stream.writableLength;
      connection.destroy('send-queue');
    }
  }
}

/** A stream without an error listener throws. The meaning of the error comes with `close`. */
function ignore(): void {}
