// The transparent side of the relay link (relay.mode transparent). A datagram goes to its owner unchanged, with the
// client's source address and port, to a transparent port there: a UDP socket that stands for one listener. It has no
// frame and no MAC.
//
// Packets on a transparent port are unauthenticated and trusted less than packets from clients: they are never probes,
// and they count as relayed once. Only packets that have not been relayed are sent like this. So no packet is sent
// transparently twice, and the hop limit bounds further relaying.
import { randomBytes } from 'node:crypto';
import { readAddress } from '../base/address-octets.ts';
import { type Endpoint, isIpv6 } from '../base/endpoint.ts';
import type { Guard } from '../base/guard.ts';
import { listenerCode } from '../base/listener-code.ts';
import type { DatagramSocket, Network } from '../base/network.ts';
import type { RawSocket } from '../base/raw-socket.ts';
import type { Cell, CellFamily } from '../metrics/counters.ts';
import { Packet, SecondChance } from '../packet/packet.ts';
import { classify, PacketClass, skipLineEnds } from '../transport/classify.ts';
import { IpPacket, type IpTarget, makeTarget } from './ip-packet.ts';

/** A listener whose packets may be sent and received transparently. */
export interface TransparentListener {
  /** Its index at this member. */
  readonly listener: number;
  readonly name: string;
  /** Endpoint on which it listens for clients. */
  readonly local: Endpoint;
  /** Endpoint of its transparent port, of the address family of `local`; port 0: the system picks one. */
  readonly at: Endpoint;
}

/** The transparent port of a listener, as the member record publishes it. */
export interface TransparentPort {
  /** Name of the listener. */
  readonly listener: string;
  readonly at: Endpoint;
}

export interface TransparentOptions {
  readonly network: Network;
  /** All transparent ports have one address family. */
  readonly listeners: readonly TransparentListener[];
  /** Maximum octets of an IP packet. */
  readonly mtu: number;
  /** This member; no packet is taken while its number or epoch is 0. */
  readonly self: () => { readonly number: number; readonly incarnation: number; readonly epoch: number };
  readonly packets: CellFamily<'direction' | 'outcome'>;
  readonly sendErrors: Cell;
  /** Called with each packet for the owner lookup. The object is reused. */
  readonly onPacket: (packet: Packet) => void;
  readonly guard: Guard;
}

/** Transparent ports of one member by listener code. */
export type Targets = ReadonlyMap<number, IpTarget>;

export function targetsOf(transparentPorts: readonly TransparentPort[]): Targets {
  return new Map(transparentPorts.map(({ listener, at }) => [listenerCode(listener), makeTarget(at)]));
}

export class TransparentLink {
  readonly #options: TransparentOptions;
  readonly #sent: Cell;
  readonly #unsent: Cell;
  readonly #taken: Cell;
  readonly #garbage: Cell;
  /** By index of the listener: its code when it is transparent, else -1. */
  readonly #codes: Int16Array;
  readonly #packet = new Packet();
  #ip: IpPacket | undefined;
  #raw: RawSocket | undefined;
  #sockets: DatagramSocket[] = [];
  #transparentPorts: readonly TransparentPort[] = [];
  /** Addresses of the farm's hosts. A host drops packets from the network with its own source (RFC 1812 5.3.7). */
  #own: ReadonlySet<string> = new Set();

  constructor(options: TransparentOptions) {
    this.#options = options;
    this.#sent = options.packets.cell({ direction: 'out', outcome: 'sent' });
    this.#unsent = options.packets.cell({ direction: 'out', outcome: 'refused' });
    this.#taken = options.packets.cell({ direction: 'in', outcome: 'taken' });
    this.#garbage = options.packets.cell({ direction: 'in', outcome: 'garbage' });
    this.#codes = new Int16Array(256).fill(-1);
    for (const { listener, name } of options.listeners) this.#codes[listener] = listenerCode(name);
  }

  /** The bound transparent ports; empty before `start`. */
  get transparentPorts(): readonly TransparentPort[] {
    return this.#transparentPorts;
  }

  /**
   * Opens the raw socket and binds the transparent ports. Rejects with SF_TRANSPARENT_UNAVAILABLE, or with the system's
   * error when a port cannot be bound; then nothing stays open.
   */
  async start(): Promise<void> {
    const { network, listeners, mtu, sendErrors, guard } = this.#options;
    const [first] = listeners;
    if (!first) return;
    const ipv6 = isIpv6(first.at.address);
    try {
      this.#raw = network.openRaw?.(ipv6);
      this.#ip = new IpPacket(ipv6, mtu, randomBytes(4).readUInt32BE());
      for (const listener of listeners)
        this.#sockets.push(
          await network.bindUdp(listener.at, {
            onDatagram: (bytes, address, port) => {
              try {
                this.#take(listener, bytes, address, port);
              } catch (error) {
                guard.caught('relay', error, bytes, 0, bytes.length);
              }
            },
            onSendError: () => {
              sendErrors.n++;
            },
          }),
        );
    } catch (error) {
      await this.stop();
      throw error;
    }
    this.#transparentPorts = this.#sockets.map(({ local }, index) => ({ listener: listeners[index]!.name, at: local }));
  }

  async stop(): Promise<void> {
    const sockets = this.#sockets;
    this.#sockets = [];
    this.#transparentPorts = [];
    this.#raw?.close();
    this.#raw = undefined;
    await Promise.all(sockets.map((socket) => socket.close()));
  }

  /** Sets the addresses of this and the other members; IP literals. */
  setOwnAddresses(addresses: Iterable<string>): void {
    this.#own = new Set(Array.from(addresses, canonical));
  }

  /**
   * Sends the packet to its listener's transparent port in `targets`. Returns false when it cannot be sent
   * transparently or the system refuses it; the caller still has the packet.
   */
  send(targets: Targets, packet: Packet): boolean {
    const raw = this.#raw;
    // Connection, hops and second chance can travel only in a frame.
    if (!raw || packet.hops !== 0 || packet.connection !== 0 || packet.secondChance !== SecondChance.none) return false;
    const target = targets.get(this.#codes[packet.listener]!);
    if (!target || this.#own.has(packet.address)) return false;
    const ip = this.#ip!;
    if (!ip.begin(packet.address, packet.port, target, packet.bytes, packet.start, packet.end)) return false;
    for (let octets = ip.next(); octets !== 0; octets = ip.next()) {
      if (raw.send(ip.bytes, octets, target.address)) continue;
      this.#unsent.n++;
      return false;
    }
    this.#sent.n++;
    return true;
  }

  /** Takes a datagram on a transparent port. */
  #take(at: TransparentListener, bytes: Buffer, address: string, port: number): void {
    const self = this.#options.self();
    const end = bytes.length;
    const start = skipLineEnds(bytes, 0, end);
    // Members relay only SIP. Source port 0 cannot be answered.
    const sip = port !== 0 && classify(bytes, start, end) === PacketClass.sip;
    if (!sip || self.number === 0 || self.epoch === 0) {
      this.#garbage.n++;
      return;
    }
    this.#taken.n++;
    // The packet does not name its ingress member. It is not needed: answers leave from this member.
    const packet = this.#packet
      .begin(bytes, start, end)
      .cameFrom(address, port, 0, false)
      .cameTo(at.local.address, at.local.port, at.listener, this.#codes[at.listener]!)
      .enteredAt(self.number, self.incarnation, 1);
    this.#options.onPacket(packet);
  }
}

/** Returns the address in the form in which sockets report it. */
function canonical(address: string): string {
  const { octets } = makeTarget({ address, port: 0 });
  return readAddress(octets, 0, octets.length);
}
