// Decides whether a REGISTER gets a Path (RFC 3327 5.2). A proxy should not add one unless the client names the option
// tag, because a registrar may refuse it with 420 (5.3).
import { HeaderName } from '../../sip/header-name.ts';
import { findHeader, HeaderLine } from '../../sip/headers.ts';
import { COMMA, equalsIgnoreCase, skipBlanks, trimEnd } from '../../sip/octets.ts';
import type { Scan } from '../../sip/scan.ts';

/**
 * supported: only if the client names the tag. always: to every REGISTER, and the tag is added to Supported. never: to
 * none.
 */
const PATH_RULES = ['supported', 'always', 'never'] as const;
export type PathRule = (typeof PATH_RULES)[number];

const PATH = Buffer.from('path');
const line = new HeaderLine();

/** Returns whether a Supported header of the request has the option tag `path`. */
export function namesPath(scan: Scan): boolean {
  const { bytes } = scan;
  for (let from = scan.headersStart; findHeader(scan, HeaderName.SUPPORTED, from, line); from = line.lineEnd) {
    let at = line.valueStart;
    while (at < line.valueEnd) {
      let end = at;
      while (end < line.valueEnd && bytes[end]! !== COMMA) end++;
      if (equalsIgnoreCase(bytes, skipBlanks(bytes, at, end), trimEnd(bytes, at, end), PATH)) return true;
      at = end + 1;
    }
  }
  return false;
}
