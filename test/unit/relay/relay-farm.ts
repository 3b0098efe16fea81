// Members with nothing but a relay link, for the tests of this folder.
import { EventEmitter, once } from 'node:events';
import pino from 'pino';
import { type Clock, systemClock } from '../../../src/base/clock.ts';
import type { Endpoint } from '../../../src/base/endpoint.ts';
import { type Network, nodeNetwork } from '../../../src/base/network.ts';
import { CellFamily } from '../../../src/metrics/counters.ts';
import { type Keyring, keyring } from '../../../src/ownership/keyring.ts';
import type { Flow } from '../../../src/packet/flow.ts';
import { Packet } from '../../../src/packet/packet.ts';
import type { RefuseReason } from '../../../src/relay/refuse-reason.ts';
import { type PeerInfo, RelayLink } from '../../../src/relay/relay-link.ts';

export const KEYS = keyring(['ab'.repeat(32)]);

/** An address that only these tests use: each port that a link gets for datagrams is also free for connections. */
export const LOOPBACK = '127.0.58.1';

export interface MemberOptions {
  readonly network?: Network;
  readonly clock?: Clock;
  readonly address?: string;
  /** Port of the relay link; a free one by default. */
  readonly port?: number;
  readonly incarnation?: number;
  /** Highest version of the envelope in its record. */
  readonly speaks?: number;
  readonly listeners?: readonly string[];
  readonly keys?: Keyring;
  /** Largest IP packet in octets. */
  readonly mtu?: number;
  /** Indexes of the listeners with relay.mode transparent. */
  readonly transparent?: readonly number[];
  /** Port of the first transparent port; the others follow. Free ones by default. */
  readonly transparentPort?: number;
}

/** A copy of what the handler got. */
export interface Taken {
  readonly packet: Packet;
  readonly text: string;
}

export class Member {
  readonly number: number;
  readonly self: { number: number; incarnation: number; epoch: number; heldSince: number };
  readonly link: RelayLink;
  readonly listeners: readonly string[];
  readonly packets: Taken[] = [];
  readonly egresses: { readonly flow: Flow; readonly text: string }[] = [];
  readonly made: (readonly [from: number, callKey: number])[] = [];
  readonly returned: { readonly flow: Flow; readonly text: string }[] = [];
  readonly newer: number[] = [];
  readonly suspects: number[][] = [];
  readonly hops: number[] = [];
  keys: Keyring;
  speaks: number | undefined;
  endpoint: Endpoint = { address: '', port: 0 };
  readonly #events = new EventEmitter();
  readonly #refused = new CellFamily({ name: 'relay_refused_total', help: '', labels: ['reason'] });
  readonly #relayed = new CellFamily({ name: 'relayed_packets_total', help: '', labels: ['direction', 'peer'] });

  readonly #transparent = new CellFamily({
    name: 'transparent_packets_total',
    help: '',
    labels: ['direction', 'outcome'],
  });

  /** `address:port` of each datagram with a foreign MAC. */
  readonly badMacs: string[] = [];

  constructor(number: number, options: MemberOptions = {}) {
    this.number = number;
    this.self = { number, incarnation: options.incarnation ?? 1, epoch: 1, heldSince: 0 };
    this.listeners = options.listeners ?? ['udp', 'tcp'];
    this.keys = options.keys ?? KEYS;
    this.speaks = options.speaks;
    this.link = new RelayLink({
      network: options.network ?? nodeNetwork,
      clock: options.clock ?? systemClock,
      log: pino({ level: 'silent' }),
      bind: { address: options.address ?? LOOPBACK, port: options.port ?? 0 },
      keys: () => this.keys,
      self: () => this.self,
      listeners: this.listeners,
      ...(options.mtu !== undefined && { mtu: options.mtu }),
      transparent: (options.transparent ?? []).map((listener, index) => ({
        listener,
        name: this.listeners[listener]!,
        local: { address: '198.51.100.1', port: 5060 },
        at: {
          address: options.address ?? LOOPBACK,
          port: options.transparentPort ? options.transparentPort - 1 + index : 0,
        },
      })),
      metrics: {
        relayed: this.#relayed,
        refused: this.#refused,
        transparent: this.#transparent,
        hop: { observe: (seconds) => this.hops.push(seconds) },
      },
      handlers: {
        onBadMac: (address, port) => this.badMacs.push(`${address}:${port}`),
        onPacket: (packet) => {
          this.packets.push({
            packet: Object.assign(new Packet(), packet),
            text: packet.bytes.toString('latin1', packet.start, packet.end),
          });
          this.#events.emit('taken');
        },
        onEgress: (flow, bytes, start, end) => {
          this.egresses.push({ flow: bare(flow), text: bytes.toString('latin1', start, end) });
          this.#events.emit('taken');
        },
        onReturned: (flow, bytes, start, end) => {
          this.returned.push({ flow: bare(flow), text: bytes.toString('latin1', start, end) });
          this.#events.emit('taken');
        },
        onMade: (from, callKey) => this.made.push([from, callKey]),
        onNewerEpoch: (epoch) => this.newer.push(epoch),
        onSuspects: (numbers) => this.suspects.push([...numbers]),
      },
    });
  }

  get record(): PeerInfo {
    const { number, self, endpoint } = this;
    const { transparentPorts } = this.link;
    const addresses = [endpoint.address, '198.51.100.1'];
    const speaks = this.speaks !== undefined && { speaks: this.speaks };
    return {
      number,
      incarnation: self.incarnation,
      id: `m${number}`,
      relay: endpoint,
      transparentPorts,
      addresses,
      ...speaks,
    };
  }

  async start(): Promise<void> {
    this.endpoint = await this.link.start();
  }

  refused(reason: RefuseReason): number {
    return this.#refused.cell({ reason }).n;
  }

  relayed(direction: 'in' | 'out', peer: string): number {
    return this.#relayed.cell({ direction, peer }).n;
  }

  transparent(direction: 'in' | 'out', outcome: 'sent' | 'refused' | 'taken' | 'garbage'): number {
    return this.#transparent.cell({ direction, outcome }).n;
  }

  /** Resolves when this member has received `count` packets and egress messages in all. */
  async taken(count: number): Promise<void> {
    while (this.packets.length + this.egresses.length + this.returned.length < count) await once(this.#events, 'taken');
  }

  /** Returns a packet that came to this member from outside. */
  packet(text: string, change: Partial<Packet> = {}): Packet {
    const bytes = Buffer.from(`__${text}__`, 'latin1');
    return Object.assign(new Packet(), {
      bytes,
      start: 2,
      end: bytes.length - 2,
      address: '192.0.2.7',
      port: 5060,
      localAddress: '198.51.100.1',
      localPort: 5060,
      ingress: this.number,
      ingressIncarnation: this.self.incarnation,
      ...change,
    });
  }
}

/** Gives every member the records and the seats of all members. */
export function introduce(members: readonly Member[]): void {
  const records = members.map(({ record }) => record);
  for (const { link } of members) {
    link.setPeers(records);
    link.setSeats(records);
  }
}

/** Starts the members and introduces them. */
export async function farm(...members: readonly Member[]): Promise<void> {
  for (const member of members) await member.start();
  introduce(members);
}

/** Returns the flow without the data about its party. */
function bare({ member, incarnation, listener, connection, address, port }: Flow): Flow {
  return { member, incarnation, listener, connection, address, port };
}
