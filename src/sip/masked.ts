// A message as a log line may show it: what identifies and routes it, and nothing that lets anybody in. Cold, and for messages of any shape: what is
// not known to be harmless is left out, so that a header that another element would read otherwise shows nothing either.
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

/** Characters of one value. */
const MAX_VALUE = 200;

/** A token of the farm (ownership/token.ts): whoever has it may use it. */
const TOKEN = /sf[0-9a-v]{20,}/gi;
/** The password and the headers of a SIP URI (RFC 3261 19.1.1). */
const PASSWORD = /(sips?:[^:@>\s]*):[^@>\s]*@/gi;
const URI_HEADERS = /\?[^>\s]*/g;
/** From here on a text may be a secret. */
const CREDENTIALS = /((?:authorization|inline|password|response|nonce|key)["']?\s*[:=]).*/is;
/** A request line ends so, a status line begins so. */
const VERSION = /^SIP\/|SIP\/\d+\.\d+$/i;

/** A text of ours that may hold a piece of a message: without line ends, secrets and characters beyond ASCII, and not longer than `most` characters. */
export function maskedWords(text: string, most: number): string {
  return tidy(text.slice(0, 4 * most), most);
}

/**
 * The message in `bytes[start..end)`, which may be anything, in `most` characters: start line and header lines, joined by ` | `. Shown are the values of
 * the headers that identify and route it, tokens and passwords taken out; of all else the length.
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
