// Plans the media rules of a balancer from the claims of media ports, and writes them as comments for the kinds that
// map no ranges of ports. nftables.ts writes the rules themselves.

import { isIpv6 } from '../base/endpoint.ts';
import { type PortClaim, rangeText } from '../media/port-claims.ts';

/** Media ports of one host. */
export interface PlannedMedia {
  /** Name of the host: workers have one. */
  readonly id: string;
  readonly plan: PortClaim['plan'];
  /** Address that clients send to, and address of the sockets. They are one where the host has the public address. */
  readonly outer: string;
  readonly local: string;
  readonly first: number;
  readonly last: number;
  /** MAC address of the host; null: not known. Only direct server return needs it. */
  readonly mac: string | null;
}

/**
 * Returns the media ports of each host with an address of the family of `vip`. Parts of workers become one range. Hosts
 * without new calls are included, because their calls still run.
 */
export function mediaOf(
  claims: readonly PortClaim[],
  vip: string,
  macOf: (host: string, local: string) => string | null,
): PlannedMedia[] {
  const family = claims.filter(({ advertised }) => isIpv6(advertised) === isIpv6(vip));
  const hosts = Map.groupBy(family, ({ host, plan, advertised, bind }) => `${host} ${plan} ${advertised} ${bind}`);
  return [...hosts.values()]
    .map((own) => {
      const { host, plan, advertised, bind } = own[0]!;
      const range = {
        first: Math.min(...own.map(({ first }) => first)),
        last: Math.max(...own.map(({ last }) => last)),
      };
      return { id: host, plan, outer: advertised, local: bind, ...range, mac: macOf(host, bind) };
    })
    .sort((a, b) => a.id.localeCompare(b.id, 'en', { numeric: true }));
}

/**
 * Returns warnings of media that would be lost: at ports that are also ports of SIP at the VIP, and at a shared address
 * that a rewriting balancer cannot lead to several hosts.
 */
export function mediaWarnings(
  media: readonly PlannedMedia[],
  { vip, udpPorts, directReturn }: { vip: string; udpPorts: readonly number[]; directReturn: boolean },
): string[] {
  const overSip = media.flatMap((one) =>
    udpPorts
      .filter((port) => one.outer === vip && port >= one.first && port <= one.last)
      .map((port) => `the media ports ${rangeText(one)} of ${one.id} contain port ${port} of the VIP: move them`),
  );
  const unreached = media
    .filter((one) => !directReturn && one.plan === 'single-ip' && !isMapped(one))
    .map(
      ({ id, outer }) =>
        `media.bind of ${id} is ${outer}, the address of the whole farm: only direct server return reaches it; bind to an own address`,
    );
  return [...overSip, ...unreached];
}

/** Returns true when the public address is not on the host: a device in front rewrites both directions. */
export function isMapped({ outer, local }: PlannedMedia): boolean {
  return outer !== local;
}

/** Returns the media rules of the plan as comments; empty without media. `mark` begins each line. */
export function mediaNote(media: readonly PlannedMedia[], mark: string): string {
  if (media.length === 0) return '';
  const lines = media.map((one) => {
    const place = `${one.id}: UDP ${one.outer}, ports ${rangeText(one)}`;
    return isMapped(one)
      ? `${place} -> ${one.local}, same ports; outward the source ${one.local} -> ${one.outer}, same ports.`
      : `${place}: an address of its own; packets pass unchanged.`;
  });
  const remedy = media.some(isMapped)
    ? [
        'Media: this kind maps no ranges of UDP ports to members. Map them on the router in front, or by the media rules of',
      ].concat('`sipfarm balancer render nftables-nat` there (docs/media.md of sipfarm):')
    : ['Media goes to the members themselves (docs/media.md of sipfarm):'];
  return [...remedy, ...lines].map((line) => `${mark} ${line}\n`).join('');
}
