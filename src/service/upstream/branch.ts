// The branch of a statelessly forwarded request (RFC 3261 16.11): the same for every retransmission, for the CANCEL and for the ACK of an
// error, whichever member they came to; and recognisable when the request loops back (RFC 3261 16.6 item 8, RFC 5393).
//
//    value of the token, 8 octets:  transaction (4) | loop (4)
//    transaction = hash of what identifies the transaction at the hop before (RFC 3261 17.2.3; RFC 2543 rules without the magic cookie)
//    loop        = hash of direction, Request-URI, next Route, Call-ID, From tag and CSeq number: a spiral changes one, a loop none
import { digest, type SipKey, siphash } from '../../base/siphash.ts';
import type { Scan } from '../../sip/scan.ts';

/** Which way a request crosses the edge. A proxy behind us sends the same request out that came in: that is no loop. */
export const Direction = { inward: 0x3e, outward: 0x3c } as const;
export type Direction = (typeof Direction)[keyof typeof Direction];

const COOKIE = Buffer.from('z9hg4bk');
const block = Buffer.alloc(4096);

function append(bytes: Buffer, start: number, end: number, at: number): number {
  if (start < 0) return at;
  const length = Math.min(end - start, block.length - at - 1);
  bytes.copy(block, at, start, start + length);
  block[at + length] = 0;
  return at + length + 1;
}

/** True when the branch carries the magic cookie and something behind it: only then does it identify a transaction (RFC 4475 3.2.1). */
function hasUniqueBranch(scan: Scan): boolean {
  if (scan.branchStart < 0 || scan.branchEnd - scan.branchStart <= COOKIE.length) return false;
  for (let i = 0; i < COOKIE.length; i++)
    if ((scan.bytes[scan.branchStart + i]! | 32) !== (COOKIE[i]! | 32)) return false;
  return true;
}

/** The Route value the request goes to next, as offsets; -1 = none. CANCEL and the ACK of an error carry the Route of their INVITE. */
export interface NextRoute {
  readonly nextStart: number;
  readonly nextEnd: number;
}

/** Writes the loop half of a branch value into `to[4..8)`. */
export function writeLoopHash(key: SipKey, scan: Scan, route: NextRoute, direction: Direction, to: Uint8Array): void {
  block[0] = direction;
  let at = append(scan.bytes, scan.uriStart, scan.uriEnd, 1);
  at = append(scan.bytes, route.nextStart, route.nextEnd, at);
  at = append(scan.bytes, scan.callIdStart, scan.callIdEnd, at);
  at = append(scan.bytes, scan.fromTagStart, scan.fromTagEnd, at);
  block.writeUInt32BE(scan.cseq, Math.min(at, block.length - 4));
  siphash(key, block, 0, Math.min(at + 4, block.length));
  writeWord(digest.low, to, 4);
}

/** Writes the whole 8-octet branch value of `scan`'s request into `to`. */
export function writeBranchValue(
  key: SipKey,
  scan: Scan,
  route: NextRoute,
  direction: Direction,
  to: Uint8Array,
): void {
  writeLoopHash(key, scan, route, direction, to);
  let at: number;
  if (hasUniqueBranch(scan)) {
    at = append(scan.bytes, scan.branchStart, scan.branchEnd, 0);
    at = append(scan.bytes, scan.sentByStart, scan.sentByEnd, at);
  } else {
    // RFC 3261 17.2.3 without the cookie; the To tag is left out, because the ACK of an error has one and its INVITE has none.
    block.set(to.subarray(4, 8), 0);
    at = append(scan.bytes, scan.viaStart, scan.viaEnd, 4);
  }
  siphash(key, block, 0, at);
  writeWord(digest.high ^ digest.low, to, 0);
}

function writeWord(word: number, to: Uint8Array, at: number): void {
  to[at] = word >>> 24;
  to[at + 1] = word >>> 16;
  to[at + 2] = word >>> 8;
  to[at + 3] = word;
}
