// Reads the values of Route, Record-Route, Path, Contact, From and To, and their parameters, as offsets.
// Grammar: RFC 3261 25.1 `name-addr`, `addr-spec`.
import { COMMA, GREATER, LESS, QUOTE, SEMICOLON, skipBlanks, skipQuoted, trimEnd } from './octets.ts';

/** One value; all offsets are into the parsed bytes. Reused. */
export class NameAddr {
  /** The value without surrounding blanks. */
  start = -1;
  end = -1;
  /** The URI, without `<>` and without blanks. */
  uriStart = -1;
  uriEnd = -1;
  /** From the first semicolon after the URI to `end`; empty without parameters. */
  paramsStart = -1;
  /** Start of the next value of the line, or the end of the range. */
  next = -1;
}

/**
 * Reads the first value of `[start, end)`, the value part of a header line or its rest.
 * Returns false when it has no URI or no closing `>`; `next` is valid even then. Walk a line with
 * `for (let at = start; at < end; at = out.next) parseNameAddr(bytes, at, end, out)`.
 */
export function parseNameAddr(bytes: Uint8Array, start: number, end: number, out: NameAddr): boolean {
  const from = skipBlanks(bytes, start, end);
  let i = from;
  let less = -1;
  let greater = -1;
  let params = -1;
  while (i < end && bytes[i]! !== COMMA) {
    const octet = bytes[i]!;
    if (octet === QUOTE) {
      i = skipQuoted(bytes, i, end);
      continue;
    }
    if (octet === LESS && less < 0 && params < 0) {
      less = i;
      while (i < end && bytes[i]! !== GREATER) i++;
      if (i >= end) break;
      greater = i;
    } else if (octet === SEMICOLON && params < 0) params = i;
    i++;
  }
  out.start = from;
  out.end = trimEnd(bytes, from, i);
  out.next = i < end ? i + 1 : end;
  out.paramsStart = params < 0 ? out.end : params;
  if (less >= 0) {
    out.uriStart = skipBlanks(bytes, less + 1, greater < 0 ? out.end : greater);
    out.uriEnd = trimEnd(bytes, out.uriStart, greater < 0 ? out.end : greater);
    return greater >= 0 && out.uriEnd > out.uriStart;
  }
  out.uriStart = from;
  out.uriEnd = trimEnd(bytes, from, out.paramsStart);
  return out.uriEnd > from;
}
