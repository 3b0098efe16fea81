// Decides the kind of a datagram from its first octets (RFC 3261, RFC 5626 4.4, RFC 5389 6). Pure.

/** The value is the index into `CLASS_NAMES`. */
export const PacketClass = { sip: 0, keepalive: 1, stun: 2, garbage: 3 } as const;
export type PacketClass = (typeof PacketClass)[keyof typeof PacketClass];

/** Values of the label `class` of received_packets_total. */
export const CLASS_NAMES = ['sip', 'keepalive', 'stun', 'garbage'] as const;

const NUL = 0;
const LF = 10;
const CR = 13;
/** Devices send 1 to 4 NUL octets to keep a NAT binding. */
const NUL_KEEPALIVE_OCTETS = 4;
const STUN_HEADER_OCTETS = 20;

/** 1 for the octets of a token (RFC 3261 section 25.1). */
const TOKEN = new Uint8Array(256);
for (const character of "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.!%*_+`'~") {
  TOKEN[character.charCodeAt(0)] = 1;
}

const RESPONSE = Buffer.from('SIP/');

/** Returns true when the message at `start` begins with `SIP/`. Every response does, and no request (RFC 3261 25.1). */
export function isResponse(bytes: Uint8Array, start: number): boolean {
  for (let i = 0; i < RESPONSE.length; i++) {
    const octet = bytes[start + i]!;
    if (octet !== RESPONSE[i] && octet !== (RESPONSE[i]! | 32)) return false;
  }
  return true;
}

/** Returns true when the octet may begin a method or the SIP version. */
export function isTokenOctet(octet: number): boolean {
  return TOKEN[octet] === 1;
}

/** Returns the offset of the first octet in `bytes[start..end)` that is neither CR nor LF, or `end`. */
export function skipLineEnds(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at < end && (bytes[at] === CR || bytes[at] === LF)) at++;
  return at;
}

/** Returns the class of the datagram `bytes[start..end)`. `skipLineEnds` must have skipped its leading line ends. */
export function classify(bytes: Uint8Array, start: number, end: number): PacketClass {
  if (start === end) return PacketClass.keepalive;
  const first = bytes[start]!;
  if (TOKEN[first] === 1) return PacketClass.sip;
  if (first === NUL && end - start <= NUL_KEEPALIVE_OCTETS) {
    let at = start;
    while (at < end && (bytes[at] === NUL || bytes[at] === CR || bytes[at] === LF)) at++;
    return at === end ? PacketClass.keepalive : PacketClass.garbage;
  }
  return isStun(bytes, start, end) ? PacketClass.stun : PacketClass.garbage;
}

/** Checks two zero bits, the magic cookie, and the length: a multiple of four that fits (RFC 5389 6). */
function isStun(bytes: Uint8Array, start: number, end: number): boolean {
  if (end - start < STUN_HEADER_OCTETS || (bytes[start]! & 0xc0) !== 0) return false;
  if (bytes[start + 4] !== 0x21 || bytes[start + 5] !== 0x12) return false;
  if (bytes[start + 6] !== 0xa4 || bytes[start + 7] !== 0x42) return false;
  const length = (bytes[start + 2]! << 8) | bytes[start + 3]!;
  return (length & 3) === 0 && length === end - start - STUN_HEADER_OCTETS;
}
