// Reads how long a dialog lives without a message: Session-Expires of a session (RFC 4028), Expires of a subscription
// (RFC 6665 4.1.2).
import { HeaderName } from '../../sip/header-name.ts';
import { HeaderLine, nextHeader } from '../../sip/headers.ts';
import * as octets from '../../sip/octets.ts';
import { Method, type Scan } from '../../sip/scan.ts';

/** 64*T1 (RFC 3261 17.1.2.2): the refresh, or the BYE of a party that missed it, may be retransmitted that long. */
const MARGIN_SECONDS = 32;
const MAX_SECONDS = 2 ** 31;

const { SEMICOLON } = octets;
const line = new HeaderLine();

/** Returns the seconds that a 2xx gives its dialog until the next message, with a margin; 0 when it names none. */
export function lifeIn(answer: Scan): number {
  const { bytes, headersStart, headersEnd, method } = answer;
  return lifeBetween(bytes, headersStart, headersEnd, method === Method.SUBSCRIBE);
}

/** Returns the same as `lifeIn`, from the headers of a message between two offsets. */
export function lifeBetween(bytes: Buffer, start: number, headersEnd: number, subscription: boolean): number {
  const name = subscription ? HeaderName.EXPIRES : HeaderName.SESSION_EXPIRES;
  for (let at = start; nextHeader(bytes, at, headersEnd, line); at = line.lineEnd) {
    if (line.name !== name) continue;
    let end = line.valueStart;
    while (end < line.valueEnd && bytes[end] !== SEMICOLON) end++;
    const trimmed = octets.trimEnd(bytes, line.valueStart, end);
    const seconds = octets.readNumber(bytes, line.valueStart, trimmed, MAX_SECONDS);
    return seconds < 0 ? 0 : seconds + MARGIN_SECONDS;
  }
  return 0;
}
