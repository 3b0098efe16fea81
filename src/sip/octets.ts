// Small tests on ranges for every reader of SIP bytes. A range is [start, end) of integer offsets; -1 = absent.
import * as octet from './octet.ts';

export * from './octet.ts';

// Local constants: the compiler treats imported ones as variables, and these are read for every octet.
const { BACKSLASH, BLANK, CLASS, COMMA, CR, GREATER, LESS, LF, QUOTE, SP } = octet;

/** Returns true for 0-9. */
export function isDigit(octet: number): boolean {
  return octet >= 0x30 && octet <= 0x39;
}

/** Returns the first offset at or after `at` that is not SP, HT or part of a fold. */
export function skipBlanks(bytes: Uint8Array, at: number, end: number): number {
  let i = at;
  while (i < end && bytes[i]! <= SP && (CLASS[bytes[i]!]! & BLANK) !== 0) i++;
  return i;
}

/** Returns the offset after the last octet of `[start, end)` that is not blank. */
export function trimEnd(bytes: Uint8Array, start: number, end: number): number {
  let i = end;
  while (i > start && bytes[i - 1]! <= SP && (CLASS[bytes[i - 1]!]! & BLANK) !== 0) i--;
  return i;
}

/** Returns the offset after the run of class `bits` that starts at `at`. */
export function skipClass(bytes: Uint8Array, at: number, end: number, bits: number): number {
  let i = at;
  while (i < end && (CLASS[bytes[i]!]! & bits) !== 0) i++;
  return i;
}

/** Returns the offset of the first CR or LF at or after `at`, or `end`. */
export function lineBreak(bytes: Uint8Array, at: number, end: number): number {
  let i = at;
  while (i < end && (bytes[i]! > CR || (bytes[i]! !== CR && bytes[i]! !== LF))) i++;
  return i;
}

/**
 * Returns the offset after the closing quote of the quoted string that opens at `at` (RFC 3261 25.1 `quoted-string`).
 * Returns `end` when none closes it.
 */
export function skipQuoted(bytes: Uint8Array, at: number, end: number): number {
  let i = at + 1;
  while (i < end) {
    const octet = bytes[i]!;
    if (octet === QUOTE) return i + 1;
    i += octet === BACKSLASH ? 2 : 1;
  }
  return end;
}

/**
 * Returns the number with exactly the digits `[start, end)`.
 * Returns -1 for an empty range, any other octet, or a value above `max` (at most 2^32-1).
 */
export function readNumber(bytes: Uint8Array, start: number, end: number, max: number): number {
  if (start >= end) return -1;
  let value = 0;
  for (let i = start; i < end; i++) {
    const digit = bytes[i]! - 0x30;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
    if (value > max) return -1;
  }
  return value;
}

/** Returns true when `[start, end)` equals `lower`, in either case of letters. `lower` has no upper-case letters. */
export function equalsIgnoreCase(bytes: Uint8Array, start: number, end: number, lower: Uint8Array): boolean {
  if (end - start !== lower.length) return false;
  for (let i = 0; i < lower.length; i++) {
    const octet = bytes[start + i]!;
    if ((octet >= 0x41 && octet <= 0x5a ? octet | 0x20 : octet) !== lower[i]!) return false;
  }
  return true;
}

/** Returns true when the range spells `text`, of Latin-1 characters. */
export function isText(bytes: Uint8Array, start: number, end: number, text: string): boolean {
  if (end - start !== text.length) return false;
  for (let i = 0; i < text.length; i++) if (bytes[start + i]! !== text.charCodeAt(i)) return false;
  return true;
}

/** Returns true when the two ranges hold the same octets. */
export function sameOctets(
  a: Uint8Array,
  start: number,
  end: number,
  b: Uint8Array,
  from: number,
  to: number,
): boolean {
  if (end - start !== to - from) return false;
  for (let i = start, j = from; i < end; i++, j++) if (a[i]! !== b[j]!) return false;
  return true;
}

/**
 * Returns the offset of the comma that ends the value at `at` in a comma-joined header line, or `end`.
 * Commas in quoted strings and in `<>` do not count.
 */
export function valueEnd(bytes: Uint8Array, at: number, end: number): number {
  let i = at;
  while (i < end) {
    const octet = bytes[i]!;
    if (octet === COMMA) return i;
    if (octet === QUOTE) i = skipQuoted(bytes, i, end);
    else if (octet === LESS) {
      while (i < end && bytes[i]! !== GREATER) i++;
    } else i++;
  }
  return end;
}
