// Reads one Via value (RFC 3261 20.42, RFC 3581) as offsets and small numbers. Instances are reused.
import * as octets from './octets.ts';

// Local constants: the compiler treats imported ones as variables, and these are read for every octet.
const {
  BLANK,
  CLASS,
  CLOSE_BRACKET,
  COLON,
  COMMA,
  EQUAL,
  equalsIgnoreCase,
  HOST,
  OPEN_BRACKET,
  QUOTE,
  readNumber,
  SEMICOLON,
  SLASH,
  skipBlanks,
  skipClass,
  skipQuoted,
  TOKEN,
  trimEnd,
  VALUE,
} = octets;

export const Transport = { OTHER: 0, UDP: 1, TCP: 2, TLS: 3, SCTP: 4, WS: 5, WSS: 6 } as const;
export type Transport = (typeof Transport)[keyof typeof Transport];

/** The names of the transports as numbers, so that one comparison distinguishes them (`lettersOf`). */
const UDP = letters('udp');
const TCP = letters('tcp');
const TLS = letters('tls');
const SCTP = letters('sctp');
const WS = letters('ws');
const WSS = letters('wss');
const BRANCH = Buffer.from('branch');
const RECEIVED = Buffer.from('received');
const RPORT = Buffer.from('rport');
const MADDR = Buffer.from('maddr');
const FLOW = Buffer.from('sf');

function letters(name: string): number {
  return lettersOf(Buffer.from(name), 0, name.length);
}

/** Returns the letters of `[start, end)`, at most four, as one number that ignores case. */
function lettersOf(bytes: Uint8Array, start: number, end: number): number {
  let word = 0;
  for (let i = start; i < end; i++) word = (word << 8) | bytes[i]! | 0x20;
  return word;
}

/** Returns the transport that `[start, end)` names; OTHER for an unknown one. */
export function transportOf(bytes: Uint8Array, start: number, end: number): Transport {
  if (end - start > 4) return Transport.OTHER;
  switch (lettersOf(bytes, start, end)) {
    case UDP:
      return Transport.UDP;
    case TCP:
      return Transport.TCP;
    case TLS:
      return Transport.TLS;
    case SCTP:
      return Transport.SCTP;
    case WS:
      return Transport.WS;
    case WSS:
      return Transport.WSS;
    default:
      return Transport.OTHER;
  }
}

/**
 * Results of `parseVia`. OK: read. BAD_PARAMETER: sent-by was read, but a parameter breaks the grammar. UNREADABLE: no
 * sent-by.
 */
export const ViaOutcome = { OK: 0, BAD_PARAMETER: 1, UNREADABLE: 2 } as const;
export type ViaOutcome = (typeof ViaOutcome)[keyof typeof ViaOutcome];

/** All offsets are into the parsed bytes; -1 = absent. */
export class Via {
  /** The value without surrounding blanks. */
  start = -1;
  end = -1;
  /** Offset of the comma after the value, or the end of the given range. */
  next = -1;
  outcome: ViaOutcome = ViaOutcome.UNREADABLE;
  transport: Transport = Transport.OTHER;
  transportStart = -1;
  transportEnd = -1;
  /** host [":" port], unchanged. */
  sentByStart = -1;
  sentByEnd = -1;
  /** The host without brackets. */
  hostStart = -1;
  hostEnd = -1;
  hostIsIpv6 = false;
  /**
   * 1-65535; 0 = none given, or port 0, to which nothing can be sent. The default port counts then (RFC 3261 18.2.2).
   */
  port = 0;
  branchStart = -1;
  branchEnd = -1;
  /** The address in `received`, without the brackets of an IPv6 literal (RFC 5118 4.5). */
  receivedStart = -1;
  receivedEnd = -1;
  /** The whole parameter from its semicolon. */
  receivedParamStart = -1;
  receivedParamEnd = -1;
  /** -1 = no such parameter; 0 = present without a value (RFC 3581 3); else the port. */
  rport = -1;
  rportParamStart = -1;
  rportParamEnd = -1;
  maddrStart = -1;
  maddrEnd = -1;
  /** Value of the parameter `sf`, which the farm itself added. */
  flowStart = -1;
  flowEnd = -1;
}

/** Clears all fields. */
export function resetVia(via: Via): void {
  via.start = -1;
  via.end = -1;
  via.next = -1;
  via.outcome = ViaOutcome.UNREADABLE;
  via.transport = Transport.OTHER;
  via.transportStart = -1;
  via.transportEnd = -1;
  via.sentByStart = -1;
  via.sentByEnd = -1;
  via.hostStart = -1;
  via.hostEnd = -1;
  via.hostIsIpv6 = false;
  via.port = 0;
  via.branchStart = -1;
  via.branchEnd = -1;
  via.receivedStart = -1;
  via.receivedEnd = -1;
  via.receivedParamStart = -1;
  via.receivedParamEnd = -1;
  via.rport = -1;
  via.rportParamStart = -1;
  via.rportParamEnd = -1;
  via.maddrStart = -1;
  via.maddrEnd = -1;
  via.flowStart = -1;
  via.flowEnd = -1;
}

/**
 * Reads `SIP / 2.0 / UDP`. Returns the offset after the third token, or -1. Blanks and folds may surround the slashes.
 */
function protocol(bytes: Uint8Array, start: number, end: number, via: Via): number {
  let i = skipClass(bytes, start, end, TOKEN);
  let from = start;
  if (i === start) return -1;
  for (let part = 0; part < 2; part++) {
    i = skipBlanks(bytes, i, end);
    if (i >= end || bytes[i]! !== SLASH) return -1;
    from = skipBlanks(bytes, i + 1, end);
    i = skipClass(bytes, from, end, TOKEN);
    if (i === from) return -1;
  }
  via.transportStart = from;
  via.transportEnd = i;
  via.transport = transportOf(bytes, from, i);
  return i;
}

/** Reads host [":" port]. Returns the offset after it, or -1. */
function sentBy(bytes: Uint8Array, start: number, end: number, via: Via): number {
  let i = start;
  if (i < end && bytes[i]! === OPEN_BRACKET) {
    i++;
    while (i < end && ((CLASS[bytes[i]!]! & HOST) !== 0 || bytes[i]! === COLON)) i++;
    if (i >= end || bytes[i]! !== CLOSE_BRACKET || i === start + 1) return -1;
    via.hostStart = start + 1;
    via.hostEnd = i;
    via.hostIsIpv6 = true;
    i++;
  } else {
    i = skipClass(bytes, i, end, HOST);
    if (i === start) return -1;
    via.hostStart = start;
    via.hostEnd = i;
  }
  via.sentByStart = start;
  via.sentByEnd = i;
  const colon = skipBlanks(bytes, i, end);
  if (colon >= end || bytes[colon]! !== COLON) return i;
  const digits = skipBlanks(bytes, colon + 1, end);
  i = skipClass(bytes, digits, end, TOKEN);
  const port = readNumber(bytes, digits, i, 65535);
  if (port < 0) return -1;
  via.port = port;
  via.sentByEnd = i;
  return i;
}

/** Reads one parameter with its semicolon at `at`. Returns the offset after it, or -1 when it breaks the grammar. */
function parameter(bytes: Uint8Array, at: number, end: number, via: Via): number {
  const nameStart = skipBlanks(bytes, at + 1, end);
  const nameEnd = skipClass(bytes, nameStart, end, TOKEN);
  if (nameEnd === nameStart) return -1;
  let valueStart = -1;
  let valueEnd = nameEnd;
  const equal = skipBlanks(bytes, nameEnd, end);
  if (equal < end && bytes[equal]! === EQUAL) {
    valueStart = skipBlanks(bytes, equal + 1, end);
    valueEnd =
      valueStart < end && bytes[valueStart]! === QUOTE
        ? skipQuoted(bytes, valueStart, end)
        : skipClass(bytes, valueStart, end, VALUE);
  }
  const empty = valueStart === valueEnd;
  switch (nameEnd - nameStart) {
    case 2:
      if (via.flowStart < 0 && valueStart >= 0 && equalsIgnoreCase(bytes, nameStart, nameEnd, FLOW)) {
        via.flowStart = valueStart;
        via.flowEnd = valueEnd;
      }
      break;
    case 5:
      if (via.rport === -1 && equalsIgnoreCase(bytes, nameStart, nameEnd, RPORT)) {
        const port = valueStart < 0 || empty ? 0 : readNumber(bytes, valueStart, valueEnd, 65535);
        via.rport = Math.max(port, 0);
        via.rportParamStart = at;
        via.rportParamEnd = valueEnd;
        return valueEnd;
      }
      if (via.maddrStart < 0 && valueStart >= 0 && equalsIgnoreCase(bytes, nameStart, nameEnd, MADDR)) {
        via.maddrStart = valueStart;
        via.maddrEnd = valueEnd;
      }
      break;
    case 6:
      if (via.branchStart < 0 && valueStart >= 0 && !empty && equalsIgnoreCase(bytes, nameStart, nameEnd, BRANCH)) {
        via.branchStart = valueStart;
        via.branchEnd = valueEnd;
      }
      break;
    case 8:
      if (equalsIgnoreCase(bytes, nameStart, nameEnd, RECEIVED)) {
        // A second `received` is refused (RFC 3261 7.3.1). The farm's value replaces the first; a forged second one
        // would survive.
        if (via.receivedParamStart >= 0) return -1;
        via.receivedParamStart = at;
        via.receivedParamEnd = valueEnd;
        if (valueStart < 0 || empty) return valueEnd;
        const bracketed = bytes[valueStart]! === OPEN_BRACKET && bytes[valueEnd - 1]! === CLOSE_BRACKET;
        via.receivedStart = bracketed ? valueStart + 1 : valueStart;
        via.receivedEnd = bracketed ? valueEnd - 1 : valueEnd;
        return valueEnd;
      }
      break;
  }
  return valueEnd;
}

/**
 * Reads the first Via value in `[start, end)`, the value part of a header line (folds allowed), into `via`. Never
 * throws. After BAD_PARAMETER everything up to sent-by is valid, and `end` is the end of the range.
 */
export function parseVia(bytes: Uint8Array, start: number, end: number, via: Via): ViaOutcome {
  resetVia(via);
  return readVia(bytes, start, end, via);
}

/** Like `parseVia`, into a `via` that has been reset. */
export function readVia(bytes: Uint8Array, start: number, end: number, via: Via): ViaOutcome {
  const from = skipBlanks(bytes, start, end);
  let i = protocol(bytes, from, end, via);
  if (i < 0 || i >= end || (CLASS[bytes[i]!]! & BLANK) === 0) return ViaOutcome.UNREADABLE;
  i = sentBy(bytes, skipBlanks(bytes, i, end), end, via);
  if (i < 0) return ViaOutcome.UNREADABLE;
  via.start = from;
  via.end = i;
  for (;;) {
    const at = skipBlanks(bytes, i, end);
    if (at >= end || bytes[at]! === COMMA) {
      via.next = at;
      via.outcome = ViaOutcome.OK;
      return ViaOutcome.OK;
    }
    i = bytes[at]! === SEMICOLON ? parameter(bytes, at, end, via) : -1;
    if (i < 0) {
      const behind = skipBlanks(bytes, at + 1, end);
      if (bytes[at]! === SEMICOLON && (behind >= end || bytes[behind]! === COMMA)) {
        // Some phones send a semicolon after the last parameter; it has no other reading. It is not part of the value,
        // so that an added parameter stands before it.
        via.next = behind;
        via.outcome = ViaOutcome.OK;
        return ViaOutcome.OK;
      }
      via.end = trimEnd(bytes, from, end);
      via.next = end;
      via.outcome = ViaOutcome.BAD_PARAMETER;
      return ViaOutcome.BAD_PARAMETER;
    }
    via.end = i;
  }
}
