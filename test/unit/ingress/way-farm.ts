// Members that are complete except for service and membership, on a network and a clock in memory: packets in, packets
// out. The service records its packets; the test sets the view.
import type { TestContext } from 'node:test';
import pino from 'pino';
import { AddressList } from '../../../src/base/address-list.ts';
import { type Endpoint, formatEndpoint, hostText } from '../../../src/base/endpoint.ts';
import { RateLimit } from '../../../src/base/rate-limit.ts';
import { Egress } from '../../../src/egress/egress.ts';
import { type ErrorLimits, StatelessReplies } from '../../../src/egress/stateless-reply.ts';
import { dropCells, PacketPath } from '../../../src/ingress/packet-path.ts';
import { CellFamily } from '../../../src/metrics/counters.ts';
import type { Keyring } from '../../../src/ownership/keyring.ts';
import { type LookupState, OwnerLookup } from '../../../src/ownership/owner-lookup.ts';
import { buildOwnerTables, type OwnerTables } from '../../../src/ownership/owner-tables.ts';
import type { Seat } from '../../../src/ownership/view.ts';
import type { Flow } from '../../../src/packet/flow.ts';
import { Packet } from '../../../src/packet/packet.ts';
import { RelayLink } from '../../../src/relay/relay-link.ts';
import type { Service } from '../../../src/service/service.ts';
import type { Scan } from '../../../src/sip/scan.ts';
import { DEFAULT_LIMITS, type TransportLimits } from '../../../src/transport/limits.ts';
import { type ListenerConfig, Transport } from '../../../src/transport/transport.ts';
import { FakeClock } from '../../fake/clock.ts';
import { FakeNetwork, type FakeStream } from '../../fake/network.ts';
import { KEYS, seat, viewOf } from '../ownership/lookups.ts';

/** Indexes of every member's listeners. */
export const EDGE = 0;
export const NAT = 1;
export const EDGE6 = 2;
export const TCP = 3;

/** Port of every member's transparent port for EDGE. */
export const TRANSPARENT_PORT = 5065;

const VIP = '198.51.100.1';
const logger = pino({ level: 'silent' });

export interface FarmOptions {
  /** Number of members, numbered from 1, or their seats; `seats` changes the view. */
  readonly members?: number | readonly Seat[];
  readonly errorsPerSecond?: number;
  readonly burst?: number;
  readonly probes?: readonly string[];
  readonly limits?: Partial<TransportLimits>;
  /** True: the listener `edge` is in relay.mode transparent. */
  readonly transparent?: boolean;
  /** Targets that a peer's request through this member must not reach; by default none. */
  readonly forbidden?: { has(address: string, port: number): boolean };
}

/** A copy of what the service got. */
export interface Handled {
  readonly packet: Packet;
  readonly text: string;
}

export class WayMember implements LookupState {
  readonly number: number;
  readonly incarnation: number;
  readonly incarnations = new Set<number>();
  keys: Keyring = KEYS;
  tables: OwnerTables;
  readonly held = new Set<number>();
  readonly told = new Map<number, number>();
  ready = true;
  probes: AddressList;
  readonly transport: Transport;
  readonly link: RelayLink;
  readonly egress: Egress;
  readonly answers: StatelessReplies;
  readonly way: PacketPath;
  readonly handled: Handled[] = [];
  /** Requests that another member could not send and returned. */
  readonly returned: { readonly text: string; readonly lost: Flow }[] = [];
  /** Handles a message after it is recorded. */
  serve: (packet: Packet, message: Scan) => void = () => {};
  relayAt: Endpoint = { address: '', port: 0 };
  readonly #verdicts = new CellFamily({ name: 'verdicts_total', help: '', labels: ['verdict', 'reason'] });
  readonly #answered = new CellFamily({ name: 'answered_total', help: '', labels: ['status'] });
  readonly #forged = new CellFamily({ name: 'forged_tokens_total', help: '', labels: ['place'] });

  constructor(farm: WayFarm, tables: OwnerTables, options: FarmOptions) {
    const { network, clock } = farm;
    this.number = tables.self;
    this.incarnation = tables.incarnation;
    this.incarnations.add(tables.incarnation);
    this.tables = tables;
    this.probes = new AddressList(options.probes ?? []);
    const drops = dropCells(this.#verdicts);
    const udp = (name: string, bind: Endpoint, answer: 'direct' | 'ingress'): ListenerConfig => ({
      name,
      transport: 'udp',
      bind,
      advertise: { host: VIP, port: bind.port, transport: 'udp' },
      answer,
    });
    const own = this.address;
    this.transport = new Transport({
      network,
      clock,
      listeners: [
        udp('edge', { address: own, port: 5060 }, 'direct'),
        udp('nat', { address: own, port: 5080 }, 'ingress'),
        udp('edge6', { address: this.address6, port: 5060 }, 'direct'),
        { ...udp('tcp', { address: own, port: 5060 }, 'direct'), transport: 'tcp' },
      ],
      limits: { ...DEFAULT_LIMITS, ...options.limits },
      handlers: {
        onPacket: (packet) => this.way.enter(packet),
        onFault: (packet) => this.way.faulted(packet),
        onFlowClosed: () => {},
        onUnsent: (message) => this.way.unsent(message),
      },
      received: new CellFamily({ name: 'received_packets_total', help: '', labels: ['listener', 'class'] }),
      closedConnections: new CellFamily({ name: 'closed_connections_total', help: '', labels: ['reason'] }),
      sendErrors: new CellFamily({ name: 'send_errors_total', help: '', labels: ['listener'] }),
    });
    this.transport.setSelf(this.number, this.incarnation);
    const { number, incarnation } = this;
    const { epoch } = tables;
    this.link = new RelayLink({
      network,
      clock,
      log: logger,
      bind: { address: own, port: 5064 },
      keys: () => this.keys,
      self: () => ({ number, incarnation, epoch, heldSince: 0 }),
      listeners: ['edge', 'nat', 'edge6', 'tcp'],
      transparent: options.transparent
        ? [
            {
              listener: EDGE,
              name: 'edge',
              local: { address: own, port: 5060 },
              at: { address: own, port: TRANSPARENT_PORT },
            },
          ]
        : [],
      metrics: {
        relayed: new CellFamily({ name: 'relayed_packets_total', help: '', labels: ['direction', 'peer'] }),
        refused: new CellFamily({ name: 'relay_refused_total', help: '', labels: ['reason'] }),
        transparent: new CellFamily({ name: 'transparent_packets_total', help: '', labels: ['direction', 'outcome'] }),
      },
      handlers: {
        onPacket: (packet) => this.way.relayed(packet),
        onEgress: (flow, bytes, start, end) => this.way.leave(flow, bytes, start, end),
        onReturned: (flow, bytes, start, end) => this.way.returned(flow, bytes, start, end),
        onMade: () => {},
        onNewerEpoch: () => {},
        onSuspects: () => {},
      },
    });
    this.egress = new Egress(this.transport, this.link, this);
    this.answers = new StatelessReplies({
      routing: this,
      transport: this.transport,
      egress: this.egress,
      now: () => clock.now(),
      limits: errorLimits(options.errorsPerSecond ?? 10, options.burst ?? 1_000_000),
      answered: this.#answered,
      drops,
    });
    const service: Pick<Service, 'handle' | 'returned'> = {
      handle: (packet, message) => {
        this.handled.push({
          packet: Object.assign(new Packet(), packet),
          text: packet.bytes.toString('latin1', packet.start, packet.end),
        });
        this.serve(packet, message);
      },
      returned: (message, lost) => this.returned.push({ text: message.toString('latin1'), lost: { ...lost } }),
    };
    this.way = new PacketPath({
      routing: this,
      lookup: new OwnerLookup(this, this.#forged),
      link: this.link,
      service,
      answers: this.answers,
      egress: this.egress,
      verdicts: this.#verdicts,
      ownHosts: [this.address, hostText(this.address6)],
      probes: () => this.probes,
      ready: () => this.ready,
      fence: { up: false },
      moving: { on: false, close: () => {} },
      ...(options.forbidden && { forbidden: options.forbidden }),
    });
  }

  get address(): string {
    return `10.0.0.${this.number}`;
  }

  get address6(): string {
    return `2001:db8::${this.number}`;
  }

  holds(callKey: number): boolean {
    return this.held.has(callKey);
  }

  regained(): boolean {
    return false;
  }

  heldSince(member: number): number {
    return this.told.get(member) ?? 0;
  }

  newer(): number {
    return this.link.newer();
  }

  /** Counted verdicts, such as `local`, `relay`, `reply 400`, `drop no-via`; without those that are zero. */
  get verdicts(): Record<string, number> {
    return counted(this.#verdicts, ({ verdict, reason }) => (reason === '' ? verdict : `${verdict} ${reason}`));
  }

  get answered(): Record<string, number> {
    return counted(this.#answered, ({ status }) => status);
  }

  get forged(): Record<string, number> {
    return counted(this.#forged, ({ place }) => place);
  }

  /** Returns a flow of this member by the listener at `index`. */
  flow(index: number, remote: Endpoint, connection = 0): Flow {
    const { number: member, incarnation } = this;
    return { member, incarnation, listener: this.transport.listeners[index]!.code, connection, ...remote };
  }

  async start(): Promise<void> {
    this.relayAt = await this.link.start();
    await this.transport.start();
  }

  async stop(): Promise<void> {
    await this.transport.stop();
    await this.link.stop();
  }
}

function counted<L extends string>(family: CellFamily<L>, name: (labels: Record<L, string>) => string) {
  const cells = [...family.entries()].filter(({ value }) => value > 0);
  return Object.fromEntries(cells.map(({ labels, value }) => [name(labels), value]));
}

export interface Sent {
  readonly from: string;
  readonly to: string;
  readonly text: string;
}

export class WayFarm {
  readonly clock = new FakeClock();
  readonly network = new FakeNetwork({ clock: this.clock });
  readonly members: WayMember[];
  /** Datagrams that members sent to receivers other than members. */
  readonly out: Sent[] = [];
  #seats: readonly Seat[];

  constructor(options: FarmOptions) {
    const { members = 1 } = options;
    this.#seats =
      typeof members === 'number'
        ? Array.from({ length: members }, (_, i) => seat(i + 1, { incarnation: 11 + i }))
        : members;
    const view = viewOf(this.#seats);
    this.members = this.#seats.map(
      ({ number, incarnation }) => new WayMember(this, buildOwnerTables(view, number, incarnation), options),
    );
    this.network.onSent = (from, to, bytes) => {
      if (from.address.startsWith('192.') || to.port === 5064 || to.port === TRANSPARENT_PORT) return;
      this.out.push({ from: formatEndpoint(from), to: formatEndpoint(to), text: bytes.toString('latin1') });
    };
  }

  member(number: number): WayMember {
    return this.members.find((member) => member.number === number)!;
  }

  async start(): Promise<void> {
    for (const member of this.members) await member.start();
    this.#introduce();
  }

  /** Sets a new view. A member outside of it keeps its old view, as if cut off. */
  seats(seats: readonly Seat[]): void {
    const view = viewOf(this.#seats, seats);
    for (const { number } of seats) {
      const member = this.member(number);
      member.tables = buildOwnerTables(view, number, member.incarnation);
    }
    this.#seats = seats;
    this.#introduce();
  }

  #introduce(): void {
    const records = this.#seats.map(({ id, number, incarnation }) => ({
      id,
      number,
      incarnation,
      relay: this.member(number).relayAt,
      transparentPorts: this.member(number).link.transparentPorts,
    }));
    for (const { link } of this.members) {
      link.setPeers(records);
      link.setSeats(this.#seats);
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.members.map((member) => member.stop()));
  }

  /**
   * Delivers a datagram from outside to listener `listener` of member `to`, and waits until all its effects have
   * settled.
   */
  async datagram(to: number, bytes: Buffer, listener = EDGE, from: Endpoint = CLIENT): Promise<void> {
    this.member(to).transport.inject(listener, bytes, from.address, from.port);
    await this.network.settle();
  }

  /**
   * Advances the clock until `holds` is true, because connections between members take time. Throws after 3,000 turns
   * of 2 ms.
   */
  async until(holds: () => boolean): Promise<void> {
    for (let turns = 0; turns < 3000; turns++) {
      if (holds()) return;
      this.clock.advance(2);
      await this.network.settle();
    }
    throw new Error('it has not come to pass');
  }

  /** Opens a connection of a client to member `to`. */
  connect(to: number): { readonly stream: FakeStream; text: () => string } {
    const stream = this.network.connectTcp({ address: this.member(to).address, port: 5060 }, { address: '192.0.2.7' });
    let text = '';
    stream.on('data', (bytes: Buffer) => {
      text += bytes.toString('latin1');
    });
    stream.on('error', () => {});
    return { stream, text: () => text };
  }
}

/** Default source of datagrams. */
export const CLIENT: Endpoint = { address: '192.0.2.7', port: 5070 };

/** Starts a farm that is stopped at the end of the test. */
export async function wayFarm(t: TestContext, options: FarmOptions = {}): Promise<WayFarm> {
  const farm = new WayFarm(options);
  t.after(() => farm.stop());
  await farm.start();
  return farm;
}

/** Returns limits with the same rate for every kind of answer. */
export function errorLimits(perSecond: number, burst: number): ErrorLimits {
  return { faults: new RateLimit({ perSecond, burst }), refusals: new RateLimit({ perSecond, burst }) };
}
