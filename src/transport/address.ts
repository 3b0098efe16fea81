// Turns IP literals into values: index keys, sources for limits, STUN. Runs once per connection, not per packet.
import ipaddr from 'ipaddr.js';

/**
 * Returns the address without its zone, and the zone with its `%`. Systems add zones to link-local addresses (RFC 4007
 * 11).
 */
function splitZone(address: string): readonly [literal: string, zone: string] {
  const at = address.indexOf('%');
  return at < 0 ? [address, ''] : [address.slice(0, at), address.slice(at)];
}

/** Returns the 4 or 16 octets of an address. `address` must be an IP literal, as every socket reports it. */
export function addressOctets(address: string): number[] {
  return ipaddr.parse(splitZone(address)[0]).toByteArray();
}

/** Returns the one canonical text of an address (RFC 5952). `address` must be an IP literal. */
export function canonicalAddress(address: string): string {
  const [literal, zone] = splitZone(address);
  const parsed = ipaddr.parse(literal);
  return parsed instanceof ipaddr.IPv6 ? parsed.toRFC5952String() + zone : literal;
}

/** Returns the source that limits are counted by: the IPv4 address, or the /64 of an IPv6 client. */
export function sourceOf(address: string): string {
  const parsed = ipaddr.parse(splitZone(address)[0]);
  return parsed instanceof ipaddr.IPv6 ? parsed.parts.slice(0, 4).join(':') : address;
}
