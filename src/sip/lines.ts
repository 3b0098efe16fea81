// Finds the header lines of a message and the names in them, for the scanner: lines.wat does it, this feeds it.
import { instantiate, type WithMemory } from '../base/web-assembly.ts';
import { HeaderName, SPELLINGS } from './header-name.ts';
import { WASM } from './lines-wasm.ts';
import { CLASS, TOKEN } from './octets.ts';

interface Exports extends WithMemory {
  readonly lines: (end: number, most: number, shift: number) => number;
}

// Where things are in the memory of the module: see lines.wat.
const NAMES = 0;
const NUMBERS = 4096;
const TOKEN_BY_LOW = 4352;
const TOKEN_BY_HIGH = 4368;
const FOUND = 8192;
const MESSAGE = 65_536;
/** The names whose lines the scanner reads: each of 15 letters at most. */
const READ = new Set<HeaderName>([
  HeaderName.VIA,
  HeaderName.FROM,
  HeaderName.TO,
  HeaderName.CALL_ID,
  HeaderName.CSEQ,
  HeaderName.CONTENT_LENGTH,
  HeaderName.MAX_FORWARDS,
  HeaderName.ROUTE,
  HeaderName.CONTACT,
  HeaderName.REPLACES,
  HeaderName.JOIN,
  HeaderName.TARGET_DIALOG,
]);

const { memory, lines } = instantiate<Exports>(WASM);
const octets = new Uint8Array(memory.buffer);

for (const { letters, place, name } of SPELLINGS) {
  if (!READ.has(name)) continue;
  octets.set(letters, NAMES + place * 16);
  octets[NUMBERS + place] = name;
}
// Token characters have one of six high halves, 2 to 7: a bit for each.
for (let octet = 0; octet < 128; octet++) {
  if ((CLASS[octet]! & TOKEN) === 0) continue;
  const bit = 1 << ((octet >> 4) - 2);
  octets[TOKEN_BY_LOW + (octet & 15)]! |= bit;
  octets[TOKEN_BY_HIGH + (octet >> 4)]! |= bit;
}

/** What was found, of line n from `n * FOUND_WORDS` on. To be read before the next call. */
export const found = new Int32Array(memory.buffer, FOUND, (MESSAGE - FOUND) / 4);
export const FOUND_WORDS = 5;
/** A HeaderName that the scanner reads, OTHER, or NO_NAME for a line that does not begin with token characters, blanks or none, and a colon. */
export const NAME = 0;
export const NO_NAME = 255;
/** The value without blanks and folds around it, of a name that the scanner reads; an empty one lies behind the colon. */
export const VALUE_START = 1;
export const VALUE_END = 2;
/** The first blank or control octet of the value, or its end. */
export const WORD_END = 3;
/** Behind the last CRLF of the line, folds included. */
export const LINE_END = 4;

/**
 * Finds the header lines from `at` on, up to the empty line or `end`, and `most` (less than 2,800) at most. Returns how many of them end in CRLF.
 * The next one, when there is neither an empty line nor the end, is found too: its LINE_END is the CR or LF that is none of a CRLF, or `end`.
 * There may be 65,535 octets from `at` to `end`.
 */
export function findLines(bytes: Buffer, at: number, end: number, most: number): number {
  bytes.copy(octets, MESSAGE, at, end);
  return lines(MESSAGE + end - at, most, at - MESSAGE);
}
