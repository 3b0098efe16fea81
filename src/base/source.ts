// Which addresses count as one source. A client may use every address of its network, so limits count networks.
import { GROUPS, isMapped, readGroups } from './address.ts';

/** Bits of the network of one source. */
interface Widths {
  readonly ipv4: number;
  readonly ipv6: number;
}

/** The address of an unverified source may be forged, so its network counts. More bits would not fit into a number. */
const UNVERIFIED: Widths = { ipv4: 24, ipv6: 56 };
/** A connection proves its source: one IPv4 address, or one IPv6 link (RFC 4291 2.5.1). */
const CONNECTED: Widths = { ipv4: 32, ipv6: 64 };
/** Above every /24. */
const NO_ADDRESS = 2 ** 24;

const groups = new Uint16Array(GROUPS);

/**
 * Reads the network of the literal `address` into `groups`, with zeros after its width. IPv4-mapped addresses count as
 * IPv4. Returns false when `address` is no IP literal.
 */
function readNetwork(address: string, { ipv4, ipv6 }: Widths): boolean {
  if (!readGroups(address, groups)) return false;
  const bits = isMapped(groups) ? 96 + ipv4 : ipv6;
  for (let i = bits >>> 4; i < GROUPS; i++) groups[i]! &= 0xffff0000 >> Math.max(0, bits - 16 * i);
  return true;
}

/**
 * Returns the network that an unverified source is counted under, as a number: /24 of IPv4, /56 of IPv6. Allocates
 * nothing. Texts that are no IP literal share one number. Outside 2000::/3 two IPv6 networks may share a number,
 * because 53 bits must suffice.
 */
export function sourcePrefix(address: string): number {
  if (!readNetwork(address, UNVERIFIED)) return NO_ADDRESS;
  if (isMapped(groups)) return groups[6]! * 256 + (groups[7]! >>> 8);
  const high = (groups[0]! << 8) | (groups[1]! >>> 8);
  const low = (((groups[1]! & 0xff) << 24) | (groups[2]! << 8) | (groups[3]! >>> 8)) >>> 0;
  // Folds 56 bits into 53: the first three bits are 001 in every routed address (RFC 4291 2.4). Negative, unlike IPv4.
  return -1 - (((high & 0x1fffff) ^ (high >>> 21)) * 4294967296 + low);
}

/**
 * Returns the network that a connection is counted under, as text: the IPv4 address, or the /64 of an IPv6 client.
 * Texts that are no IP literal share one source.
 */
export function sourceOf(address: string): string {
  return readNetwork(address, CONNECTED) ? groups.join(':') : '';
}
