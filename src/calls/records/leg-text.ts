// Makes the text of a message for `Leg.request` and `Leg.answer` of a call record: its start line, and the headers that
// identify and route.
import { HeaderName } from '../../sip/header-name.ts';
import { HeaderLine, nextHeader } from '../../sip/headers.ts';
import { MAX_LEG_TEXT } from './call-record.ts';

/** A message as it was sent, kept until its text is made outside the packet path. The octets may not change. */
export interface CapturedMessage {
  readonly message: Buffer;
  /** Offset behind the start line. */
  readonly startLineEnd: number;
  /** Offset of the first header line for the text: behind this farm's own lines, which are not visible outside. */
  readonly headersStart: number;
  /** Offset behind the last header line. */
  readonly headersEnd: number;
}

/** The Via lines that the text keeps. */
export type Vias = 'all' | 'top' | 'none';

const KEPT: ReadonlySet<HeaderName> = new Set([
  HeaderName.FROM,
  HeaderName.TO,
  HeaderName.CALL_ID,
  HeaderName.CSEQ,
  HeaderName.CONTACT,
  HeaderName.RECORD_ROUTE,
  HeaderName.ROUTE,
  HeaderName.EVENT,
  HeaderName.EXPIRES,
  HeaderName.SESSION_EXPIRES,
]);

const line = new HeaderLine();
const block = Buffer.alloc(MAX_LEG_TEXT);

/** Returns the text, one character per octet; undefined when it is longer than MAX_LEG_TEXT. */
export function legText(captured: CapturedMessage, vias: Vias): string | undefined {
  const { message, startLineEnd, headersStart, headersEnd } = captured;
  if (startLineEnd > MAX_LEG_TEXT) return undefined;
  let length = message.copy(block, 0, 0, startLineEnd);
  let viasLeft = vias === 'all' ? Number.POSITIVE_INFINITY : vias === 'top' ? 1 : 0;
  for (let at = headersStart; nextHeader(message, at, headersEnd, line); at = line.lineEnd) {
    if (line.name === HeaderName.VIA ? viasLeft-- <= 0 : !KEPT.has(line.name)) continue;
    if (length + line.lineEnd - line.lineStart > MAX_LEG_TEXT) return undefined;
    length += message.copy(block, length, line.lineStart, line.lineEnd);
  }
  return block.toString('latin1', 0, length);
}

/** Returns the text without its Via lines. */
export function withoutVia(text: string): string {
  const message = Buffer.from(text, 'latin1');
  const startLineEnd = message.indexOf('\r\n') + 2;
  return legText({ message, startLineEnd, headersStart: startLineEnd, headersEnd: message.length }, 'none') ?? text;
}

/** Returns the text with this Contact value in place of its own; undefined when it is longer than MAX_LEG_TEXT. */
export function withContact(text: string, contact: string): string | undefined {
  const message = Buffer.from(text, 'latin1');
  const startLineEnd = message.indexOf('\r\n') + 2;
  let rest = '';
  for (let at = startLineEnd; nextHeader(message, at, message.length, line); at = line.lineEnd)
    if (line.name !== HeaderName.CONTACT) rest += message.toString('latin1', line.lineStart, line.lineEnd);
  const changed = `${text.slice(0, startLineEnd)}${rest}Contact: ${contact}\r\n`;
  return changed.length > MAX_LEG_TEXT ? undefined : changed;
}

/** Returns the branch of the text's top Via; '' when there is none. */
export function topBranch(text: string): string {
  return /^(?:Via|v)[ \t]*:[^\r\n]*?;branch=([^;,\s]+)/im.exec(text)?.[1] ?? '';
}
