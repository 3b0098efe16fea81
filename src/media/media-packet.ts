// Distinguishes the packets on a media port by their first octets (RFC 7983 7, RFC 5761 4) and checks what can be
// checked without keys. Pure.

export const MediaKind = { bad: 0, rtp: 1, rtcp: 2, stun: 3, dtls: 4 } as const;
export type MediaKind = (typeof MediaKind)[keyof typeof MediaKind];

/** Fixed header of RTP (RFC 3550 5.1), and of a report without blocks (6.4.2). */
const RTP_HEADER = 12;
const RTCP_HEADER = 8;
/** Headers of STUN (RFC 8489 5) and of a DTLS record (RFC 9147 4). */
const STUN_HEADER = 20;
const DTLS_HEADER = 13;
const STUN_COOKIE = 0x2112a442;

/**
 * Returns the kind of the datagram `bytes[0..length)`; bad where its lengths do not add up, or for other protocols.
 * `clear`: no SRTP, so that the padding can be read as well.
 */
export function mediaKind(bytes: Uint8Array, length: number, clear: boolean): MediaKind {
  if (length === 0) return MediaKind.bad;
  const first = bytes[0]!;
  if (first >= 0x80 && first <= 0xbf) {
    const type = bytes[1]!;
    if (length >= RTCP_HEADER && type >= 192 && type <= 223)
      return isRtcp(bytes, length) ? MediaKind.rtcp : MediaKind.bad;
    return isRtp(bytes, length, clear) ? MediaKind.rtp : MediaKind.bad;
  }
  if (first <= 3) return isStun(bytes, length) ? MediaKind.stun : MediaKind.bad;
  if (first >= 20 && first <= 63) return length >= DTLS_HEADER ? MediaKind.dtls : MediaKind.bad;
  return MediaKind.bad;
}

/** Returns true when CSRC list, header extension and padding lie inside of the packet. */
function isRtp(bytes: Uint8Array, length: number, clear: boolean): boolean {
  const first = bytes[0]!;
  let at = RTP_HEADER + 4 * (first & 0x0f);
  if (at > length) return false;
  if (first & 0x10) {
    if (at + 4 > length) return false;
    at += 4 + 4 * read16(bytes, at + 2);
    if (at > length) return false;
  }
  if (!clear || !(first & 0x20)) return true;
  const padding = bytes[length - 1]!;
  return padding > 0 && at + padding <= length;
}

/** Returns true when the first packet of the compound ends inside of the datagram. SRTCP has more octets behind it. */
function isRtcp(bytes: Uint8Array, length: number): boolean {
  return 4 * (read16(bytes, 2) + 1) <= length;
}

function isStun(bytes: Uint8Array, length: number): boolean {
  if (length < STUN_HEADER || length !== STUN_HEADER + read16(bytes, 2)) return false;
  return read32(bytes, 4) === STUN_COOKIE;
}

/** Returns the SSRC of an RTP packet. */
export function rtpSsrc(bytes: Uint8Array): number {
  return read32(bytes, 8);
}

/** Returns the sequence number of an RTP packet. */
export function rtpSequence(bytes: Uint8Array): number {
  return read16(bytes, 2);
}

function read16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

function read32(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}
