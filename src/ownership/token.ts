// Writes and reads tokens: the signed member number in all values that the farm itself writes.
// These are the Via branch, the To tag, and the user part of Record-Route and Path.
//
//    "sf" + base 32 of:
//    octet 0      version (4 bits, 1) and key id (4 bits)
//    octet 1      kind
//    octets 2-3   member number
//    octets 4-6   incarnation of that member (24 bits)
//    octets 7-    value, by kind: 8 octets in a branch, none in a dialog token, the flow in a flow token
//    last 8       SipHash-2-4 of all octets before, with the farm's token key
//
// 23 octets in a branch make 7 + 2 + 37 = 46 characters, magic cookie included.
import { base32Decode, base32Encode, base32Length } from '../base/base32.ts';
import { digest, siphash } from '../base/siphash.ts';
import type { FarmKey, Keyring } from './keyring.ts';

export const TokenKind = {
  /**
   * Via branch of a request with its transaction in the member's process: the member's own probes. The incarnation
   * counts.
   */
  transaction: 1,
  /**
   * Via branch of a request forwarded statelessly out of the farm. Its state lives in the SIP server behind the member.
   */
  outward: 2,
  /** Record-Route, To tag: the member that owns the dialog. */
  dialog: 3,
  /** A TCP connection at one member. The incarnation counts. */
  streamFlow: 4,
  /** A UDP remote address, with the member and listener that received from it. */
  datagramFlow: 5,
  /** To tag of a stateless answer. Any member may absorb its ACK. */
  reply: 6,
  /**
   * Via branch of a client's request forwarded to the SIP server behind the member. A client that receives it cannot
   * answer it, because it is a kind of its own.
   */
  inward: 7,
} as const;
export type TokenKind = (typeof TokenKind)[keyof typeof TokenKind];

const VERSION = 1;
const HEAD_OCTETS = 7;
const MAC_OCTETS = 8;
/** Octets: listener (1), port (2), IPv6 address (16), the party's place (4). */
const MAX_VALUE_OCTETS = 23;
const MAX_OCTETS = HEAD_OCTETS + MAX_VALUE_OCTETS + MAC_OCTETS;
const MIN_CHARACTERS = 2 + base32Length(HEAD_OCTETS + MAC_OCTETS);
const MAX_CHARACTERS = 2 + base32Length(MAX_OCTETS);

/**
 * Results of reading a text. `none`: no token. `valid`: a good token.
 * `forged`: truncated, changed, of another farm, or of a key that is no longer valid.
 */
export type TokenCheck = 'none' | 'forged' | 'valid';

/** The token that `readToken` filled last. One instance per reader; the fields are valid only after 'valid'. */
export class Token {
  kind: TokenKind = TokenKind.transaction;
  member = 0;
  incarnation = 0;
  keyId = 0;
  /** Raw octets; the value is `octets[7..valueEnd)`. */
  readonly octets = Buffer.alloc(MAX_OCTETS);
  readonly valueStart = HEAD_OCTETS;
  valueEnd = HEAD_OCTETS;
}

const scratch = Buffer.alloc(MAX_OCTETS);
const text = Buffer.alloc(MAX_CHARACTERS);

function writeMac(key: FarmKey, octets: Buffer, end: number): void {
  siphash(key.token, octets, 0, end);
  for (let i = 0; i < 4; i++) {
    octets[end + i] = digest.high >>> (24 - 8 * i);
    octets[end + 4 + i] = digest.low >>> (24 - 8 * i);
  }
}

function macAgrees(key: FarmKey, octets: Buffer, end: number): boolean {
  siphash(key.token, octets, 0, end);
  let difference = 0;
  for (let i = 0; i < 4; i++) {
    difference |= octets[end + i]! ^ ((digest.high >>> (24 - 8 * i)) & 255);
    difference |= octets[end + 4 + i]! ^ ((digest.low >>> (24 - 8 * i)) & 255);
  }
  return difference === 0;
}

/**
 * Writes a token into `to` at `at` and returns the offset after it. The value is the first `valueOctets` octets of
 * `value`.
 */
export function writeToken(
  keys: Keyring,
  kind: TokenKind,
  member: number,
  incarnation: number,
  value: Uint8Array,
  valueOctets: number,
  to: Uint8Array,
  at: number,
): number {
  scratch[0] = (VERSION << 4) | keys.primary.id;
  scratch[1] = kind;
  scratch[2] = member >>> 8;
  scratch[3] = member;
  scratch[4] = incarnation >>> 16;
  scratch[5] = incarnation >>> 8;
  scratch[6] = incarnation;
  for (let i = 0; i < valueOctets; i++) scratch[HEAD_OCTETS + i] = value[i]!;
  const end = HEAD_OCTETS + valueOctets;
  writeMac(keys.primary, scratch, end);
  to[at] = 0x73; // s
  to[at + 1] = 0x66; // f
  return base32Encode(scratch, end + MAC_OCTETS, to, at + 2);
}

/** Returns a token as text, for cold code. */
export function mintToken(
  keys: Keyring,
  kind: TokenKind,
  member: number,
  incarnation: number,
  value: Uint8Array = new Uint8Array(0),
): string {
  return text.toString('latin1', 0, writeToken(keys, kind, member, incarnation, value, value.length, text, 0));
}

/** Reads the token `bytes[start..end)` into `out`. Checks no seat and no incarnation: the owner lookup does that. */
export function readToken(keys: Keyring, bytes: Uint8Array, start: number, end: number, out: Token): TokenCheck {
  const characters = end - start;
  if (characters < MIN_CHARACTERS || (bytes[start]! | 32) !== 0x73 || (bytes[start + 1]! | 32) !== 0x66) return 'none';
  if (characters > MAX_CHARACTERS) return 'forged';
  const octets = base32Decode(bytes, start + 2, end, out.octets);
  if (octets < HEAD_OCTETS + MAC_OCTETS || out.octets[0]! >>> 4 !== VERSION) return 'forged';
  out.keyId = out.octets[0]! & 15;
  out.valueEnd = octets - MAC_OCTETS;
  for (const key of keys.all) {
    if (key.id !== out.keyId || !macAgrees(key, out.octets, out.valueEnd)) continue;
    out.kind = out.octets[1]! as TokenKind;
    out.member = (out.octets[2]! << 8) | out.octets[3]!;
    out.incarnation = (out.octets[4]! << 16) | (out.octets[5]! << 8) | out.octets[6]!;
    return 'valid';
  }
  return 'forged';
}

/** The magic cookie of RFC 3261 8.1.1.7. */
export const MAGIC_COOKIE = 'z9hG4bK';

/** Reads the token after the magic cookie of a Via branch. */
export function readBranchToken(keys: Keyring, bytes: Uint8Array, start: number, end: number, out: Token): TokenCheck {
  for (let i = 0; i < 7; i++) if ((bytes[start + i]! | 32) !== (MAGIC_COOKIE.charCodeAt(i) | 32)) return 'none';
  return readToken(keys, bytes, start + 7, end, out);
}
