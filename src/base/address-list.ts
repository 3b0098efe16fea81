// Matches addresses against a list of networks: "192.0.2.0/24", "2001:db8::1", and "!192.0.2.7" for an exclusion.

import { GROUPS, isMapped, readGroups } from './address.ts';
import { isIpv6 } from './endpoint.ts';
import { SipfarmError } from './errors.ts';

interface Prefix {
  readonly groups: Uint16Array;
  readonly masks: Uint16Array;
  readonly mapped: boolean;
}

const scratch = new Uint16Array(GROUPS);

function parseNetwork(text: string): Prefix | undefined {
  const match = /^!?([0-9a-fA-F:.]+)(?:\/(\d{1,3}))?$/.exec(text.trim());
  const groups = new Uint16Array(GROUPS);
  if (!match || !readGroups(match[1]!, groups)) return undefined;
  const width = isIpv6(match[1]!) ? 128 : 32;
  const length = match[2] === undefined ? width : Number(match[2]);
  if (length > width) return undefined;
  const bits = length + 128 - width;
  const masks = new Uint16Array(GROUPS);
  for (let i = 0; i < GROUPS; i++) {
    const inGroup = Math.min(Math.max(bits - 16 * i, 0), 16);
    masks[i] = 0xffff << (16 - inGroup);
    groups[i]! &= masks[i]!;
  }
  return { groups, masks, mapped: bits >= 96 && isMapped(groups) };
}

/** Returns true when `text` is an address or a network in CIDR notation, with an optional `!` in front. */
export function isNetworkText(text: string): boolean {
  return parseNetwork(text) !== undefined;
}

/**
 * Matches addresses that are in one of its networks and in none of those with `!`. IPv4 networks match IPv4-mapped
 * addresses too.
 */
export class AddressList {
  readonly #included: readonly Prefix[];
  readonly #excluded: readonly Prefix[];

  /** Throws SF_CONFIG_INVALID for an entry that is no network. */
  constructor(entries: readonly string[]) {
    const included: Prefix[] = [];
    const excluded: Prefix[] = [];
    for (const entry of entries) {
      const network = parseNetwork(entry);
      if (!network)
        throw new SipfarmError('SF_CONFIG_INVALID', `"${entry}" is not an address or a network such as 192.0.2.0/24`);
      (entry.trim().startsWith('!') ? excluded : included).push(network);
    }
    this.#included = included;
    this.#excluded = excluded;
  }

  /**
   * Returns true when `address` matches; false for anything but an IP literal. Cheap enough for each packet: reads the
   * literal and compares numbers.
   */
  matches(address: string): boolean {
    if (this.#included.length === 0 || !readGroups(address, scratch)) return false;
    const mapped = isMapped(scratch);
    return holds(this.#included, mapped) && !holds(this.#excluded, mapped);
  }
}

/** Returns true when one of `networks` holds the address in `scratch`. */
function holds(networks: readonly Prefix[], mapped: boolean): boolean {
  for (let n = 0; n < networks.length; n++) {
    const network = networks[n]!;
    if (network.mapped !== mapped) continue;
    let i = 0;
    while (i < GROUPS && (scratch[i]! & network.masks[i]!) === network.groups[i]) i++;
    if (i === GROUPS) return true;
  }
  return false;
}
