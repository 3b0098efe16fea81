// Parsers of arguments and options of the command line.
import { SocketAddress } from 'node:net';
import { InvalidArgumentError } from 'commander';
import { type Endpoint, isIpv6, parseEndpoint } from '../base/endpoint.ts';

export function integer(lowest: number, highest: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d{1,9}$/.test(text) && value >= lowest && value <= highest) return value;
    throw new InvalidArgumentError(`it must be a whole number from ${lowest} to ${highest}`);
  };
}

export function vipAddress(text: string): Endpoint {
  const vip = parseEndpoint(text, 5060);
  if (!vip || vip.port === 0) throw new InvalidArgumentError('it must be an IP address, with a port or without');
  // Uses the notation of sockets: one IPv6 address has many texts.
  const family = isIpv6(vip.address) ? 'ipv6' : 'ipv4';
  return { address: new SocketAddress({ address: vip.address, family }).address, port: vip.port };
}

export function etcdUrl(text: string): string {
  if (/^https?:\/\/[^\s@]+$/.test(text) && URL.canParse(text)) return text;
  throw new InvalidArgumentError('it must be a URL like http://127.0.0.1:2379');
}
