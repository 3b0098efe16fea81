// Makes a stateless answer from the bytes of the request (RFC 3261 8.2.6, 8.2.7), even of one that the scanner refused.
import { Edit } from './edit.ts';
import { HeaderName } from './header-name.ts';
import { HeaderLine, nextHeader } from './headers.ts';
import { SEMICOLON } from './octets.ts';
import { Method, type Scan } from './scan.ts';

/** Reason phrases (RFC 3261 21 and the RFCs that added codes). */
const REASON_PHRASES: Readonly<Record<number, string>> = Object.freeze({
  100: 'Trying',
  180: 'Ringing',
  181: 'Call Is Being Forwarded',
  182: 'Queued',
  183: 'Session Progress',
  199: 'Early Dialog Terminated',
  200: 'OK',
  202: 'Accepted',
  204: 'No Notification',
  300: 'Multiple Choices',
  301: 'Moved Permanently',
  302: 'Moved Temporarily',
  305: 'Use Proxy',
  380: 'Alternative Service',
  400: 'Bad Request',
  401: 'Unauthorized',
  402: 'Payment Required',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  406: 'Not Acceptable',
  407: 'Proxy Authentication Required',
  408: 'Request Timeout',
  410: 'Gone',
  412: 'Conditional Request Failed',
  413: 'Request Entity Too Large',
  414: 'Request-URI Too Long',
  415: 'Unsupported Media Type',
  416: 'Unsupported URI Scheme',
  420: 'Bad Extension',
  421: 'Extension Required',
  422: 'Session Interval Too Small',
  423: 'Interval Too Brief',
  428: 'Use Identity Header',
  429: 'Provide Referrer Identity',
  430: 'Flow Failed',
  433: 'Anonymity Disallowed',
  439: 'First Hop Lacks Outbound Support',
  440: 'Max-Breadth Exceeded',
  469: 'Bad Info Package',
  480: 'Temporarily Unavailable',
  481: 'Call/Transaction Does Not Exist',
  482: 'Loop Detected',
  483: 'Too Many Hops',
  484: 'Address Incomplete',
  485: 'Ambiguous',
  486: 'Busy Here',
  487: 'Request Terminated',
  488: 'Not Acceptable Here',
  489: 'Bad Event',
  491: 'Request Pending',
  493: 'Undecipherable',
  494: 'Security Agreement Required',
  500: 'Server Internal Error',
  501: 'Not Implemented',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Server Time-out',
  505: 'Version Not Supported',
  513: 'Message Too Large',
  580: 'Precondition Failure',
  600: 'Busy Everywhere',
  603: 'Decline',
  604: 'Does Not Exist Anywhere',
  606: 'Not Acceptable',
});

/** Returns the standard reason phrase. A status without one gets an empty phrase, which the grammar allows. */
export function reasonPhrase(status: number): string {
  return REASON_PHRASES[status] ?? '';
}

/** Source of the request; a `Packet` fits. */
export interface ReplySource {
  readonly address: string;
  readonly port: number;
}

/** Steps of shortening, taken until the answer is no larger than allowed. */
const Economy = { NONE: 0, NO_EXTRA: 1, SHORT: 2, COMPACT: 3, NO_TAG: 4 } as const;

/** By `HeaderName` (RFC 3261 7.3.3). */
const COMPACT_NAMES: Readonly<Record<number, string>> = {
  [HeaderName.VIA]: 'v:',
  [HeaderName.FROM]: 'f:',
  [HeaderName.TO]: 't:',
  [HeaderName.CALL_ID]: 'i:',
};

const edit = new Edit();
const line = new HeaderLine();

/**
 * Deletes all header lines except every Via and the first From, To, Call-ID and CSeq. `compact`: writes their short
 * names.
 */
function keepReplyHeaders(scan: Scan, compact: boolean): void {
  let seen = 0;
  for (let at = scan.headersStart; nextHeader(scan.bytes, at, scan.headersEnd, line); at = line.lineEnd) {
    const bit = 1 << line.name;
    const kept = line.name === HeaderName.VIA || (line.name >= HeaderName.FROM && line.name <= HeaderName.CSEQ);
    if (!kept || (seen & bit) !== 0) {
      edit.delete(line.lineStart, line.lineEnd);
      continue;
    }
    if (line.name !== HeaderName.VIA) seen |= bit;
    const name = compact ? COMPACT_NAMES[line.name] : undefined;
    if (name !== undefined) edit.replace(line.lineStart, line.valueStart, name);
  }
}

/**
 * Returns the answer to the request in `scan`, to be sent to `source`. `scan()` must have run, with any result. Copies
 * all Via, From, To, Call-ID and CSeq unchanged. Only the top Via gets `source` (RFC 3261 18.2.1, RFC 3581 4).
 * - `reason`: '' = the standard one.
 * - `toTag`: '' = none; added only to a To without a tag.
 * - `extraHeaders`: lines without CRLF.
 * - `maxOctets`: Infinity for a stream or a trusted source; default: the size of the request, so that nothing is
 *   amplified.
 * Returns null for a response, an ACK, or a request without a readable Via. Returns null when the answer is still
 * larger than `maxOctets` after these are left out, in this order:
 * 1. the extra headers
 * 2. the reason phrase
 * 3. the long names, and Content-Length, which a datagram may lack (RFC 3261 20.14)
 * 4. the To tag, except for INVITE
 */
export function buildReply(
  scan: Scan,
  status: number,
  reason: string,
  toTag: string,
  source: ReplySource,
  extraHeaders: readonly string[] = [],
  maxOctets: number = scan.end - scan.start,
): Buffer | null {
  if (!scan.isRequest || scan.method === Method.ACK || scan.viaStart < 0) return null;
  const wantsTag = toTag !== '' && scan.toStart >= 0 && scan.toTagStart < 0;
  // Some phones send a semicolon after the last parameter.
  const endsOpen = scan.bytes[scan.toEnd - 1] === SEMICOLON;
  const last = wantsTag && scan.method !== Method.INVITE ? Economy.NO_TAG : Economy.COMPACT;
  for (let economy: number = Economy.NONE; economy <= last; economy++) {
    edit.beginScan(scan);
    const phrase = economy < Economy.SHORT ? reason || reasonPhrase(status) : '';
    edit.replace(scan.start, scan.headersStart, `SIP/2.0 ${status} ${phrase}\r\n`);
    const compact = economy >= Economy.COMPACT;
    keepReplyHeaders(scan, compact);
    edit.stampVia(scan, source.address, source.port);
    if (wantsTag && economy < Economy.NO_TAG) edit.insert(scan.toEnd, `${endsOpen ? '' : ';'}tag=${toTag}`);
    if (economy < Economy.NO_EXTRA) for (const header of extraHeaders) edit.appendHeader(scan, header);
    const length = economy < Economy.SHORT ? 'Content-Length: 0\r\n' : compact ? '' : 'l: 0\r\n';
    edit.replace(scan.headersEnd, scan.end, `${length}\r\n`);
    const reply = edit.apply(maxOctets);
    if (reply) return reply;
  }
  return null;
}
