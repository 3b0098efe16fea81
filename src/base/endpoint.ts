// Reads and writes an IP address with a port.
import net from 'node:net';

/** Default ports of a URI or a Via: for UDP and TCP, and for TLS (RFC 3261 18.2.2, 19.1.2). */
export const SIP_PORT = 5060;
export const TLS_PORT = 5061;

export interface Endpoint {
  /** IPv4 or IPv6 literal, without brackets. */
  readonly address: string;
  /** 0-65535. With 0 the system picks a free port at bind. */
  readonly port: number;
}

/** A host, an IPv6 literal in brackets, and an optional port. */
const HOST_PORT = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/;

/**
 * Reads `198.51.100.1:5060` or `[2001:db8::1]:5060`; undefined for anything else. The port is optional when
 * `defaultPort` is given.
 */
export function parseEndpoint(text: string, defaultPort?: number): Endpoint | undefined {
  const match = HOST_PORT.exec(text);
  const address = match?.[1] ?? match?.[2];
  if (!match || !address || (match[1] ? !net.isIPv6(address) : !net.isIPv4(address))) return undefined;
  const port = match[3] === undefined ? defaultPort : Number(match[3]);
  return port === undefined || port > 65535 ? undefined : { address, port };
}

/** A host as in a URI, with a port. */
export interface HostPort {
  /** A domain name in lower case, or an IP literal without brackets. */
  readonly host: string;
  /** 1-65535; 0 = none given. */
  readonly port: number;
}

/** Returns the address as a host. */
export function asHostPort({ address, port }: Endpoint): HostPort {
  return { host: address, port };
}

/**
 * RFC 3261 25.1 `hostname`: labels of letters, digits and inner hyphens; the last one begins with a letter. RFC 1035
 * 2.3.4: at most 253 octets.
 */
const DOMAIN = /^(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/**
 * Reads `sip.example.com`, `sip.example.com:5061`, `198.51.100.1:5060`, `[2001:db8::1]`; undefined for anything else.
 */
export function parseHostPort(text: string): HostPort | undefined {
  const [, bracketed, plain = '', digits] = HOST_PORT.exec(text.toLowerCase()) ?? [];
  const port = digits === undefined ? 0 : Number(digits);
  if (port > 65_535 || (digits !== undefined && port === 0)) return undefined;
  if (bracketed) return net.isIPv6(bracketed) && !bracketed.includes('%') ? { host: bracketed, port } : undefined;
  const host = plain.replace(/\.$/, '');
  return net.isIPv4(plain) || DOMAIN.test(host) ? { host, port } : undefined;
}

/** Returns true for an IPv6 literal, with or without a zone. `address` must be an IP literal or a host name. */
export function isIpv6(address: string): boolean {
  return address.includes(':');
}

/** Returns the literal as in a URI or Via: IPv6 in brackets. */
export function hostText(address: string): string {
  return isIpv6(address) ? `[${address}]` : address;
}

/** Returns the text of an endpoint, the inverse of `parseEndpoint`. */
export function formatEndpoint(endpoint: Endpoint): string {
  return `${hostText(endpoint.address)}:${endpoint.port}`;
}

/** Returns `sip.example.com:5061`, always with the port. */
export function formatPlace({ host, port }: HostPort): string {
  return `${hostText(host)}:${port}`;
}

/** Returns the text of a host, the inverse of `parseHostPort`: without a port where none was given. */
export function formatHostPort(place: HostPort): string {
  return place.port === 0 ? hostText(place.host) : formatPlace(place);
}

/** Returns true for 0.0.0.0 and ::, which bind to every address of the host. */
export function isWildcard(address: string): boolean {
  return address === '0.0.0.0' || /^[0:]+$/.test(address);
}
