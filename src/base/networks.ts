// A list of networks in CIDR notation (RFC 4632, RFC 4291 2.3), asked per packet: does this address belong to it?
import { BlockList, isIPv4, isIPv6 } from 'node:net';

interface Network4 {
  readonly base: number;
  readonly mask: number;
}

/** `10.0.0.0/8`, `2001:db8::/32`, a bare address, each also with `!` in front. Bits behind the prefix are ignored. */
export function isNetwork(text: string): boolean {
  return parse(text) !== undefined;
}

function parse(text: string): { exclude: boolean; address: string; prefix: number; v4: boolean } | undefined {
  const match = /^(!?)([0-9a-fA-F:.]+)(?:\/(\d{1,3}))?$/.exec(text);
  const address = match?.[2] ?? '';
  const v4 = isIPv4(address);
  if (!match || (!v4 && !isIPv6(address))) return undefined;
  const prefix = match[3] === undefined ? (v4 ? 32 : 128) : Number(match[3]);
  return prefix > (v4 ? 32 : 128) ? undefined : { exclude: match[1] === '!', address, prefix, v4 };
}

function octets4(address: string): number {
  let value = 0;
  let octet = 0;
  for (let i = 0; i < address.length; i++) {
    const character = address.charCodeAt(i);
    if (character === 46) {
      value = (value << 8) | octet;
      octet = 0;
    } else octet = octet * 10 + character - 48;
  }
  return (value << 8) | octet;
}

function inside(list: readonly Network4[], address: number): boolean {
  for (let i = 0; i < list.length; i++) if ((address & list[i]!.mask) === list[i]!.base) return true;
  return false;
}

/** Networks and exclusions. An address belongs when a network holds it and no exclusion does, whatever their order. */
export class Networks {
  readonly #in4: Network4[] = [];
  readonly #out4: Network4[] = [];
  readonly #in6 = new BlockList();
  readonly #out6 = new BlockList();

  /** Throws RangeError for a text that `isNetwork` refuses. */
  constructor(texts: readonly string[]) {
    for (const text of texts) {
      const network = parse(text);
      if (!network) throw new RangeError(`not a network: ${text}`);
      const { exclude, address, prefix, v4 } = network;
      if (!v4) {
        (exclude ? this.#out6 : this.#in6).addSubnet(address, prefix, 'ipv6');
        continue;
      }
      const mask = prefix === 0 ? 0 : -1 << (32 - prefix);
      (exclude ? this.#out4 : this.#in4).push({ base: octets4(address) & mask, mask });
    }
  }

  /** `address`: an IP literal as a socket reports it. Allocates nothing for IPv4. */
  contains(address: string): boolean {
    if (address.includes(':')) return this.#in6.check(address, 'ipv6') && !this.#out6.check(address, 'ipv6');
    if (this.#in4.length === 0) return false;
    const value = octets4(address);
    return inside(this.#in4, value) && !inside(this.#out4, value);
  }
}
