// Header names to small numbers, long and compact forms alike (RFC 3261 7.3.3, 20), without making a string.

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

interface Spelling {
  readonly octets: Uint8Array;
  readonly name: HeaderName;
}

/** Spellings by length; compact forms are those of length 1 (RFC 3261 20, 3515, 3892, 4028, 6665). */
const SPELLINGS: Spelling[][] = Array.from({ length: 20 }, () => []);
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
for (const [key, name] of Object.entries(HeaderName)) {
  if (name === HeaderName.OTHER) continue;
  const octets = Buffer.from(key.toLowerCase().replaceAll('_', '-'));
  SPELLINGS[octets.length]!.push({ octets, name });
}
const LETTERS = new Uint8Array(256);
for (const [letter, name] of Object.entries(COMPACT)) {
  LETTERS[letter.charCodeAt(0)] = name;
  LETTERS[letter.toUpperCase().charCodeAt(0)] = name;
}

/** The name that `[start, end)`, a token without blanks, spells. */
export function headerName(bytes: Uint8Array, start: number, end: number): HeaderName {
  const length = end - start;
  if (length === 1) return LETTERS[bytes[start]!]! as HeaderName;
  if (length >= SPELLINGS.length) return HeaderName.OTHER;
  const candidates = SPELLINGS[length]!;
  for (let c = 0; c < candidates.length; c++) {
    const candidate = candidates[c]!;
    const octets = candidate.octets;
    let i = 0;
    // Token octets: 0x20 folds the case of letters; `^` and `_` cannot become a letter or a hyphen by it.
    while (i < length && (bytes[start + i]! | 0x20) === octets[i]!) i++;
    if (i === length) return candidate.name;
  }
  return HeaderName.OTHER;
}
