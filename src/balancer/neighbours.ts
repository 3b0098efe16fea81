// MAC addresses of the segment, as this host knows them: its neighbour table, and its own interfaces.
import { spawnSync } from 'node:child_process';
import { isIP } from 'node:net';

const MAC = /^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/;

export const isMac = (text: string): boolean => MAC.test(text);

/** What `ip -j neigh` and `ip -j addr` said, as MAC address by IP address; anything else in it is left out. */
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

/** Asks `ip` of iproute2; empty where it is not. */
export function askNeighbours(): Map<string, string> {
  const ask = (what: string): string => spawnSync('ip', ['-j', what], { encoding: 'utf8' }).stdout ?? '';
  return parseNeighbours(ask('neigh'), ask('addr'));
}
