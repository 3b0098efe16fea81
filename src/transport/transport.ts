// Transport of a member: all its listeners, their incoming packets, and sending by datagram and by connection.

import net from 'node:net';
import type { Clock } from '../base/clock.ts';
import { type Endpoint, formatEndpoint } from '../base/endpoint.ts';
import { SipfarmError } from '../base/errors.ts';
import { type Guard, NO_GUARD } from '../base/guard.ts';
import { listenerCode } from '../base/listener-code.ts';
import type { ByteStream, DatagramSocket, Network, StreamServer } from '../base/network.ts';
import { type Cell, type CellFamily, cellsBy } from '../metrics/counters.ts';
import type { Advertised } from '../packet/advertised.ts';
import type { Packet } from '../packet/packet.ts';
import { isReliable, type ListenerKind } from '../packet/transport-kind.ts';
import { CLASS_NAMES } from './classify.ts';
import { CLOSE_REASONS, type CloseReason } from './close-reason.ts';
import { ConnectionTable } from './connection-table.ts';
import type { FrameFault } from './framer.ts';
import type { TransportLimits } from './limits.ts';
import { type ProxySettings, proxyRule } from './proxy-rule.ts';
import type { MakeStage } from './stage.ts';
import { type Self, UdpListener } from './udp.ts';

export interface ListenerConfig {
  readonly name: string;
  readonly transport: ListenerKind;
  readonly bind: Endpoint;
  /** Address shown in Via, Record-Route and Contact. Port 0 stands for the bound port. */
  readonly advertise: Advertised;
  readonly answer: 'direct' | 'ingress';
  /**
   * Local address of connections that this member opens. Left out, the system chooses.
   * Set it under DSR: packets that return to the VIP reach any member.
   */
  readonly dialFrom?: string;
  /** Whether a proxy in front names the true source (PROXY protocol). Left out: `off`. */
  readonly proxyProtocol?: 'off' | 'accept' | 'require';
  /** True when other processes of this host listen on the same address. Left out: false. */
  readonly shared?: boolean;
  /** False: a TCP listener that opens no port; `accept` receives its connections. */
  readonly listen?: boolean;
  /** Stages of its accepted connections between PROXY header and framer, first to last. Left out: none. */
  readonly stages?: readonly MakeStage[];
}

/** A listener after `start`. Its index in `Transport.listeners` is `Packet.listener`. */
export interface Listener extends ListenerConfig {
  /** Code of the listener in flows, the same at every member (listener-code.ts). */
  readonly code: number;
  /** The bound address and port; `bind` before `start`. */
  readonly local: Endpoint;
}

type OpenListener = { -readonly [K in keyof Listener]: Listener[K] };

interface TransportHandlers {
  /** Receives a message. The packet and its bytes are reused: copy what must outlive the call. */
  onPacket(packet: Packet): void;
  /**
   * A stream lost its framing. `packet` holds the received part of the message.
   * An answer sent before this returns still leaves; then the connection closes.
   */
  onFault(packet: Packet, fault: FrameFault): void;
  /** The connection takes no more messages. May be called from within `sendStream`. */
  onFlowClosed(connection: number, reason: CloseReason): void;
  /** Receives a message that waited for a connection that could not be opened. */
  onUnsent(message: Buffer): void;
}

export interface TransportOptions {
  readonly network: Network;
  readonly clock: Clock;
  readonly listeners: readonly ListenerConfig[];
  readonly limits: TransportLimits;
  readonly handlers: TransportHandlers;
  /** Left out: exceptions propagate to the network. */
  readonly guard?: Guard;
  /** Counts datagrams that come before `start`. Left out: they are not counted. */
  readonly early?: Cell;
  /** received_packets_total */
  readonly received: CellFamily<'listener' | 'class'>;
  /** closed_connections_total */
  readonly closedConnections: CellFamily<'reason'>;
  /** send_errors_total */
  readonly sendErrors: CellFamily<'listener'>;
  /** For listeners with `proxyProtocol`. Left out: they trust no proxy. */
  readonly proxies?: ProxySettings;
  /** Existing UDP sockets, by listener name. Such a listener binds no socket, and its datagrams come by `inject`. */
  readonly sockets?: ReadonlyMap<string, DatagramSocket>;
}

export class Transport {
  readonly listeners: readonly Listener[];
  readonly #options: TransportOptions;
  readonly #self: Self = { member: 0, incarnation: 0 };
  /** By listener index; undefined for a TCP listener. */
  readonly #udp: readonly (UdpListener | undefined)[];
  readonly #connections: ConnectionTable;
  /** Counts datagrams to be sent from a listener that does not exist or is not UDP. */
  readonly #misdirected: Cell;
  readonly #early: Cell;
  /** Counts connections that `accept` receives before `start`. */
  readonly #refusedEarly: Cell;
  #servers: StreamServer[] = [];
  #started = false;
  #stopped = false;

  constructor(options: TransportOptions) {
    this.#options = options;
    this.listeners = options.listeners.map((listener) => ({
      ...listener,
      code: listenerCode(listener.name),
      local: listener.bind,
    }));
    const received = options.listeners.map(({ name }) =>
      CLASS_NAMES.map((kind) => options.received.cell({ listener: name, class: kind })),
    );
    const proxies = options.listeners.map((listener) => proxyRule(listener, options.proxies));
    const guard = options.guard ?? NO_GUARD;
    this.#early = options.early ?? { n: 0 };
    this.#refusedEarly = options.closedConnections.cell({ reason: 'before-seat' satisfies CloseReason });
    this.#udp = options.listeners.map((config, listener) =>
      !isReliable(config.transport)
        ? new UdpListener({
            listener,
            bind: config.bind,
            sharing: { reusePort: config.shared === true },
            self: this.#self,
            onPacket: (packet) => options.handlers.onPacket(packet),
            guard,
            early: this.#early,
            received: received[listener]!,
            sendErrors: options.sendErrors.cell({ listener: config.name }),
            now: () => options.clock.now(),
            limits: options.limits,
            proxy: proxies[listener],
          })
        : undefined,
    );
    this.#misdirected = options.sendErrors.cell({ listener: 'none' });
    const reasons = Object.keys(CLOSE_REASONS) as CloseReason[];
    this.#connections = new ConnectionTable({
      clock: options.clock,
      limits: options.limits,
      self: this.#self,
      onPacket: (packet) => options.handlers.onPacket(packet),
      onFault: (packet, fault) => options.handlers.onFault(packet, fault),
      onFlowClosed: (connection, reason) => options.handlers.onFlowClosed(connection, reason),
      onUnsent: (message) => options.handlers.onUnsent(message),
      guard,
      received,
      proxies,
      stages: options.listeners.map(({ stages }) => stages ?? []),
      closed: cellsBy(options.closedConnections, 'reason', reasons),
    });
  }

  /** Sets the member number and incarnation stamped on packets. Called when the store has assigned the number. */
  setSelf(member: number, incarnation: number): void {
    this.#self.member = member;
    this.#self.incarnation = incarnation;
  }

  /**
   * Makes sure that `start` will get its addresses. Takes no packets yet. UDP sockets are bound and drop incoming
   * datagrams. A shared address is bound for a moment only. A TCP port is, too: a balancer takes a port that accepts
   * for a live member. Rejects like `start`.
   */
  reserve(): Promise<void> {
    return this.#eachListener((index, listener) => this.#reserve(index, listener));
  }

  /**
   * Binds all listeners that are not bound yet and starts to take packets.
   * Rejects with SF_BIND_FAILED, which names listener, address and reason; then nothing stays bound.
   */
  start(): Promise<void> {
    this.#started = true;
    this.#connections.start();
    return this.#eachListener((index, listener) => this.#open(index, listener));
  }

  async #eachListener(act: (index: number, listener: OpenListener) => Promise<void>): Promise<void> {
    for (const [index, listener] of this.listeners.entries()) {
      try {
        await act(index, listener);
      } catch (cause) {
        await this.stop();
        const { code, message } = cause as NodeJS.ErrnoException;
        throw new SipfarmError(
          'SF_BIND_FAILED',
          `listener ${listener.name}: cannot bind ${listener.transport} ${formatEndpoint(listener.bind)}: ` +
            `${code ?? message}`,
          { cause },
        );
      }
      // `stop` may have run in the meantime, and has not closed this socket.
      if (this.#stopped) return this.stop();
    }
  }

  /**
   * Sends from the listener's own address; to a client behind a proxy it sends through that proxy.
   * `address` is an IP literal. `bytes` is not copied: do not reuse it before the turn ends. Failures are counted,
   * never thrown.
   */
  sendDatagram(listener: number, bytes: Uint8Array, address: string, port: number): void {
    const udp = this.#udp[listener];
    if (udp) udp.send(bytes, address, port);
    else this.#misdirected.n++;
  }

  /**
   * Queues a copy of `bytes` on the connection. Returns false when the connection is gone, or is destroyed now for its
   * slow reader. Returns false for a request to a half-closed client, too.
   */
  sendStream(connection: number, bytes: Uint8Array): boolean {
    return this.#connections.send(connection, bytes);
  }

  /** Returns false when that connection of this member is gone or half closed. */
  holdsStream(connection: number): boolean {
    return this.#connections.holds(connection);
  }

  /**
   * Returns the connection that this member has opened from this listener to `remote`, or opens one. Messages may be
   * sent at once. Returns 0 when a limit refuses it, or `remote` does not fit the listener's address family.
   */
  connectStream(listener: number, remote: Endpoint): number {
    const config = this.listeners[listener];
    const family = net.isIP(remote.address);
    if (this.#stopped || !config || !isReliable(config.transport) || family === 0) return 0;
    if (family !== net.isIP(config.bind.address) || remote.port < 1 || remote.port > 65_535) return 0;
    return this.#connections.connect(this.#options.network, listener, remote, config.dialFrom);
  }

  #takesStreams(listener: number): boolean {
    const config = this.listeners[listener];
    return config !== undefined && isReliable(config.transport);
  }

  /**
   * Takes an accepted connection for a TCP listener. Destroys it before `start`, after `stop`, and for other listeners.
   */
  accept(listener: number, stream: ByteStream): void {
    if (this.#stopped || !this.#takesStreams(listener)) stream.destroy();
    else if (!this.#started) {
      this.#refusedEarly.n++;
      stream.destroy();
    } else this.#connections.accept(listener, stream);
  }

  /**
   * Closes the connection after its queue has been sent, so that its client reconnects to another member.
   * Does nothing when a call has used the connection.
   */
  redirectClient(connection: number): void {
    this.#connections.moveOn(connection);
  }

  /** Closes every connection after its queue has been sent, also those that calls have used. */
  redirectClients(): void {
    this.#connections.moveAllOn();
  }

  /** Takes a datagram for a UDP listener as if its socket had received it. */
  inject(listener: number, bytes: Buffer, address: string, port: number): void {
    if (!this.#stopped) this.#udp[listener]?.receive(bytes, address, port);
  }

  /** Number of open connections. */
  connections(): number {
    return this.#connections.size;
  }

  /** Octets held by half messages of all connections. */
  bufferedBytes(): number {
    return this.#connections.bufferedBytes;
  }

  /** Closes the sockets that this transport bound, and every connection. Sockets from `sockets` stay open. */
  async stop(): Promise<void> {
    this.#stopped = true;
    const servers = this.#servers;
    this.#servers = [];
    const closing = [...servers.map((server) => server.close()), ...this.#udp.map((listener) => listener?.close())];
    this.#connections.stop();
    await Promise.all(closing);
  }

  async #reserve(index: number, listener: OpenListener): Promise<void> {
    const { name, bind, shared, listen } = listener;
    const { network, sockets } = this.#options;
    const udp = this.#udp[index];
    if (sockets?.has(name) || listen === false) return;
    if (udp && !shared) {
      await udp.bind(network);
      if (udp.local) settle(listener, udp.local);
      return;
    }
    const sharing = { reusePort: shared === true };
    const tried = udp
      ? await network.bindUdp(bind, { onDatagram: () => void this.#early.n++, onSendError: () => {} }, sharing)
      : await network.listenTcp(bind, (stream) => this.accept(index, stream), sharing);
    settle(listener, tried.local);
    await tried.close();
  }

  async #open(index: number, listener: OpenListener): Promise<void> {
    const udp = this.#udp[index];
    const given = this.#options.sockets?.get(listener.name);
    if (udp) {
      if (given) udp.use(given);
      else if (!udp.local) await udp.bind(this.#options.network);
      udp.open();
    } else if (listener.listen !== false) {
      const onConnection = (stream: ByteStream): void => this.accept(index, stream);
      const accepting = { reusePort: listener.shared === true, halfOpen: true };
      const server = await this.#options.network.listenTcp(listener.local, onConnection, accepting);
      this.#servers.push(server);
      settle(listener, server.local);
    }
    if (udp?.local) settle(listener, udp.local);
  }
}

/** Takes the bound address. A port 0 in the configuration becomes the port that the system has picked. */
function settle(listener: OpenListener, { address, port }: Endpoint): void {
  listener.local = { address, port };
  if (listener.advertise.port === 0) listener.advertise = { ...listener.advertise, port };
}
