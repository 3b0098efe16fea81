// Derives the configuration of each worker of a host from one file.

import type { Config } from './schema.ts';
import { endpointsOf, withPorts } from './service-section.ts';
import { transparentPorts } from './transparent-ports.ts';
import { workerEndpoint } from './worker-ports.ts';

/** Returns the member id of worker `index`. */
export function workerId(member: string, index: number): string {
  return `${member}.${index}`;
}

/** Returns the ids of the members that `config` runs: its workers, or itself. */
export function memberIds({ member, workers, worker }: Config): readonly string[] {
  if (workers === 1 || worker) return [member];
  return Array.from({ length: workers }, (_, index) => workerId(member, index));
}

/**
 * Returns the configuration of worker `index` (from 0) of the host of `config`. All workers have the same listeners.
 */
export function workerConfig(config: Config, index: number): Config {
  const { workers, relay, service } = config;
  const own = endpointsOf(service);
  const ownPorts = Array.from({ length: workers }, (_, one) => [
    ...[relay.bind, own.bind, own.advertise].flatMap((at) => (at ? [workerEndpoint(at, one)] : [])),
    ...transparentPorts(config, one).map(({ at: port }) => port),
  ]).flat();
  return {
    ...config,
    member: workerId(config.member, index),
    relay: { ...relay, bind: workerEndpoint(relay.bind, index) },
    service: withPorts(service, (at) => workerEndpoint(at, index)),
    worker: { index, ownPorts },
  };
}
