// Base 32 with the digits 0-9 a-v (RFC 4648 7, no padding). It survives elements that change the case of a URI or
// branch.

const DIGITS = Buffer.from('0123456789abcdefghijklmnopqrstuv');
/** Digit value per octet, both cases; 255 = not a digit. */
const VALUES = new Uint8Array(256).fill(255);
for (let value = 0; value < 32; value++) {
  const digit = DIGITS[value]!;
  VALUES[digit] = value;
  VALUES[String.fromCharCode(digit).toUpperCase().charCodeAt(0)] = value;
}

/** Returns the number of characters for `octets` octets. */
export function base32Length(octets: number): number {
  return Math.ceil((octets * 8) / 5);
}

/** Writes `octets` octets of `from` as digits into `to` at `at`. Returns the offset after the last digit. */
export function base32Encode(from: Uint8Array, octets: number, to: Uint8Array, at: number): number {
  let bits = 0;
  let held = 0;
  let out = at;
  for (let i = 0; i < octets; i++) {
    held = ((held << 8) | from[i]!) & 0xfff;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      to[out++] = DIGITS[(held >>> bits) & 31]!;
    }
  }
  if (bits > 0) to[out++] = DIGITS[(held << (5 - bits)) & 31]!;
  return out;
}

/**
 * Reads the digits `from[start..end)` into `to` and returns the number of octets. Returns -1 for another character, an
 * impossible length, more octets than `to` holds, or spare bits that are not zero.
 */
export function base32Decode(from: Uint8Array, start: number, end: number, to: Uint8Array): number {
  const octets = ((end - start) * 5) >> 3;
  if (octets > to.length || base32Length(octets) !== end - start) return -1;
  let bits = 0;
  let held = 0;
  let out = 0;
  for (let i = start; i < end; i++) {
    const value = VALUES[from[i]!]!;
    if (value === 255) return -1;
    held = ((held << 5) | value) & 0xfff;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      to[out++] = (held >>> bits) & 255;
    }
  }
  return (held & ((1 << bits) - 1)) === 0 ? octets : -1;
}
