// One member of the farm: starts its parts, passes on the events of the farm to them, drains, and stops. `assemble.ts`
// builds the parts.
import type { Answer, Question } from '../admin/admin-server.ts';
import type { AdminApi } from '../admin/status.ts';
import type { Timer } from '../base/clock.ts';
import { type Endpoint, formatEndpoint } from '../base/endpoint.ts';
import { SipfarmError } from '../base/errors.ts';
import { setLogLevel } from '../base/log.ts';
import type { Changes } from '../config/live.ts';
import type { Config } from '../config/schema.ts';
import type { MemberRecord, MemberRecordState } from '../membership/member-record.ts';
import type { OrderMap } from '../membership/order.ts';
import { MemberSeries } from '../metrics/member-series.ts';
import { keyName, keyring } from '../ownership/keyring.ts';
import type { MemberLife, View } from '../ownership/view.ts';
import type { Tap } from '../packet/tap.ts';
import { ENVELOPE_VERSION, OLDEST_ENVELOPE_VERSION } from '../relay/envelope.ts';
import type { Service } from '../service/service.ts';
import type { Transport } from '../transport/transport.ts';
import { assemble, type NodeOptions, type NodeParts } from './assemble.ts';
import { errorLimits, listenerRecords, peerOf, transportLimits } from './from-config.ts';
import { runAll, runInOrder, type Step } from './lifecycle.ts';
import { type NodePhase, type NodeState, stateOf } from './member-state.ts';
import { Settings } from './settings.ts';

/**
 * Longest wait of a starting member for its SIP server. A server that is down must not keep the member outside: packets
 * with its tokens reach it only while it has a seat.
 */
const FIRST_VERDICT_MS = 3000;
/** Milliseconds between two sweeps of outlived calls, and between two checks of a drain. */
const SWEEP_MS = 1000;

export class FarmNode {
  readonly #options: NodeOptions;
  readonly #settings: Settings;
  readonly #parts: NodeParts;
  readonly #peerSeries: MemberSeries<'direction' | 'peer'>;
  readonly #startedAt: string;
  /** Resolves with the first view that has a seat for this member. */
  readonly #seated = Promise.withResolvers<void>();
  #phase: NodePhase = 'joining';
  #view: View | undefined;
  #orders: OrderMap = new Map();
  #records: readonly MemberRecord[] = [];
  #relayAt: Endpoint;
  #adminAt: Endpoint | undefined;
  #sweeper: Timer | undefined;

  /** Builds everything and opens nothing. Throws SF_KEY_INVALID and SF_ADMIN_TOKEN_REQUIRED. */
  constructor(options: NodeOptions) {
    this.#options = options;
    const { config, clock, log, metrics } = options;
    this.#settings = new Settings({ config, log, onApply: (now, before) => this.#apply(now, before) });
    this.#relayAt = config.relay.bind;
    this.#startedAt = new Date(clock.wall()).toISOString();
    this.#peerSeries = new MemberSeries(metrics.relayed, 'peer', () => clock.now());
    this.#parts = assemble(options, {
      settings: this.#settings,
      state: () => this.state,
      view: () => this.#view,
      records: () => this.#records,
      orders: () => this.#orders,
      record: () => this.#record(),
      publishState: (state) => this.#publishState(state),
      witnesses: (wokeAt) => this.#witnesses(wokeAt),
      onView: (view) => this.#takeView(view),
      onMembers: (records) => this.#takeRecords(records),
      onOrders: (orders) => this.#takeOrders(orders),
      onIsolated: () => this.#becomeIsolated(),
      onRejoined: (identity) => this.#becomeRejoined(identity),
      onSeatLost: () => this.#giveUpCalls(),
    });
  }

  get transport(): Transport {
    return this.#parts.transport;
  }

  /** The tap of this member's packets; null by default. It may be set at any time. */
  get tap(): Tap | null {
    return this.#parts.path.tap;
  }
  set tap(tap: Tap | null) {
    this.#parts.path.tap = tap;
  }

  get service(): Service {
    return this.#parts.service;
  }

  get api(): AdminApi {
    return this.#parts.api;
  }

  get state(): NodeState {
    return stateOf(this.#phase, this.#parts.adminState.phase);
  }

  /** Where the admin server listens; undefined when it does not. */
  get adminAt(): Endpoint | undefined {
    return this.#adminAt;
  }

  /** INVITE calls that this member owns. */
  get ownedCalls(): number {
    return this.#parts.calls.calls;
  }

  /** `stop` may be called at any time, also while `start` waits. */
  get #stopping(): boolean {
    return this.#phase === 'stopping';
  }

  /**
   * Checks that the member can work, then joins the farm, and only then opens its listeners. Rejects with
   * SF_BIND_FAILED, SF_KEY_MISMATCH, SF_MEMBER_ID_TAKEN, SF_MEDIA_*, SF_STORE_*, with everything closed again. With the
   * first two nothing has been written. An address that is lost during the join still ends the member later.
   */
  async start(): Promise<void> {
    try {
      if (await runInOrder(this.#startSteps(), () => this.#stopping)) this.#started();
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  #startSteps(): readonly Step[] {
    const { admin, link, service, transport, membership, media } = this.#parts;
    const openAdmin = async (): Promise<void> => {
      if (this.#options.admin !== 'asked') this.#adminAt = await admin?.start();
    };
    const openLink = async (): Promise<void> => {
      this.#relayAt = await link.start();
    };
    const join = async (): Promise<void> => {
      this.#become(await membership.join());
      this.#settings.follow(this.#options.store);
    };
    const startMedia = async (): Promise<void> => {
      if (!this.#options.config.media) return;
      // Its public address may be a cluster-wide setting.
      await this.#settings.followed;
      await media.start();
    };
    return [
      { name: 'admin', run: openAdmin },
      { name: 'relay', run: openLink },
      { name: 'service', run: () => service.start() },
      { name: 'addresses', run: () => transport.reserve() },
      // So that the record with which the member joins shows whether its service can serve.
      { name: 'first verdict', run: () => service.firstVerdict(FIRST_VERDICT_MS) },
      { name: 'join', run: join },
      { name: 'media', run: startMedia },
      // A member without a view would own every packet that it gets, and a call could have two owners.
      { name: 'seat', run: () => this.#seated.promise },
      { name: 'listeners', run: () => transport.start() },
    ];
  }

  #started(): void {
    const { log, clock, config } = this.#options;
    const { guarded, calls, fence, transport, routing, media, callRecovery } = this.#parts;
    this.#sweeper = guarded.clock.every(SWEEP_MS, () => {
      calls.sweep(clock.now());
      // While records are to be read, a call that is not in the table may be this member's all the same.
      const isGone = (call: number): boolean => !calls.has(call) && !calls.has(-call);
      const reading = callRecovery?.journal.reading === true;
      media.anchor?.sweep((call) => calls.isOver(call) && calls.isOver(-call) && !(reading && isGone(call)));
      this.#peerSeries.sweep();
    });
    fence.start();
    if (this.#phase === 'joining') this.#phase = 'active';
    this.#beginRamp();
    const listeners = transport.listeners.map(
      ({ name, transport: kind, local }) => `${name} ${kind} ${formatEndpoint(local)}`,
    );
    const { role, roleChosenBecause: because } = config;
    if (because !== '') log.info({ role, because }, 'role auto has been decided');
    log.info({ ...routing.identity, role, listeners, relay: formatEndpoint(this.#relayAt) }, 'member started');
  }

  /**
   * Takes no new calls and keeps its own. Resolves at the end of the last call, or at the deadline: true if none is
   * left.
   */
  async drain(): Promise<boolean> {
    const { clock, log } = this.#options;
    const { service, membership, calls } = this.#parts;
    this.#phase = 'draining';
    service.drain();
    // A member that has given its calls up needs no seat to end. With a seat it would receive packets of calls that it
    // does not hold.
    if (membership.state !== 'away') {
      await membership.setState('draining').catch((error: unknown) => {
        log.warn(
          { err: error },
          'the store does not accept the state of this member; the others detect its end by its lease',
        );
      });
    }
    const { deadlineSeconds } = this.#settings.now.drain;
    const deadline = clock.now() + deadlineSeconds * 1000;
    log.info({ calls: calls.calls, deadlineSeconds }, 'draining');
    return new Promise((resolve) => {
      const check = (): void => {
        const quiet = calls.quiet(clock.now());
        if (!quiet && clock.now() < deadline) return;
        timer.cancel();
        log.info({ calls: calls.calls }, quiet ? 'drained' : 'drain deadline reached');
        resolve(quiet);
      };
      const timer = clock.every(SWEEP_MS, check);
    });
  }

  /** Leaves the farm and closes everything. Never rejects. */
  async stop(): Promise<void> {
    this.#phase = 'stopping';
    this.#seated.resolve();
    const { fence, adminState, ramp, takeoverWiring } = this.#parts;
    const { transport, callRecovery, membership, service, media, link, admin } = this.#parts;
    this.#sweeper?.cancel();
    fence.stop();
    adminState.stop();
    ramp.stop();
    this.#settings.close();
    takeoverWiring?.stop();
    const steps: readonly Step[] = [
      // The listeners first: the others refuse the packets that come in after the seat is gone.
      { name: 'listeners', run: () => transport.stop() },
      { name: 'records', run: () => callRecovery?.stop() },
      { name: 'seat', run: () => membership.leave() },
      { name: 'service', run: () => service.stop() },
      { name: 'media', run: () => media.stop() },
      { name: 'relay', run: () => link.stop() },
      { name: 'admin', run: () => admin?.stop() },
    ];
    await runAll(steps, this.#options.log);
  }

  /** Answers a question to the admin server, without HTTP. Rejects when there is none. */
  async ask(question: Question): Promise<Answer> {
    const { admin } = this.#parts;
    if (!admin) throw new SipfarmError('SF_INTERNAL', 'there is no admin server');
    return admin.answer(question);
  }

  /** Applies what may change live, and returns what needs a restart besides. */
  reload(config: Config): Changes {
    const before = this.#settings.own;
    const changes = this.#settings.reload(config);
    if (before.weight !== config.weight || changes.live.some((field) => field.startsWith('keys')))
      this.#parts.publish();
    return changes;
  }

  #apply(config: Config, before: Config): void {
    const { routing, limits, calls, callRecovery, service, answers, media } = this.#parts;
    routing.keys = keyring(config.keys.map((key) => key.reveal()));
    Object.assign(limits, transportLimits(config), { messageBytes: limits.messageBytes });
    calls.setLifetimes(config.ownership);
    callRecovery?.journal.setMode(config.ownership.records);
    service.apply(config);
    void media.ports.refresh();
    if (before.limits.errorAnswersPerSecond !== config.limits.errorAnswersPerSecond)
      answers.limits = errorLimits(config);
    setLogLevel(this.#options.log, config.log.level);
  }

  /** A stop is not taken back by an order that ends. */
  #publishState(state: MemberRecordState): Promise<void> {
    return this.#phase === 'draining' || this.#stopping ? Promise.resolve() : this.#parts.membership.setState(state);
  }

  #become(identity: MemberLife): void {
    const { routing, link, transport, remoteListeners } = this.#parts;
    if (identity.incarnation !== routing.identity.incarnation) link.joined();
    routing.become(identity);
    transport.setSelf(identity.number, identity.incarnation);
    remoteListeners.setRecords(this.#records, identity.number);
    this.#noteSeat();
    this.#readCalls();
  }

  /** Reads the calls that are still this member's by their records; none while it must have no seat. */
  #readCalls(): void {
    const { adminState, membership, callRecovery } = this.#parts;
    if (adminState.phase !== 'banned' && membership.state !== 'away') callRecovery?.joined();
  }

  #noteSeat(): void {
    const { identity, tables } = this.#parts.routing;
    if (tables.epoch > 0 && tables.seats.get(identity.number)?.incarnation === identity.incarnation)
      this.#seated.resolve();
  }

  /** The farm has given this member's seat up: its calls belong to others from now on, also when it comes back. */
  #giveUpCalls(): void {
    const { calls, callRecovery, service } = this.#parts;
    const lost = calls.calls;
    calls.clear();
    callRecovery?.journal.openOwnership();
    service.succession.clear();
    this.#options.log.warn(
      { calls: lost },
      'this member has lost its seat in the view; other members own its calls now',
    );
  }

  /**
   * Returns the verdict of the members that have answered since `wokeAt` (monotonic milliseconds): see FenceOptions.
   */
  #witnesses(wokeAt: number): 'seated' | 'newer' | 'too few' {
    const { routing, link } = this.#parts;
    const { members, self, incarnation } = routing.tables;
    const seat = this.#view?.seats.find(({ number }) => number === self);
    if (link.outrunFor() > 0 || seat?.incarnation !== incarnation) return 'newer';
    const answered = new Set(link.answeredSince(wokeAt)).add(self);
    return members.filter(({ number }) => answered.has(number)).length * 2 > members.length ? 'seated' : 'too few';
  }

  #becomeIsolated(): void {
    if (this.#phase === 'active') this.#phase = 'isolated';
  }

  #becomeRejoined(identity: MemberLife): void {
    this.#become(identity);
    this.#parts.fence.rejoined();
    this.#parts.adminState.rejoined();
    this.#parts.media.ports.rejoined();
    if (this.#phase === 'isolated') this.#phase = 'active';
    this.#options.log.info(identity, 'joined again');
  }

  #takeView(view: View): void {
    const { link, routing, takeoverWiring } = this.#parts;
    this.#view = view;
    link.setSeats(view.seats);
    this.#noteMembers();
    routing.takeView(view, () => {
      this.#noteSeat();
      link.announceView();
      takeoverWiring?.takeView(view);
    });
  }

  #takeRecords(records: readonly MemberRecord[]): void {
    const { remoteListeners, service, link, refusedPeers, routing } = this.#parts;
    this.#records = records;
    remoteListeners.setRecords(records, routing.identity.number);
    service.setRecords(records);
    link.setPeers(records.map(peerOf).filter((peer) => peer !== undefined));
    refusedPeers.take(records, { id: this.#options.config.member, keys: routing.keys.all.map(keyName) });
    this.#noteMembers();
  }

  /** A member is there as long as it has a record or a seat. */
  #noteMembers(): void {
    this.#peerSeries.setPresent([...this.#records, ...(this.#view?.seats ?? [])].map(({ id }) => id));
  }

  #takeOrders(orders: OrderMap): void {
    this.#orders = orders;
    this.#parts.adminState.take(orders.get(this.#options.config.member));
    this.#readCalls();
    this.#beginRamp();
  }

  /** Not while an order keeps new calls away: a member that is restarted during a drain ramps up after its resume. */
  #beginRamp(): void {
    if (this.#phase === 'active' && this.#parts.adminState.phase === 'free') this.#parts.ramp.begin();
  }

  #record() {
    const { config, version } = this.#options;
    const { service, ramp, link, routing, transport } = this.#parts;
    return {
      role: config.role,
      // While its service cannot serve, the member keeps its seat, so its tokens are honoured, and takes no new calls.
      weight: service.status.up ? ramp.of(this.#settings.own.weight) : 0,
      relay: formatEndpoint(this.#relayAt),
      listeners: listenerRecords(transport.listeners, link.transparentPorts),
      versions: { sipfarm: version, min: OLDEST_ENVELOPE_VERSION, max: ENVELOPE_VERSION },
      keys: routing.keys.all.map(keyName),
      startedAt: this.#startedAt,
    };
  }
}
