// Stores the way to a client whose REGISTER gets no Path: as a URI parameter of its Contact. A registrar keeps the
// parameter. It returns in the Request-URI of requests to the client. Only the SIP server sees it, no client does.
//
//    Contact: <sip:alice@192.168.1.7:5060;sf=TOKEN>
import { readWay } from '../../ownership/flow-token.ts';
import { readToken, Token } from '../../ownership/token.ts';
import type { Way } from '../../packet/flow.ts';
import { HeaderName } from '../../sip/header-name.ts';
import { findHeader, HeaderLine } from '../../sip/headers.ts';
import { NameAddr, parseNameAddr } from '../../sip/name-addr.ts';
import { LESS } from '../../sip/octets.ts';
import type { Scan } from '../../sip/scan.ts';
import { parseUri, Uri } from '../../sip/uri.ts';
import type { ServiceContext } from '../shared/context.ts';
import type { Rewriter } from '../shared/rewriter.ts';

/** Contact values that are processed per message. Further values stay unchanged. */
const MAX_CONTACTS = 64;

const line = new HeaderLine();
const value = new NameAddr();
const uri = new Uri();
const token = new Token();

/**
 * Puts `parameter` (`;sf=TOKEN`) into each Contact of a REGISTER. Replaces a parameter of that name from the client.
 */
export function markContacts(scan: Scan, rewriter: Rewriter, parameter: string): void {
  eachContact(scan, () => {
    if (uri.flowParamStart >= 0) rewriter.delete(uri.flowParamStart, uri.flowEnd);
    const bare = value.start === value.uriStart && scan.bytes[value.start] !== LESS;
    // Without <> the parameter would belong to the header, not to the URI (RFC 3261 20).
    if (bare) rewriter.insert(value.uriStart, '<');
    rewriter.insert(uri.paramsEnd, parameter);
    if (bare) rewriter.insert(value.uriEnd, '>');
  });
}

/** Removes the parameter from each Contact of a response to REGISTER. */
export function unmarkContacts(scan: Scan, rewriter: Rewriter): void {
  eachContact(scan, () => {
    if (uri.flowParamStart >= 0) rewriter.delete(uri.flowParamStart, uri.flowEnd);
  });
}

/**
 * Removes the parameter from the Request-URI, which is parsed in `target`, and fills `way`. Returns false and leaves
 * the URI unchanged when there is no parameter, or no valid token of this farm.
 */
export function takeTargetFlow(
  context: ServiceContext,
  scan: Scan,
  rewriter: Rewriter,
  target: Uri,
  way: Way,
): boolean {
  if (target.flowParamStart < 0) return false;
  const { bytes } = scan;
  if (readToken(context.routing.keys, bytes, target.flowStart, target.flowEnd, token) !== 'valid') return false;
  if (!readWay(token, way)) return false;
  rewriter.delete(target.flowParamStart, target.flowEnd);
  return true;
}

/** Calls `act` for each Contact value with a readable URI; value and URI are then in `value` and `uri`. */
function eachContact(scan: Scan, act: () => void): void {
  const { bytes } = scan;
  let left = MAX_CONTACTS;
  for (let from = scan.headersStart; findHeader(scan, HeaderName.CONTACT, from, line); from = line.lineEnd)
    for (let at = line.valueStart; at < line.valueEnd; at = value.next) {
      if (left-- === 0) return;
      if (parseNameAddr(bytes, at, line.valueEnd, value) && parseUri(bytes, value.uriStart, value.uriEnd, uri)) act();
    }
}
