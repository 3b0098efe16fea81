// Cuts a TCP byte stream into messages (RFC 3261 18.3). One flat state machine; it examines each octet once.
import { isTokenOctet } from './classify.ts';

/** Reasons why framing is lost. After the fault no octet can be trusted to begin a message. */
export const FRAME_FAULTS = {
  'not-sip': 'the first octet of a message is neither a token octet nor a keep-alive',
  'bare-line-end': 'a single CR or LF in the headers',
  'no-length': 'no Content-Length',
  'bad-length': 'a Content-Length that is not digits only',
  'length-conflict': 'two Content-Lengths that differ',
  'header-too-large': 'the headers do not end within the limit',
  'message-too-large': 'headers and Content-Length together are above the limit',
} as const;
export type FrameFault = keyof typeof FRAME_FAULTS;

export interface FramerHandlers {
  /** Receives one whole message, `bytes[start..end)`. The framer owns the bytes: copy them to keep them. */
  onMessage(bytes: Buffer, start: number, end: number): void;
  /** Receives a keep-alive between messages: a double CRLF, or a NUL. Some devices send one to four NULs. */
  onKeepalive(): void;
  /**
   * Framing is lost; the framer takes no more octets. `bytes[start..end)` is the received part of the message.
   * It stops at the end of the headers, if that was found. It is empty for `not-sip`.
   */
  onFault(fault: FrameFault, bytes: Buffer, start: number, end: number): void;
}

export interface FramerLimits {
  /** Octets of start line and headers, the empty line included. */
  readonly headerBytes: number;
  /** Octets of a whole message. */
  readonly messageBytes: number;
}

const NUL = 0;
const HTAB = 9;
const LF = 10;
const CR = 13;
const SPACE = 32;
const HYPHEN = 45;
const COLON = 58;

const LENGTH_NAME = Buffer.from('content-length');
const COMPACT_NAME_OCTET = 108;

/** Between messages, after: nothing, CR, CRLF, CRLF CR. */
const BETWEEN = 0;
const BETWEEN_CR = 1;
const BETWEEN_LINE = 2;
const BETWEEN_LINE_CR = 3;
/** In a line with irrelevant content: the start line, other headers. */
const LINE = 4;
/** After the CR of a line. */
const LINE_CR = 5;
/** At the first octet of a line after the start line. */
const LINE_START = 6;
/** After a CR at the first octet of a line: the empty line. */
const EMPTY_LINE_CR = 7;
/** In a name that has matched `content-length` so far. */
const NAME = 8;
/** In a name that has matched `l` so far. */
const COMPACT_NAME = 9;
/** After the name, before the colon. */
const NAME_BLANK = 10;
/** After the colon, before the first digit. */
const VALUE_BLANK = 11;
/** In the digits. */
const VALUE = 12;
/** After the last digit. */
const VALUE_TAIL = 13;
const BODY = 14;
const STOPPED = 15;

const NO_BYTES = Buffer.alloc(0);
/**
 * First capacity of the buffer for a half message, in octets. Later capacities are at most twice the octets received.
 */
const FIRST_CAPACITY = 512;

function isBlank(octet: number): boolean {
  return octet === SPACE || octet === HTAB;
}

/**
 * Returns true when `octet` equals, in either case, the octet of `content-length` at `at`.
 * The hyphen is compared exactly, because `CR | 0x20` equals it.
 */
function continuesName(octet: number, at: number): boolean {
  return octet === HYPHEN ? LENGTH_NAME[at] === HYPHEN : octet > HYPHEN && (octet | 0x20) === LENGTH_NAME[at];
}

/** One framer per connection. Its messages do not depend on the division of the stream into chunks. */
export class Framer {
  /** Whole messages and keep-alives so far. */
  messages = 0;
  keepalives = 0;
  /** Double CRLFs among the keep-alives. Each is a ping that a CRLF answers (RFC 5626 4.4.1). */
  pings = 0;
  /** Octets examined and octets copied so far. Both stay in proportion to the octets fed. */
  examined = 0;
  copied = 0;
  readonly #handlers: FramerHandlers;
  readonly #messageBytes: number;
  readonly #headerBytes: number;
  #state = BETWEEN;
  /** State to return to when a blank follows a line end: a folded line continues in that state. */
  #folded = LINE;
  /** Octets of the half message from earlier chunks: `#held[0..#heldEnd)`. */
  #held: Buffer = NO_BYTES;
  #heldEnd = 0;
  /** Octets of `content-length` that the name has matched. */
  #matched = 0;
  /** Content-Length, or -1. */
  #length = -1;
  /** Value that is being read, capped at one above the message limit. */
  #value = 0;
  /** Missing octets of the body. */
  #missing = 0;
  /** First fault of this message. It is reported at the end of the headers, so that an answer can be built. */
  #fault: FrameFault | undefined;

  constructor(handlers: FramerHandlers, limits: FramerLimits) {
    this.#handlers = handlers;
    this.#messageBytes = limits.messageBytes;
    this.#headerBytes = Math.min(limits.headerBytes, limits.messageBytes);
  }

  /** Octets allocated for a half message. */
  get heldBytes(): number {
    return this.#held.length;
  }

  /** True when a message has begun and not ended. */
  get half(): boolean {
    return this.#state >= LINE && this.#state !== STOPPED;
  }

  /** Stops the framer. It ignores the rest of the current chunk too, and frees the half message. */
  stop(): void {
    this.#state = STOPPED;
    this.#held = NO_BYTES;
    this.#heldEnd = 0;
  }

  /**
   * Takes the next octets of the stream. Messages that lie wholly in `chunk` are passed to the handler without a copy.
   */
  feed(chunk: Buffer): void {
    const end = chunk.length;
    let at = 0;
    /** Offset of the message in this chunk; 0 when it began in an earlier chunk. */
    let start = 0;
    /** Offset at which its headers are too large. Set again at the start of each message. */
    let limit = this.#headerBytes - this.#heldEnd;
    while (at < end) {
      if (this.#state === STOPPED) return;
      if (this.#state === BODY) {
        const taken = Math.min(this.#missing, end - at);
        this.#missing -= taken;
        at += taken;
        if (this.#missing > 0) break;
        this.#finish(chunk, start, at);
        start = at;
        continue;
      }
      const octet = chunk[at]!;
      this.examined++;
      if (this.#state >= LINE && at >= limit) {
        this.#lose('header-too-large', chunk, start, at);
        return;
      }
      switch (this.#state) {
        case BETWEEN:
        case BETWEEN_LINE:
          if (octet === CR) this.#state++;
          else if (isTokenOctet(octet)) {
            this.#begin();
            start = at;
            limit = at + this.#headerBytes;
          } else if (octet === NUL) {
            this.#state = BETWEEN;
            this.#keepalive();
          } else {
            this.#lose('not-sip', chunk, at, at);
            return;
          }
          break;
        case BETWEEN_CR:
        case BETWEEN_LINE_CR:
          if (octet !== LF) {
            this.#lose('not-sip', chunk, at, at);
            return;
          }
          if (this.#state === BETWEEN_CR) this.#state = BETWEEN_LINE;
          else {
            this.#state = BETWEEN;
            this.pings++;
            this.#keepalive();
          }
          break;
        case LINE:
          if (octet === CR) this.#state = LINE_CR;
          else if (octet === LF) this.#fault ??= 'bare-line-end';
          break;
        case LINE_CR:
          if (octet === LF) this.#state = LINE_START;
          else {
            this.#fault ??= 'bare-line-end';
            if (octet !== CR) this.#state = LINE;
          }
          break;
        case LINE_START:
          if (isBlank(octet)) {
            this.#state = this.#folded;
            break;
          }
          if (this.#folded !== LINE) this.#endValue();
          if (octet === CR) this.#state = EMPTY_LINE_CR;
          else this.#beginLine(octet);
          break;
        case EMPTY_LINE_CR:
          if (octet !== LF) {
            this.#fault ??= 'bare-line-end';
            this.#state = octet === CR ? LINE_CR : LINE;
          } else if (!this.#beginBody(chunk, start, at + 1)) return;
          else if (this.#missing === 0) {
            this.#finish(chunk, start, at + 1);
            start = at + 1;
          }
          break;
        case NAME:
          if (continuesName(octet, this.#matched)) this.#matched++;
          else if (this.#matched === LENGTH_NAME.length) this.#endName(octet);
          else this.#otherLine(octet);
          break;
        case COMPACT_NAME:
          this.#endName(octet);
          break;
        case NAME_BLANK:
          if (!isBlank(octet)) this.#endName(octet);
          break;
        case VALUE_BLANK:
        case VALUE_TAIL:
          if (octet >= 48 && octet <= 57 && this.#state === VALUE_BLANK) {
            this.#value = octet - 48;
            this.#state = VALUE;
          } else this.#blankOrLineEnd(octet);
          break;
        case VALUE:
          if (octet >= 48 && octet <= 57) {
            // Capped, so that a long row of digits stays within the exact integers.
            this.#value = Math.min(this.#value * 10 + octet - 48, this.#messageBytes + 1);
          } else {
            this.#state = VALUE_TAIL;
            this.#blankOrLineEnd(octet);
          }
          break;
      }
      at++;
    }
    if (this.half) this.#hold(chunk, start, end);
  }

  #keepalive(): void {
    this.keepalives++;
    this.#handlers.onKeepalive();
  }

  #begin(): void {
    this.#state = LINE;
    this.#folded = LINE;
    this.#length = -1;
    this.#fault = undefined;
  }

  #beginLine(octet: number): void {
    this.#folded = LINE;
    const lower = octet | 0x20;
    this.#matched = 1;
    if (lower === LENGTH_NAME[0]) this.#state = NAME;
    else if (lower === COMPACT_NAME_OCTET) this.#state = COMPACT_NAME;
    else this.#otherLine(octet);
  }

  /** Enters a line that carries no Content-Length. `octet` may already end it. */
  #otherLine(octet: number): void {
    this.#folded = LINE;
    if (octet === LF) this.#fault ??= 'bare-line-end';
    this.#state = octet === CR ? LINE_CR : LINE;
  }

  /** Takes the octet after `Content-Length` or `l`, or after blanks there. */
  #endName(octet: number): void {
    if (octet === COLON) this.#state = VALUE_BLANK;
    else if (isBlank(octet)) this.#state = NAME_BLANK;
    else if (this.#state !== NAME_BLANK && isTokenOctet(octet)) this.#otherLine(octet);
    else {
      // Another element might skip this octet: `Content-Length\x0b:` must not hide a length from this framer.
      this.#fault ??= 'bad-length';
      this.#otherLine(octet);
    }
  }

  /** Takes an octet before or after the digits: a blank, a line end, or a fault. After a fold the state is the same. */
  #blankOrLineEnd(octet: number): void {
    if (isBlank(octet)) return;
    if (octet === CR) {
      this.#folded = this.#state;
      this.#state = LINE_CR;
      return;
    }
    this.#fault ??= 'bad-length';
    this.#otherLine(octet);
  }

  /** Ends the Content-Length line: the next line is no continuation. */
  #endValue(): void {
    if (this.#folded === VALUE_BLANK) this.#fault ??= 'bad-length';
    else if (this.#length >= 0 && this.#length !== this.#value) this.#fault ??= 'length-conflict';
    else this.#length = this.#value;
    this.#folded = LINE;
  }

  /** Begins the body: the headers end before `end`. Returns false when framing is lost. */
  #beginBody(chunk: Buffer, start: number, end: number): boolean {
    const headers = this.#heldEnd + end - start;
    if (this.#length < 0) this.#fault ??= 'no-length';
    else if (this.#length > this.#messageBytes - headers) this.#fault ??= 'message-too-large';
    if (this.#fault) {
      this.#lose(this.#fault, chunk, start, end);
      return false;
    }
    this.#missing = this.#length;
    this.#state = BODY;
    return true;
  }

  #finish(chunk: Buffer, start: number, end: number): void {
    this.#state = BETWEEN;
    this.messages++;
    if (this.#heldEnd === 0) {
      this.#handlers.onMessage(chunk, start, end);
      return;
    }
    this.#hold(chunk, start, end);
    const bytes = this.#held;
    const length = this.#heldEnd;
    this.#held = NO_BYTES;
    this.#heldEnd = 0;
    this.#handlers.onMessage(bytes, 0, length);
  }

  #lose(fault: FrameFault, chunk: Buffer, start: number, end: number): void {
    let bytes = chunk;
    let from = start;
    let to = end;
    if (this.#heldEnd > 0) {
      this.#hold(chunk, start, end);
      bytes = this.#held;
      from = 0;
      to = this.#heldEnd;
    }
    this.stop();
    this.#handlers.onFault(fault, bytes, from, to);
  }

  #hold(chunk: Buffer, start: number, end: number): void {
    const needed = this.#heldEnd + end - start;
    if (needed > this.#held.length) {
      const capacity = Math.max(Math.min(FIRST_CAPACITY, this.#messageBytes), this.#held.length * 2, needed);
      const grown = Buffer.allocUnsafeSlow(capacity);
      this.#held.copy(grown, 0, 0, this.#heldEnd);
      this.copied += this.#heldEnd;
      this.#held = grown;
    }
    chunk.copy(this.#held, this.#heldEnd, start, end);
    this.copied += end - start;
    this.#heldEnd = needed;
  }
}
