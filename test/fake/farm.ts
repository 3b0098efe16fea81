// A farm in one test process: members on the fake network and the fake clock, a scripted SIP server behind each, a
// balancer that sends each packet to the next member, and phones by UDP and TCP.
import { setImmediate as turn } from 'node:timers/promises';
import { pino } from 'pino';
import type { Clock } from '../../src/base/clock.ts';
import { type Endpoint, formatEndpoint } from '../../src/base/endpoint.ts';
import type { ByteStream, DatagramSocket, Network } from '../../src/base/network.ts';
import type { RawSocket } from '../../src/base/raw-socket.ts';
import { parseConfig } from '../../src/config/load.ts';
import type { Config } from '../../src/config/schema.ts';
import type { CellFamily } from '../../src/metrics/counters.ts';
import { type Metrics, makeMetrics, makeRegistry } from '../../src/metrics/metrics.ts';
import { FarmNode } from '../../src/node/farm-node.ts';
import type { RunningRelay } from '../../src/node/media-part.ts';
import { DROP_REASONS, type DropReason } from '../../src/packet/verdict.ts';
import { MemoryFarm, type MemoryStore } from '../../src/store/memory-store.ts';
import { FakeClock } from './clock.ts';
import { Ice, IcyClock, IcyStore } from './ice.ts';
import { FakeNetwork, seededRandom } from './network.ts';
import { NO_KERNEL } from './nft.ts';
import { Message } from './sip.ts';

export const VIP: Endpoint = { address: '198.51.100.1', port: 5060 };
export const SECRET = 'ab'.repeat(32);
const UDP = 0;
const TCP = 1;

export interface FarmOptions {
  readonly members?: number;
  readonly answer?: 'direct' | 'ingress';
  readonly dialogs?: 'own' | 'shared';
  /** By default none: the server counts as up. */
  readonly health?: 'options' | 'keepalive' | 'none';
  /** Addresses of DNS servers. */
  readonly resolver?: readonly string[];
  /** More of the configuration; sections replace the default ones. */
  readonly config?: Readonly<Record<string, unknown>>;
  /**
   * Roles of nodes other than members, by index. A disabled node listens at its own address, a relay node nowhere; the
   * balancer sends to neither.
   */
  readonly roles?: Readonly<Record<number, 'disabled' | 'relay'>>;
  /** More listeners of member `index`, after the two at the VIP. */
  readonly listeners?: (index: number) => readonly Readonly<Record<string, unknown>>[];
  /** More fields of each listener. */
  readonly listener?: Readonly<Record<string, unknown>>;
  /** Farm keys of member `index`; SECRET for all by default. */
  readonly keys?: (index: number) => readonly string[];
  /** More of the section `relay` of member `index`. */
  readonly relay?: (index: number) => Readonly<Record<string, unknown>>;
  /** More of the section `service`. */
  readonly service?: Readonly<Record<string, unknown>>;
  /**
   * Seed of the network's losses and of the members' random choices. With `slotSeed`, the same seeds give the same run.
   */
  readonly seed?: number;
  /**
   * Seed of the slots in 32 hexadecimal digits, which decides the owners of Call-IDs; by default the first member draws
   * it.
   */
  readonly slotSeed?: string;
  /** Section `media` of member `index`, and its relay. By default none: descriptions pass unchanged. */
  readonly media?: (index: number) => { readonly section: object; readonly relay: RunningRelay };
  /** The test makes the farm's code throw: a caught throw does not fail the test. */
  readonly throws?: boolean;
}

/** A datagram that a member has sent; parsed on first use. */
class Departure {
  readonly to: Endpoint;
  readonly #bytes: Buffer;
  #message: Message | undefined;

  constructor(to: Endpoint, bytes: Buffer) {
    this.to = to;
    this.#bytes = bytes;
  }

  get message(): Message {
    this.#message ??= new Message(this.#bytes.toString('latin1'));
    return this.#message;
  }
}

/** A log line about a throw that a guard has caught. */
export interface FaultLine {
  readonly code: string;
  readonly place: string;
  readonly error: string;
  readonly frames: readonly string[];
  readonly message?: string;
}

/** A member's clock: its timers stop when the member is dead. */
class MortalClock implements Clock {
  readonly #clock: Clock;
  dead = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }
  now(): number {
    return this.#clock.now();
  }
  wall(): number {
    return this.#clock.wall();
  }
  after(ms: number, run: () => void): ReturnType<Clock['after']> {
    return this.#clock.after(ms, () => this.dead || run());
  }
  every(ms: number, run: () => void): ReturnType<Clock['every']> {
    return this.#clock.every(ms, () => this.dead || run());
  }
}

/** A member's network: sockets and connections close when the member dies. */
class MortalNetwork implements Network {
  readonly #network: FakeNetwork;
  readonly #closers: (() => void)[] = [];
  readonly streams = new Set<ByteStream>();
  readonly #ice: Ice;
  dead = false;

  constructor(network: FakeNetwork, ice: Ice) {
    this.#network = network;
    this.#ice = ice;
  }

  async bindUdp(local: Endpoint, handlers: Parameters<Network['bindUdp']>[1]): Promise<DatagramSocket> {
    const socket = await this.#network.bindUdp(local, {
      ...handlers,
      onDatagram: (bytes, address, port) =>
        this.#ice.packet(() => this.dead || handlers.onDatagram(bytes, address, port)),
    });
    this.#closers.push(() => void socket.close());
    return { ...socket, send: (bytes, address, port) => this.dead || socket.send(bytes, address, port) };
  }

  async listenTcp(
    ...[local, onConnection, accepting]: Parameters<Network['listenTcp']>
  ): ReturnType<Network['listenTcp']> {
    const own = (stream: ByteStream): void => {
      this.own(stream);
      onConnection(stream);
    };
    const server = await this.#network.listenTcp(local, own, accepting);
    this.#closers.push(() => void server.close());
    return server;
  }

  connectUdp(remote: Endpoint, onRefused: () => void): ReturnType<Network['connectUdp']> {
    return this.#network.connectUdp(remote, onRefused);
  }

  connectTcp(remote: Endpoint, from?: { readonly address: string }): ByteStream {
    const stream = this.#network.connectTcp(remote, from);
    this.own(stream);
    return stream;
  }

  openRaw(ipv6: boolean): RawSocket {
    const socket = this.#network.openRaw(ipv6);
    return { ...socket, send: (bytes, octets, address) => !this.dead && socket.send(bytes, octets, address) };
  }

  own(stream: ByteStream): void {
    this.streams.add(stream);
    stream.once('close', () => this.streams.delete(stream));
  }

  die(): void {
    this.dead = true;
    for (const close of this.#closers) close();
    for (const stream of this.streams) stream.destroy();
  }
}

/** The SIP server behind one member: records its messages and answers by its script. */
export class FakeServer {
  readonly at: Endpoint;
  /** Address of the member's service port for this server. */
  readonly edge: Endpoint;
  readonly requests: Message[] = [];
  readonly responses: Message[] = [];
  /** OPTIONS of the member's health check. */
  readonly asked: Message[] = [];
  script: (request: Message, server: FakeServer) => void = () => {};
  /** Handles each response. */
  onResponse: (response: Message) => void = () => {};
  /** False: it does not answer the member's own OPTIONS. */
  healthy = true;
  readonly #network: FakeNetwork;
  #socket: DatagramSocket | undefined;

  constructor(network: FakeNetwork, at: Endpoint, edge: Endpoint) {
    this.#network = network;
    this.at = at;
    this.edge = edge;
  }

  async start(): Promise<void> {
    this.#socket = await this.#network.bindUdp(this.at, {
      onDatagram: (bytes) => this.#take(new Message(bytes.toString('latin1'))),
      onSendError: () => {},
    });
  }

  /** Closes the port, like a crash. */
  async stop(): Promise<void> {
    await this.#socket?.close();
    this.#socket = undefined;
  }

  /** Sends to the member, or to `to`. */
  send(text: string, to = this.edge): void {
    this.#socket?.send(Buffer.from(text, 'latin1'), to.address, to.port);
  }

  /** The last received request. Throws when there is none. */
  get last(): Message {
    const message = this.requests.at(-1);
    if (!message) throw new Error('the server has got no request');
    return message;
  }

  #take(message: Message): void {
    if (message.status !== 0) {
      this.responses.push(message);
      this.onResponse(message);
    } else if (message.callId.startsWith('health-')) this.#answerHealth(message);
    else if (message.startLine !== '') {
      this.requests.push(message);
      this.script(message, this);
    }
  }

  #answerHealth(message: Message): void {
    this.asked.push(message);
    if (!this.healthy) return;
    const lines = message.headers.map(([name, value]) => `${name}: ${value}`);
    this.send(['SIP/2.0 200 OK', ...lines, '', ''].join('\r\n'));
  }
}

export class FakeMember {
  readonly id: string;
  readonly index: number;
  readonly address: string;
  readonly node: FarmNode;
  readonly metrics: Metrics;
  readonly server: FakeServer;
  readonly store: MemoryStore;
  readonly network: MortalNetwork;
  readonly clock: MortalClock;
  readonly ice = new Ice();
  readonly role: 'member' | 'disabled' | 'relay';
  readonly config: Config;
  /** Log lines of throws that its guard has caught. */
  readonly faults: FaultLine[] = [];
  /** Datagrams that it has sent from the VIP itself. */
  readonly left: Departure[] = [];
  /** Datagrams that the balancer has sent to it. */
  readonly entered: Message[] = [];
  alive = true;

  constructor(farm: FakeFarm, index: number, server: FakeServer, vip: DatagramSocket) {
    const { options } = farm;
    this.index = index;
    this.id = `fe${index}`;
    this.address = `10.0.0.${index}`;
    this.role = options.roles?.[index] ?? 'member';
    this.server = server;
    this.store = farm.memory.open();
    this.network = new MortalNetwork(farm.network, this.ice);
    this.clock = new MortalClock(farm.clock);
    this.metrics = makeMetrics(makeRegistry(), { version: 'test', dropReasons: Object.keys(DROP_REASONS) });
    const own = formatEndpoint(this.role === 'member' ? VIP : { address: this.address, port: VIP.port });
    const listeners = [
      { name: 'edge', transport: 'udp', bind: own, answer: options.answer ?? 'direct', ...options.listener },
      { name: 'edge-tcp', transport: 'tcp', bind: own, ...options.listener },
      ...(options.listeners?.(index) ?? []),
    ];
    const media = options.media?.(index);
    const { config } = parseConfig(
      'test',
      JSON.stringify({
        farm: 'test',
        member: this.id,
        rampSeconds: 0,
        role: this.role,
        store: this.role === 'relay' ? { kind: 'etcd', hosts: ['http://10.0.0.254:2379'] } : { kind: 'memory' },
        keys: options.keys?.(index) ?? [SECRET],
        listeners: this.role === 'relay' ? [] : listeners,
        balancer: { mode: 'dsr', probes: ['198.51.100.254/32'] },
        relay: { bind: `${this.address}:5064`, ...options.relay?.(index) },
        service: {
          kind: 'upstream',
          server: `sip:${formatEndpoint(server.at)}`,
          bind: `${this.address}:5062`,
          dialogs: options.dialogs ?? 'own',
          health: { method: options.health ?? 'none' },
          ...options.service,
        },
        resolver: { servers: options.resolver ?? [] },
        log: { level: 'error' },
        ...(media && { media: media.section }),
        ...options.config,
      }),
      {},
    );
    // A small call table: the memory for two million calls per member would take too long.
    const ownership = { ...config.ownership, maxEntries: 20_000 };
    this.config = config;
    this.node = new FarmNode({
      config: { ...config, ownership },
      version: 'test',
      network: this.network,
      clock: new IcyClock(this.clock, this.ice),
      store: new IcyStore(this.store, this.ice),
      log: pino({ level: 'error' }, { write: (line: string) => this.#noteFault(JSON.parse(line)) }),
      metrics: this.metrics,
      random: farm.random,
      // A farm of the fake network has any address that its configuration names.
      localAddresses: () => ({ has: () => true }),
      admin: 'none',
      ...(media && { startRelay: () => Promise.resolve(media.relay), kernel: NO_KERNEL }),
      ...(this.role === 'member' && { handedIn: new Set(['edge-tcp']), sockets: new Map([['edge', this.#at(vip)]]) }),
    });
  }

  /** Returns the socket at the VIP for this member. */
  #at(vip: DatagramSocket): DatagramSocket {
    return {
      local: vip.local,
      send: (bytes, address, port) => {
        if (!this.alive) return;
        this.left.push(new Departure({ address, port }, Buffer.from(bytes)));
        vip.send(bytes, address, port);
      },
      close: () => Promise.resolve(),
    };
  }

  #noteFault(line: FaultLine): void {
    if (line.code === 'SF_INTERNAL') this.faults.push(line);
  }

  drops(reason: DropReason): number {
    return this.metrics.verdicts.cell({ verdict: 'drop', reason }).n;
  }

  get number(): number {
    return this.node.api.farm().number;
  }

  /** `id` of each seat in this member's view, with `*` when it is draining. */
  get seats(): string {
    const seats = this.node.api.view()?.seats ?? [];
    return seats.map(({ id, state }) => (state === 'draining' ? `${id}*` : id)).join(' ');
  }
}

export class FakeFarm {
  readonly options: FarmOptions;
  readonly clock = new FakeClock();
  readonly network: FakeNetwork;
  readonly memory: MemoryFarm;
  /** All members since the start, including dead ones. */
  readonly members: FakeMember[] = [];
  /** Selects the live member for the next packet; a test can replace it. */
  choose: (live: readonly FakeMember[]) => FakeMember | undefined = (live) => live[this.#turn++ % live.length];
  /** Source of the members' random spreads. */
  readonly random: () => number;
  readonly #phones: (() => void)[] = [];
  #turn = 0;
  #vip: DatagramSocket | undefined;
  #closeVip: () => Promise<void> = () => Promise.resolve();

  private constructor(options: FarmOptions) {
    this.options = options;
    this.network = new FakeNetwork({ clock: this.clock, seed: options.seed ?? 1 });
    this.memory = new MemoryFarm(this.clock);
    this.random = seededRandom((options.seed ?? 1) + 1);
    const { slotSeed: seed } = options;
    if (seed) this.memory.apply([{ key: 'view', value: { v: 1, epoch: 1, seed, seats: [], history: [] } }]);
  }

  /** Starts a farm, and resolves when all members have all others in their view. */
  static async start(options: FarmOptions = {}): Promise<FakeFarm> {
    const farm = new FakeFarm(options);
    try {
      await farm.#openVip();
      // One after the other, so that fe1 has number 1; before the first view, so that one view has them all.
      for (let index = 1; index <= (options.members ?? 1); index++) await farm.#join(index);
      await farm.seated();
    } catch (error) {
      await farm.stop();
      throw error;
    }
    return farm;
  }

  async #openVip(): Promise<void> {
    this.#vip = await this.network.bindUdp(VIP, {
      onDatagram: (bytes, address, port) => {
        const member = this.choose(this.behind);
        member?.entered.push(new Message(bytes.toString('latin1')));
        member?.ice.packet(() => member.node.transport.inject(UDP, bytes, address, port));
      },
      onSendError: () => {},
    });
    const accept = (stream: ByteStream): void => {
      const member = this.choose(this.behind);
      if (!member) return void stream.destroy();
      member.network.own(stream);
      member.node.transport.accept(TCP, stream);
    };
    const server = await this.network.listenTcp(VIP, accept, { halfOpen: true });
    this.#closeVip = async () => {
      await this.#vip?.close();
      await server.close();
    };
  }

  get live(): readonly FakeMember[] {
    return this.members.filter(({ alive }) => alive);
  }

  /** Live members to which the balancer sends. */
  get behind(): readonly FakeMember[] {
    return this.live.filter(({ role }) => role === 'member');
  }

  /** Returns the member `fe<index>`: the last one that started under that name. */
  member(index: number): FakeMember {
    const found = this.members.findLast((member) => member.index === index);
    if (!found) throw new Error(`no member fe${index}`);
    return found;
  }

  /** Starts one more member, or `index` again, with its server; resolves when every live member has it in its view. */
  async add(index = this.members.length + 1): Promise<FakeMember> {
    const member = await this.#join(index);
    await this.seated();
    return member;
  }

  /**
   * Starts like `add`, without waiting for the views of others. Rejects as FarmNode.start does; then no part of the
   * member is left.
   */
  async enter(index = this.members.length + 1): Promise<FakeMember> {
    return this.#join(index);
  }

  async #join(index: number): Promise<FakeMember> {
    const before = this.members.findLast((member) => member.index === index);
    const address = `10.0.0.${index}`;
    let server = before?.server;
    if (!server) {
      server = new FakeServer(this.network, { address, port: 5070 }, { address, port: 5062 });
      await server.start();
    }
    const member = new FakeMember(this, index, server, this.#vip!);
    try {
      await this.drive(member.node.start());
    } catch (error) {
      await member.store.close();
      if (!before) await server.stop();
      throw error;
    }
    this.members.push(member);
    return member;
  }

  /** Waits until every live member's view has exactly the live members. */
  async seated(): Promise<void> {
    const want = (): string =>
      this.live
        .map(({ number, node }) => `${number}/${node.api.farm().incarnation}`)
        .sort()
        .join();
    await this.until(
      () =>
        this.live.every(({ node }) => {
          const seats = node.api.view()?.seats ?? [];
          return (
            seats
              .map(({ number, incarnation }) => `${number}/${incarnation}`)
              .sort()
              .join() === want()
          );
        }),
      'the view holds the live members',
    );
  }

  /**
   * Kills like SIGKILL: sockets and connections close without a message. Its SIP server dies, too, unless
   * `serverLives`.
   */
  async kill(member: FakeMember, { serverLives = false } = {}): Promise<void> {
    member.alive = false;
    member.clock.dead = true;
    member.network.die();
    member.store.cut();
    member.ice.melt();
    if (!serverLives) await member.server.stop();
    await this.settle();
  }

  /** Stops like SIGSTOP: the process stands still, its SIP server goes on. Packets for it wait. */
  freeze(member: FakeMember): void {
    member.ice.freeze();
    for (const stream of member.network.streams) stream.pause();
  }

  /** Continues like SIGCONT. */
  async thaw(member: FakeMember): Promise<void> {
    for (const stream of member.network.streams) stream.resume();
    member.ice.thaw();
    await this.settle();
  }

  /** Runs turns of the event loop until everything that needs no clock has settled. */
  async settle(): Promise<void> {
    await this.network.settle();
  }

  async pass(ms: number, step = 10): Promise<void> {
    await this.clock.pass(ms, step);
  }

  /** Advances clock and event loop until `what` is true; throws after `ms` of the clock. */
  async until(what: () => boolean, words = 'what the test waits for', ms = 30_000): Promise<void> {
    for (let passed = 0; ; passed += 10) {
      await this.settle();
      if (what()) return;
      if (passed >= ms) throw new Error(`did not come about in ${ms} ms: ${words}`);
      this.clock.advance(10);
    }
  }

  /** Waits for an event outside of the clock (DNS by real sockets) while the clock stands still. Throws after 10 s. */
  async outside(what: () => boolean): Promise<void> {
    const until = performance.now() + 10_000;
    while (!what()) {
      if (performance.now() > until) throw new Error('what comes from outside did not come in 10 s');
      await turn();
    }
  }

  /** Advances the clock until `promise` is settled. Throws after a minute of the clock. */
  async drive<T>(promise: Promise<T>): Promise<T> {
    let done = false;
    const end = (): void => {
      done = true;
    };
    promise.then(end, end);
    for (let passed = 0; !done && passed < 60_000; passed += 10) {
      await this.settle();
      if (!done) this.clock.advance(10);
    }
    if (!done) throw new Error('did not end within a minute of the clock');
    return promise;
  }

  /**
   * Returns the member that owns the slot of this Call-ID in the view of the first live member. Throws when there is
   * none.
   */
  ownerOf(callId: string): FakeMember {
    const { owner } = this.live[0]!.node.api.owner(callId);
    const found = this.live.find(({ number }) => number === owner?.number);
    if (!found) throw new Error(`nobody owns ${callId}`);
    return found;
  }

  /** Returns a Call-ID in a slot of `member`: the first of `prefix-0`, `prefix-1` and so on. */
  callIdOf(member: FakeMember, prefix = 'call'): string {
    for (let i = 0; ; i++) if (this.ownerOf(`${prefix}-${i}`) === member) return `${prefix}-${i}`;
  }

  /** Returns the sum of a counter over the members. */
  sum<L extends string>(family: (metrics: Metrics) => CellFamily<L>, labels: Record<L, string>): number {
    return this.members.reduce((total, { metrics }) => total + family(metrics).cell(labels).n, 0);
  }

  async phone(address: string, port = 5060): Promise<UdpPhone> {
    const phone = new UdpPhone();
    await phone.open(this.network, { address, port });
    this.#phones.push(() => phone.close());
    return phone;
  }

  /** Connects a phone. `transport`: the phone's own one; a proxy in between makes TCP of TLS. */
  async tcpPhone(address: string, to = VIP, transport: TcpPhone['transport'] = 'TCP'): Promise<TcpPhone> {
    const phone = new TcpPhone(this.network.connectTcp(to, { address }), transport);
    this.#phones.push(() => phone.close());
    await this.settle();
    return phone;
  }

  /** Stops all parts. Afterwards no timer and no socket is left. Throws when a guard has caught a throw. */
  async stop(): Promise<void> {
    for (const close of this.#phones) close();
    for (const member of this.members) {
      await this.drive(member.node.stop());
      await member.server.stop();
      await member.store.close();
    }
    await this.#closeVip();
    await this.settle();
    const faults = this.members.flatMap((member) => member.faults);
    if (faults.length > 0 && !this.options.throws) throw new Error(`a guard has caught ${JSON.stringify(faults)}`);
  }
}

/** Common part of both kinds of phone. */
export interface Phone {
  readonly got: Message[];
  /** Sent-by of its Via. */
  readonly at: Endpoint;
  readonly transport: 'UDP' | 'TCP' | 'TLS';
  send(text: string): void;
}

/** A client by UDP. */
export class UdpPhone implements Phone {
  readonly got: Message[] = [];
  readonly transport = 'UDP';
  /** Source of each message, in the order of `got`. */
  readonly from: Endpoint[] = [];
  /** Handles each message. */
  onMessage: (message: Message) => void = () => {};
  at: Endpoint = { address: '', port: 0 };
  #socket: DatagramSocket | undefined;

  async open(network: FakeNetwork, at: Endpoint): Promise<void> {
    this.at = at;
    this.#socket = await network.bindUdp(at, {
      onDatagram: (bytes, address, port) => {
        const message = new Message(bytes.toString('latin1'));
        this.got.push(message);
        this.from.push({ address, port });
        this.onMessage(message);
      },
      onSendError: () => {},
    });
  }

  send(text: string, to: Endpoint = VIP): void {
    this.#socket?.send(Buffer.from(text, 'latin1'), to.address, to.port);
  }

  close(): void {
    void this.#socket?.close();
  }
}

/** A client on a TCP connection, which splits messages by Content-Length. */
export class TcpPhone implements Phone {
  readonly got: Message[] = [];
  readonly transport: 'TCP' | 'TLS';
  at: Endpoint;
  readonly stream: ByteStream;
  onMessage: (message: Message) => void = () => {};
  #pending = '';
  closed = false;

  constructor(stream: ByteStream, transport: 'TCP' | 'TLS' = 'TCP') {
    this.stream = stream;
    this.transport = transport;
    this.at = { address: stream.localAddress ?? '', port: stream.localPort ?? 0 };
    stream.on('data', (chunk: Buffer) => this.#read(chunk.toString('latin1')));
    stream.on('error', () => {});
    stream.on('close', () => {
      this.closed = true;
    });
  }

  send(text: string): void {
    this.stream.write(Buffer.from(text, 'latin1'));
  }

  close(): void {
    this.stream.destroy();
  }

  #read(text: string): void {
    this.#pending += text;
    for (;;) {
      const end = this.#pending.indexOf('\r\n\r\n');
      if (end < 0) return;
      const length = Number(/^(?:Content-Length|l)\s*:\s*(\d+)/im.exec(this.#pending.slice(0, end))?.[1] ?? 0);
      if (this.#pending.length < end + 4 + length) return;
      const message = new Message(this.#pending.slice(0, end + 4 + length));
      this.#pending = this.#pending.slice(end + 4 + length);
      this.got.push(message);
      this.onMessage(message);
    }
  }
}
