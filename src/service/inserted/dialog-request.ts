// Builds requests in a dialog of the call record in the name of one of its parties: towards the leg's party as the SIP
// server would send them, and towards the SIP server as that party would. The only input is a leg. A function returns
// undefined when the leg lacks a needed part. Pure and cold: every request parses the leg again.
import type { Leg } from '../../calls/records/call-record.ts';
import { allValues, readLeg, slice, valueIn } from '../../calls/records/leg-reader.ts';
import { isByOpener } from '../../calls/records/reoffers.ts';
import { HeaderName } from '../../sip/header-name.ts';
import { findHeader, HeaderLine } from '../../sip/headers.ts';
import { NameAddr, parseNameAddr } from '../../sip/name-addr.ts';
import type { Scan } from '../../sip/scan.ts';
import { parseUri, Scheme, Uri } from '../../sip/uri.ts';
import type { Receiver } from '../shared/shifts.ts';

export interface RequestParts {
  readonly method: string;
  /** Value of the Via. */
  readonly via: string;
  /** Returns the CSeq number. `last`: the last one of the sender in the record; 0 where none is recorded. */
  readonly cseq: (last: number) => number;
  /** Header lines without CRLF. */
  readonly lines?: readonly string[];
  readonly body?: string;
  /** Contact of the receiver; left out: the recorded one. */
  readonly target?: string;
}

const line = new HeaderLine();
const nameAddr = new NameAddr();
const uri = new Uri();

/**
 * Returns a request to the leg's party, as the SIP server would send it (RFC 3261 12.2.1.1). Its target is the party's
 * Contact. Its Route has the Record-Route values of the party's side.
 */
export function toParty(leg: Leg, parts: RequestParts): Buffer | undefined {
  const dialog = dialogOf(leg);
  if (!dialog) return undefined;
  const { asked, answered } = dialog;
  const byServer = leg.from === 'server';
  // The party's part of the route set. A server that called reverses it (RFC 3261 12.1.2), a called one does not
  // (12.1.1).
  const routes = byServer ? beyond(asked, answered).reverse() : allValues(asked, HeaderName.RECORD_ROUTE);
  return inDialog(dialog, byServer, byServer ? answered : asked, routes, parts);
}

/**
 * Returns a request of the leg's party as it leaves the party for the SIP server. Its Route begins with the values of
 * the farm.
 */
export function toServer(leg: Leg, parts: RequestParts): Buffer | undefined {
  const dialog = dialogOf(leg);
  if (!dialog) return undefined;
  const { asked, answered } = dialog;
  const byServer = leg.from === 'server';
  const theirs = byServer ? asked : answered;
  const routes = allValues(theirs, HeaderName.RECORD_ROUTE);
  return inDialog(dialog, !byServer, theirs, byServer ? routes : routes.reverse(), parts);
}

/**
 * Returns the header lines of a re-INVITE that changes nothing but the description: the Contact that the receiver has
 * of the sender (RFC 3261 14.1), and the session timer of the dialog, which would end without them (RFC 4028 7.4).
 */
export function reinviteLines(leg: Leg, to: Receiver): readonly string[] {
  const dialog = dialogOf(leg);
  if (!dialog) return [];
  const { asked, answered } = dialog;
  const byOpener = isByOpener(leg, to);
  const sender = byOpener ? asked : answered;
  const contact = sender.contactStart < 0 ? [] : [`Contact: ${slice(sender, sender.contactStart, sender.contactEnd)}`];
  if (!findHeader(answered, HeaderName.SESSION_EXPIRES, answered.headersStart, line)) return contact;
  const [, seconds, refresher = 'uac'] =
    /^(\d{1,10})(?:.*;\s*refresher\s*=\s*(ua[cs]))?/i.exec(valueIn(answered, line)) ?? [];
  if (seconds === undefined) return contact;
  const own = (refresher.toLowerCase() === 'uac') === byOpener;
  return [...contact, 'Supported: timer', `Session-Expires: ${seconds};refresher=${own ? 'uac' : 'uas'}`];
}

/**
 * Returns the CANCEL or ACK that belongs to the transaction of `invite`: with its Request-URI, top Via, Route and CSeq
 * number. `to`: To value of the error that the ACK answers (RFC 3261 17.1.1.3); left out: that of the INVITE (9.1).
 */
export function inTransaction(invite: Scan, method: 'CANCEL' | 'ACK', to?: string): Buffer | undefined {
  if (!invite.isRequest || invite.viaStart < 0) return undefined;
  return compose(method, slice(invite, invite.uriStart, invite.uriEnd), [
    `Via: ${slice(invite, invite.viaStart, invite.viaEnd)}`,
    'Max-Forwards: 70',
    ...allValues(invite, HeaderName.ROUTE).map((route) => `Route: ${route}`),
    `From: ${slice(invite, invite.fromStart, invite.fromEnd)}`,
    `To: ${to ?? slice(invite, invite.toStart, invite.toEnd)}`,
    `Call-ID: ${slice(invite, invite.callIdStart, invite.callIdEnd)}`,
    `CSeq: ${invite.cseq} ${method}`,
  ]);
}

function compose(method: string, target: string, lines: readonly string[], body = ''): Buffer {
  const text = [`${method} ${target} SIP/2.0`, ...lines, `Content-Length: ${body.length}`, '', body].join('\r\n');
  return Buffer.from(text, 'latin1');
}

interface Dialog {
  readonly asked: Scan;
  readonly answered: Scan;
}

function dialogOf(leg: Leg): Dialog | undefined {
  const asked = readLeg(leg.request);
  const answered = leg.answer === undefined ? undefined : readLeg(leg.answer);
  return asked?.isRequest && answered && !answered.isRequest ? { asked, answered } : undefined;
}

/** `byOpener`: the sender has opened the dialog. `theirs`: message with the receiver's Contact. */
function inDialog(
  { asked, answered }: Dialog,
  byOpener: boolean,
  theirs: Scan,
  routes: readonly string[],
  { method, via, cseq, lines = [], body, target: refreshed }: RequestParts,
): Buffer | undefined {
  const target = targetOf(theirs, refreshed);
  if (target === undefined) return undefined;
  const from = slice(asked, asked.fromStart, asked.fromEnd);
  const to = slice(answered, answered.toStart, answered.toEnd);
  const headers = [
    `Via: ${via}`,
    'Max-Forwards: 70',
    ...routes.map((route) => `Route: ${route}`),
    `From: ${byOpener ? from : to}`,
    `To: ${byOpener ? to : from}`,
    `Call-ID: ${slice(asked, asked.callIdStart, asked.callIdEnd)}`,
    // The opener has counted on from the INVITE's number. The numbers of the other party are not recorded: start at 0.
    `CSeq: ${cseq(byOpener ? asked.cseq : 0)} ${method}`,
    ...lines,
  ];
  return compose(method, target, headers, body);
}

/**
 * Returns the Record-Route values from elements beyond the farm: those in the answer, but not in the request as it
 * left.
 */
function beyond(asked: Scan, answered: Scan): string[] {
  const left = new Set(allValues(asked, HeaderName.RECORD_ROUTE));
  return allValues(answered, HeaderName.RECORD_ROUTE).filter((value) => !left.has(value));
}

/**
 * Returns the URI of the first Contact; undefined unless it is a SIP or SIPS URI. `refreshed`: Contact value instead.
 */
function targetOf(message: Scan, refreshed: string | undefined): string | undefined {
  if (refreshed !== undefined) return uriIn(Buffer.from(refreshed, 'latin1'), 0, refreshed.length);
  if (!findHeader(message, HeaderName.CONTACT, message.headersStart, line)) return undefined;
  return uriIn(message.bytes, line.valueStart, line.valueEnd);
}

function uriIn(bytes: Buffer, start: number, end: number): string | undefined {
  if (!parseNameAddr(bytes, start, end, nameAddr)) return undefined;
  const { uriStart, uriEnd } = nameAddr;
  if (!parseUri(bytes, uriStart, uriEnd, uri)) return undefined;
  return uri.scheme === Scheme.SIP || uri.scheme === Scheme.SIPS
    ? bytes.toString('latin1', uriStart, uriEnd)
    : undefined;
}
