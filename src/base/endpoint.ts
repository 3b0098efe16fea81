// An IP address with a port, as text and as a value.
import net from 'node:net';

/** Ports that a URI or a Via means without one: of UDP and TCP, and of TLS (RFC 3261 18.2.2, 19.1.2). */
export const SIP_PORT = 5060;
export const TLS_PORT = 5061;

export interface Endpoint {
  /** IPv4 or IPv6 literal, without brackets. */
  readonly address: string;
  /** 0-65535; 0 asks the system for a free port when binding. */
  readonly port: number;
}

/** A host, an IPv6 literal in brackets, and a port or none. */
const HOST_PORT = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/;

/** `198.51.100.1:5060` or `[2001:db8::1]:5060`; undefined for anything else. The port may be left out when `defaultPort` is given. */
export function parseEndpoint(text: string, defaultPort?: number): Endpoint | undefined {
  const match = HOST_PORT.exec(text);
  const address = match?.[1] ?? match?.[2];
  if (!match || !address || (match[1] ? !net.isIPv6(address) : !net.isIPv4(address))) return undefined;
  const port = match[3] === undefined ? defaultPort : Number(match[3]);
  return port === undefined || port > 65535 ? undefined : { address, port };
}

/** A host as a URI names it, with a port. */
export interface HostPort {
  /** A domain name in lower case, or an IP literal without brackets. */
  readonly host: string;
  /** 1-65535; 0 = none given. */
  readonly port: number;
}

/** An address is a host, too. */
export function asHostPort({ address, port }: Endpoint): HostPort {
  return { host: address, port };
}

/** RFC 3261 25.1 `hostname`: labels of letters, digits and inner hyphens, the last begins with a letter. RFC 1035 2.3.4: at most 253 octets. */
const DOMAIN = /^(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/** `sip.example.com`, `sip.example.com:5061`, `198.51.100.1:5060`, `[2001:db8::1]`; undefined for anything else. */
export function parseHostPort(text: string): HostPort | undefined {
  const [, bracketed, plain = '', digits] = HOST_PORT.exec(text.toLowerCase()) ?? [];
  const port = digits === undefined ? 0 : Number(digits);
  if (port > 65_535 || (digits !== undefined && port === 0)) return undefined;
  if (bracketed) return net.isIPv6(bracketed) && !bracketed.includes('%') ? { host: bracketed, port } : undefined;
  const host = plain.replace(/\.$/, '');
  return net.isIPv4(plain) || DOMAIN.test(host) ? { host, port } : undefined;
}

/** The literal as it stands in a URI or Via: IPv6 in brackets. */
export function hostText(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}

/** The inverse of `parseEndpoint`. */
export function formatEndpoint(endpoint: Endpoint): string {
  return `${hostText(endpoint.address)}:${endpoint.port}`;
}

/** `sip.example.com:5061`, whatever the port. */
export function formatPlace({ host, port }: HostPort): string {
  return `${hostText(host)}:${port}`;
}

/** The inverse of `parseHostPort`: without a port where none was given. */
export function formatHostPort(place: HostPort): string {
  return place.port === 0 ? hostText(place.host) : formatPlace(place);
}

/** True for 0.0.0.0 and ::, which bind to every address of the host. */
export function isWildcard(address: string): boolean {
  return address === '0.0.0.0' || /^[0:]+$/.test(address);
}
