// Names octets, and the classes they belong to.

export const HT = 0x09;
export const LF = 0x0a;
export const CR = 0x0d;
export const SP = 0x20;
export const QUOTE = 0x22;
export const COMMA = 0x2c;
export const DOT = 0x2e;
export const SLASH = 0x2f;
export const COLON = 0x3a;
export const SEMICOLON = 0x3b;
export const LESS = 0x3c;
export const EQUAL = 0x3d;
export const GREATER = 0x3e;
export const QUESTION = 0x3f;
export const AT = 0x40;
export const OPEN_BRACKET = 0x5b;
export const BACKSLASH = 0x5c;
export const CLOSE_BRACKET = 0x5d;

/** RFC 3261 25.1 `token`. */
export const TOKEN = 1;
/** SP, HT, CR, LF. Inside a header value CR and LF stand only in folds; the scanner ensures that. */
export const BLANK = 2;
/**
 * Octets that end no parameter value. Wider than `gen-value` of RFC 3261 25.1: branches in the field have `=`, `/` and
 * `@`.
 */
export const VALUE = 4;
/** Letters, digits, `-`, `.` (RFC 3261 25.1 `hostname`, `IPv4address`), and the underscore, which real hosts have. */
export const HOST = 8;
/** Octets that may stand in a Request-URI: no blank, control octet, `<`, `>` or `"`. */
export const URI = 16;

/** Class bits per octet. */
export const CLASS = new Uint8Array(256);
for (let octet = 0; octet < 256; octet++) {
  const char = String.fromCharCode(octet);
  let bits = 0;
  if (/[A-Za-z0-9\-.!%*_+`'~]/.test(char)) bits |= TOKEN;
  if (octet > SP && octet !== 0x7f && !/[;,"]/.test(char)) bits |= VALUE;
  if (/[ \t\r\n]/.test(char)) bits |= BLANK;
  if (/[A-Za-z0-9\-._]/.test(char)) bits |= HOST;
  if (octet > SP && octet !== 0x7f && !/[<>"]/.test(char)) bits |= URI;
  CLASS[octet] = bits;
}
