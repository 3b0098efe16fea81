// The way to a client whose REGISTER gets no Path: a URI parameter of its Contact, which a registrar keeps, and which comes back in the Request-URI
// of what it sends to the client. Only towards the SIP server: no client ever sees it.
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

/** Contact values of one message that are looked at. A message that has more is passed on without. */
const MAX_CONTACTS = 64;

const line = new HeaderLine();
const value = new NameAddr();
const uri = new Uri();
const token = new Token();

/** Puts `parameter` (`;sf=TOKEN`) into each Contact of a REGISTER, in place of what its client has written there under that name. */
export function markContacts(context: ServiceContext, scan: Scan, parameter: string): void {
  eachContact(scan, () => {
    const { edit } = context;
    if (uri.flowParamStart >= 0) edit.delete(uri.flowParamStart, uri.flowEnd);
    const bare = value.start === value.uriStart && scan.bytes[value.start] !== LESS;
    // Without <> a parameter would be one of the header (RFC 3261 20).
    if (bare) edit.insert(value.uriStart, '<');
    edit.insert(uri.paramsEnd, parameter);
    if (bare) edit.insert(value.uriEnd, '>');
  });
}

/** Takes the parameter off each Contact of a response to REGISTER. */
export function unmarkContacts(context: ServiceContext, scan: Scan): void {
  eachContact(scan, () => {
    if (uri.flowParamStart >= 0) context.edit.delete(uri.flowParamStart, uri.flowEnd);
  });
}

/** Takes the parameter off the Request-URI, which is in `target`, and fills `way`. False when there is none, or none of ours: then it stays. */
export function takeTargetFlow(context: ServiceContext, scan: Scan, target: Uri, way: Way): boolean {
  if (target.flowParamStart < 0) return false;
  const { bytes } = scan;
  if (readToken(context.routing.keys, bytes, target.flowStart, target.flowEnd, token) !== 'valid') return false;
  if (!readWay(token, way)) return false;
  context.edit.delete(target.flowParamStart, target.flowEnd);
  return true;
}

/** Calls `act` for each SIP URI among the Contact values, which is then in `value` and `uri`. */
function eachContact(scan: Scan, act: () => void): void {
  const { bytes } = scan;
  let left = MAX_CONTACTS;
  for (let from = scan.headersStart; findHeader(scan, HeaderName.CONTACT, from, line); from = line.lineEnd)
    for (let at = line.valueStart; at < line.valueEnd; at = value.next) {
      if (left-- === 0) return;
      if (parseNameAddr(bytes, at, line.valueEnd, value) && parseUri(bytes, value.uriStart, value.uriEnd, uri)) act();
    }
}
