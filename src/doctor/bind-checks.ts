// Checks the addresses that sipfarm binds: this host must hold each of them, in every mode.

import { type Endpoint, isIpv6, isWildcard } from '../base/endpoint.ts';
import type { Config } from '../config/schema.ts';
import { endpointsOf } from '../config/service-section.ts';
import { transparentPorts } from '../config/transparent-ports.ts';
import { vips } from './address-checks.ts';
import type { HostFacts } from './facts.ts';
import { type Finding, finding } from './finding.ts';

interface Bound {
  readonly what: string;
  readonly bind: Endpoint;
}

/**
 * Returns everything that is bound at the start, with its name in the configuration. Workers have the same addresses.
 */
export function boundBy(config: Config): readonly Bound[] {
  const { bind: inner } = endpointsOf(config.service);
  return [
    ...config.listeners.map(({ name, bind }) => ({ what: `listener ${name}`, bind })),
    ...transparentPorts(config).map(({ name, at: port }) => ({
      what: `transparent port of listener ${name}`,
      bind: port,
    })),
    { what: 'relay.bind', bind: config.relay.bind },
    ...(inner ? [{ what: 'service.bind', bind: inner }] : []),
    { what: 'admin.bind', bind: config.admin.bind },
  ];
}

/** Returns the bound addresses without duplicates and wildcards. */
export function boundAddresses(config: Config): readonly string[] {
  const addresses = new Set(boundBy(config).map(({ bind }) => bind.address));
  return [...addresses].filter((address) => !isWildcard(address));
}

/**
 * Reports bound addresses that this host does not hold. A VIP of DSR is left out: address-checks.ts has its own
 * finding.
 */
export function checkBinds(config: Config, facts: HostFacts): Finding[] {
  const others = new Set(vips(config));
  return boundAddresses(config).flatMap((address) => {
    const { refused, local } = facts.bound.get(address) ?? {};
    const names = boundBy(config).flatMap(({ what, bind }) => (bind.address === address ? [what] : []));
    if (others.has(address) || (refused === undefined && local !== false)) return [];
    const about = `${address} (${names.join(', ')})`;
    const correction = `# in ${facts.file}: write an address of this host (ip addr show), or put ${address} on this host`;
    const restart = 'systemctl restart sipfarm';
    if (refused === undefined) {
      const reason =
        `This host does not hold ${address}. It can be bound only because net.ipv4.ip_nonlocal_bind (or the same for ` +
        'IPv6) is 1. Nothing arrives until the address is here, as with a VIP that keepalived moves.';
      return [finding('DR_ADDRESS_MISSING', 'warning', about, reason, [correction, restart])];
    }
    const reason =
      `This host does not hold ${address}. Binding it fails with ${refused}, and the member ends with ` +
      'SF_BIND_FAILED. sipfarm does not set IP_FREEBIND.';
    const family = isIpv6(address) ? 'ipv6' : 'ipv4';
    const later = `# or, for an address that comes later (keepalived): sysctl -w net.${family}.ip_nonlocal_bind=1`;
    return [finding('DR_ADDRESS_MISSING', 'fault', about, reason, [correction, later, restart])];
  });
}
