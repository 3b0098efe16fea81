// Reads the stored message of a leg: its transaction, its tags, its routes. Pure and cold: each function parses the
// text again.

import type { HeaderName } from '../../sip/header-name.ts';
import { findHeader, HeaderLine } from '../../sip/headers.ts';
import { NameAddr, parseNameAddr } from '../../sip/name-addr.ts';
import { Scan, scan } from '../../sip/scan.ts';
import type { Leg } from './call-record.ts';

const line = new HeaderLine();
const nameAddr = new NameAddr();

/** Parses the text of a leg's message; undefined when it is invalid. Via may be missing: confirmed legs have none. */
export function readLeg(text: string): Scan | undefined {
  const bytes = Buffer.from(`${text.replace(/[\r\n]+$/, '')}\r\n\r\n`, 'latin1');
  const read = new Scan();
  const fault = scan(bytes, 0, bytes.length, false, read);
  if (fault !== null && fault !== 'no-via') return undefined;
  return read.callIdStart < 0 || read.cseq < 0 || read.fromStart < 0 || read.toStart < 0 ? undefined : read;
}

/**
 * Returns true when `request` is a copy of the leg's own request, its CANCEL, or the ACK of its error. Compares branch
 * and sent-by of the top Via (RFC 3261 17.2.3), From tag and CSeq number. An attacker that has only seen the call's
 * messages further downstream does not have the branch.
 */
export function isOfTransaction(leg: Leg, request: Scan): boolean {
  const own = readLeg(leg.request);
  return (
    own !== undefined &&
    own.cseq === request.cseq &&
    slice(own, own.branchStart, own.branchEnd) === slice(request, request.branchStart, request.branchEnd) &&
    slice(own, own.sentByStart, own.sentByEnd) === slice(request, request.sentByStart, request.sentByEnd) &&
    slice(own, own.fromTagStart, own.fromTagEnd) === slice(request, request.fromTagStart, request.fromTagEnd)
  );
}

/** Returns the branch of the leg's request; '' when it has none. */
export function branchOfLeg(leg: Leg): string {
  const own = readLeg(leg.request);
  return own ? slice(own, own.branchStart, own.branchEnd) : '';
}

/** Returns the leg's party's own tag: From tag of `client`, To tag of the answer of `server`; '' when unknown. */
export function partyTag(leg: Leg): string {
  const said = leg.from === 'client' ? readLeg(leg.request) : readLeg(leg.answer ?? '');
  if (!said) return '';
  return leg.from === 'client'
    ? slice(said, said.fromTagStart, said.fromTagEnd)
    : slice(said, said.toTagStart, said.toTagEnd);
}

/** Returns the tag of the other side of the leg's dialog; '' when unknown. */
export function peerTag(leg: Leg): string {
  const said = leg.from === 'client' ? readLeg(leg.answer ?? '') : readLeg(leg.request);
  if (!said) return '';
  return leg.from === 'client'
    ? slice(said, said.toTagStart, said.toTagEnd)
    : slice(said, said.fromTagStart, said.fromTagEnd);
}

/** Returns the Contact value that the leg's party has sent: its target in the dialog (RFC 3261 12.1); '' when none. */
export function contactOf(leg: Leg): string {
  const said = readLeg((leg.from === 'client' ? leg.request : leg.answer) ?? '');
  return said ? slice(said, said.contactStart, said.contactEnd) : '';
}

export function slice(message: Scan, start: number, end: number): string {
  return start < 0 ? '' : message.bytes.toString('latin1', start, end);
}

export function valueIn(message: Scan, of: HeaderLine): string {
  return slice(message, of.valueStart, of.valueEnd);
}

/** Returns the values of all lines of that name, one by one, without unreadable ones. */
export function allValues(message: Scan, name: HeaderName): string[] {
  const values: string[] = [];
  for (let from = message.headersStart; findHeader(message, name, from, line); from = line.lineEnd)
    for (let at = line.valueStart; at < line.valueEnd; at = nameAddr.next)
      if (parseNameAddr(message.bytes, at, line.valueEnd, nameAddr))
        values.push(slice(message, nameAddr.start, nameAddr.end));
  return values;
}
