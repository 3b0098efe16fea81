// Makes the options of the rooms from the configuration of a member.

import { isIP } from 'node:net';
import {
  type Endpoint,
  formatEndpoint,
  formatPlace,
  hostText,
  isIpv6,
  isWildcard,
  parseEndpoint,
} from '../base/endpoint.ts';
import { RateLimit } from '../base/rate-limit.ts';
import type { Config } from '../config/schema.ts';
import { endpointsOf } from '../config/service-section.ts';
import { transparentPorts } from '../config/transparent-ports.ts';
import { ForbiddenTargets } from '../egress/forbidden-targets.ts';
import type { ErrorLimits } from '../egress/stateless-reply.ts';
import type { ListenerRecord, MemberRecord } from '../membership/member-record.ts';
import { type Advertised, formatAdvertised, isPlain } from '../packet/advertised.ts';
import { LISTENER_KINDS, type ListenerKind } from '../packet/transport-kind.ts';
import type { PeerInfo, TransparentListener, TransparentPort } from '../relay/relay-link.ts';
import type { TransportLimits } from '../transport/limits.ts';
import type { Listener, ListenerConfig } from '../transport/transport.ts';

/** Refusals of good requests that may leave for each error answer to a broken one. */
const REFUSALS_PER_FAULT = 20;

/** Returns the listeners for the transport. Those in `handedIn` open no port. */
export function listenerConfigs(config: Config, handedIn: ReadonlySet<string> | undefined): ListenerConfig[] {
  return config.listeners.map((listener) => {
    const { name, transport, bind, advertise, answer, proxyProtocol } = listener;
    const dialFrom = config.balancer.mode === 'dsr' || isWildcard(bind.address) ? {} : { dialFrom: bind.address };
    const shared = config.worker !== undefined;
    return {
      name,
      transport,
      bind,
      advertise,
      answer,
      proxyProtocol,
      ...dialFrom,
      shared,
      listen: !handedIn?.has(name),
    };
  });
}

/** Returns the listeners for the member's record, with their bound ports and their open transparent ports. */
export function listenerRecords(
  listeners: readonly Omit<Listener, 'code'>[],
  ports: readonly TransparentPort[],
): ListenerRecord[] {
  return listeners.map(({ name, transport, bind: { address }, local, advertise, proxyProtocol = 'off' }) => {
    const port = ports.find(({ listener }) => listener === name);
    const bind = { address, port: local.port };
    return {
      name,
      transport,
      bind: formatEndpoint(bind),
      ...recordOf(transport, bind, advertise),
      ...(proxyProtocol !== 'off' && { proxied: true }),
      ...(port && { transparent: formatEndpoint(port.at) }),
    };
  });
}

/** Returns the advertised address for a record. Versions that read only `ip:port` get the nearest such address. */
function recordOf(
  transport: ListenerKind,
  bind: Endpoint,
  advertise: Advertised,
): Pick<ListenerRecord, 'advertise' | 'told'> {
  const address = isIP(advertise.host) ? formatPlace(advertise) : formatEndpoint(bind);
  return isPlain(transport, advertise)
    ? { advertise: address }
    : { advertise: address, told: formatAdvertised(transport, advertise) };
}

/** Returns the listeners with a transparent port. */
export function transparentListeners(config: Config): TransparentListener[] {
  return transparentPorts(config).map((entry) => ({ ...entry, local: config.listeners[entry.listener]!.bind }));
}

/**
 * Returns the transports by which requests can leave, for RFC 3263. A node that sends through members gets all: their
 * listeners are not known yet.
 */
export function transportsOf(config: Config): readonly ListenerKind[] {
  if (config.role === 'relay') return LISTENER_KINDS;
  return LISTENER_KINDS.filter((kind) => config.listeners.some(({ advertise }) => advertise.transport === kind));
}

/** Returns the limits in the units of the transport. */
export function transportLimits({ limits }: Config): Partial<TransportLimits> {
  return {
    messageBytes: limits.messageBytes,
    halfMessageMs: limits.halfMessageSeconds * 1000,
    idleMs: limits.idleSeconds * 1000,
    connections: limits.tcpConnections,
    connectionsPerSource: limits.tcpConnectionsPerSource,
    bufferedBytes: limits.bufferedBytes,
    sendQueueBytes: limits.sendQueueBytes,
  };
}

/** Returns the limits of error answers per source prefix. */
export function errorLimits({ limits }: Config): ErrorLimits {
  const perSecond = limits.errorAnswersPerSecond;
  const most = perSecond * REFUSALS_PER_FAULT;
  return {
    faults: new RateLimit({ perSecond, burst: perSecond }),
    refusals: new RateLimit({ perSecond: most, burst: most }),
  };
}

/** Returns the endpoints that requests of the SIP server must not reach: the farm's own ports and the store. */
export function forbiddenTargets(config: Config): ForbiddenTargets {
  return new ForbiddenTargets(
    config.role === 'relay' ? undefined : config.listeners.map(({ bind }) => bind),
    ownEndpoints(config),
  );
}

/** Returns the endpoints of this node and of the store that no client may reach through the farm. */
export function ownEndpoints(config: Config): readonly Endpoint[] {
  const { admin, relay, store } = config;
  const service = endpointsOf(config.service);
  const hosts = store.kind === 'etcd' ? store.hosts.map((host) => new URL(host)) : [];
  const etcd = hosts.map(({ hostname, port }) => parseEndpoint(`${hostname}:${port || 2379}`));
  const ofWorkers = config.worker?.ownPorts ?? [];
  const ports = transparentPorts(config).map(({ at: port }) => port);
  const ownPorts = [admin.bind, relay.bind, service.bind, service.advertise, ...ofWorkers, ...ports, ...etcd];
  return ownPorts.filter((ownPort) => ownPort !== undefined);
}

/** Returns the address families of the listeners; both for a node that sends through members. */
export function familiesOf(config: Config): readonly (4 | 6)[] {
  if (config.role === 'relay') return [4, 6];
  const families = new Set(config.listeners.map(({ bind }) => (isIpv6(bind.address) ? 6 : 4) as 4 | 6));
  return [...families];
}

/**
 * Returns the hosts that belong to this member alone, as a URI writes them. Behind a NAT balancer that is the bound
 * address of a listener, not its advertised one. Without a balancer it is every address. Under DSR the VIP is on every
 * member, so only the address of the relay link counts.
 */
export function ownHosts(config: Config): readonly string[] {
  const hosts = new Set([config.relay.bind.address]);
  for (const { bind, advertise } of config.listeners) {
    const { mode } = config.balancer;
    if (mode === 'none' || (mode === 'nat' && bind.address !== advertise.host)) hosts.add(bind.address);
  }
  return [...hosts].map(hostText);
}

/** Returns the data of another member for the relay link; undefined when its record has no address. */
export function peerOf(record: MemberRecord): PeerInfo | undefined {
  const { number, incarnation, id, listeners, versions } = record;
  const relay = parseEndpoint(record.relay);
  if (!relay) return undefined;
  const ports = listeners.flatMap(({ name, transparent }): TransparentPort[] => {
    const at = transparent === undefined ? undefined : parseEndpoint(transparent);
    return at ? [{ listener: name, at }] : [];
  });
  const binds = listeners.map(({ bind }) => parseEndpoint(bind)?.address ?? relay.address);
  return {
    number,
    incarnation,
    id,
    relay,
    transparentPorts: ports,
    addresses: [relay.address, ...binds],
    speaks: versions.max,
  };
}
