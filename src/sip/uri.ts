// Reads one SIP or SIPS URI (RFC 3261 19.1) as offsets and small numbers: what routing needs, nothing unescaped.
// Instances are reused.
import {
  AT,
  CLASS,
  CLOSE_BRACKET,
  COLON,
  EQUAL,
  equalsIgnoreCase,
  HOST,
  OPEN_BRACKET,
  QUESTION,
  readNumber,
  SEMICOLON,
  skipClass,
  TOKEN,
  URI,
} from './octets.ts';
import { type Transport, transportOf } from './via.ts';

/** NONE: no readable scheme. OTHER: another scheme; an element that routes by URI answers it with 416. */
export const Scheme = { NONE: 0, SIP: 1, SIPS: 2, OTHER: 3 } as const;
export type Scheme = (typeof Scheme)[keyof typeof Scheme];

const SIP = Buffer.from('sip');
const SIPS = Buffer.from('sips');
const LR = Buffer.from('lr');
const OB = Buffer.from('ob');
const MADDR = Buffer.from('maddr');
const TRANSPORT = Buffer.from('transport');
const FLOW = Buffer.from('sf');

/** All offsets are into the parsed bytes; -1 = absent. */
export class Uri {
  start = -1;
  end = -1;
  scheme: Scheme = Scheme.NONE;
  /** The user part without a password, escapes unchanged. */
  userStart = -1;
  userEnd = -1;
  /** The host without brackets. */
  hostStart = -1;
  hostEnd = -1;
  hostIsIpv6 = false;
  /** 1-65535; 0 = none given. */
  port = 0;
  /** From the first semicolon after the host to the headers or the end; empty without parameters. */
  paramsStart = -1;
  paramsEnd = -1;
  /** Value of the parameter `transport`; OTHER when it names an unknown one, -1 when it is absent. */
  transport: Transport | -1 = -1;
  transportStart = -1;
  transportEnd = -1;
  maddrStart = -1;
  maddrEnd = -1;
  /** Value of the parameter `sf`, which the farm itself added. The whole parameter begins at its semicolon. */
  flowParamStart = -1;
  flowStart = -1;
  flowEnd = -1;
  /** Loose router (RFC 3261 16.12.1.1). */
  lr = false;
  /** The sender requests the use of its outbound flow (RFC 5626 4.3). */
  ob = false;
}

function reset(uri: Uri, start: number, end: number): void {
  uri.start = start;
  uri.end = end;
  uri.scheme = Scheme.NONE;
  uri.userStart = -1;
  uri.userEnd = -1;
  uri.hostStart = -1;
  uri.hostEnd = -1;
  uri.hostIsIpv6 = false;
  uri.port = 0;
  uri.paramsStart = end;
  uri.paramsEnd = end;
  uri.transport = -1;
  uri.transportStart = -1;
  uri.transportEnd = -1;
  uri.maddrStart = -1;
  uri.maddrEnd = -1;
  uri.flowParamStart = -1;
  uri.flowStart = -1;
  uri.flowEnd = -1;
  uri.lr = false;
  uri.ob = false;
}

/** Reads host [":" port] at `at`. Returns the offset after it, or -1. */
function hostPort(bytes: Uint8Array, at: number, end: number, uri: Uri): number {
  let i = at;
  if (i < end && bytes[i]! === OPEN_BRACKET) {
    i++;
    let colons = 0;
    for (; i < end && bytes[i]! !== CLOSE_BRACKET; i++) {
      if (bytes[i]! === COLON) colons++;
      else if ((CLASS[bytes[i]!]! & HOST) === 0) return -1;
    }
    if (i >= end || colons < 2) return -1;
    uri.hostStart = at + 1;
    uri.hostEnd = i;
    uri.hostIsIpv6 = true;
    i++;
  } else {
    i = skipClass(bytes, at, end, HOST);
    if (i === at) return -1;
    uri.hostStart = at;
    uri.hostEnd = i;
  }
  if (i >= end || bytes[i]! !== COLON) return i;
  const digits = i + 1;
  i = skipClass(bytes, digits, end, TOKEN);
  uri.port = readNumber(bytes, digits, i, 65535);
  if (uri.port >= 1) return i;
  uri.port = 0;
  return -1;
}

/**
 * Reads one parameter with its semicolon at `at`. Returns the offset after it, or -1 when it has no name.
 * A last semicolon, which some phones send, is no parameter.
 */
function parameter(bytes: Uint8Array, at: number, end: number, uri: Uri): number {
  const name = at + 1;
  let nameEnd = name;
  while (nameEnd < end && bytes[nameEnd]! !== EQUAL && bytes[nameEnd]! !== SEMICOLON) nameEnd++;
  if (nameEnd === name) return name === end ? end : -1;
  let valueEnd = nameEnd;
  while (valueEnd < end && bytes[valueEnd]! !== SEMICOLON) valueEnd++;
  if (equalsIgnoreCase(bytes, name, nameEnd, LR)) uri.lr = true;
  else if (equalsIgnoreCase(bytes, name, nameEnd, OB)) uri.ob = true;
  else if (valueEnd > nameEnd + 1) {
    if (uri.transportStart < 0 && equalsIgnoreCase(bytes, name, nameEnd, TRANSPORT)) {
      uri.transportStart = nameEnd + 1;
      uri.transportEnd = valueEnd;
      uri.transport = transportOf(bytes, nameEnd + 1, valueEnd);
    } else if (uri.maddrStart < 0 && equalsIgnoreCase(bytes, name, nameEnd, MADDR)) {
      uri.maddrStart = nameEnd + 1;
      uri.maddrEnd = valueEnd;
    } else if (uri.flowStart < 0 && equalsIgnoreCase(bytes, name, nameEnd, FLOW)) {
      uri.flowParamStart = at;
      uri.flowStart = nameEnd + 1;
      uri.flowEnd = valueEnd;
    }
  }
  return valueEnd;
}

/** Reads the scheme. Returns the offset after its colon, or -1. */
function scheme(bytes: Uint8Array, start: number, end: number, uri: Uri): number {
  const colon = skipClass(bytes, start, end, TOKEN);
  if (colon === start || colon >= end || bytes[colon]! !== COLON) return -1;
  if (equalsIgnoreCase(bytes, start, colon, SIP)) uri.scheme = Scheme.SIP;
  else uri.scheme = equalsIgnoreCase(bytes, start, colon, SIPS) ? Scheme.SIPS : Scheme.OTHER;
  return colon + 1;
}

/**
 * Reads the URI that is exactly `[start, end)`: no `<>`, no blanks. Returns true for a SIP or SIPS URI, else false.
 * After false, `scheme` distinguishes a URI of another scheme (OTHER, 416) from a broken one (400).
 * The user part ends at the first `@`, so parameters inside it stay in it (RFC 4475 3.1.1.9).
 */
export function parseUri(bytes: Uint8Array, start: number, end: number, uri: Uri): boolean {
  reset(uri, start, end);
  let i = scheme(bytes, start, end, uri);
  if (i < 0 || uri.scheme === Scheme.OTHER) return false;
  if (skipClass(bytes, i, end, URI) !== end) return false;
  const user = i;
  let at = i;
  while (at < end && bytes[at]! !== AT) at++;
  if (at < end) {
    let userEnd = user;
    while (userEnd < at && bytes[userEnd]! !== COLON) userEnd++;
    if (userEnd === user) return false;
    uri.userStart = user;
    uri.userEnd = userEnd;
    i = at + 1;
  }
  i = hostPort(bytes, i, end, uri);
  if (i < 0) return false;
  let headers = i;
  while (headers < end && bytes[headers]! !== QUESTION) {
    if (bytes[headers]! === AT) return false;
    headers++;
  }
  uri.paramsStart = i;
  uri.paramsEnd = headers;
  while (i < headers) {
    if (bytes[i]! !== SEMICOLON) return false;
    i = parameter(bytes, i, headers, uri);
    if (i < 0) return false;
  }
  return true;
}
