// Reads an IP literal as eight 16-bit groups, without allocating. Prefixes and address lists compare these.

/** Groups of an address. `192.0.2.1` and `::ffff:192.0.2.1` have the same groups. */
export const GROUPS = 8;

/** Returns true for an IPv4 address, or one mapped into IPv6 (RFC 4291 2.5.5.2). */
export function isMapped(groups: Uint16Array): boolean {
  return (
    groups[5] === 0xffff && groups[4] === 0 && groups[3] === 0 && groups[2] === 0 && groups[1] === 0 && groups[0] === 0
  );
}

/**
 * Reads the literal `text` into `out` (eight groups), IPv4 in its mapped form, without a zone (`%eth0`). Returns false
 * for anything that is no literal; the contents of `out` are then undefined.
 */
export function readGroups(text: string, out: Uint16Array): boolean {
  out.fill(0);
  if (text.indexOf(':') < 0) {
    out[5] = 0xffff;
    return readQuad(text, 0, text.length, out, 6);
  }
  const zone = text.indexOf('%');
  const end = zone < 0 ? text.length : zone;
  let at = 0;
  let gap = -1;
  let value = 0;
  let digits = 0;
  let begin = 0;
  if (text.startsWith('::')) {
    gap = 0;
    begin = 2;
  }
  for (let i = begin; i < end; i++) {
    const character = text.charCodeAt(i);
    if (character === 0x3a) {
      if (digits > 0) {
        if (at === GROUPS) return false;
        out[at++] = value;
        value = 0;
        digits = 0;
      } else {
        if (gap >= 0 || at === 0) return false;
        gap = at;
      }
      begin = i + 1;
    } else if (character === 0x2e) {
      if (at > 6 || !readQuad(text, begin, end, out, at)) return false;
      return close(out, at + 2, gap);
    } else {
      const digit = hexDigit(character);
      if (digit < 0 || digits === 4) return false;
      value = value * 16 + digit;
      digits++;
    }
  }
  if (digits > 0) {
    if (at === GROUPS) return false;
    out[at++] = value;
  } else if (gap !== at) return false;
  return close(out, at, gap);
}

/**
 * IPv6 networks with addresses that lead to an IPv4 host, and the offsets of its four octets:
 * - IPv4-compatible (RFC 4291 2.5.5.1)
 * - translated (RFC 2765 2.1)
 * - 6to4 (RFC 3056 2)
 * - NAT64 (RFC 6052 2.1)
 * - NAT64 of a site, with a prefix of 48, 56, 64 or 96 bits (RFC 8215 4, RFC 6052 2.2)
 */
const EMBEDDINGS: readonly (readonly [network: readonly number[], octets: readonly number[]])[] = [
  [
    [0, 0, 0, 0, 0, 0],
    [12, 13, 14, 15],
  ],
  [
    [0, 0, 0, 0, 0xffff, 0],
    [12, 13, 14, 15],
  ],
  [[0x2002], [2, 3, 4, 5]],
  [
    [0x64, 0xff9b, 0, 0, 0, 0],
    [12, 13, 14, 15],
  ],
  [
    [0x64, 0xff9b, 1],
    [6, 7, 9, 10],
  ],
  [
    [0x64, 0xff9b, 1],
    [7, 9, 10, 11],
  ],
  [
    [0x64, 0xff9b, 1],
    [9, 10, 11, 12],
  ],
  [
    [0x64, 0xff9b, 1],
    [12, 13, 14, 15],
  ],
];
const inside = new Uint16Array(GROUPS);
const NONE: readonly string[] = [];

/**
 * Returns the IPv4 addresses that the IPv6 literal `text` may lead to through a tunnel or a translator. A mapped
 * address gives none: it is IPv4 itself. 0.0.0.0/8 is left out: it leads nowhere, and `::1` and longer prefixes contain
 * it.
 */
export function ipv4Inside(text: string): readonly string[] {
  if (text.indexOf(':') < 0 || !readGroups(text, inside)) return NONE;
  let found = NONE;
  for (const [network, octets] of EMBEDDINGS) {
    if (!network.every((group, i) => inside[i] === group)) continue;
    const quad = octets.map((at) => (at & 1 ? inside[at >> 1]! & 0xff : inside[at >> 1]! >> 8));
    if (quad[0] !== 0) found = [...found, quad.join('.')];
  }
  return found;
}

/** Moves the groups after `::` to the end. */
function close(out: Uint16Array, at: number, gap: number): boolean {
  if (gap < 0) return at === GROUPS;
  if (at === GROUPS) return false;
  const tail = at - gap;
  out.copyWithin(GROUPS - tail, gap, at);
  out.fill(0, gap, GROUPS - tail);
  return true;
}

/** Reads the dotted quad `text[start..end)` into two groups. Returns false when it is none. */
function readQuad(text: string, start: number, end: number, out: Uint16Array, at: number): boolean {
  let octets = 0;
  let value = 0;
  let digits = 0;
  let high = 0;
  for (let i = start; i <= end; i++) {
    const character = i < end ? text.charCodeAt(i) : 0x2e;
    if (character === 0x2e) {
      if (digits === 0 || octets === 4) return false;
      if ((octets & 1) === 0) high = value << 8;
      else out[at + (octets >> 1)] = high | value;
      octets++;
      value = 0;
      digits = 0;
    } else {
      // A leading zero could mean octal: refused.
      if (character < 0x30 || character > 0x39 || (digits > 0 && value === 0)) return false;
      value = value * 10 + character - 0x30;
      digits++;
      if (value > 255) return false;
    }
  }
  return octets === 4;
}

function hexDigit(character: number): number {
  if (character >= 0x30 && character <= 0x39) return character - 0x30;
  const lower = character | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}
