// Converts IP literals to their 4 or 16 octets, and back: tokens, relay frames and PROXY headers carry these octets.
// Texts are cached, because the same few parties send most packets. Each cache place holds the last address that hashed
// to it. A flood of other addresses therefore costs time, never memory.
import { isIpv6 } from './endpoint.ts';
import { read32, write32 } from './network-order.ts';

const REMEMBERED = 4096;
const texts4 = new Array<string>(REMEMBERED).fill('0.0.0.0');
const words4 = new Uint32Array(REMEMBERED);
const texts6 = new Array<string>(REMEMBERED).fill('::');
const words6 = new Uint32Array(REMEMBERED * 4);

function placeOf(word: number): number {
  return Math.imul(word, 0x9e3779b1) >>> 20;
}

/**
 * Writes the address's 4 or 16 octets at `at` and returns their number. `address` is an IP literal as sockets report
 * it; '' is written as 0.0.0.0.
 */
export function writeAddress(address: string, to: Uint8Array, at: number): number {
  if (!isIpv6(address)) {
    let octet = 0;
    let out = at;
    write32(0, to, at);
    for (let i = 0; i < address.length; i++) {
      const character = address.charCodeAt(i);
      if (character === 46) {
        to[out++] = octet;
        octet = 0;
      } else octet = octet * 10 + character - 48;
    }
    to[out] = octet;
    return 4;
  }
  const zone = address.indexOf('%');
  const [head = '', tail] = (zone < 0 ? address : address.slice(0, zone)).split('::');
  to.fill(0, at, at + 16);
  const left = writeGroups(head, to, at);
  if (tail !== undefined) {
    const room = new Uint8Array(16);
    const right = writeGroups(tail, room, 0);
    to.set(room.subarray(0, right), at + 16 - right);
  } else if (left !== 16) to.fill(0, at, at + 16);
  return 16;
}

function writeGroups(groups: string, to: Uint8Array, at: number): number {
  if (groups === '') return 0;
  let out = at;
  for (const group of groups.split(':')) {
    if (group.includes('.')) out += writeAddress(group, to, out);
    else {
      const number = Number.parseInt(group, 16);
      to[out++] = number >>> 8;
      to[out++] = number;
    }
  }
  return out - at;
}

/**
 * Returns the text of 4 or 16 octets, the inverse of `writeAddress`. IPv6 has the form of RFC 5952; IPv4-mapped
 * addresses become plain IPv4.
 */
export function readAddress(from: Uint8Array, at: number, octets: number): string {
  return octets === 4 ? read4(from, at) : read6(from, at);
}

function read4(from: Uint8Array, at: number): string {
  const word = read32(from, at);
  const place = placeOf(word);
  if (words4[place] !== word) {
    words4[place] = word;
    texts4[place] = `${from[at]}.${from[at + 1]}.${from[at + 2]}.${from[at + 3]}`;
  }
  return texts4[place]!;
}

function read6(from: Uint8Array, at: number): string {
  let hash = 0;
  for (let i = 0; i < 16; i += 4) hash = Math.imul(hash ^ read32(from, at + i), 0x85ebca6b);
  const place = placeOf(hash);
  let known = true;
  for (let i = 0; i < 4; i++) {
    const word = read32(from, at + 4 * i);
    if (words6[4 * place + i] === word) continue;
    words6[4 * place + i] = word;
    known = false;
  }
  if (!known) texts6[place] = text6(from, at);
  return texts6[place]!;
}

function text6(from: Uint8Array, at: number): string {
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push((from[at + i]! << 8) | from[at + i + 1]!);
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) return read4(from, at + 12);
  let best = -1;
  let bestLength = 1;
  for (let i = 0; i < 8; i++) {
    let run = 0;
    while (i + run < 8 && groups[i + run] === 0) run++;
    if (run > bestLength) {
      best = i;
      bestLength = run;
    }
  }
  const hex = groups.map((group) => group.toString(16));
  return best < 0 ? hex.join(':') : `${hex.slice(0, best).join(':')}::${hex.slice(best + bestLength).join(':')}`;
}

/** Returns the 4 or 16 octets of an IP literal, without its zone. `address` must be as sockets report it. */
export function addressOctets(address: string): Uint8Array<ArrayBuffer> {
  const octets = new Uint8Array(isIpv6(address) ? 16 : 4);
  writeAddress(address, octets, 0);
  return octets;
}

/**
 * Returns the one canonical text of an IP literal (RFC 5952), with its zone (RFC 4007 11). IPv4-mapped addresses become
 * plain IPv4.
 */
export function canonicalAddress(address: string): string {
  const octets = addressOctets(address);
  const zone = address.indexOf('%');
  return readAddress(octets, 0, octets.length) + (zone < 0 ? '' : address.slice(zone));
}
