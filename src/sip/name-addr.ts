// The values of Route, Record-Route, Path, Contact, From and To (RFC 3261 25.1 `name-addr`, `addr-spec`) and their parameters, as offsets.
import {
  COMMA,
  EQUAL,
  equalsIgnoreCase,
  GREATER,
  LESS,
  QUOTE,
  SEMICOLON,
  skipBlanks,
  skipClass,
  skipQuoted,
  TOKEN,
  trimEnd,
  VALUE,
} from './octets.ts';

/** A range of octets; `start` is -1 when there is none. */
export class Range {
  start = -1;
  end = -1;
}

/** One value; all offsets are into the bytes that were parsed. Reused. */
export class NameAddr {
  /** The value without blanks around it. */
  start = -1;
  end = -1;
  /** The URI, without `<>` and without blanks. */
  uriStart = -1;
  uriEnd = -1;
  /** From the first semicolon behind the URI to `end`; empty when the value has no parameters. */
  paramsStart = -1;
  /** Where the next value of the line begins, or the end of the range. */
  next = -1;
}

/**
 * Reads the first value of `[start, end)`, the value part of a header line or what is left of it. False when it holds no URI or no
 * closing `>`; `next` is right all the same. To walk a line: `for (let at = start; at < end; at = out.next) parseNameAddr(bytes, at, end, out)`.
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

/**
 * Looks for the parameter `name` (lower case) in `[start, end)`, which begins with a semicolon (or is empty): header parameters or URI
 * parameters. True when it is there; `value` is then its value, an empty range when it has none, with the quotes of a quoted string.
 */
export function findParameter(bytes: Uint8Array, start: number, end: number, name: Uint8Array, value: Range): boolean {
  value.start = -1;
  value.end = -1;
  let i = start;
  while (i < end && bytes[i]! === SEMICOLON) {
    const nameStart = skipBlanks(bytes, i + 1, end);
    const nameEnd = skipClass(bytes, nameStart, end, TOKEN);
    let valueStart = nameEnd;
    let valueEnd = nameEnd;
    const equal = skipBlanks(bytes, nameEnd, end);
    if (equal < end && bytes[equal]! === EQUAL) {
      valueStart = skipBlanks(bytes, equal + 1, end);
      valueEnd =
        valueStart < end && bytes[valueStart]! === QUOTE
          ? skipQuoted(bytes, valueStart, end)
          : skipClass(bytes, valueStart, end, VALUE);
    }
    if (equalsIgnoreCase(bytes, nameStart, nameEnd, name)) {
      value.start = valueStart;
      value.end = valueEnd;
      return true;
    }
    i = valueEnd;
    while (i < end && bytes[i]! !== SEMICOLON) i++;
  }
  return false;
}
