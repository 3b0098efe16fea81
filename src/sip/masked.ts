// Writes a message for a log line: what identifies and routes it, and nothing that grants access. Cold.
// Takes messages of any shape. Everything not proven harmless is left out, so a header that another element reads in
// another way reveals nothing either.
import { HeaderName } from './header-name.ts';
import { HeaderLine, nextHeader } from './headers.ts';
import { lineBreak } from './octets.ts';

/** Headers whose values are shown. */
const SHOWN: ReadonlySet<HeaderName> = new Set([
  HeaderName.VIA,
  HeaderName.FROM,
  HeaderName.TO,
  HeaderName.CALL_ID,
  HeaderName.CSEQ,
  HeaderName.CONTENT_LENGTH,
  HeaderName.CONTENT_TYPE,
  HeaderName.MAX_FORWARDS,
  HeaderName.ROUTE,
  HeaderName.RECORD_ROUTE,
  HeaderName.PATH,
  HeaderName.CONTACT,
  HeaderName.EXPIRES,
]);

/** Most characters of one value. */
const MAX_VALUE = 200;

/** A token of the farm (ownership/token.ts). Its possession is enough to use it. */
const TOKEN = /sf[0-9a-v]{20,}/gi;
/** The password and the headers of a SIP URI (RFC 3261 19.1.1). */
const PASSWORD = /(sips?:[^:@>\s]*):[^@>\s]*@/gi;
const URI_HEADERS = /\?[^>\s]*/g;
/** The text after these words may be a secret. */
const CREDENTIALS = /((?:authorization|inline|password|response|nonce|key)["']?\s*[:=]).*/is;
/** Ends a request line, or begins a status line. */
const VERSION = /^SIP\/|SIP\/\d+\.\d+$/i;

/**
 * Returns a text of this program that may hold a piece of a message, in at most `most` characters.
 * Line ends, secrets and characters beyond ASCII are taken out.
 */
export function maskedWords(text: string, most: number): string {
  return tidy(text.slice(0, 4 * most), most);
}

/**
 * Returns the message `bytes[start..end)`, of any content, in at most `most` characters: start line and header lines,
 * joined by ` | `. Shows the values of headers that identify and route it, without tokens and passwords; of others the
 * length.
 */
export function maskedMessage(bytes: Buffer, start: number, end: number, most: number): string {
  const line = new HeaderLine();
  const firstEnd = lineBreak(bytes, start, end);
  const first = slice(bytes, start, firstEnd);
  const parts = [VERSION.test(first) ? tidy(first, MAX_VALUE) : `[${firstEnd - start} octets]`];
  let at = Math.min(firstEnd + 2, end);
  let length = parts[0]!.length;
  while (length < most && at < end && bytes[at] !== 0x0d && nextHeader(bytes, at, end, line)) {
    at = line.lineEnd;
    const name = line.name === HeaderName.OTHER ? '' : `${slice(bytes, line.nameStart, line.nameEnd)}: `;
    const value = SHOWN.has(line.name)
      ? tidy(slice(bytes, line.valueStart, lineBreak(bytes, line.valueStart, line.valueEnd)), MAX_VALUE)
      : `[${line.lineEnd - line.nameEnd} octets]`;
    const part = name + value;
    parts.push(part);
    length += part.length + 3;
  }
  if (at < end) parts.push(`[${end - at} octets more]`);
  return cut(parts.join(' | '), most);
}

function slice(bytes: Buffer, start: number, end: number): string {
  return bytes.toString('latin1', start, Math.min(end, start + 4 * MAX_VALUE));
}

function tidy(text: string, most: number): string {
  const masked = text
    .replace(TOKEN, 'sf[token]')
    .replace(PASSWORD, '$1:[masked]@')
    .replace(URI_HEADERS, '?[masked]')
    .replace(CREDENTIALS, '$1[masked]')
    .replace(/[^ -~]+/g, '.');
  return cut(masked, most);
}

function cut(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most - 3)}...`;
}
