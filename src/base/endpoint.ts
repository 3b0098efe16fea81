// An IP address with a port, as text and as a value.
import net from 'node:net';

export interface Endpoint {
  /** IPv4 or IPv6 literal, without brackets. */
  readonly address: string;
  /** 0-65535; 0 asks the system for a free port when binding. */
  readonly port: number;
}

/** `198.51.100.1:5060` or `[2001:db8::1]:5060`; undefined for anything else. The port may be left out when `defaultPort` is given. */
export function parseEndpoint(text: string, defaultPort?: number): Endpoint | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text);
  const address = match?.[1] ?? match?.[2];
  if (!match || !address || (match[1] ? !net.isIPv6(address) : !net.isIPv4(address))) return undefined;
  const port = match[3] === undefined ? defaultPort : Number(match[3]);
  return port === undefined || port > 65535 ? undefined : { address, port };
}

/** The literal as it stands in a URI or Via: IPv6 in brackets. */
export function hostText(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}

/** The inverse of `parseEndpoint`. */
export function formatEndpoint(endpoint: Endpoint): string {
  return `${hostText(endpoint.address)}:${endpoint.port}`;
}

/** True for 0.0.0.0 and ::, which bind to every address of the host. */
export function isWildcard(address: string): boolean {
  return address === '0.0.0.0' || /^[0:]+$/.test(address);
}
