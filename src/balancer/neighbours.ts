// Reads the MAC addresses of the network segment from this host's neighbour table and interfaces.
import { spawnSync } from 'node:child_process';
import { isIP } from 'node:net';

const MAC = /^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/;

export const isMac = (text: string): boolean => MAC.test(text);

/** Parses the output of `ip -j neigh` and `ip -j addr`. Returns MAC address by IP address; ignores everything else. */
export function parseNeighbours(neigh: string, addr: string): Map<string, string> {
  const found = new Map<string, string>();
  const add = (address: unknown, mac: unknown): void => {
    if (typeof address === 'string' && isIP(address) !== 0 && typeof mac === 'string' && isMac(mac))
      found.set(address, mac);
  };
  for (const { dst, lladdr } of objects(neigh)) add(dst, lladdr);
  for (const { link_type: type, address, addr_info: addresses } of objects(addr)) {
    if (type !== 'ether' || !Array.isArray(addresses)) continue;
    for (const one of addresses) add((one as { readonly local?: unknown } | null)?.local, address);
  }
  return found;
}

function objects(text: string): readonly Readonly<Record<string, unknown>>[] {
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) ? value.filter((item) => typeof item === 'object' && item !== null) : [];
  } catch {
    return [];
  }
}

/** Runs `ip` of iproute2. Returns an empty map when it is not installed. */
export function askNeighbours(): Map<string, string> {
  const ask = (what: string): string => spawnSync('ip', ['-j', what], { encoding: 'utf8' }).stdout ?? '';
  return parseNeighbours(ask('neigh'), ask('addr'));
}
