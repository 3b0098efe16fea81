// Builds the parts of a node from its configuration, in the order of their dependencies. It opens nothing and calls
// nothing back.
import type { Logger } from 'pino';
import { AdminServer } from '../admin/admin-server.ts';
import { CallStatus } from '../admin/call-status.ts';
import { MemberStatus } from '../admin/member-status.ts';
import type { AdminApi } from '../admin/status.ts';
import type { Clock } from '../base/clock.ts';
import { formatEndpoint } from '../base/endpoint.ts';
import { guardedClock } from '../base/guard.ts';
import type { DatagramSocket, Network } from '../base/network.ts';
import { CallTable } from '../calls/table/call-table.ts';
import type { Config } from '../config/schema.ts';
import { Egress } from '../egress/egress.ts';
import { ExitChoice } from '../egress/exit-member.ts';
import { RemoteListeners } from '../egress/remote-listeners.ts';
import { StatelessReplies } from '../egress/stateless-reply.ts';
import { dropCells, PacketPath } from '../ingress/packet-path.ts';
import { Locator, nodeResolver } from '../locate/locate.ts';
import type { LocalAddresses } from '../media/plan.ts';
import type { KernelAccess } from '../media/start-offload.ts';
import type { MemberRecord, MemberRecordState } from '../membership/member-record.ts';
import { Membership, type MembershipOptions } from '../membership/membership.ts';
import { type OrderMap, othersTakeCalls } from '../membership/order.ts';
import { Ramp } from '../membership/ramp.ts';
import type { Metrics } from '../metrics/metrics.ts';
import { AdminState } from '../orders/admin-state.ts';
import { StoreOrders } from '../orders/store-orders.ts';
import { keyring } from '../ownership/keyring.ts';
import { OwnerLookup } from '../ownership/owner-lookup.ts';
import type { View } from '../ownership/view.ts';
import { RelayLink } from '../relay/relay-link.ts';
import { makeService } from '../service/kinds/kinds.ts';
import type { Service } from '../service/service.ts';
import type { Store } from '../store/store.ts';
import { DEFAULT_LIMITS, type TransportLimits } from '../transport/limits.ts';
import { Transport } from '../transport/transport.ts';
import { CallRecovery } from './call-recovery.ts';
import { FaultLog } from './fault-log.ts';
import { Fence } from './fence.ts';
import {
  errorLimits,
  familiesOf,
  forbiddenTargets,
  listenerConfigs,
  ownHosts,
  transparentListeners,
  transportLimits,
  transportsOf,
} from './from-config.ts';
import { Late } from './late.ts';
import { MediaPart, type StartRelay } from './media-part.ts';
import { type NodeState, redirectsClients } from './member-state.ts';
import { feedMetrics } from './metric-sources.ts';
import { RefusedPeers } from './refused-peers.ts';
import { RoutingState } from './routing-state.ts';
import type { Settings } from './settings.ts';
import { TakeoverWiring } from './takeover-wiring.ts';

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
  /** UDP sockets that the caller has bound, by listener name. The demo's balancer holds them. */
  readonly sockets?: ReadonlyMap<string, DatagramSocket>;
  /** TCP listeners that open no port: the demo's balancer passes their connections on. */
  readonly handedIn?: ReadonlySet<string>;
  /** Reads the addresses of this host, for the media relay. Left out: those of the system. */
  readonly localAddresses?: () => LocalAddresses;
  /** Starts the media relay. Left out: the one in user space. */
  readonly startRelay?: StartRelay;
  /** Access to the kernel for the media relay. Left out: by nft of this host. */
  readonly kernel?: KernelAccess;
  /** `none`: no admin server (tests, demo). `asked`: one without a port, for `ask`. Left out: one that listens. */
  readonly admin?: 'none' | 'asked';
}

/** The changing state of the node that its parts read, and the events of the farm that it receives. */
export interface NodeHooks
  extends Pick<
    MembershipOptions,
    'record' | 'onView' | 'onMembers' | 'onOrders' | 'onIsolated' | 'onRejoined' | 'onSeatLost'
  > {
  readonly settings: Settings;
  readonly state: () => NodeState;
  readonly view: () => View | undefined;
  readonly records: () => readonly MemberRecord[];
  readonly orders: () => OrderMap;
  /** Publishes an administrative state, unless the member stops. */
  readonly publishState: (state: MemberRecordState) => Promise<void>;
  readonly witnesses: (wokeAt: number) => 'seated' | 'newer' | 'too few';
}

export type NodeParts = ReturnType<typeof assemble>;

/** Throws SF_KEY_INVALID and SF_ADMIN_TOKEN_REQUIRED. */
export function assemble(options: NodeOptions, hooks: NodeHooks) {
  const ground = buildGround(options);
  const late = {
    path: new Late<PacketPath>('the packet path'),
    lookup: new Late<OwnerLookup>('the owner lookup'),
    membership: new Late<Membership>('the membership'),
    fence: new Late<Fence>('the fence'),
    recovery: new Late<CallRecovery>('the call recovery'),
    service: new Late<Service>('the service'),
    media: new Late<MediaPart>('the media part'),
    api: new Late<AdminApi>('the admin API'),
  };
  const calls = buildCalls(options, ground, late);
  const waysIn = buildWaysIn(options, hooks, ground, calls, late);
  const seat = buildSeat(options, hooks, calls, waysIn, late);
  const around = { ...pick(hooks, 'settings', 'view'), ...pick(seat, 'membership'), ...pick(calls, 'callRecovery') };
  const media = late.media.set(new MediaPart({ ...options, guard: ground.guard }, around));
  const owner = buildOwner(options, hooks, ground, calls, waysIn, seat, media, late);
  const status = buildStatus(options, hooks, calls, waysIn, seat, owner, media, late);
  return { ...ground, ...calls, ...waysIn, ...seat, ...owner, media, ...status };
}

type Lates = {
  readonly path: Late<PacketPath>;
  readonly lookup: Late<OwnerLookup>;
  readonly membership: Late<Membership>;
  readonly fence: Late<Fence>;
  readonly recovery: Late<CallRecovery>;
  readonly service: Late<Service>;
  readonly media: Late<MediaPart>;
  readonly api: Late<AdminApi>;
};

/** The guard around everything that handles packets. */
function buildGround({ clock, log, metrics }: NodeOptions) {
  const drops = dropCells(metrics.verdicts);
  const guard = new FaultLog(log.child({ room: 'guard' }), drops['internal-error']);
  const guarded = { guard, clock: guardedClock(clock, guard) };
  return { drops, guard, guarded };
}

/** The calls that this member owns, and the state that the hot path reads. */
function buildCalls({ config, clock, log, metrics, store }: NodeOptions, { guarded }: Ground, late: Lates) {
  const isMember = config.role === 'member';
  const calls = new CallTable({
    ...config.ownership,
    evicted: metrics.evicted,
    onForgotten: (entry) => isMember && late.recovery.it.journal.over(entry),
  });
  const keys = keyring(config.keys.map((key) => key.reveal()));
  const routing = new RoutingState(keys, calls, clock, !isMember);
  if (!isMember) return { calls, routing, callRecovery: undefined };
  const callRecovery = late.recovery.set(
    new CallRecovery({
      ...guarded,
      ...{ store, metrics, routing, calls },
      log: log.child({ room: 'calls' }),
      mode: config.ownership.records,
      isolated: () => late.membership.it.isolated || late.fence.it.up,
      hasEnded: (entry, record) => late.service.it.succession.hasEnded(entry, record),
      onFound: (entry, record) => {
        late.service.it.succession.recovered(entry, record);
        late.media.it.restore(entry, record);
      },
      mediaOf: (entry) => late.media.it.anchor?.record(Math.abs(entry)),
      confirmSeat: () => late.membership.it.confirmSeat(),
    }),
  );
  return { calls, routing, callRecovery };
}

/** Transport and member link: everything by which packets come in. */
function buildWaysIn(
  { config, network, log, metrics, handedIn, sockets }: NodeOptions,
  { settings }: NodeHooks,
  { guarded, drops }: Ground,
  { routing, calls, callRecovery }: Calls,
  late: Lates,
) {
  const { path, lookup, membership, service } = late;
  const limits: { -readonly [Field in keyof TransportLimits]: TransportLimits[Field] } = {
    ...DEFAULT_LIMITS,
    ...transportLimits(config),
  };
  const transport = new Transport({
    ...{ ...guarded, network, limits },
    listeners: listenerConfigs(config, handedIn),
    handlers: {
      onPacket: (packet) => path.it.enter(packet),
      onFault: (packet) => path.it.faulted(packet),
      onFlowClosed: (connection) => service.it.flowClosed(connection),
      onUnsent: (message) => path.it.unsent(message),
    },
    early: drops['before-seat'],
    ...pick(metrics, 'received', 'closedConnections', 'sendErrors'),
    proxies: {
      trusted: () => settings.trusted,
      answerHeader: () => settings.now.balancer.udpAnswerHeader,
      headers: metrics.proxyHeaders,
    },
    ...(sockets && { sockets }),
  });
  const remoteListeners = new RemoteListeners({ own: transport.listeners, role: config.role });
  const refusedPeers = new RefusedPeers(log.child({ room: 'relay' }));
  const link = new RelayLink({
    ...{ ...guarded, network },
    log: log.child({ room: 'relay' }),
    ...pick(config.relay, 'bind', 'mtu'),
    keys: () => routing.keys,
    self: selfOf(routing, calls, callRecovery),
    listeners: config.listeners.map(({ name }) => name),
    knowsListener: (member, code) => remoteListeners.elsewhere(member, code) !== undefined,
    transparent: transparentListeners(config),
    metrics: {
      ...{ relayed: metrics.relayed, refused: metrics.relayRefused },
      ...{ transparent: metrics.transparent, hop: metrics.relayHop },
    },
    handlers: {
      onPacket: (packet) => path.it.relayed(packet),
      onEgress: (flow, bytes, start, end) => path.it.leave(flow, bytes, start, end),
      onReturned: (flow, bytes, start, end) => path.it.returned(flow, bytes, start, end),
      onMade: (from, callKey) => lookup.it.madeAt(from, callKey),
      onNewerEpoch: () => membership.it.refetch(),
      onSuspects: (numbers) => membership.it.suspect(numbers),
      onBadMac: (address, port) => refusedPeers.badMac(address, port),
    },
  });
  routing.heldSince = (member) => link.heldSince(member);
  routing.newer = () => link.newer();
  return { limits, transport, remoteListeners, refusedPeers, link };
}

/** The seat in the farm: membership, fence, ramp, administrative state. */
function buildSeat(
  { config, clock, store, log, metrics, random }: NodeOptions,
  hooks: NodeHooks,
  { calls }: Calls,
  { link, transport }: WaysIn,
  late: Lates,
) {
  const { settings } = hooks;
  const fence = late.fence.set(
    new Fence({
      clock,
      log: log.child({ room: 'fence' }),
      confirm: () => late.membership.it.confirmSeat(),
      // A node outside the farm owns the packets that come to it, with a seat or without.
      evicted: () => config.role === 'member' && link.evicted,
      witnesses: hooks.witnesses,
    }),
  );
  const publish = (): void => void late.membership.it.publish().catch(() => {});
  const ramp = new Ramp({ clock, seconds: config.rampSeconds, onStep: publish });
  const adminState = new AdminState({
    ...{ clock, calls },
    log: log.child({ room: 'orders' }),
    othersTakeCalls: () => othersTakeCalls(config.member, hooks.view(), hooks.orders()),
    deadlineSeconds: () => settings.now.drain.deadlineSeconds,
    setState: hooks.publishState,
    report: (progress) => late.membership.it.note(`drains/${config.member}`, progress),
    redirectClients: () => transport.redirectClients(),
  });
  const membership = late.membership.set(
    new Membership({
      ...pick(hooks, 'record', 'onView', 'onMembers', 'onOrders', 'onIsolated', 'onRejoined', 'onSeatLost'),
      ...{ store, clock, ...(random && { random }) },
      log: log.child({ room: 'membership' }),
      id: config.member,
      leaseSeconds: config.store.leaseSeconds,
      badEntries: metrics.badEntries,
      onJoining: (atWork) => ramp.prepare(atWork),
    }),
  );
  return { fence, ramp, adminState, membership, publish };
}

/** The owner's work: ways out, service, packet path, and the calls of members that are gone. */
function buildOwner(
  { config, network, clock, store, log, metrics }: NodeOptions,
  { settings, state }: NodeHooks,
  { guarded, guard, drops }: Ground,
  { calls, routing, callRecovery }: Calls,
  { transport, remoteListeners, link }: WaysIn,
  { fence, membership, publish }: Seat,
  { anchor }: MediaPart,
  late: Lates,
) {
  const egress = new Egress(transport, link, routing, remoteListeners);
  const answers = new StatelessReplies({
    ...{ routing, transport, remoteListeners, egress, drops },
    now: () => clock.now(),
    limits: errorLimits(config),
    answered: metrics.answered,
  });
  const reachable = (member: number): boolean => link.reachable(member);
  const exitChoice = config.role === 'relay' ? new ExitChoice({ routing, remoteListeners, reachable }) : undefined;
  const forbidden = forbiddenTargets(config);
  const service = late.service.set(
    makeService(config, {
      ...{ ...guarded, routing, network, transport, egress, remoteListeners, answers, calls, forbidden, drops, fence },
      log: log.child({ room: config.service.kind }),
      ...(exitChoice && { exitChoice }),
      ...(anchor && { anchor }),
      ...(callRecovery && { journal: callRecovery.journal }),
      locator: new Locator({
        resolver: nodeResolver(config.resolver.servers.map(formatEndpoint)),
        clock,
        transports: transportsOf(config),
        families: familiesOf(config),
        lookups: metrics.lookups,
      }),
      ...pick(metrics, 'handled', 'sendErrors', 'reanchored', 'idleCalls'),
      announce: (owner, callKey) => link.announce(owner, callKey),
      again: (packet) => path.relayed(packet),
      onHealth: publish,
    }),
  );
  const lookup = late.lookup.set(new OwnerLookup(routing, metrics.forgedTokens));
  const redirecting = {
    get on() {
      return redirectsClients(state());
    },
    close: (connection: number) => transport.redirectClient(connection),
  };
  const path = late.path.set(
    new PacketPath({
      ...{ routing, lookup, link, service, answers, egress, forbidden, fence, guard, moving: redirecting },
      verdicts: metrics.verdicts,
      ownHosts: ownHosts(config),
      probes: () => settings.probes,
      ready: () => late.api.it.ready().ready,
    }),
  );
  const takeoverWiring =
    callRecovery &&
    new TakeoverWiring({
      ...{ ...guarded, store, calls, routing, membership, fence, metrics },
      log: log.child({ room: 'adoption' }),
      succession: service.succession,
      keeper: callRecovery.journal,
    });
  return { answers, service, path, takeoverWiring, exitChoice };
}

/** Builds the status that the admin server and the metrics show. */
function buildStatus(
  { config, version, clock, store, log, metrics, admin }: NodeOptions,
  hooks: NodeHooks,
  { calls, routing, callRecovery }: Calls,
  { link, transport }: WaysIn,
  { fence, adminState }: Seat,
  { service, exitChoice }: Owner,
  media: MediaPart,
  late: Lates,
) {
  const farm = pick(hooks, 'view', 'records', 'orders');
  const orders = new StoreOrders({
    ...{ ...farm, clock, store, self: config.member },
    obey: (order) => adminState.take(order),
  });
  const api = late.api.set(
    new MemberStatus({
      ...{ ...farm, version, routing, calls, link, store, service, fence },
      config: () => hooks.settings.now,
      state: hooks.state,
      identity: () => routing.identity,
      callStatus: new CallStatus({ store, routing, callRecovery, wayOf: (port) => media.wayOf(port) }),
      orderApi: orders,
      ports: media.status,
      ...(exitChoice && { exitChoice }),
    }),
  );
  const server =
    admin === 'none'
      ? undefined
      : new AdminServer({
          ...config.admin,
          api,
          registry: metrics.registry,
          log: log.child({ room: 'admin' }),
        });
  feedMetrics(metrics.sources, { routing, store, calls, link, transport, service, view: hooks.view });
  return { api, admin: server };
}

/** The node's link identity: read per frame. */
function selfOf(routing: RoutingState, calls: CallTable, callRecovery: CallRecovery | undefined) {
  const self = {
    get number() {
      return routing.identity.number;
    },
    get incarnation() {
      return routing.identity.incarnation;
    },
    get epoch() {
      return routing.tables.epoch;
    },
    get heldSince() {
      // A record that is not read yet may be of any epoch.
      if (callRecovery?.journal.reading) return 1;
      // Without a call now, it may have one of the view in force before the next probe reports it.
      return calls.oldestEpoch() || routing.tables.epoch;
    },
  };
  return () => self;
}

/** Returns an object with those properties of `from` alone. */
function pick<T, K extends keyof T>(from: T, ...names: readonly K[]): Pick<T, K> {
  return Object.fromEntries(names.map((name) => [name, from[name]])) as Pick<T, K>;
}

type Ground = ReturnType<typeof buildGround>;
type Calls = ReturnType<typeof buildCalls>;
type WaysIn = ReturnType<typeof buildWaysIn>;
type Seat = ReturnType<typeof buildSeat>;
type Owner = ReturnType<typeof buildOwner>;
