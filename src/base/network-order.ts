// Writes and reads numbers in network order (RFC 1700: the highest octet first), octet by octet. The methods of Buffer
// would check each argument first.

/** Writes the low 16 bits of `value`. */
export function write16(value: number, to: Uint8Array, at: number): void {
  to[at] = value >>> 8;
  to[at + 1] = value;
}

/** Writes the low 24 bits of `value`. */
export function write24(value: number, to: Uint8Array, at: number): void {
  to[at] = value >>> 16;
  to[at + 1] = value >>> 8;
  to[at + 2] = value;
}

/** Writes the low 32 bits of `value`. */
export function write32(value: number, to: Uint8Array, at: number): void {
  to[at] = value >>> 24;
  to[at + 1] = value >>> 16;
  to[at + 2] = value >>> 8;
  to[at + 3] = value;
}

/** Returns 0-65,535. */
export function read16(from: Uint8Array, at: number): number {
  return (from[at]! << 8) | from[at + 1]!;
}

/** Returns 0-16,777,215. */
export function read24(from: Uint8Array, at: number): number {
  return (from[at]! << 16) | (from[at + 1]! << 8) | from[at + 2]!;
}

/** Returns 0-4,294,967,295. */
export function read32(from: Uint8Array, at: number): number {
  return ((from[at]! << 24) | (from[at + 1]! << 16) | (from[at + 2]! << 8) | from[at + 3]!) >>> 0;
}
