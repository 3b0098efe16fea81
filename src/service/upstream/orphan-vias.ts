// Finds the way back of a response whose farm member is dead, from the message alone. Below the dead member's outer Via
// are the Vias of its SIP server. Below them is the inner Via that the farm put on the incoming request. It carries the
// signed flow to the caller.

import { readBranchToken, type Token, TokenKind } from '../../ownership/token.ts';
import type { Way } from '../../packet/flow.ts';
import { HeaderName } from '../../sip/header-name.ts';
import { findHeader, HeaderLine, MAX_VALUES } from '../../sip/headers.ts';
import { skipBlanks } from '../../sip/octets.ts';
import type { Scan } from '../../sip/scan.ts';
import { parseVia, Via, ViaOutcome } from '../../sip/via.ts';
import type { ServiceContext } from '../shared/context.ts';
import { readWayOf } from '../shared/flow-parameter.ts';
import type { Rewriter } from '../shared/rewriter.ts';

const line = new HeaderLine();
const via = new Via();

/**
 * Deletes all Vias down to and including the first that the farm put on a client's request, by `rewriter`, begun on
 * `scan`. Fills `flow` from that Via. Returns false and deletes nothing when there is no such Via among the first
 * MAX_VALUES, or no Via would be left. Does the same when the Via's member still has a seat, or its flow is not valid.
 */
export function cutToCaller(context: ServiceContext, scan: Scan, rewriter: Rewriter, token: Token, flow: Way): boolean {
  const { bytes } = scan;
  const { keys, tables } = context.routing;
  let seen = 0;
  for (let from = scan.headersStart; findHeader(scan, HeaderName.VIA, from, line); from = line.lineEnd) {
    for (let at = line.valueStart; at < line.valueEnd; at = skipBlanks(bytes, via.next + 1, line.valueEnd)) {
      if (++seen > MAX_VALUES || parseVia(bytes, at, line.valueEnd, via) === ViaOutcome.UNREADABLE) return false;
      if (via.branchStart < 0) continue;
      if (readBranchToken(keys, bytes, via.branchStart, via.branchEnd, token) !== 'valid') continue;
      if (token.kind !== TokenKind.inward) continue;
      if (tables.seats.has(token.member)) return false;
      if (!readWayOf(context, bytes, via, token, flow)) return false;
      return cutBehind(scan, rewriter, line, via.next < line.valueEnd);
    }
  }
  return false;
}

/** Deletes all Via values up to the one in `via`. `last`: its line; `more`: other values follow in that line. */
function cutBehind(scan: Scan, rewriter: Rewriter, last: HeaderLine, more: boolean): boolean {
  const { lineStart, valueStart, lineEnd } = last;
  const rest = more ? skipBlanks(scan.bytes, via.next + 1, last.valueEnd) : -1;
  if (!more && !findHeader(scan, HeaderName.VIA, lineEnd, line)) return false;
  for (let from = scan.headersStart; findHeader(scan, HeaderName.VIA, from, line); from = line.lineEnd) {
    if (line.lineStart === lineStart) break;
    rewriter.delete(line.lineStart, line.lineEnd);
  }
  if (more) rewriter.delete(valueStart, rest);
  else rewriter.delete(lineStart, lineEnd);
  return true;
}
