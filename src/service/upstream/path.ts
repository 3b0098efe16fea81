// Whether a REGISTER gets a Path (RFC 3327 5.2): a proxy should add none unless the client has named the option tag, for a registrar may refuse it
// with 420 (5.3).
import { HeaderName } from '../../sip/header-name.ts';
import { findHeader, HeaderLine } from '../../sip/headers.ts';
import { COMMA, equalsIgnoreCase, skipBlanks, trimEnd } from '../../sip/octets.ts';
import type { Scan } from '../../sip/scan.ts';

/** supported: where the client names it. always: also where not, and the tag is put among those that it supports. never: nowhere. */
export const PATH_RULES = ['supported', 'always', 'never'] as const;
export type PathRule = (typeof PATH_RULES)[number];

const PATH = Buffer.from('path');
const line = new HeaderLine();

/** The request names the option tag `path` in a Supported header. */
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
