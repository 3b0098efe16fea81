// Walks the header lines of a message that the scanner has accepted, or of the readable part of a refused one.
import { HeaderName, headerName } from './header-name.ts';
import { COLON, CR, HT, LF, SP, skipBlanks, skipClass, TOKEN, trimEnd } from './octets.ts';
import type { Scan } from './scan.ts';

/**
 * Most values of one header (Route, Via) that a reader examines per message.
 * A request crosses at most 70 elements (Max-Forwards, RFC 3261 8.1.1.6). Each leaves one Via and two Record-Route (RFC
 * 5658).
 */
export const MAX_VALUES = 144;

/** One header line as offsets into the message. Reused. */
export class HeaderLine {
  name: HeaderName = HeaderName.OTHER;
  /** From the first octet of the name to the end of the last CRLF, folds included. */
  lineStart = -1;
  lineEnd = -1;
  nameStart = -1;
  nameEnd = -1;
  /** The value without blanks and folds around it. */
  valueStart = -1;
  valueEnd = -1;
}

/**
 * Reads the header line at `at`. Returns false when there is none before `end`. Walk a message with
 * `for (let at = scan.headersStart; nextHeader(bytes, at, scan.headersEnd, line); at = line.lineEnd)`.
 * A line without a colon has the name OTHER and an empty value.
 */
export function nextHeader(bytes: Uint8Array, at: number, end: number, line: HeaderLine): boolean {
  if (at >= end) return false;
  let i = at;
  while (i < end) {
    if (bytes[i]! === CR && i + 1 < end && bytes[i + 1]! === LF) {
      i += 2;
      if (i >= end || (bytes[i]! !== SP && bytes[i]! !== HT)) break;
    }
    i++;
  }
  line.lineStart = at;
  line.lineEnd = i;
  line.nameStart = at;
  line.nameEnd = skipClass(bytes, at, line.lineEnd, TOKEN);
  let colon = line.nameEnd;
  while (colon < line.lineEnd && (bytes[colon]! === SP || bytes[colon]! === HT)) colon++;
  if (colon >= line.lineEnd || bytes[colon]! !== COLON) {
    line.name = HeaderName.OTHER;
    line.valueStart = trimEnd(bytes, at, line.lineEnd);
    line.valueEnd = line.valueStart;
    return true;
  }
  line.name = headerName(bytes, at, line.nameEnd);
  line.valueStart = skipBlanks(bytes, colon + 1, line.lineEnd);
  line.valueEnd = trimEnd(bytes, line.valueStart, line.lineEnd);
  return true;
}

/**
 * Finds the first header line named `name` at or after `from`. Returns false when there is none.
 * `from` is usually `scan.headersStart`, or `line.lineEnd` to continue.
 */
export function findHeader(scan: Scan, name: HeaderName, from: number, line: HeaderLine): boolean {
  for (let at = from; nextHeader(scan.bytes, at, scan.headersEnd, line); at = line.lineEnd) {
    if (line.name === name) return true;
  }
  return false;
}
