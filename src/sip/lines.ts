// Finds the header lines of a message and their names for the scanner. lines.wat does the work; this file supplies the
// data.
import { instantiate, type WithMemory } from '../base/web-assembly.ts';
import { HeaderName, SPELLINGS } from './header-name.ts';
import { WASM } from './lines-wasm.ts';
import { CLASS, TOKEN } from './octets.ts';

interface Exports extends WithMemory {
  readonly lines: (end: number, most: number, shift: number) => number;
}

// Layout of the module's memory: see lines.wat.
const NAMES = 0;
const NUMBERS = 4096;
const TOKEN_BY_LOW = 4352;
const TOKEN_BY_HIGH = 4368;
const FOUND = 8192;
const MESSAGE = 65_536;
/** Names of the lines that the scanner reads. Each has at most 15 letters. */
const READ = new Set<HeaderName>([
  HeaderName.VIA,
  HeaderName.FROM,
  HeaderName.TO,
  HeaderName.CALL_ID,
  HeaderName.CSEQ,
  HeaderName.CONTENT_LENGTH,
  HeaderName.CONTENT_TYPE,
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
// Token characters have one of six high halves, 2 to 7; each high half has one bit.
for (let octet = 0; octet < 128; octet++) {
  if ((CLASS[octet]! & TOKEN) === 0) continue;
  const bit = 1 << ((octet >> 4) - 2);
  octets[TOKEN_BY_LOW + (octet & 15)]! |= bit;
  octets[TOKEN_BY_HIGH + (octet >> 4)]! |= bit;
}

/** The lines found; line n begins at `n * FOUND_WORDS`. Read them before the next call. */
export const found = new Int32Array(memory.buffer, FOUND, (MESSAGE - FOUND) / 4);
export const FOUND_WORDS = 5;
/**
 * A HeaderName that the scanner reads, or OTHER.
 * NO_NAME when the line does not begin with token characters, optional blanks, and a colon.
 */
export const NAME = 0;
export const NO_NAME = 255;
/**
 * The value without surrounding blanks and folds; set for names that the scanner reads. An empty value lies after the
 * colon.
 */
export const VALUE_START = 1;
export const VALUE_END = 2;
/** The first blank or control octet of the value, or its end. */
export const WORD_END = 3;
/** After the last CRLF of the line, folds included. */
export const LINE_END = 4;

/**
 * Finds the header lines from `at` to the empty line or `end`, at most `most` (less than 2,800).
 * Returns how many of them end in CRLF. When neither the empty line nor `end` follows, the next line is found too. Its
 * LINE_END is the CR or LF that is not part of a CRLF, or `end`. At most 65,535 octets lie between `at` and `end`.
 */
export function findLines(bytes: Buffer, at: number, end: number, most: number): number {
  bytes.copy(octets, MESSAGE, at, end);
  return lines(MESSAGE + end - at, most, at - MESSAGE);
}
