// Converts socket addresses of the kernel to and from text. Both directions cache: the same few parties send most
// packets.

import { GROUPS, readGroups } from '../base/address.ts';
import { addressOctets, readAddress } from '../base/address-octets.ts';
import { isIpv6 } from '../base/endpoint.ts';
import { ADDRESS4, ADDRESS6, C } from './layout.ts';
import type { Zones } from './zones.ts';

/** Sources and destinations cached; above this number new ones replace others. */
const REMEMBERED = 4096;
const SHIFT = 32 - 12;
/** Words of one entry: an IPv6 address and its scope. */
const KEY_WORDS = 5;

/**
 * Converts the sources of datagrams to text. Each cache place holds the last address that hashed to it, so a flood of
 * sources costs time, never memory.
 */
export class SourceNames {
  readonly #ipv6: boolean;
  readonly #keys = new Uint32Array(REMEMBERED * KEY_WORDS);
  readonly #texts: string[];
  readonly #zones: Pick<Zones, 'nameOf'>;

  constructor(ipv6: boolean, zones: Pick<Zones, 'nameOf'>) {
    this.#ipv6 = ipv6;
    this.#zones = zones;
    this.#texts = new Array<string>(REMEMBERED).fill('');
  }

  /** Returns the address of the sockaddr that begins at word `at`, in the form of Node.js sockets. */
  text(words: Uint32Array, at: number): string {
    return this.#ipv6 ? this.#text6(words, at) : this.#text4(words, at);
  }

  #text4(words: Uint32Array, at: number): string {
    const address = words[at + ADDRESS4.address / 4]!;
    const place = Math.imul(address, 0x9e3779b1) >>> SHIFT;
    const known = this.#texts[place]!;
    if (this.#keys[place * KEY_WORDS] === address && known !== '') return known;
    this.#keys[place * KEY_WORDS] = address;
    const text = `${address & 255}.${(address >>> 8) & 255}.${(address >>> 16) & 255}.${address >>> 24}`;
    this.#texts[place] = text;
    return text;
  }

  #text6(words: Uint32Array, at: number): string {
    const first = at + ADDRESS6.address / 4;
    let hash = 0;
    for (let i = 0; i < KEY_WORDS; i++) hash = Math.imul(hash ^ words[first + i]!, 0x9e3779b1);
    const place = hash >>> SHIFT;
    const known = this.#texts[place]!;
    if (known !== '') {
      let same = true;
      for (let i = 0; i < KEY_WORDS; i++) same &&= this.#keys[place * KEY_WORDS + i] === words[first + i];
      if (same) return known;
    }
    const octets = new Uint8Array(words.buffer, words.byteOffset + first * 4, 16);
    const scope = words[first + 4]!;
    const linkLocal = octets[0] === 0xfe && (octets[1]! & 0xc0) === 0x80;
    const text = readAddress(octets, 0, 16);
    // Not cached: interfaces may be renamed.
    if (linkLocal && scope > 0) return `${text}%${this.#zones.nameOf(scope)}`;
    for (let i = 0; i < KEY_WORDS; i++) this.#keys[place * KEY_WORDS + i] = words[first + i]!;
    this.#texts[place] = text;
    return text;
  }
}

/** Destination of a datagram: the words of its sockaddr without the first, which holds family and port. */
export type Destination = Uint32Array;

/** Converts destinations to socket addresses. */
export class Destinations {
  readonly #ipv6: boolean;
  readonly #zones: Pick<Zones, 'indexOf'>;
  readonly #known = new Map<string, Destination>();

  constructor(ipv6: boolean, zones: Pick<Zones, 'indexOf'>) {
    this.#ipv6 = ipv6;
    this.#zones = zones;
  }

  /** Returns the destination; undefined for anything but a literal of the family. */
  find(address: string): Destination | undefined {
    const known = this.#known.get(address);
    if (known) return known;
    const destination = this.#read(address);
    // Not cached: an interface that disappears and returns has another index.
    if (!destination || address.includes('%')) return destination;
    // Rare and cheap: active destinations return with their next packet.
    if (this.#known.size >= REMEMBERED) this.#known.clear();
    this.#known.set(address, destination);
    return destination;
  }

  #read(address: string): Destination | undefined {
    const groups = new Uint16Array(GROUPS);
    if (isIpv6(address) !== this.#ipv6 || !readGroups(address, groups)) return undefined;
    const octets = Buffer.from(addressOctets(address).buffer);
    if (!this.#ipv6) return Uint32Array.of(octets.readUInt32LE(0));
    const zone = address.indexOf('%');
    const scope = zone < 0 ? 0 : this.#scope(address.slice(zone + 1));
    if (scope < 0) return undefined;
    return Uint32Array.of(0, ...[0, 4, 8, 12].map((at) => octets.readUInt32LE(at)), scope);
  }

  #scope(zone: string): number {
    if (/^\d{1,9}$/.test(zone)) return Number(zone);
    return this.#zones.indexOf(zone) || -1;
  }
}

/** Returns the first word of a sockaddr: family in host byte order, port in network byte order. */
export function familyAndPort(ipv6: boolean, port: number): number {
  return ((ipv6 ? C.AF_INET6 : C.AF_INET) | ((port >>> 8) << 16) | ((port & 255) << 24)) >>> 0;
}

/** Returns the port, the inverse of `familyAndPort`. */
export function portOf(word: number): number {
  return ((word >>> 16) & 255) * 256 + (word >>> 24);
}

/** Returns the octets of a sockaddr. */
export function sockaddrOctets(ipv6: boolean): number {
  return ipv6 ? ADDRESS6.octets : ADDRESS4.octets;
}
