// Addresses that are reachable only inside their own network.
import { AddressList } from './address-list.ts';

/** RFC 1918, RFC 6598, RFC 4193. */
const PRIVATE = new AddressList(['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7']);

/** Returns true for an IP literal of a private network. */
export function isPrivate(address: string): boolean {
  return PRIVATE.matches(address);
}

/** Returns whether `address` is private and `from` is not: it then cannot be reached from outside. */
export function isHidden(address: string, from: string): boolean {
  return isPrivate(address) && !isPrivate(from);
}
