// Finds the session description in the body of a message: the body itself, or a part of a multipart body (RFC 5621 3).
/** Parts of a multipart body that are looked at. */
const MAX_PARTS = 16;

/** RFC 2046 5.1.1: 70 characters at most. */
const BOUNDARY = /;\s*boundary\s*=\s*(?:"([^"\\]{1,70})"|([^\s;"]{1,70}))/i;
const SDP_TYPE = /^\s*application\/sdp\s*(?:;|$)/i;
const MULTIPART = /^\s*multipart\/[^\s;]+\s*;/i;
/** Lines of a part's header (RFC 2045 3); folds are joined before. */
const TYPE_LINE = /^content-type[ \t]*:(.*)$/im;
const ENCODED_LINE = /^content-(?:transfer-)?encoding[ \t]*:(?![ \t]*(?:7bit|8bit|binary|identity)[ \t]*$)/im;
/** Most octets of a part's header. */
const MAX_PART_HEADER = 2048;

const LF = 0x0a;
const CR = 0x0d;

/** Octets from `start` up to `end`. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

/**
 * Returns where the first session description stands in the body `bytes[start..end)` with this Content-Type value;
 * undefined when there is none, or when it is encoded. Never throws.
 */
export function findSdp(contentType: string, bytes: Buffer, start: number, end: number): Range | undefined {
  if (SDP_TYPE.test(contentType)) return start < end ? { start, end } : undefined;
  if (!MULTIPART.test(contentType)) return undefined;
  const match = BOUNDARY.exec(contentType);
  const boundary = match?.[1] ?? match?.[2];
  if (boundary === undefined) return undefined;
  const delimiter = Buffer.from(`--${boundary}`, 'latin1');
  let at = delimiterAt(bytes, delimiter, start, start, end);
  for (let parts = 0; at >= 0 && parts < MAX_PARTS; parts++) {
    const partAt = at + delimiter.length;
    at = delimiterAt(bytes, delimiter, partAt, start, end);
    if (at < 0) return undefined;
    const found = sdpOfPart(bytes, partAt, at);
    if (found) return found;
  }
  return undefined;
}

/** Returns where the next delimiter line begins at or after `at`; -1 when there is none. */
function delimiterAt(bytes: Buffer, delimiter: Buffer, at: number, start: number, end: number): number {
  for (let found = bytes.indexOf(delimiter, at); found >= 0; found = bytes.indexOf(delimiter, found + 1)) {
    if (found + delimiter.length > end) return -1;
    if (found === start || bytes[found - 1] === LF) return found;
  }
  return -1;
}

/** Returns the body of the part from behind one delimiter up to the next, if it is a session description. */
function sdpOfPart(bytes: Buffer, start: number, next: number): Range | undefined {
  const text = bytes.toString('latin1', start, Math.min(next, start + MAX_PART_HEADER));
  const empty = /\r?\n\r?\n/.exec(text);
  if (!empty) return undefined;
  const header = text.slice(0, empty.index).replace(/\r?\n[ \t]+/g, ' ');
  if (!SDP_TYPE.test(TYPE_LINE.exec(header)?.[1] ?? '') || ENCODED_LINE.test(header)) return undefined;
  // The line end in front of a delimiter belongs to the delimiter (RFC 2046 5.1.1).
  let end = next - 1;
  if (bytes[end - 1] === CR) end--;
  const bodyAt = start + empty.index + empty[0].length;
  return bodyAt < end ? { start: bodyAt, end } : undefined;
}
