// Computes the branch of a statelessly forwarded request (RFC 3261 16.11). A retransmission, the CANCEL and the ACK of
// an error get the same branch at every member. Computes the loop mark, too, by which a looping request is recognised
// (RFC 3261 16.6 item 8, RFC 5393 4.2).
import { SIP_PORT } from '../../base/endpoint.ts';
import { digest, type SipKey, siphash } from '../../base/siphash.ts';
import type { Scan } from '../../sip/scan.ts';

/**
 * Direction of a request through the farm. It is part of the hash, because a proxy as SIP server sends a request out
 * with the same values that came in.
 */
export const Direction = { inward: 0x3e, outward: 0x3c } as const;
export type Direction = (typeof Direction)[keyof typeof Direction];

const COOKIE = Buffer.from('z9hg4bk');
const CSEQ_OCTETS = 4;
const PORT_OCTETS = 2;
const block = Buffer.alloc(4096);

/** Appends `bytes[start..end)`, cut to the room that is left, and a zero octet. Returns the new end. */
function append(bytes: Buffer, start: number, end: number, at: number): number {
  if (start < 0 || at >= block.length) return at;
  const length = Math.min(end - start, block.length - at - 1);
  bytes.copy(block, at, start, start + length);
  block[at + length] = 0;
  return at + length + 1;
}

/**
 * Appends host (lower case) and port of the top Via; a missing port counts as 5060 (RFC 3261 18.1.1). Returns the new
 * end.
 */
function appendHop({ bytes, via }: Scan, at: number): number {
  const end = append(bytes, via.hostStart, via.hostEnd, at);
  for (let i = at; i < end; i++) if (block[i]! >= 0x41 && block[i]! <= 0x5a) block[i]! |= 0x20;
  if (end + PORT_OCTETS > block.length) return end;
  return block.writeUInt16BE(via.port || SIP_PORT, end);
}

/**
 * Returns whether the branch has the magic cookie and at least one character after it. Only such a branch identifies a
 * transaction (RFC 4475 3.2.1).
 */
function hasUniqueBranch(scan: Scan): boolean {
  if (scan.branchStart < 0 || scan.branchEnd - scan.branchStart <= COOKIE.length) return false;
  for (let i = 0; i < COOKIE.length; i++)
    if ((scan.bytes[scan.branchStart + i]! | 32) !== (COOKIE[i]! | 32)) return false;
  return true;
}

/**
 * Writes the 8-octet branch value of `scan`'s request into `to`. It is a hash of values that INVITE, CANCEL and ACK of
 * a transaction share (RFC 3261 17.2.3): branch and sent-by of the top Via. For a client of RFC 2543 it is the whole
 * Via and the Request-URI instead. Call-ID, From tag and CSeq number are hashed, too: they distinguish two calls to
 * which a client gives one branch. The To tag is left out, because the ACK of an error has one and its INVITE has none.
 */
export function writeBranchValue(key: SipKey, scan: Scan, direction: Direction, to: Uint8Array): void {
  const { bytes } = scan;
  block[0] = direction;
  block.writeUInt32BE(scan.cseq >>> 0, 1);
  let at = append(bytes, scan.callIdStart, scan.callIdEnd, 1 + CSEQ_OCTETS);
  at = append(bytes, scan.fromTagStart, scan.fromTagEnd, at);
  if (hasUniqueBranch(scan)) {
    at = append(bytes, scan.branchStart, scan.branchEnd, at);
    at = appendHop(scan, at);
  } else {
    at = append(bytes, scan.viaStart, scan.viaEnd, at);
    at = append(bytes, scan.uriStart, scan.uriEnd, at);
  }
  siphash(key, block, 0, at);
  writeWord(digest.high, to, 0);
  writeWord(digest.low, to, 4);
}

/** The Route value that a request goes to next, as offsets; -1 = none. */
export interface NextRoute {
  readonly nextStart: number;
  readonly nextEnd: number;
}

/** Characters of a loop mark. */
export const MARK_OCTETS = 8;

/**
 * Writes the loop mark of `scan`'s request into `to` at `at`, as 8 hexadecimal digits. It is a hash of everything that
 * may decide the request's route here and at the SIP server. The previous hop is included: a request that returns from
 * an application server is a spiral, not a loop. A loop comes from the same element a second time, with the same
 * Request-URI and the same next Route. Max-Forwards ends loops that this mark does not detect.
 */
export function writeLoopMark(key: SipKey, scan: Scan, route: NextRoute, to: Uint8Array, at: number): void {
  const { bytes } = scan;
  block.writeUInt32BE(scan.cseq >>> 0, 0);
  let end = appendHop(scan, CSEQ_OCTETS);
  end = append(bytes, scan.callIdStart, scan.callIdEnd, end);
  end = append(bytes, scan.fromTagStart, scan.fromTagEnd, end);
  end = append(bytes, route.nextStart, route.nextEnd, end);
  end = append(bytes, scan.uriStart, scan.uriEnd, end);
  siphash(key, block, 0, end);
  for (let i = 0; i < MARK_OCTETS; i++) to[at + i] = hexDigit(digest.low >>> (28 - 4 * i));
}

function hexDigit(word: number): number {
  const digit = word & 15;
  return digit < 10 ? 0x30 + digit : 0x57 + digit;
}

function writeWord(word: number, to: Uint8Array, at: number): void {
  to[at] = word >>> 24;
  to[at + 1] = word >>> 16;
  to[at + 2] = word >>> 8;
  to[at + 3] = word;
}
