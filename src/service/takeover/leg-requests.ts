// Builds the messages to the outside party of a call whose owner is gone: CANCEL, ACK, BYE, NOTIFY, and the answer to
// its request. The only input is a leg of the call record. Each function returns undefined when the leg lacks a needed
// part. Pure and cold: every message parses the leg again.
import type { Leg } from '../../calls/records/call-record.ts';
import { allValues, readLeg, slice, valueIn } from '../../calls/records/leg-reader.ts';
import { HeaderName } from '../../sip/header-name.ts';
import { findHeader, HeaderLine } from '../../sip/headers.ts';
import { NameAddr, parseNameAddr } from '../../sip/name-addr.ts';
import { buildReply } from '../../sip/reply.ts';
import type { Scan } from '../../sip/scan.ts';
import { parseUri, Scheme, Uri } from '../../sip/uri.ts';

/**
 * Added to the last recorded CSeq: the sum exceeds every number that the dead server may have used (RFC 3261 12.2.1.1).
 */
const CSEQ_LEAP = 1_000_000_000;
/** RFC 3261 8.1.1.5. */
const MAX_CSEQ = 2 ** 31 - 1;

const line = new HeaderLine();
const nameAddr = new NameAddr();
const uri = new Uri();

/** Returns the CANCEL of a `server` leg's INVITE (RFC 3261 9.1). */
export function cancelOf(leg: Leg): Buffer | undefined {
  return inTransaction(leg, 'CANCEL', undefined);
}

/** Returns the ACK of an error to a `server` leg's INVITE (RFC 3261 17.1.1.3). `to`: the To value of that error. */
export function ackOfError(leg: Leg, to: string): Buffer | undefined {
  return inTransaction(leg, 'ACK', to);
}

/**
 * Returns the ACK of a 2xx to the leg's INVITE (RFC 3261 13.2.2.4); needs `answer`. `via`: value of this member's Via.
 */
export function ackOfAnswer(leg: Leg, via: string): Buffer | undefined {
  return inDialog(leg, 'ACK', via, (cseq) => cseq, []);
}

/** Returns a BYE to the leg's party (RFC 3261 15.1.1); needs `answer`. */
export function byeOf(leg: Leg, via: string): Buffer | undefined {
  return inDialog(leg, 'BYE', via, leap, []);
}

/**
 * Returns the NOTIFY that ends the subscription of the leg's party; needs `answer` and a `client` leg. Its reason
 * `deactivated` lets the party subscribe again at once (RFC 6665 4.1.3).
 */
export function lastNotifyOf(leg: Leg, via: string, contact: string): Buffer | undefined {
  if (leg.from !== 'client') return undefined;
  const own = readLeg(leg.request);
  const event = own && findHeader(own, HeaderName.EVENT, own.headersStart, line) && valueIn(own, line);
  const lines = [...(event ? [`Event: ${event}`] : []), 'Subscription-State: terminated;reason=deactivated'];
  return inDialog(leg, 'NOTIFY', via, leap, [...lines, `Contact: ${contact}`]);
}

/** Returns the answer to the request of a `client` leg. `headers`: lines without CRLF. */
export function answerTo(leg: Leg, status: number, toTag: string, headers: readonly string[] = []): Buffer | undefined {
  const own = leg.from === 'client' ? readLeg(leg.request) : undefined;
  return (own && buildReply(own, status, '', toTag, leg.flow, headers, Number.POSITIVE_INFINITY)) ?? undefined;
}

function leap(cseq: number): number {
  return Math.min(cseq + CSEQ_LEAP, MAX_CSEQ);
}

/** Returns a request with Request-URI, top Via, Route and CSeq number of the leg's own request. */
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
 * Returns a request in the dialog of the leg's request and answer, as the dead server would send it (RFC 3261
 * 12.2.1.1). Its target is the party's Contact. Its Route has the Record-Route values of the party's side.
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
  // The party's part of the route set. A server that called reverses it (RFC 3261 12.1.2), a called one does not
  // (12.1.1).
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
    // The server as caller counted on from the INVITE's number. The numbers it used as callee are not recorded: start
    // at 0.
    `CSeq: ${cseqAfter(byServer ? asked.cseq : 0)} ${method}`,
    ...lines,
  ]);
}

/**
 * Returns the Record-Route values from elements beyond the farm: those in the answer, but not in the request as it
 * left.
 */
function beyond(asked: Scan, answered: Scan): string[] {
  const left = new Set(allValues(asked, HeaderName.RECORD_ROUTE));
  return allValues(answered, HeaderName.RECORD_ROUTE).filter((value) => !left.has(value));
}

function compose(method: string, target: string, lines: readonly string[]): Buffer {
  return Buffer.from([`${method} ${target} SIP/2.0`, ...lines, 'Content-Length: 0', '', ''].join('\r\n'), 'latin1');
}

/** Returns the URI of the first Contact; undefined unless it is a SIP or SIPS URI. */
function contactOf(message: Scan): string | undefined {
  if (!findHeader(message, HeaderName.CONTACT, message.headersStart, line)) return undefined;
  const { bytes } = message;
  if (!parseNameAddr(bytes, line.valueStart, line.valueEnd, nameAddr)) return undefined;
  const { uriStart, uriEnd } = nameAddr;
  if (!parseUri(bytes, uriStart, uriEnd, uri)) return undefined;
  return uri.scheme === Scheme.SIP || uri.scheme === Scheme.SIPS ? slice(message, uriStart, uriEnd) : undefined;
}
