// Builds the messages to the outside party of a call whose owner is gone: CANCEL, ACK, BYE, NOTIFY, and the answer to
// its request. The only input is a leg of the call record. Each function returns undefined when the leg lacks a needed
// part. Pure and cold: every message parses the leg again.
import type { Leg } from '../../calls/records/call-record.ts';
import { MAX_CSEQ } from '../../calls/records/call-record.ts';
import { readLeg, valueIn } from '../../calls/records/leg-reader.ts';
import { HeaderName } from '../../sip/header-name.ts';
import { findHeader, HeaderLine } from '../../sip/headers.ts';
import { buildReply } from '../../sip/reply.ts';
import type { Scan } from '../../sip/scan.ts';
import { inTransaction, toParty } from '../inserted/dialog-request.ts';

/**
 * Added to the last recorded CSeq: the sum exceeds every number that the dead server may have used (RFC 3261 12.2.1.1).
 */
const CSEQ_LEAP = 1_000_000_000;

const line = new HeaderLine();

/** Returns the CANCEL of a `server` leg's INVITE (RFC 3261 9.1). */
export function cancelOf(leg: Leg): Buffer | undefined {
  const invite = inviteOf(leg);
  return invite && inTransaction(invite, 'CANCEL');
}

/** Returns the ACK of an error to a `server` leg's INVITE (RFC 3261 17.1.1.3). `to`: the To value of that error. */
export function ackOfError(leg: Leg, to: string): Buffer | undefined {
  const invite = inviteOf(leg);
  return invite && inTransaction(invite, 'ACK', to);
}

/**
 * Returns the ACK of a 2xx to the leg's INVITE (RFC 3261 13.2.2.4); needs `answer`. `via`: value of this member's Via.
 */
export function ackOfAnswer(leg: Leg, via: string): Buffer | undefined {
  return toParty(leg, { method: 'ACK', via, cseq: (last) => last });
}

/** Returns a BYE to the leg's party (RFC 3261 15.1.1); needs `answer`. */
export function byeOf(leg: Leg, via: string): Buffer | undefined {
  return toParty(leg, { method: 'BYE', via, cseq: leap });
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
  return toParty(leg, { method: 'NOTIFY', via, cseq: leap, lines: [...lines, `Contact: ${contact}`] });
}

/** Returns the answer to the request of a `client` leg. `headers`: lines without CRLF. */
export function answerTo(leg: Leg, status: number, toTag: string, headers: readonly string[] = []): Buffer | undefined {
  const own = leg.from === 'client' ? readLeg(leg.request) : undefined;
  return (own && buildReply(own, status, '', toTag, leg.flow, headers, Number.POSITIVE_INFINITY)) ?? undefined;
}

function leap(cseq: number): number {
  return Math.min(cseq + CSEQ_LEAP, MAX_CSEQ);
}

function inviteOf(leg: Leg): Scan | undefined {
  return leg.from === 'server' ? readLeg(leg.request) : undefined;
}
