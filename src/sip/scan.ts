// The scanner of the hot path: one forward pass over a message. Returns integer offsets; allocates and throws nothing.
// It is strict where two readers could disagree about the place of a field. Other fields it skips unread.
import * as headers from './header-name.ts';
import * as lines from './lines.ts';
import * as octets from './octets.ts';
import * as vias from './via.ts';

// Local constants: the compiler treats imported ones as variables, and these are read for every octet.
const {
  CR,
  DOT,
  EQUAL,
  GREATER,
  HT,
  isDigit,
  LESS,
  LF,
  lineBreak,
  QUOTE,
  readNumber,
  SEMICOLON,
  SLASH,
  SP,
  sameOctets,
  skipBlanks,
  skipClass,
  skipQuoted,
  TOKEN,
  trimEnd,
  URI,
  VALUE,
  valueEnd,
} = octets;
const { HeaderName } = headers;
const { FOUND_WORDS, findLines, found, LINE_END, NAME, NO_NAME, VALUE_END, VALUE_START, WORD_END } = lines;
const { readVia, resetVia, Via, ViaOutcome } = vias;

export const Method = {
  INVITE: 1,
  ACK: 2,
  BYE: 3,
  CANCEL: 4,
  REGISTER: 5,
  OPTIONS: 6,
  PRACK: 7,
  SUBSCRIBE: 8,
  NOTIFY: 9,
  UPDATE: 10,
  INFO: 11,
  REFER: 12,
  MESSAGE: 13,
  PUBLISH: 14,
  OTHER: 15,
} as const;
export type Method = (typeof Method)[keyof typeof Method];

/** Bounds of one message. No working element sends more. */
export const SCAN_LIMITS = {
  /**
   * Octets of one message (RFC 3261 18.1.1). One header line may fill it: each octet of a line is examined a few times
   * at most.
   */
  message: 65_535,
  /** Header lines. 64 Via lines and as many Route and Record-Route lines fit. */
  headerLines: 512,
} as const;

/**
 * Reasons to refuse a message before any state exists for it, each with the status of the answer.
 * A response or an ACK is dropped instead.
 */
export const SCAN_FAULTS = {
  'start-line': {
    answer: 400,
    meaning: 'the start line breaks the grammar; blanks in it are never repaired (RFC 3261 25.1)',
  },
  version: { answer: 505, meaning: 'the start line names another version than SIP/2.0 (RFC 3261 21.5.6)' },
  'unknown-method': { answer: 501, meaning: 'an unknown method, and CSeq names another (RFC 4475 3.1.2.18)' },
  'method-mismatch': { answer: 400, meaning: 'CSeq names another method than the start line (RFC 3261 8.1.1.5)' },
  status: { answer: 'drop', meaning: 'the status code of a response is not 100-699 (RFC 3261 7.2)' },
  'line-end': { answer: 400, meaning: 'a CR or LF that is not part of a CRLF, before the body (RFC 3261 7)' },
  truncated: { answer: 400, meaning: 'the message ends inside a line' },
  'header-name': {
    answer: 400,
    meaning: 'a header line without a colon, or with an octet in its name that is no token character',
  },
  'header-limit': { answer: 400, meaning: 'too long a message, or too many header lines' },
  'missing-header': { answer: 400, meaning: 'no Call-ID, CSeq, From or To (RFC 3261 8.1.1)' },
  'duplicate-header': {
    answer: 400,
    meaning: 'two Call-ID, CSeq, From or To: two elements could see two dialogs (RFC 4475 3.3.8)',
  },
  'call-id': { answer: 400, meaning: 'a Call-ID with a blank or a control octet inside (RFC 3261 20.8)' },
  cseq: { answer: 400, meaning: 'CSeq is not a number up to 2^32-1 and a method (RFC 3261 20.16)' },
  via: { answer: 400, meaning: 'a parameter of the top Via breaks the grammar (RFC 3261 20.42)' },
  'no-via': { answer: 'drop', meaning: 'no Via, or no sent-by to be read in it: no target for an answer' },
  'content-length': { answer: 400, meaning: 'Content-Length is not a number, or two of them differ (RFC 4475 3.3.9)' },
  'content-length-beyond': { answer: 400, meaning: 'Content-Length is larger than what came (RFC 3261 18.3)' },
  'content-length-missing': { answer: 400, meaning: 'no Content-Length on a stream (RFC 3261 18.3)' },
} as const satisfies Record<string, { readonly answer: 400 | 501 | 505 | 'drop'; readonly meaning: string }>;
Object.freeze(SCAN_FAULTS);

export type ScanFault = keyof typeof SCAN_FAULTS;

/** One message as offsets into `bytes`; -1 = absent. Reused: one instance per entrance. */
export class Scan {
  bytes: Buffer = Buffer.alloc(0);
  start = 0;
  /** After the body. Octets of a datagram beyond Content-Length are cut off. */
  end = 0;
  isRequest = false;
  /** Method of the start line (requests) or of CSeq (responses). */
  method: Method = Method.OTHER;
  methodStart = -1;
  methodEnd = -1;
  uriStart = -1;
  uriEnd = -1;
  /** 100-699 for a response, else 0. */
  status = 0;
  /** First octet after the CRLF of the start line. */
  headersStart = -1;
  /** After the CRLF of the last whole header line. The empty line begins there, if there is one. */
  headersEnd = -1;
  /** After the empty line; `end` without a body. */
  bodyStart = -1;
  /** The first Via header line, from its name to the end of its last CRLF. */
  viaLineStart = -1;
  viaLineEnd = -1;
  /** The first Via value in it. */
  viaStart = -1;
  viaEnd = -1;
  /** Another value follows in the same header line. */
  viaMore = false;
  /** The first Via value, parsed. Its parameters are offsets into `bytes`. */
  readonly via = new Via();
  /** Where the next Via value begins and its line ends: in the rest of the header line, or in the second Via line. */
  nextViaStart = -1;
  nextViaEnd = -1;
  branchStart = -1;
  branchEnd = -1;
  sentByStart = -1;
  sentByEnd = -1;
  callIdStart = -1;
  callIdEnd = -1;
  /** The whole values of From and To, without surrounding blanks. */
  fromStart = -1;
  fromEnd = -1;
  toStart = -1;
  toEnd = -1;
  toTagStart = -1;
  toTagEnd = -1;
  /** 0-4,294,967,295; -1 when absent or unreadable. */
  cseq = -1;
  /** The whole value of CSeq. */
  cseqStart = -1;
  cseqEnd = -1;
  cseqMethodStart = -1;
  cseqMethodEnd = -1;
  /** The first Route header line and its first value, `<sip:...>;params`. */
  routeLineStart = -1;
  routeLineEnd = -1;
  routeStart = -1;
  routeEnd = -1;
  /** The value of the first Contact header line. It may hold several contacts. */
  contactStart = -1;
  contactEnd = -1;
  /**
   * 0-255; -1 when absent or not such a number. An unreadable value counts as absent (RFC 4475 3.1.2.4), but its
   * offsets are set.
   */
  maxForwards = -1;
  maxForwardsStart = -1;
  maxForwardsEnd = -1;
  /** -1 when absent or unreadable. */
  contentLength = -1;
  /** The value of the first Content-Length, and the number of such lines; equal values may be repeated. */
  contentLengthStart = -1;
  contentLengthEnd = -1;
  contentLengthLines = 0;
  /** The value of the first Content-Type, parameters included. */
  contentTypeStart = -1;
  contentTypeEnd = -1;
  /** The value of the first Replaces, Join or Target-Dialog header. */
  namedDialogStart = -1;
  namedDialogEnd = -1;

  #fromTagStart = -1;
  #fromTagEnd = -1;
  #fromTagRead = false;

  /** The tag of From. It is read on first use, because no owner depends on it. */
  get fromTagStart(): number {
    if (!this.#fromTagRead) this.#readFromTag();
    return this.#fromTagStart;
  }
  get fromTagEnd(): number {
    if (!this.#fromTagRead) this.#readFromTag();
    return this.#fromTagEnd;
  }

  /** Forgets the tag, after From has changed. */
  forgetFromTag(): void {
    this.#fromTagRead = false;
  }

  #readFromTag(): void {
    const { start, end } = tagOf(this.bytes, this.fromStart, this.fromEnd);
    this.#fromTagStart = start;
    this.#fromTagEnd = end;
    this.#fromTagRead = true;
  }
}

function reset(scan: Scan, bytes: Buffer, start: number, end: number): void {
  scan.forgetFromTag();
  scan.bytes = bytes;
  scan.start = start;
  scan.end = end;
  scan.isRequest = false;
  scan.method = Method.OTHER;
  scan.methodStart = -1;
  scan.methodEnd = -1;
  scan.uriStart = -1;
  scan.uriEnd = -1;
  scan.status = 0;
  scan.headersStart = end;
  scan.headersEnd = end;
  scan.bodyStart = end;
  scan.viaLineStart = -1;
  scan.viaLineEnd = -1;
  scan.viaStart = -1;
  scan.viaEnd = -1;
  scan.viaMore = false;
  scan.nextViaStart = -1;
  scan.nextViaEnd = -1;
  scan.branchStart = -1;
  scan.branchEnd = -1;
  scan.sentByStart = -1;
  scan.sentByEnd = -1;
  scan.callIdStart = -1;
  scan.callIdEnd = -1;
  scan.fromStart = -1;
  scan.fromEnd = -1;
  scan.toStart = -1;
  scan.toEnd = -1;
  scan.toTagStart = -1;
  scan.toTagEnd = -1;
  scan.cseq = -1;
  scan.cseqStart = -1;
  scan.cseqEnd = -1;
  scan.cseqMethodStart = -1;
  scan.cseqMethodEnd = -1;
  scan.routeLineStart = -1;
  scan.routeLineEnd = -1;
  scan.routeStart = -1;
  scan.routeEnd = -1;
  scan.contactStart = -1;
  scan.contactEnd = -1;
  scan.maxForwards = -1;
  scan.maxForwardsStart = -1;
  scan.maxForwardsEnd = -1;
  scan.contentLength = -1;
  scan.contentLengthStart = -1;
  scan.contentLengthEnd = -1;
  scan.contentLengthLines = 0;
  scan.contentTypeStart = -1;
  scan.contentTypeEnd = -1;
  scan.namedDialogStart = -1;
  scan.namedDialogEnd = -1;
  resetVia(scan.via);
}

interface MethodSpelling {
  readonly octets: Buffer;
  readonly method: Method;
}
const METHODS: MethodSpelling[][] = Array.from({ length: 10 }, () => []);
for (const [name, method] of Object.entries(Method)) {
  if (method !== Method.OTHER) METHODS[name.length]!.push({ octets: Buffer.from(name), method });
}

/** Returns the method that `[start, end)` names. Methods are case-sensitive (RFC 3261 7.1) and never unescaped. */
function methodOf(bytes: Uint8Array, start: number, end: number): Method {
  const length = end - start;
  if (length >= METHODS.length || length < 3) return Method.OTHER;
  const candidates = METHODS[length]!;
  for (let c = 0; c < candidates.length; c++) {
    const candidate = candidates[c]!;
    let i = 0;
    while (i < length && bytes[start + i]! === candidate.octets[i]!) i++;
    if (i === length) return candidate.method;
  }
  return Method.OTHER;
}

/** Returns true when `[at, at + 4)` is `SIP/`, in any case (RFC 3261 7.1). */
function startsWithSip(bytes: Uint8Array, at: number, end: number): boolean {
  return (
    end - at >= 4 &&
    (bytes[at]! | 0x20) === 0x73 &&
    (bytes[at + 1]! | 0x20) === 0x69 &&
    (bytes[at + 2]! | 0x20) === 0x70 &&
    bytes[at + 3]! === SLASH
  );
}

/**
 * Checks that `[start, end)` is exactly a SIP-Version.
 * Returns null for SIP/2.0, `version` for another, and `start-line` for no version.
 */
function versionFault(bytes: Uint8Array, start: number, end: number): ScanFault | null {
  if (!startsWithSip(bytes, start, end)) return 'start-line';
  if (end - start === 7 && bytes[start + 4]! === 0x32 && bytes[start + 5]! === DOT && bytes[start + 6]! === 0x30)
    return null;
  let i = start + 4;
  while (i < end && isDigit(bytes[i]!)) i++;
  if (i === start + 4 || i + 1 >= end || bytes[i]! !== DOT) return 'start-line';
  const minor = i + 1;
  i = minor;
  while (i < end && isDigit(bytes[i]!)) i++;
  if (i !== end || i === minor) return 'start-line';
  return 'version';
}

/**
 * Reads method and URI of a request line as far as possible. Returns the offset where it stopped; no line break is
 * before it. `end` is the end of the message.
 */
function scanRequest(bytes: Uint8Array, start: number, end: number, scan: Scan): number {
  const methodEnd = skipClass(bytes, start, end, TOKEN);
  scan.isRequest = true;
  scan.methodStart = start;
  scan.methodEnd = methodEnd;
  scan.method = methodOf(bytes, start, methodEnd);
  if (methodEnd === start || methodEnd >= end || bytes[methodEnd]! !== SP) return methodEnd;
  const uriEnd = skipClass(bytes, methodEnd + 1, end, URI);
  if (uriEnd === methodEnd + 1) return uriEnd;
  scan.uriStart = methodEnd + 1;
  scan.uriEnd = uriEnd;
  return uriEnd;
}

/** Reads a status line. The reason phrase and the blank before it may be missing, because the status is sufficient. */
function scanStatusLine(bytes: Uint8Array, start: number, end: number, scan: Scan): ScanFault | null {
  let i = start;
  while (i < end && bytes[i]! !== SP) i++;
  const fault = versionFault(bytes, start, i);
  if (fault) return fault;
  const digits = i + 1;
  i = digits;
  while (i < end && isDigit(bytes[i]!)) i++;
  if (i < end && bytes[i]! !== SP) return 'start-line';
  const status = i - digits === 3 ? readNumber(bytes, digits, i, 699) : -1;
  if (status < 100) return 'status';
  scan.status = status;
  return null;
}

/** Last result of `tagOf`. */
const tag = { start: -1, end: -1 };

/**
 * Returns the tag of a From or To value. Read the result before the next call.
 * Only parameters of the header count, never a display name, a quoted string or a URI in `<>`.
 */
function tagOf(bytes: Uint8Array, start: number, end: number): { readonly start: number; readonly end: number } {
  tag.start = -1;
  tag.end = -1;
  let i = start;
  while (i < end) {
    const octet = bytes[i]!;
    if (octet === SEMICOLON) break;
    if (octet === QUOTE) i = skipQuoted(bytes, i, end);
    else if (octet === LESS) {
      while (i < end && bytes[i]! !== GREATER) i++;
      while (i < end && bytes[i]! !== SEMICOLON) i++;
      break;
    } else i++;
  }
  while (i < end) {
    const name = skipBlanks(bytes, i + 1, end);
    const nameEnd = skipClass(bytes, name, end, TOKEN);
    i = skipBlanks(bytes, nameEnd, end);
    if (i < end && bytes[i]! === EQUAL) {
      const value = skipBlanks(bytes, i + 1, end);
      if (value < end && bytes[value]! === QUOTE) i = skipQuoted(bytes, value, end);
      else {
        i = skipClass(bytes, value, end, VALUE);
        if (
          nameEnd - name === 3 &&
          i > value &&
          (bytes[name]! | 0x20) === 0x74 &&
          (bytes[name + 1]! | 0x20) === 0x61 &&
          (bytes[name + 2]! | 0x20) === 0x67
        ) {
          tag.start = value;
          tag.end = i;
          return tag;
        }
      }
    }
    while (i < end && bytes[i]! !== SEMICOLON) i++;
  }
  return tag;
}

function scanToTag(bytes: Uint8Array, start: number, end: number, scan: Scan): void {
  const { start: tagStart, end: tagEnd } = tagOf(bytes, start, end);
  scan.toTagStart = tagStart;
  scan.toTagEnd = tagEnd;
}

function scanCseq(bytes: Uint8Array, start: number, end: number, scan: Scan): ScanFault | null {
  if (scan.cseqStart >= 0) return 'duplicate-header';
  scan.cseqStart = start;
  scan.cseqEnd = end;
  let i = start;
  while (i < end && isDigit(bytes[i]!)) i++;
  const value = readNumber(bytes, start, i, 0xffffffff);
  const method = skipBlanks(bytes, i, end);
  if (value < 0 || method === i || method >= end || skipClass(bytes, method, end, TOKEN) !== end) return 'cseq';
  scan.cseq = value;
  scan.cseqMethodStart = method;
  scan.cseqMethodEnd = end;
  return null;
}

/** `wordEnd`: the first blank or control octet, or `end`. */
function scanCallId(start: number, wordEnd: number, end: number, scan: Scan): ScanFault | null {
  if (scan.callIdStart >= 0) return 'duplicate-header';
  if (start === end) return 'missing-header';
  scan.callIdStart = start;
  scan.callIdEnd = end;
  return wordEnd === end ? null : 'call-id';
}

function scanContentLength(bytes: Uint8Array, start: number, end: number, scan: Scan): ScanFault | null {
  const value = readNumber(bytes, start, end, 0xffffffff);
  if (value < 0 || (scan.contentLength >= 0 && scan.contentLength !== value)) return 'content-length';
  scan.contentLength = value;
  if (scan.contentLengthLines++ === 0) {
    scan.contentLengthStart = start;
    scan.contentLengthEnd = end;
  }
  return null;
}

function scanTopVia(bytes: Uint8Array, start: number, end: number, scan: Scan): ScanFault | null {
  const via = scan.via;
  const outcome = readVia(bytes, start, end, via);
  if (outcome === ViaOutcome.UNREADABLE) return 'no-via';
  scan.viaStart = via.start;
  scan.viaEnd = via.end;
  scan.branchStart = via.branchStart;
  scan.branchEnd = via.branchEnd;
  scan.sentByStart = via.sentByStart;
  scan.sentByEnd = via.sentByEnd;
  if (outcome === ViaOutcome.BAD_PARAMETER) return 'via';
  scan.viaMore = via.next < end;
  if (scan.viaMore) {
    scan.nextViaStart = via.next + 1;
    scan.nextViaEnd = end;
  }
  return null;
}

/** Reads the header line that begins at `lineStart` and was found in `row`. */
function scanHeader(bytes: Uint8Array, row: number, lineStart: number, scan: Scan): ScanFault | null {
  const start = found[row + VALUE_START]!;
  const end = found[row + VALUE_END]!;
  const lineEnd = found[row + LINE_END]!;
  switch (found[row + NAME]!) {
    case HeaderName.VIA:
      if (scan.viaLineStart >= 0) {
        if (scan.nextViaStart < 0) {
          scan.nextViaStart = start;
          scan.nextViaEnd = end;
        }
        return null;
      }
      scan.viaLineStart = lineStart;
      scan.viaLineEnd = lineEnd;
      return scanTopVia(bytes, start, end, scan);
    case HeaderName.FROM:
      if (scan.fromStart >= 0) return 'duplicate-header';
      scan.fromStart = start;
      scan.fromEnd = end;
      return null;
    case HeaderName.TO:
      if (scan.toStart >= 0) return 'duplicate-header';
      scan.toStart = start;
      scan.toEnd = end;
      scanToTag(bytes, start, end, scan);
      return null;
    case HeaderName.CALL_ID:
      return scanCallId(start, found[row + WORD_END]!, end, scan);
    case HeaderName.CSEQ:
      return scanCseq(bytes, start, end, scan);
    case HeaderName.CONTENT_LENGTH:
      return scanContentLength(bytes, start, end, scan);
    case HeaderName.CONTENT_TYPE:
      if (scan.contentTypeStart < 0) {
        scan.contentTypeStart = start;
        scan.contentTypeEnd = end;
      }
      return null;
    case HeaderName.MAX_FORWARDS:
      if (scan.maxForwardsStart < 0) {
        scan.maxForwardsStart = start;
        scan.maxForwardsEnd = end;
        scan.maxForwards = readNumber(bytes, start, end, 255);
      }
      return null;
    case HeaderName.ROUTE:
      if (scan.routeLineStart < 0) {
        scan.routeLineStart = lineStart;
        scan.routeLineEnd = lineEnd;
        scan.routeStart = start;
        scan.routeEnd = trimEnd(bytes, start, valueEnd(bytes, start, end));
      }
      return null;
    case HeaderName.CONTACT:
      if (scan.contactStart < 0) {
        scan.contactStart = start;
        scan.contactEnd = end;
      }
      return null;
    case HeaderName.REPLACES:
    case HeaderName.JOIN:
    case HeaderName.TARGET_DIALOG:
      if (scan.namedDialogStart < 0) {
        scan.namedDialogStart = start;
        scan.namedDialogEnd = end;
      }
      return null;
    default:
      return null;
  }
}

/** Returns the fault that shows only after all header lines. Sets the method of a response, and `end`. */
function wholeMessageFault(scan: Scan, stream: boolean): ScanFault | null {
  if (scan.viaStart < 0) return 'no-via';
  if (scan.callIdStart < 0 || scan.cseqStart < 0 || scan.fromStart < 0 || scan.toStart < 0) return 'missing-header';
  if (!scan.isRequest) {
    scan.method = methodOf(scan.bytes, scan.cseqMethodStart, scan.cseqMethodEnd);
  } else if (
    !sameOctets(scan.bytes, scan.methodStart, scan.methodEnd, scan.bytes, scan.cseqMethodStart, scan.cseqMethodEnd)
  ) {
    return scan.method === Method.OTHER ? 'unknown-method' : 'method-mismatch';
  }
  if (scan.contentLength < 0) return stream ? 'content-length-missing' : null;
  if (scan.contentLength > scan.end - scan.bodyStart) return 'content-length-beyond';
  scan.end = scan.bodyStart + scan.contentLength;
  return null;
}

/**
 * Scans the message `bytes[start..end)` into `out`. Returns null when the message can be handled, else the first fault.
 * Never throws. After a fault `out` holds the readable parts, which a stateless answer copies.
 * `stream`: it came by TCP or TLS, so Content-Length is mandatory (RFC 3261 18.3).
 */
export function scan(bytes: Buffer, start: number, end: number, stream: boolean, out: Scan): ScanFault | null {
  reset(out, bytes, start, end);
  let fault: ScanFault | null = null;

  // Start line.
  let at: number;
  if (startsWithSip(bytes, start, end)) {
    at = lineBreak(bytes, start, end);
    fault = scanStatusLine(bytes, start, at, out);
  } else {
    const behindUri = scanRequest(bytes, start, end, out);
    at = lineBreak(bytes, behindUri, end);
    fault =
      out.uriStart >= 0 && behindUri < at && bytes[behindUri]! === SP
        ? versionFault(bytes, behindUri + 1, at)
        : 'start-line';
  }
  if (end - start > SCAN_LIMITS.message) return fault ?? 'header-limit';
  if (at + 1 >= end) return fault ?? 'truncated';
  if (bytes[at]! !== CR || bytes[at + 1]! !== LF) return fault ?? 'line-end';
  at += 2;
  out.headersStart = at;
  out.headersEnd = at;
  if (at < end && (bytes[at]! === SP || bytes[at]! === HT)) fault ??= 'start-line';

  // Header lines.
  const whole = findLines(bytes, at, end, SCAN_LIMITS.headerLines);
  for (let line = 0, row = 0; ; line++, row += FOUND_WORDS) {
    if (at >= end) {
      // A datagram may lack the empty line (RFC 4475 3.1.2.15): its owner can still be found.
      if (stream) fault ??= 'truncated';
      break;
    }
    if (bytes[at]! === CR) {
      if (at + 1 >= end) return fault ?? 'truncated';
      if (bytes[at + 1]! !== LF) return fault ?? 'line-end';
      out.bodyStart = at + 2;
      break;
    }
    if (line === SCAN_LIMITS.headerLines) return fault ?? 'header-limit';

    const lineStart = at;
    const name = found[row + NAME]!;
    if (name === NO_NAME) fault ??= 'header-name';
    at = found[row + LINE_END]!;
    if (line === whole) return fault ?? (at + 1 < end || (at < end && bytes[at]! === LF) ? 'line-end' : 'truncated');
    out.headersEnd = at;
    if (name === HeaderName.OTHER || name === NO_NAME) continue;
    const headerFault = scanHeader(bytes, row, lineStart, out);
    if (headerFault) fault ??= headerFault;
  }
  const wholeFault = wholeMessageFault(out, stream);
  return fault ?? wholeFault;
}

/**
 * Returns the status of the stateless answer to `fault`, or 0 to drop.
 * A response, an ACK and a request without a readable Via get no answer.
 */
export function faultAnswer(fault: ScanFault, scan: Scan): 400 | 501 | 505 | 0 {
  const answer = SCAN_FAULTS[fault].answer;
  return answer === 'drop' || faultDropReason(scan) ? 0 : answer;
}

/** Returns the drop reason of a refused message that gets no answer; null when it may have one. */
export function faultDropReason(scan: Scan): 'bad-response' | 'bad-ack' | 'no-via' | null {
  if (!scan.isRequest) return 'bad-response';
  if (scan.method === Method.ACK) return 'bad-ack';
  return scan.viaStart < 0 ? 'no-via' : null;
}
