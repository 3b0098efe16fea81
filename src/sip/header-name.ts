// Maps header names to small numbers, long and compact forms alike (RFC 3261 7.3.3, 20), without making a string.

export const HeaderName = {
  OTHER: 0,
  VIA: 1,
  FROM: 2,
  TO: 3,
  CALL_ID: 4,
  CSEQ: 5,
  CONTENT_LENGTH: 6,
  MAX_FORWARDS: 7,
  ROUTE: 8,
  RECORD_ROUTE: 9,
  PATH: 10,
  CONTACT: 11,
  REPLACES: 12,
  JOIN: 13,
  TARGET_DIALOG: 14,
  CONTENT_TYPE: 15,
  EXPIRES: 16,
  REQUIRE: 17,
  PROXY_REQUIRE: 18,
  SUPPORTED: 19,
  AUTHORIZATION: 20,
  PROXY_AUTHORIZATION: 21,
  EVENT: 22,
  REFER_TO: 23,
  REFERRED_BY: 24,
  SERVICE_ROUTE: 25,
  RETRY_AFTER: 26,
  USER_AGENT: 27,
  SESSION_EXPIRES: 28,
  RESOURCE_PRIORITY: 29,
} as const;
export type HeaderName = (typeof HeaderName)[keyof typeof HeaderName];

/** Compact forms (RFC 3261 20, 3515, 3892, 4028, 6665). */
const COMPACT: Record<string, HeaderName> = {
  v: HeaderName.VIA,
  f: HeaderName.FROM,
  t: HeaderName.TO,
  i: HeaderName.CALL_ID,
  l: HeaderName.CONTENT_LENGTH,
  m: HeaderName.CONTACT,
  c: HeaderName.CONTENT_TYPE,
  k: HeaderName.SUPPORTED,
  o: HeaderName.EVENT,
  r: HeaderName.REFER_TO,
  b: HeaderName.REFERRED_BY,
  x: HeaderName.SESSION_EXPIRES,
};

/** A spelling of a name, in lower case. */
interface Spelling {
  readonly letters: Buffer;
  readonly name: HeaderName;
  readonly place: number;
}

/**
 * Each spelling has its own place, so that a name is compared with one at most. A place has 32 octets of letters, a
 * length and a number.
 */
const PLACES = 256;
const LETTERS = new Uint8Array(PLACES * 32);
const LENGTHS = new Uint8Array(PLACES);
const NAMES = new Uint8Array(PLACES);

/** All spellings, long and compact. */
export const SPELLINGS: readonly Spelling[] = Object.entries({ ...HeaderName, ...COMPACT })
  .filter(([, name]) => name !== HeaderName.OTHER)
  .map(([key, name]) => {
    const letters = Buffer.from(key.toLowerCase().replaceAll('_', '-'));
    return { letters, name, place: placeOf(letters, 0, letters.length) };
  });
for (const { letters, name, place } of SPELLINGS) {
  if (NAMES[place] !== HeaderName.OTHER) throw new Error(`${letters} needs another place: change placeOf`);
  LETTERS.set(letters, place * 32);
  LENGTHS[place] = letters.length;
  NAMES[place] = name;
}

/**
 * Returns the place of `[start, end)`, from its first and last letter in any case, and its length. lines.wat repeats
 * this.
 */
function placeOf(bytes: Uint8Array, start: number, end: number): number {
  return (((bytes[start]! & 31) << 3) + ((bytes[end - 1]! & 31) << 2) + end - start) & (PLACES - 1);
}

/**
 * Returns the name that `[start, end)` spells. No octet may be a blank or a control octet; others need not be token
 * octets.
 */
export function headerName(bytes: Uint8Array, start: number, end: number): HeaderName {
  if (start === end) return HeaderName.OTHER;
  const place = placeOf(bytes, start, end);
  if (LENGTHS[place] !== end - start) return HeaderName.OTHER;
  // 0x20 folds the case of letters. Among octets above it, only letters become letters by it, and only a hyphen a
  // hyphen.
  for (let i = start, j = place * 32; i < end; i++, j++)
    if ((bytes[i]! | 0x20) !== LETTERS[j]!) return HeaderName.OTHER;
  return NAMES[place]! as HeaderName;
}
