// Computes the ports of the workers of a host: the configured ones belong to the first worker, each other has the next.

import { type Endpoint, formatEndpoint, isIpv6, isWildcard } from '../base/endpoint.ts';
import { endpointsOf, type ParsedService, type ServiceConfig } from './service-section.ts';

/** Settings that decide about ports. */
export interface Ports {
  readonly workers: number;
  readonly relay: { readonly bind: Endpoint };
  readonly service: ParsedService | ServiceConfig;
  readonly admin: { readonly bind: Endpoint };
  readonly listeners: readonly { readonly name: string; readonly transport: string; readonly bind: Endpoint }[];
}

/** Returns `at` for worker `index`. Port 0 stays: the system picks one for each. */
export function workerEndpoint(at: Endpoint, index: number): Endpoint {
  return at.port === 0 ? at : { address: at.address, port: at.port + index };
}

interface WorkerPort {
  readonly what: string;
  readonly at: Endpoint;
  readonly transports: readonly string[];
}

function meet(a: WorkerPort, b: WorkerPort): boolean {
  if (a.at.port === 0 || a.at.port !== b.at.port) return false;
  if (!a.transports.some((transport) => b.transports.includes(transport))) return false;
  if (a.at.address === b.at.address) return true;
  const sameFamily = isIpv6(a.at.address) === isIpv6(b.at.address);
  return sameFamily && (isWildcard(a.at.address) || isWildcard(b.at.address));
}

function series(name: string, bind: Endpoint, transports: readonly string[], workers: number): WorkerPort[] {
  return Array.from({ length: workers }, (_, index) => ({
    what: `${name} of worker ${index}`,
    at: workerEndpoint(bind, index),
    transports,
  }));
}

/** Returns the ports of several workers that do not exist or conflict with another port of the configuration. */
export function portFaults(config: Ports): { readonly field: string; readonly message: string }[] {
  const { workers, relay, admin, listeners } = config;
  const own = endpointsOf(config.service);
  const faults: { field: string; message: string }[] = [];
  const bases = [
    ['relay.bind', relay.bind],
    ['service.bind', own.bind],
    ['service.advertise', own.advertise],
  ] as const;
  for (const [field, base] of bases)
    if (base && base.port + workers - 1 > 65_535)
      faults.push({ field, message: `leaves no ports for ${workers} workers, which count up from it; lower it` });

  const links = series('relay.bind', relay.bind, ['udp', 'tcp'], workers);
  const services = own.bind ? series('service.bind', own.bind, ['udp'], workers) : [];
  const fixed: WorkerPort[] = [
    ...listeners.map(({ name, transport, bind }) => ({
      what: `listener ${name}`,
      at: bind,
      transports: [transport],
    })),
    { what: 'admin.bind', at: admin.bind, transports: ['tcp'] },
    ...(own.server
      ? [
          {
            what: 'service.server',
            at: { address: own.server.host, port: own.server.port },
            transports: ['udp'],
          },
        ]
      : []),
  ];
  const look = (field: string, ports: readonly WorkerPort[], others: readonly WorkerPort[]): void => {
    for (const ownPort of ports) {
      const other = others.find((one) => meet(ownPort, one));
      if (!other) continue;
      const message =
        `counts up to ${formatEndpoint(ownPort.at)} for ${ownPort.what.split(' of ')[1]}, which is also ` +
        `${other.what}; move one of them`;
      faults.push({ field, message });
      return;
    }
  };
  look('relay.bind', links, [...services, ...fixed]);
  look('service.bind', services, fixed);
  return faults;
}
