// The composition root: builds one member of the farm from its configuration, starts it, drains it, stops it.
import type { Logger } from 'pino';
import { AdminServer, type Answer, type Question } from '../admin/admin-server.ts';
import type { FarmFace } from '../admin/farm-face.ts';
import { AddressList } from '../base/address-list.ts';
import type { Clock, Timer } from '../base/clock.ts';
import { type Endpoint, formatEndpoint } from '../base/endpoint.ts';
import { SipfarmError } from '../base/errors.ts';
import { guardedClock } from '../base/guard.ts';
import { setLogLevel } from '../base/log.ts';
import type { DatagramSocket, Network } from '../base/network.ts';
import { CallTable } from '../calls/call-table.ts';
import type { Changes } from '../config/live.ts';
import type { Config } from '../config/schema.ts';
import type { MemberRecord } from '../membership/member-record.ts';
import { Membership } from '../membership/membership.ts';
import { type Orders, othersTakeCalls } from '../membership/order.ts';
import { MemberSeries } from '../metrics/member-series.ts';
import type { Metrics } from '../metrics/metrics.ts';
import { keyName, keyring } from '../ownership/keyring.ts';
import { OwnerLookup } from '../ownership/owner-lookup.ts';
import type { View } from '../ownership/view.ts';
import { Answers } from '../relay/answers.ts';
import { Doors } from '../relay/doors.ts';
import { Egress } from '../relay/egress.ts';
import { ENVELOPE_VERSION, OLDEST_ENVELOPE_VERSION } from '../relay/envelope.ts';
import { Exits } from '../relay/exits.ts';
import { RelayLink } from '../relay/relay-link.ts';
import { Locator, nodeResolver } from '../service/upstream/locate.ts';
import { Upstream } from '../service/upstream/upstream.ts';
import type { Store } from '../store/store.ts';
import { DEFAULT_LIMITS, type TransportLimits } from '../transport/limits.ts';
import { Transport } from '../transport/transport.ts';
import { CallRecords } from './call-records.ts';
import { CallsFace } from './calls-face.ts';
import { FaultLog } from './fault-log.ts';
import { Fence } from './fence.ts';
import {
  errorLimits,
  familiesOf,
  forbiddenTargets,
  listenerConfigs,
  listenerRecords,
  ownHosts,
  peerOf,
  transparentListeners,
  transportLimits,
  transportsOf,
} from './from-config.ts';
import { Inheritance } from './inheritance.ts';
import { feedMetrics } from './metric-sources.ts';
import { NodeFace } from './node-face.ts';
import { Obedience } from './obedience.ts';
import { StoreOrderDesk } from './order-desk.ts';
import { dropCells, PacketWay } from './packet-way.ts';
import { Ramp } from './ramp.ts';
import { RefusedPeers } from './refused-peers.ts';
import { Settings } from './settings.ts';
import { type Identity, World } from './world.ts';

export interface NodeOptions {
  readonly config: Config;
  readonly version: string;
  readonly network: Network;
  readonly clock: Clock;
  readonly store: Store;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** 0 to below 1; spreads what members do at one time. Left out: drawn by the system. */
  readonly random?: () => number;
  /** UDP sockets that somebody else has bound, by listener name, and TCP listeners that open no port: the demo's balancer holds both. */
  readonly sockets?: ReadonlyMap<string, DatagramSocket>;
  readonly handedIn?: ReadonlySet<string>;
  /** `none`: no admin server (tests, demo). `asked`: one without a port, for `ask`. Left out: one that listens. */
  readonly admin?: 'none' | 'asked';
}

export type NodeState = 'joining' | 'active' | 'draining' | 'drained' | 'banned' | 'isolated' | 'stopping';

/** Longest time that a member stays outside for its SIP server's first sign. One that is down must not keep it out: its tokens are honoured with a seat only. */
const FIRST_VERDICT_MS = 3000;
/** Milliseconds between two looks at what has outlived its time, and at a drain. */
const SWEEP_MS = 1000;

export class FarmNode {
  readonly #options: NodeOptions;
  /** For rooms whose timers work on packets, or on what is left of them. */
  readonly #guardedClock: Clock;
  readonly #world: World;
  readonly #calls: CallTable;
  readonly #limits: { -readonly [Field in keyof TransportLimits]: TransportLimits[Field] };
  readonly transport: Transport;
  readonly #link: RelayLink;
  readonly #doors: Doors;
  readonly #upstream: Upstream;
  readonly #answers: Answers;
  readonly #membership: Membership;
  readonly #fence: Fence;
  readonly #refusedPeers: RefusedPeers;
  readonly #peerSeries: MemberSeries<'direction' | 'peer'>;
  /** undefined where no call is recorded: in a node that is no member. */
  readonly #callRecords: CallRecords | undefined;
  readonly #obedience: Obedience;
  readonly #ramp: Ramp;
  #orders: Orders = new Map();
  readonly #inheritance: Inheritance | undefined;
  readonly #admin: AdminServer | undefined;
  readonly face: FarmFace;
  readonly #settings: Settings;
  #state: NodeState = 'joining';
  #view: View | undefined;
  /** Resolves with the first view that has a seat for this member. */
  readonly #seated = Promise.withResolvers<void>();
  #records: readonly MemberRecord[] = [];
  #relayAt: Endpoint;
  readonly #startedAt: string;
  #adminAt: Endpoint | undefined;
  #sweeper: Timer | undefined;

  /** Builds everything and opens nothing. Throws SF_KEY_INVALID and SF_ADMIN_TOKEN_REQUIRED. */
  constructor(options: NodeOptions) {
    this.#options = options;
    const { config, network, clock, log, metrics, store } = options;
    const drops = dropCells(metrics.verdicts);
    const guard = new FaultLog(log.child({ room: 'guard' }), drops['internal-error']);
    this.#guardedClock = guardedClock(clock, guard);
    const guarded = { guard, clock: this.#guardedClock };
    this.#settings = new Settings({ config, log, onApply: (now, before) => this.#apply(now, before) });
    this.#relayAt = config.relay.bind;
    this.#startedAt = new Date(clock.wall()).toISOString();
    this.#calls = new CallTable({
      ...config.ownership,
      evicted: metrics.evicted,
      onForgotten: (entry) => this.#callRecords?.journal.over(entry),
    });
    this.#world = new World(
      keyring(config.keys.map((key) => key.reveal())),
      this.#calls,
      clock,
      config.role !== 'member',
    );
    this.#limits = { ...DEFAULT_LIMITS, ...transportLimits(config) };
    const world = this.#world;
    this.#callRecords =
      config.role !== 'member'
        ? undefined
        : new CallRecords({
            ...guarded,
            store,
            log: log.child({ room: 'calls' }),
            metrics,
            world,
            calls: this.#calls,
            mode: config.ownership.records,
            isolated: () => this.#membership.isolated || this.#fence.up,
            hasEnded: (entry, record) => this.#upstream.hasEnded(entry, record),
            onFound: (entry, record) => this.#upstream.remember(entry, record),
            confirmSeat: () => this.#membership.confirmSeat(),
          });

    this.transport = new Transport({
      ...guarded,
      network,
      listeners: listenerConfigs(config, options.handedIn),
      limits: this.#limits,
      handlers: {
        onPacket: (packet) => way.enter(packet),
        onFault: (packet) => way.faulted(packet),
        onFlowClosed: () => {},
        onUnsent: (message) => way.unsent(message),
      },
      early: drops['before-seat'],
      received: metrics.received,
      closedConnections: metrics.closedConnections,
      sendErrors: metrics.sendErrors,
      proxies: {
        trusted: () => this.#settings.trusted,
        answerHeader: () => this.#settings.now.balancer.udpAnswerHeader,
        headers: metrics.proxyHeaders,
      },
      ...(options.sockets && { sockets: options.sockets }),
    });
    this.#doors = new Doors({ own: this.transport.listeners, role: config.role });
    const doors = this.#doors;
    this.#link = new RelayLink({
      ...guarded,
      network,
      log: log.child({ room: 'relay' }),
      bind: config.relay.bind,
      mtu: config.relay.mtu,
      keys: () => world.keys,
      self: () => this.#relaySelf,
      listeners: config.listeners.map(({ name }) => name),
      knowsDoor: (member, code) => doors.elsewhere(member, code) !== undefined,
      transparent: transparentListeners(config),
      metrics: {
        relayed: metrics.relayed,
        refused: metrics.relayRefused,
        transparent: metrics.transparent,
        hop: metrics.relayHop,
      },
      handlers: {
        onPacket: (packet) => way.relayed(packet),
        onEgress: (flow, bytes, start, end) => way.leave(flow, bytes, start, end),
        onReturned: (flow, bytes, start, end) => way.returned(flow, bytes, start, end),
        onMade: (from, callKey) => lookup.madeAt(from, callKey),
        onNewerEpoch: () => this.#membership.refetch(),
        onSuspects: (numbers) => this.#membership.suspect(numbers),
        onBadMac: (address, port) => this.#refusedPeers.badMac(address, port),
      },
    });
    this.#refusedPeers = new RefusedPeers(log.child({ room: 'relay' }));
    this.#peerSeries = new MemberSeries(metrics.relayed, 'peer', () => clock.now());
    this.#fence = new Fence({
      clock,
      log: log.child({ room: 'fence' }),
      confirm: () => this.#membership.confirmSeat(),
      // What comes to a node outside the farm is its own, with a seat or without.
      outcast: () => config.role === 'member' && this.#link.outcast,
      witnesses: (wokeAt) => this.#witnesses(wokeAt),
    });
    const fence = this.#fence;
    this.#ramp = new Ramp({
      clock,
      seconds: config.rampSeconds,
      onStep: () => void this.#membership.publish().catch(() => {}),
    });
    this.#obedience = new Obedience({
      clock,
      log: log.child({ room: 'orders' }),
      calls: this.#calls,
      heirs: () => othersTakeCalls(config.member, this.#view, this.#orders),
      deadlineSeconds: () => this.#settings.now.drain.deadlineSeconds,
      // A stop is not taken back by an order that ends.
      setState: (state) =>
        this.#state === 'draining' || this.#stopping ? Promise.resolve() : this.#membership.setState(state),
      tell: (progress) => this.#membership.note(`drains/${config.member}`, progress),
      letGo: () => this.transport.moveAllOn(),
    });
    world.heldSince = (member) => this.#link.heldSince(member);
    const egress = new Egress(this.transport, this.#link, world, doors);
    this.#answers = new Answers({
      world,
      transport: this.transport,
      doors,
      egress,
      now: () => clock.now(),
      limits: errorLimits(config),
      answered: metrics.answered,
      drops,
    });
    const reachable = (member: number): boolean => this.#link.reachable(member);
    const exits = config.role === 'relay' ? new Exits({ world, doors, reachable }) : undefined;
    const { service, resolver } = config;
    const forbidden = forbiddenTargets(config);
    this.#upstream = new Upstream({
      settings: {
        ...service,
        names: config.names,
        allow: service.allow && new AddressList(service.allow),
        forbidden,
      },
      ...guarded,
      world,
      network,
      log: log.child({ room: 'upstream' }),
      transport: this.transport,
      egress,
      doors,
      ...(exits && { exits }),
      answers: this.#answers,
      calls: this.#calls,
      ...(this.#callRecords && { journal: this.#callRecords.journal }),
      locator: new Locator({
        resolver: nodeResolver(resolver.servers.map(formatEndpoint)),
        clock,
        transports: transportsOf(config),
        families: familiesOf(config),
        lookups: metrics.lookups,
      }),
      handled: metrics.handled,
      sendErrors: metrics.sendErrors,
      drops,
      fence,
      announce: (owner, callKey) => this.#link.announce(owner, callKey),
      ringingSeconds: () => this.#settings.now.ownership.ringingSeconds,
      again: (packet) => way.relayed(packet),
      onHealth: () => void this.#membership.publish().catch(() => {}),
    });
    const lookup = new OwnerLookup(world, metrics.forgedTokens);
    const way = new PacketWay({
      world,
      lookup,
      link: this.#link,
      service: this.#upstream,
      answers: this.#answers,
      egress,
      verdicts: metrics.verdicts,
      ownHosts: ownHosts(config),
      probes: () => this.#settings.probes,
      forbidden,
      fence,
      moving: this.#moving,
      ready: () => this.face.ready().ready,
      guard,
    });
    this.#membership = new Membership({
      store,
      clock,
      ...(options.random && { random: options.random }),
      log: log.child({ room: 'membership' }),
      id: config.member,
      leaseSeconds: config.store.leaseSeconds,
      badEntries: metrics.badEntries,
      record: () => this.#record(),
      onJoining: (atWork) => this.#ramp.prepare(atWork),
      onView: (view) => this.#takeView(view),
      onMembers: (records) => this.#takeRecords(records),
      onOrders: (orders) => this.#takeOrders(orders),
      onIsolated: () => this.#becomeIsolated(),
      onRejoined: (identity) => this.#becomeRejoined(identity),
      onSeatLost: () => this.#giveUpCalls(),
    });
    this.#inheritance =
      this.#callRecords &&
      new Inheritance({
        ...guarded,
        store,
        calls: this.#calls,
        log: log.child({ room: 'adoption' }),
        world,
        heir: this.#upstream.heir,
        keeper: this.#callRecords.journal,
        membership: this.#membership,
        fence,
        metrics,
      });
    this.face = new NodeFace({
      config: () => this.#settings.now,
      version: options.version,
      state: () => this.state,
      identity: () => this.#world.identity,
      view: () => this.#view,
      records: () => this.#records,
      world,
      calls: this.#calls,
      callsFace: new CallsFace({ store, world, callRecords: this.#callRecords }),
      link: this.#link,
      store,
      service: this.#upstream,
      fence,
      orders: () => this.#orders,
      desk: new StoreOrderDesk({
        ...{ clock, store, self: config.member },
        view: () => this.#view,
        records: () => this.#records,
        orders: () => this.#orders,
        obey: (order) => this.#obedience.take(order),
      }),
      ...(exits && { exits }),
    });
    this.#admin =
      options.admin === 'none'
        ? undefined
        : new AdminServer({
            ...config.admin,
            face: this.face,
            registry: metrics.registry,
            log: log.child({ room: 'admin' }),
          });
    feedMetrics(metrics.sources, {
      ...{ world, store, calls: this.#calls, link: this.#link, transport: this.transport, service: this.#upstream },
      view: () => this.#view,
    });
  }

  get state(): NodeState {
    const { standing } = this.#obedience;
    if (this.#state === 'stopping' || this.#state === 'draining') return this.#state;
    if (standing === 'banned') return 'banned';
    if (this.#state === 'joining' || standing === 'free' || standing === 'paused') return this.#state;
    return standing === 'draining' ? 'draining' : 'drained';
  }

  readonly #moving = (() => {
    const node = this;
    return {
      get on() {
        const { state } = node;
        return state === 'draining' || state === 'drained' || state === 'banned';
      },
      close: (connection: number) => node.transport.moveOn(connection),
    };
  })();

  /** `stop` may be called at any time, also while `start` waits. */
  get #stopping(): boolean {
    return this.#state === 'stopping';
  }

  /** Where the admin server listens; undefined when it does not. */
  get adminAt(): Endpoint | undefined {
    return this.#adminAt;
  }

  /** INVITE calls this member owns. */
  get ownedCalls(): number {
    return this.#calls.calls;
  }

  /**
   * Proves that the member can work, then joins the farm, and only then opens the doors. Rejects with SF_BIND_FAILED, SF_KEY_MISMATCH,
   * SF_MEMBER_ID_TAKEN, SF_STORE_*; what was opened is closed again, and with the first two nothing has been written. An address that is lost while the member joins still ends it later.
   */
  async start(): Promise<void> {
    const { store } = this.#options;
    const steps = [
      async () => {
        if (this.#options.admin !== 'asked') this.#adminAt = await this.#admin?.start();
      },
      async () => {
        this.#relayAt = await this.#link.start();
      },
      () => this.#upstream.start(),
      () => this.transport.reserve(),
      // So that the record with which the member joins tells whether its SIP server answers.
      () => this.#upstream.firstVerdict(FIRST_VERDICT_MS),
      async () => {
        this.#become(await this.#membership.join());
        this.#settings.follow(store);
      },
      // A member that knows no view would own whatever it gets, and a call could have two owners.
      () => this.#seated.promise,
      () => this.transport.start(),
    ];
    try {
      for (const step of steps) {
        await step();
        if (this.#stopping) return;
      }
    } catch (error) {
      await this.stop();
      throw error;
    }
    this.#started();
  }

  #started(): void {
    const { log, clock } = this.#options;
    this.#sweeper = this.#guardedClock.every(SWEEP_MS, () => {
      this.#calls.sweep(clock.now());
      this.#peerSeries.sweep();
    });
    this.#fence.start();
    if (this.#state === 'joining') this.#state = 'active';
    this.#beginRamp();
    const listeners = this.transport.listeners.map(
      ({ name, transport, local }) => `${name} ${transport} ${formatEndpoint(local)}`,
    );
    const { role, roleChosenBecause: because } = this.#options.config;
    if (because !== '') log.info({ role, because }, 'role auto has been decided');
    log.info({ ...this.#world.identity, role, listeners, relay: formatEndpoint(this.#relayAt) }, 'member started');
  }

  /** Takes no new calls, keeps what it has, and resolves when its calls have ended or the deadline has come: true when none was left. */
  async drain(): Promise<boolean> {
    const { clock, log } = this.#options;
    this.#state = 'draining';
    // Whoever has given its calls up needs no seat to end, and with one it would be asked for calls that it does not hold.
    if (this.#membership.state !== 'away') {
      await this.#membership.setState('draining').catch((error: unknown) => {
        log.warn({ err: error }, 'the store does not take our state; the others learn it when our lease ends');
      });
    }
    const deadline = clock.now() + this.#settings.now.drain.deadlineSeconds * 1000;
    log.info({ calls: this.#calls.calls, deadlineSeconds: this.#settings.now.drain.deadlineSeconds }, 'draining');
    return new Promise((resolve) => {
      const look = (): void => {
        const quiet = this.#calls.quiet(clock.now());
        if (!quiet && clock.now() < deadline) return;
        timer.cancel();
        log.info({ calls: this.#calls.calls }, quiet ? 'drained' : 'drain deadline reached');
        resolve(quiet);
      };
      const timer = clock.every(SWEEP_MS, look);
    });
  }

  /** Leaves the farm and closes everything. Never rejects. */
  async stop(): Promise<void> {
    this.#state = 'stopping';
    this.#seated.resolve();
    this.#sweeper?.cancel();
    this.#fence.stop();
    this.#obedience.stop();
    this.#ramp.stop();
    this.#settings.close();
    this.#inheritance?.stop();
    const steps = [
      // The doors first: what comes in after the seat is gone would be refused by the others.
      () => this.transport.stop(),
      () => this.#callRecords?.stop(),
      () => this.#membership.leave(),
      () => this.#upstream.stop(),
      () => this.#link.stop(),
      () => this.#admin?.stop(),
    ];
    for (const step of steps)
      await Promise.resolve(step()).catch((error: unknown) => this.#options.log.warn({ err: error }, 'while stopping'));
  }

  /** Answers what the admin server is asked, without HTTP. Rejects when there is none. */
  async ask(question: Question): Promise<Answer> {
    if (!this.#admin) throw new SipfarmError('SF_INTERNAL', 'there is no admin server to ask');
    return this.#admin.answer(question);
  }

  /** Applies what may change live and tells what needs a restart. */
  reload(config: Config): Changes {
    const before = this.#settings.own;
    const changes = this.#settings.reload(config);
    if (before.weight !== config.weight || changes.live.some((field) => field.startsWith('keys')))
      void this.#membership.publish().catch(() => {});
    return changes;
  }

  #apply(config: Config, before: Config): void {
    this.#world.keys = keyring(config.keys.map((key) => key.reveal()));
    Object.assign(this.#limits, transportLimits(config), { messageBytes: this.#limits.messageBytes });
    this.#calls.setLifetimes(config.ownership);
    this.#callRecords?.journal.setMode(config.ownership.records);
    if (before.names !== config.names) this.#upstream.names.setNames(config.names);
    if (before.limits.errorAnswersPerSecond !== config.limits.errorAnswersPerSecond)
      this.#answers.limits = errorLimits(config);
    setLogLevel(this.#options.log, config.log.level);
  }

  #become(identity: Identity): void {
    if (identity.incarnation !== this.#world.identity.incarnation) this.#link.joined();
    this.#world.become(identity);
    this.transport.setSelf(identity.number, identity.incarnation);
    this.#doors.setRecords(this.#records, identity.number);
    this.#noteSeat();
    this.#readCalls();
  }

  /** The calls that are still this member's by their records; none while it shall have no seat. */
  #readCalls(): void {
    const out = this.#obedience.standing === 'banned' || this.#membership.state === 'away';
    if (!out) this.#callRecords?.joined();
  }

  #noteSeat(): void {
    const { identity, tables } = this.#world;
    if (tables.epoch > 0 && tables.seats.get(identity.number)?.incarnation === identity.incarnation)
      this.#seated.resolve();
  }

  /** The farm has given this member's seat up: its calls are others' from now on, also when it comes back. */
  #giveUpCalls(): void {
    const { calls } = this.#calls;
    this.#calls.clear();
    this.#callRecords?.journal.forfeit();
    this.#upstream.heir.clear();
    this.#options.log.warn({ calls }, 'this member has lost its seat in the view; its calls belong to others now');
  }

  /** What the other members say of the view, as far as they have answered since `wokeAt`. */
  #witnesses(wokeAt: number): 'seated' | 'newer' | 'too few' {
    const { members, self, incarnation } = this.#world.tables;
    const seat = this.#view?.seats.find(({ number }) => number === self);
    if (this.#link.outrunFor() > 0 || seat?.incarnation !== incarnation) return 'newer';
    const answered = new Set(this.#link.answeredSince(wokeAt)).add(self);
    return members.filter(({ number }) => answered.has(number)).length * 2 > members.length ? 'seated' : 'too few';
  }

  #becomeIsolated(): void {
    if (this.#state === 'active') this.#state = 'isolated';
  }

  #becomeRejoined(identity: Identity): void {
    this.#become(identity);
    this.#fence.rejoined();
    this.#obedience.rejoined();
    if (this.#state === 'isolated') this.#state = 'active';
    this.#options.log.info(identity, 'joined again');
  }

  #takeView(view: View): void {
    this.#view = view;
    this.#link.setSeats(view.seats);
    this.#noteMembers();
    this.#world.takeView(view, () => {
      this.#noteSeat();
      this.#link.tell();
      this.#inheritance?.takeView(view);
    });
  }

  #takeRecords(records: readonly MemberRecord[]): void {
    this.#records = records;
    this.#doors.setRecords(records, this.#world.identity.number);
    this.#upstream.names.setRecords(records);
    this.#link.setPeers(records.map(peerOf).filter((peer) => peer !== undefined));
    this.#refusedPeers.take(records, { id: this.#options.config.member, keys: this.#world.keys.all.map(keyName) });
    this.#noteMembers();
  }

  /** A member is there as long as it has a record or a seat. */
  #noteMembers(): void {
    this.#peerSeries.setPresent([...this.#records, ...(this.#view?.seats ?? [])].map(({ id }) => id));
  }

  #takeOrders(orders: Orders): void {
    this.#orders = orders;
    this.#obedience.take(orders.get(this.#options.config.member));
    this.#readCalls();
    this.#beginRamp();
  }

  /** Not while an order keeps new calls away: a member that is restarted during a drain ramps up after its resume. */
  #beginRamp(): void {
    if (this.#state === 'active' && this.#obedience.standing === 'free') this.#ramp.begin();
  }

  #record() {
    const { config } = this.#options;
    return {
      role: config.role,
      // While its SIP server is down the member keeps its seat, so its tokens are honoured, and takes no new calls.
      weight: this.#upstream.up ? this.#ramp.of(this.#settings.own.weight) : 0,
      relay: formatEndpoint(this.#relayAt),
      listeners: listenerRecords(config, this.#link.hatches),
      versions: { sipfarm: this.#options.version, min: OLDEST_ENVELOPE_VERSION, max: ENVELOPE_VERSION },
      keys: this.#world.keys.all.map(keyName),
      startedAt: this.#startedAt,
    };
  }

  readonly #relaySelf = (() => {
    const node = this;
    return {
      get number() {
        return node.#world.identity.number;
      },
      get incarnation() {
        return node.#world.identity.incarnation;
      },
      get epoch() {
        return node.#world.tables.epoch;
      },
      get heldSince() {
        // Without a call now, it may have one of the view in force before the next probe says so.
        return node.#calls.oldestEpoch() || node.#world.tables.epoch;
      },
    };
  })();
}
