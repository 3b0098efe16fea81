// A path of packets that the kernel forwards, and the decision which paths it can forward. Pure.
import { isIP } from 'node:net';
import { AddressList } from '../../base/address-list.ts';
import { type Endpoint, formatEndpoint, isIpv6, isWildcard } from '../../base/endpoint.ts';

/** One direction of a stream. A packet `from` -> `at` leaves as `by` -> `to`. Addresses are canonical IP literals. */
export interface KernelPath {
  /** Source of the party, as it is latched. */
  readonly from: Endpoint;
  /** Local place that the party sends to. */
  readonly at: Endpoint;
  /** Local place that the packet leaves from. */
  readonly by: Endpoint;
  /** Place of the other party. */
  readonly to: Endpoint;
}

export const FAMILIES = [4, 6] as const;
export type Family = (typeof FAMILIES)[number];

/**
 * Reason why a path stays in user space.
 * - families: the four places are not of one IP family, or one is no IP literal
 * - loopback: the kernel forwards no packet from or to it (RFC 1122 3.2.1.3)
 * - link-local: packets from or to it pass no router (RFC 3927 7, RFC 4291 2.5.6); so do those with a zone
 * - wildcard: no address, or no port
 * - local: a party is on this host, and its packets pass no forwarding chain
 */
export type PathRefusal = 'families' | 'loopback' | 'link-local' | 'wildcard' | 'local';

export const LOOPBACK = new AddressList(['127.0.0.0/8', '::1/128']);
const LINK_LOCAL = new AddressList(['169.254.0.0/16', 'fe80::/10']);

/** Returns the reason against this path; undefined when the kernel can forward it. */
export function refusalOf(path: KernelPath, isLocal: (address: string) => boolean): PathRefusal | undefined {
  const places = [path.from, path.at, path.by, path.to];
  const family = isIP(path.from.address);
  if (family === 0 || places.some(({ address }) => isIP(address) !== family)) return 'families';
  if (places.some(({ address, port }) => port === 0 || isWildcard(address))) return 'wildcard';
  if (places.some(({ address }) => LOOPBACK.matches(address))) return 'loopback';
  if (places.some(({ address }) => address.includes('%') || LINK_LOCAL.matches(address))) return 'link-local';
  if (isLocal(path.from.address) || isLocal(path.to.address)) return 'local';
  return undefined;
}

export function familyOf(path: KernelPath): Family {
  return isIpv6(path.from.address) ? 6 : 4;
}

/** Identifies the path by its packets as they come. */
export function arrivalKey({ from, at }: KernelPath): string {
  return `${formatEndpoint(from)} ${formatEndpoint(at)}`;
}

/** Identifies the path by its packets once they have their new destination. */
export function departureKey({ from, to }: KernelPath): string {
  return `${formatEndpoint(from)} ${formatEndpoint(to)}`;
}
