// A UDP listener: one socket on one local address. Classifies datagrams, answers STUN, and passes SIP on.
import net from 'node:net';
import type { Endpoint } from '../base/endpoint.ts';
import type { Guard } from '../base/guard.ts';
import type { DatagramSocket, Network, Sharing } from '../base/network.ts';
import type { Cell } from '../metrics/counters.ts';
import { Packet } from '../packet/packet.ts';
import { classify, PacketClass, skipLineEnds } from './classify.ts';
import type { TransportLimits } from './limits.ts';
import { ProxyPeers } from './proxy-peers.ts';
import { ProxyHeader, readDatagramHeader, SIMPLE_OCTETS, writeSimpleHeader } from './proxy-protocol.ts';
import { outcomeOf, type ProxyRule } from './proxy-rule.ts';
import { answerStun } from './stun.ts';

/** Member number and incarnation stamped on packets. */
export interface Self {
  member: number;
  incarnation: number;
}

export interface UdpListenerOptions {
  /** Index of the listener. */
  readonly listener: number;
  readonly bind: Endpoint;
  /** Whether other sockets may bind the same address. */
  readonly sharing: Sharing;
  readonly self: Readonly<Self>;
  readonly onPacket: (packet: Packet) => void;
  readonly guard: Guard;
  /** Counts datagrams that come before `open`. */
  readonly early: Cell;
  /** Indexed by `PacketClass`. */
  readonly received: readonly Cell[];
  readonly sendErrors: Cell;
  /** Monotonic milliseconds. */
  readonly now: () => number;
  readonly limits: TransportLimits;
  /** PROXY headers it accepts. Undefined: datagrams are not searched for headers. */
  readonly proxy: ProxyRule | undefined;
}

export class UdpListener {
  readonly #options: UdpListenerOptions;
  readonly #packet = new Packet();
  readonly #ipv6: boolean;
  readonly #header = new ProxyHeader();
  readonly #peers: ProxyPeers | undefined;
  #socket: DatagramSocket | undefined;
  /** True when the socket was handed in: then this listener does not close it. */
  #given = false;
  #open = false;

  constructor(options: UdpListenerOptions) {
    this.#options = options;
    this.#ipv6 = net.isIPv6(options.bind.address);
    const { limits, now } = options;
    this.#peers =
      options.proxy && new ProxyPeers({ now, most: () => limits.proxyPeers, keepMs: () => limits.proxyPeerMs });
  }

  /** Bound address; undefined while there is no socket. */
  get local(): Endpoint | undefined {
    return this.#socket?.local;
  }

  /** Takes datagrams from now on. Before this call they are dropped without an answer. */
  open(): void {
    this.#open = true;
  }

  /** Binds the socket. Rejects with the system's error. */
  async bind(network: Network): Promise<void> {
    const { bind, sendErrors, sharing } = this.#options;
    const handlers = {
      onDatagram: (bytes: Buffer, address: string, port: number) => this.receive(bytes, address, port),
      onSendError: () => {
        sendErrors.n++;
      },
    };
    this.#socket = await network.bindUdp(bind, handlers, sharing);
  }

  /** Sends through `socket`, which its owner reads and closes. */
  use(socket: DatagramSocket): void {
    this.#socket = socket;
    this.#given = true;
  }

  receive(bytes: Buffer, address: string, port: number): void {
    const { proxy, bind, guard } = this.#options;
    if (!this.#open) {
      this.#options.early.n++;
      return;
    }
    try {
      if (proxy && port !== 0) this.#unwrap(proxy, bytes, address, port);
      else {
        const local = this.#socket?.local ?? bind;
        this.#take(bytes, 0, address, port, local.address, local.port, false);
      }
    } catch (error) {
      guard.caught('datagram', error, bytes, 0, bytes.length);
    }
  }

  /** Reads the PROXY header. A proxy puts it in front of each datagram, also of keep-alives and STUN. */
  #unwrap(rule: ProxyRule, bytes: Buffer, address: string, port: number): void {
    const header = this.#header;
    const reading = readDatagramHeader(bytes, 0, bytes.length, header);
    const outcome = outcomeOf(reading, header, rule.trusted().matches(address), rule.required);
    rule.outcomes[outcome].n++;
    const local = this.#socket?.local ?? this.#options.bind;
    switch (outcome) {
      case 'proxied': {
        const { address: client, port: clientPort, localAddress, localPort, simple, end } = header;
        this.#peers!.remember(client, clientPort, address, port, localAddress, localPort, simple);
        this.#take(bytes, end, client, clientPort, localAddress, localPort, false);
        break;
      }
      case 'local':
      case 'unknown':
        this.#take(bytes, header.end, address, port, local.address, local.port, outcome === 'local');
        break;
      case 'none':
        this.#take(bytes, 0, address, port, local.address, local.port, false);
        break;
      default:
        this.#options.received[PacketClass.garbage]!.n++;
    }
  }

  #take(
    bytes: Buffer,
    from: number,
    address: string,
    port: number,
    localAddress: string,
    localPort: number,
    fromBalancer: boolean,
  ): void {
    const options = this.#options;
    const end = bytes.length;
    const start = skipLineEnds(bytes, from, end);
    // Port 0 cannot be answered.
    const kind = port === 0 ? PacketClass.garbage : classify(bytes, start, end);
    options.received[kind]!.n++;
    if (kind === PacketClass.sip) {
      const { member, incarnation } = options.self;
      const packet = this.#packet
        .begin(bytes, start, end)
        .cameFrom(address, port, 0, fromBalancer)
        .cameTo(localAddress, localPort, options.listener, 0)
        .enteredAt(member, incarnation, 0);
      options.onPacket(packet);
    } else if (kind === PacketClass.stun) {
      const answer = answerStun(bytes, start, end, address, port);
      if (answer) this.send(answer, address, port);
    }
  }

  /** Sends to `address` and `port`, through the proxy that this party's datagrams came by. Failures are counted. */
  send(bytes: Uint8Array, address: string, port: number): void {
    const peer = this.#peers?.find(address, port);
    if (!peer) this.#put(bytes, address, port);
    else if (peer.simple && this.#options.proxy?.answerHeader() === 'simple') {
      const whole = Buffer.allocUnsafe(SIMPLE_OCTETS + bytes.length);
      writeSimpleHeader(whole, address, port, peer.localAddress, peer.localPort);
      whole.set(bytes, SIMPLE_OCTETS);
      this.#put(whole, peer.address, peer.port);
    } else this.#put(bytes, peer.address, peer.port);
  }

  /**
   * Sends from the socket. Anything but an IP literal of the socket's family is counted as a failure: no resolver is
   * used here.
   */
  #put(bytes: Uint8Array, address: string, port: number): void {
    const literal = this.#ipv6 ? net.isIPv6(address) : net.isIPv4(address);
    if (this.#socket && literal && port > 0 && port <= 65_535) this.#socket.send(bytes, address, port);
    else this.#options.sendErrors.n++;
  }

  async close(): Promise<void> {
    const socket = this.#socket;
    this.#socket = undefined;
    if (!this.#given) await socket?.close();
  }
}
