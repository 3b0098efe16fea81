// IP literals as values: for index keys, limits per source, STUN. Cold: once per connection, not per packet.
import ipaddr from 'ipaddr.js';

/** The address without the zone that a system adds to link-local ones (RFC 4007 section 11), and the zone with its `%`. */
function splitZone(address: string): readonly [literal: string, zone: string] {
  const at = address.indexOf('%');
  return at < 0 ? [address, ''] : [address.slice(0, at), address.slice(at)];
}

/** 4 or 16 octets. `address` must be an IP literal, as every socket reports it. */
export function addressOctets(address: string): number[] {
  return ipaddr.parse(splitZone(address)[0]).toByteArray();
}

/** One text for one address (RFC 5952). `address` must be an IP literal. */
export function canonicalAddress(address: string): string {
  const [literal, zone] = splitZone(address);
  const parsed = ipaddr.parse(literal);
  return parsed instanceof ipaddr.IPv6 ? parsed.toRFC5952String() + zone : literal;
}

/** What limits per source count by: the IPv4 address, or the /64 that an IPv6 client owns. */
export function sourceOf(address: string): string {
  const parsed = ipaddr.parse(splitZone(address)[0]);
  return parsed instanceof ipaddr.IPv6 ? parsed.parts.slice(0, 4).join(':') : address;
}
