// What can be said to the outside party of a call whose owner is gone, made from the record's leg alone: CANCEL, ACK, BYE, NOTIFY, and the
// answer to its request. Pure, and cold: a leg is read anew for each message. What cannot be made of a leg is undefined.
import type { Leg } from '../../calls/records/call-record.ts';
import { allValues, readLeg, slice, valueIn } from '../../calls/records/leg-reader.ts';
import { HeaderName } from '../../sip/header-name.ts';
import { findHeader, HeaderLine } from '../../sip/headers.ts';
import { NameAddr, parseNameAddr } from '../../sip/name-addr.ts';
import { buildReply } from '../../sip/reply.ts';
import type { Scan } from '../../sip/scan.ts';
import { parseUri, Scheme, Uri } from '../../sip/uri.ts';

/** Added to the last CSeq that is known: higher than any that the dead server can have used since (RFC 3261 12.2.1.1). */
const CSEQ_LEAP = 1_000_000_000;
/** RFC 3261 8.1.1.5. */
const MAX_CSEQ = 2 ** 31 - 1;

const line = new HeaderLine();
const nameAddr = new NameAddr();
const uri = new Uri();

/** CANCEL of the leg's INVITE (RFC 3261 9.1). */
export function cancelOf(leg: Leg): Buffer | undefined {
  return inTransaction(leg, 'CANCEL', undefined);
}

/** ACK of an error that answered the leg's INVITE (RFC 3261 17.1.1.3). `to`: the To value of that answer. */
export function ackOfError(leg: Leg, to: string): Buffer | undefined {
  return inTransaction(leg, 'ACK', to);
}

/** ACK of a 2xx to the leg's INVITE (RFC 3261 13.2.2.4); needs `answer`. `via`: the value of a Via of ours. */
export function ackOfAnswer(leg: Leg, via: string): Buffer | undefined {
  return inDialog(leg, 'ACK', via, (cseq) => cseq, []);
}

/** BYE to the leg's party (RFC 3261 15.1.1); needs `answer`. */
export function byeOf(leg: Leg, via: string): Buffer | undefined {
  return inDialog(leg, 'BYE', via, leap, []);
}

/** NOTIFY that ends the subscription of the leg's party, who may subscribe anew at once (RFC 6665 4.1.3); needs `answer` and a `client` leg. */
export function lastNotifyOf(leg: Leg, via: string, contact: string): Buffer | undefined {
  if (leg.from !== 'client') return undefined;
  const own = readLeg(leg.request);
  const event = own && findHeader(own, HeaderName.EVENT, own.headersStart, line) && valueIn(own, line);
  const lines = [...(event ? [`Event: ${event}`] : []), 'Subscription-State: terminated;reason=deactivated'];
  return inDialog(leg, 'NOTIFY', via, leap, [...lines, `Contact: ${contact}`]);
}

/** The answer to the request of a `client` leg. `headers`: lines without CRLF. */
export function answerTo(leg: Leg, status: number, toTag: string, headers: readonly string[] = []): Buffer | undefined {
  const own = leg.from === 'client' ? readLeg(leg.request) : undefined;
  return (own && buildReply(own, status, '', toTag, leg.flow, headers, Number.POSITIVE_INFINITY)) ?? undefined;
}

function leap(cseq: number): number {
  return Math.min(cseq + CSEQ_LEAP, MAX_CSEQ);
}

/** A request with Request-URI, top Via, Route and CSeq number of the leg's own request. */
function inTransaction(leg: Leg, method: string, to: string | undefined): Buffer | undefined {
  const own = leg.from === 'server' ? readLeg(leg.request) : undefined;
  if (!own?.isRequest || own.viaStart < 0) return undefined;
  return compose(method, slice(own, own.uriStart, own.uriEnd), [
    `Via: ${slice(own, own.viaStart, own.viaEnd)}`,
    'Max-Forwards: 70',
    ...allValues(own, HeaderName.ROUTE).map((route) => `Route: ${route}`),
    `From: ${slice(own, own.fromStart, own.fromEnd)}`,
    `To: ${to ?? slice(own, own.toStart, own.toEnd)}`,
    `Call-ID: ${slice(own, own.callIdStart, own.callIdEnd)}`,
    `CSeq: ${own.cseq} ${method}`,
  ]);
}

/**
 * A request in the dialog that the leg's request and its answer have made (RFC 3261 12.2.1.1), as the dead server would send it: to the party's
 * Contact, by what its side has record-routed.
 */
function inDialog(
  leg: Leg,
  method: string,
  via: string,
  cseqAfter: (cseq: number) => number,
  lines: readonly string[],
): Buffer | undefined {
  const asked = readLeg(leg.request);
  const answered = leg.answer === undefined ? undefined : readLeg(leg.answer);
  if (!asked?.isRequest || !answered || answered.isRequest) return undefined;
  const byServer = leg.from === 'server';
  const theirs = byServer ? answered : asked;
  const target = contactOf(theirs);
  if (target === undefined) return undefined;
  // The party's own side of the route set: as the caller the server reverses it (RFC 3261 12.1.2), as the callee it does not (12.1.1).
  const routes = byServer ? beyond(asked, answered).reverse() : allValues(asked, HeaderName.RECORD_ROUTE);
  const from = slice(asked, asked.fromStart, asked.fromEnd);
  const to = slice(answered, answered.toStart, answered.toEnd);
  return compose(method, target, [
    `Via: ${via}`,
    'Max-Forwards: 70',
    ...routes.map((route) => `Route: ${route}`),
    `From: ${byServer ? from : to}`,
    `To: ${byServer ? to : from}`,
    `Call-ID: ${slice(asked, asked.callIdStart, asked.callIdEnd)}`,
    // What the server has asked as the callee is not known; what it has asked as the caller began with this.
    `CSeq: ${cseqAfter(byServer ? asked.cseq : 0)} ${method}`,
    ...lines,
  ]);
}

/** The Record-Route values that elements beyond the farm have put on a request: those of its answer that it did not leave with. */
function beyond(asked: Scan, answered: Scan): string[] {
  const left = new Set(allValues(asked, HeaderName.RECORD_ROUTE));
  return allValues(answered, HeaderName.RECORD_ROUTE).filter((value) => !left.has(value));
}

function compose(method: string, target: string, lines: readonly string[]): Buffer {
  return Buffer.from([`${method} ${target} SIP/2.0`, ...lines, 'Content-Length: 0', '', ''].join('\r\n'), 'latin1');
}

/** The URI of the first Contact, if it is one that a request can be sent to. */
function contactOf(message: Scan): string | undefined {
  if (!findHeader(message, HeaderName.CONTACT, message.headersStart, line)) return undefined;
  const { bytes } = message;
  if (!parseNameAddr(bytes, line.valueStart, line.valueEnd, nameAddr)) return undefined;
  const { uriStart, uriEnd } = nameAddr;
  if (!parseUri(bytes, uriStart, uriEnd, uri)) return undefined;
  return uri.scheme === Scheme.SIP || uri.scheme === Scheme.SIPS ? slice(message, uriStart, uriEnd) : undefined;
}
