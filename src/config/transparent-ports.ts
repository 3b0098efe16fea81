// Decides which listeners have a transparent port (relay.mode transparent), at which address, and which conflicts it
// has.

import { isIP } from 'node:net';
import { type Endpoint, formatEndpoint, isWildcard } from '../base/endpoint.ts';
import { isReliable, type ListenerKind } from '../packet/transport-kind.ts';
import { endpointsOf, type ParsedService, type ServiceConfig } from './service-section.ts';
import { workerEndpoint } from './worker-ports.ts';

interface TransparentCandidate {
  readonly name: string;
  readonly transport: ListenerKind;
  readonly bind: Endpoint;
  readonly proxyProtocol: string;
  readonly answer?: 'direct' | 'ingress' | undefined;
}

/** Settings that decide about transparent ports. */
export interface TransparentSettings {
  readonly role: string;
  readonly workers: number;
  readonly worker?: { readonly index: number };
  readonly relay: { readonly mode: string; readonly bind: Endpoint };
  readonly balancer: { readonly mode: string };
  readonly listeners: readonly TransparentCandidate[];
}

/**
 * Returns true when the owner of a packet relayed from this listener answers itself. The listener's own setting
 * decides. Without one it is true for dsr, except for UDP with proxyProtocol.
 */
export function answersDirect({ transport, proxyProtocol, answer }: TransparentCandidate, mode: string): boolean {
  if (answer) return answer === 'direct';
  return mode === 'dsr' && !(!isReliable(transport) && proxyProtocol !== 'off');
}

/** A port that receives packets of a listener with the client's own source (relay.mode transparent). */
export interface TransparentPort {
  readonly name: string;
  /** Index among the listeners. */
  readonly listener: number;
  /** Address that other members send to. */
  readonly at: Endpoint;
}

/**
 * Returns the transparent ports of this member, or of worker `index` of this host. Each UDP listener has one if it
 * answers directly and has the address family of relay.bind. The ports follow those of the workers' relay links. Nodes
 * outside the farm have none: their clients use another address, and only frames carry the address a packet came to.
 */
export function transparentPorts(config: TransparentSettings, index = config.worker?.index ?? 0): TransparentPort[] {
  const { role, workers, worker, relay: link, listeners, balancer } = config;
  if (link.mode !== 'transparent' || role === 'disabled' || role === 'relay') return [];
  const { address, port } = link.bind;
  const first = port - (worker?.index ?? 0) + workers + index * listeners.length;
  return [...listeners.entries()]
    .filter(([, entry]) => !isReliable(entry.transport) && isIP(entry.bind.address) === isIP(address))
    .filter(([, entry]) => answersDirect(entry, balancer.mode))
    .map(([listener, { name }]) => ({
      name,
      listener,
      at: { address, port: port === 0 ? 0 : first + listener },
    }));
}

/**
 * Returns the first transparent port that does not exist or conflicts with another port of the configuration, as a
 * message.
 */
export function transparentPortFaults(
  config: TransparentSettings & { readonly service: ParsedService | ServiceConfig },
): string[] {
  const { workers, listeners } = config;
  const { bind: inner } = endpointsOf(config.service);
  const taken = [
    ...listeners.flatMap(({ name, transport, bind }) =>
      !isReliable(transport) ? [{ what: `listener ${name} binds`, at: bind }] : [],
    ),
    ...Array.from({ length: inner ? workers : 0 }, (_, index) => ({
      what: 'is service.bind',
      at: workerEndpoint(inner!, index),
    })),
  ];
  const ports = Array.from({ length: workers }, (_, index) => transparentPorts(config, index)).flat();
  for (const { name, at: port } of ports) {
    const opened = `(relay.mode transparent) opens ${formatEndpoint(port)} for listener ${name}`;
    if (port.port > 65_535) return [`${opened}, and there is no such port; lower the port`];
    const other = taken.find(
      ({ at }) => at.port === port.port && (at.address === port.address || isWildcard(at.address)),
    );
    if (other && port.port !== 0) return [`${opened}, which ${other.what}; move one of the two`];
  }
  return [];
}
