// A UDP listener: one socket on one local address. Classifies what comes, answers keep-alives, hands SIP on.
import net from 'node:net';
import type { Endpoint } from '../base/endpoint.ts';
import type { DatagramSocket, Network } from '../base/network.ts';
import type { Cell } from '../metrics/counters.ts';
import { classify, PacketClass, skipLineEnds } from './classify.ts';
import { Packet, SecondChance } from './packet.ts';
import { answerStun } from './stun.ts';

/** Which member packets are stamped with. */
export interface Self {
  member: number;
  incarnation: number;
}

export interface UdpListenerOptions {
  /** Index of the listener. */
  readonly listener: number;
  readonly bind: Endpoint;
  readonly self: Readonly<Self>;
  readonly onPacket: (packet: Packet) => void;
  /** Indexed by `PacketClass`. */
  readonly received: readonly Cell[];
  readonly sendErrors: Cell;
}

export class UdpListener {
  readonly #options: UdpListenerOptions;
  readonly #packet = new Packet();
  readonly #ipv6: boolean;
  #socket: DatagramSocket | undefined;
  /** Whether the socket was given: then it is not ours to close. */
  #given = false;

  constructor(options: UdpListenerOptions) {
    this.#options = options;
    this.#ipv6 = net.isIPv6(options.bind.address);
  }

  /** The bound address; undefined while there is none. */
  get local(): Endpoint | undefined {
    return this.#socket?.local;
  }

  /** Rejects with the system's error. */
  async bind(network: Network): Promise<void> {
    this.#socket = await network.bindUdp(this.#options.bind, {
      onDatagram: (bytes, address, port) => this.receive(bytes, address, port),
      onSendError: () => {
        this.#options.sendErrors.n++;
      },
    });
  }

  /** Sends by `socket`, which someone else owns and reads. */
  use(socket: DatagramSocket): void {
    this.#socket = socket;
    this.#given = true;
  }

  receive(bytes: Buffer, address: string, port: number): void {
    const options = this.#options;
    const end = bytes.length;
    const start = skipLineEnds(bytes, 0, end);
    // Port 0 cannot be answered.
    const kind = port === 0 ? PacketClass.garbage : classify(bytes, start, end);
    options.received[kind]!.n++;
    if (kind === PacketClass.sip) {
      const local = this.#socket?.local ?? options.bind;
      const packet = this.#packet;
      packet.bytes = bytes;
      packet.start = start;
      packet.end = end;
      packet.address = address;
      packet.port = port;
      packet.localAddress = local.address;
      packet.localPort = local.port;
      packet.listener = options.listener;
      packet.connection = 0;
      packet.ingress = options.self.member;
      packet.ingressIncarnation = options.self.incarnation;
      packet.hops = 0;
      packet.secondChance = SecondChance.none;
      packet.orphan = false;
      options.onPacket(packet);
    } else if (kind === PacketClass.stun) {
      const answer = answerStun(bytes, start, end, address, port);
      if (answer) this.send(answer, address, port);
    }
  }

  /** Failures are counted. An address that is no IP literal of the socket's family is one: nothing here asks a resolver. */
  send(bytes: Uint8Array, address: string, port: number): void {
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
