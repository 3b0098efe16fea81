// What the rooms of a member are given, made of its configuration.

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
import type { ListenerConfig } from '../transport/transport.ts';

/** How many times as many good requests as broken ones are told that they go no further. */
const REFUSALS_PER_FAULT = 20;

/** The listeners for the transport. Those `handedIn` open no port. */
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

/** The listeners as the member's record shows them to the others, with the open transparent ports. */
export function listenerRecords(config: Config, ports: readonly TransparentPort[]): ListenerRecord[] {
  return config.listeners.map(({ name, transport, bind, advertise, proxyProtocol }) => {
    const port = ports.find(({ listener }) => listener === name);
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

/** The place that clients are given. Members of a version that reads `ip:port` alone get the nearest that they understand. */
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

/** The listeners that take and give packets as they came. */
export function transparentListeners(config: Config): TransparentListener[] {
  return transparentPorts(config).map((entry) => ({ ...entry, local: config.listeners[entry.listener]!.bind }));
}

/** The transports by which something can leave from a listener, as RFC 3263 is asked for them; of a node that sends through members all, for theirs are not known yet. */
export function transportsOf(config: Config): readonly ListenerKind[] {
  if (config.role === 'relay') return LISTENER_KINDS;
  return LISTENER_KINDS.filter((kind) => config.listeners.some(({ advertise }) => advertise.transport === kind));
}

/** The limits of `config` as the transport counts them. */
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

/** How many error answers may leave for one source prefix. */
export function errorLimits({ limits }: Config): ErrorLimits {
  const perSecond = limits.errorAnswersPerSecond;
  const most = perSecond * REFUSALS_PER_FAULT;
  return {
    faults: new RateLimit({ perSecond, burst: perSecond }),
    refusals: new RateLimit({ perSecond: most, burst: most }),
  };
}

/** Requests of the SIP server go to clients, not into the farm's own doors. */
export function forbiddenTargets(config: Config): ForbiddenTargets {
  const { admin, relay, store } = config;
  const service = endpointsOf(config.service);
  const hosts = store.kind === 'etcd' ? store.hosts.map((host) => new URL(host)) : [];
  const etcd = hosts.map(({ hostname, port }) => parseEndpoint(`${hostname}:${port || 2379}`));
  const ofWorkers = config.worker?.ownPorts ?? [];
  const ports = transparentPorts(config).map(({ at: port }) => port);
  const ownPorts = [admin.bind, relay.bind, service.bind, service.advertise, ...ofWorkers, ...ports, ...etcd];
  return new ForbiddenTargets(
    config.role === 'relay' ? undefined : config.listeners.map(({ bind }) => bind),
    ownPorts.filter((ownPort) => ownPort !== undefined),
  );
}

/** The address families the listeners speak; of a node that sends through members both. */
export function familiesOf(config: Config): readonly (4 | 6)[] {
  if (config.role === 'relay') return [4, 6];
  const families = new Set(config.listeners.map(({ bind }) => (isIpv6(bind.address) ? 6 : 4) as 4 | 6));
  return [...families];
}

/**
 * Hosts that are this member's alone, as a URI writes them. Behind a NAT balancer the address a listener binds is one, its advertised
 * address is not; without a balancer every address is; under DSR the VIP is on every member, the address of the relay link is not.
 */
export function ownHosts(config: Config): readonly string[] {
  const hosts = new Set([config.relay.bind.address]);
  for (const { bind, advertise } of config.listeners) {
    const { mode } = config.balancer;
    if (mode === 'none' || (mode === 'nat' && bind.address !== advertise.host)) hosts.add(bind.address);
  }
  return [...hosts].map(hostText);
}

/** What the relay link needs to know of another member; undefined when its record names no address. */
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
