// Reads what a party reports about the packets that it has received: the first report block of an RTCP packet
// (RFC 3550 6.4). Pure.

const SENDER_REPORT = 200;
const RECEIVER_REPORT = 201;
/** Octets before the first report block. */
const BLOCKS_AT = { [SENDER_REPORT]: 28, [RECEIVER_REPORT]: 8 } as const;
const BLOCK_OCTETS = 24;
/** Packets of a compound that are read. The report stands first (RFC 3550 6.1). */
const MOST_PACKETS = 4;

export interface RtcpReport {
  /** Lost packets in all; duplicates may have made the party's own number negative, which is 0 here. */
  lost: number;
  /** In units of the RTP timestamp. */
  jitter: number;
}

/**
 * Reads the compound `bytes[0..length)` into `report`. Returns false when it has no report block. Allocates nothing.
 */
export function readRtcpReport(bytes: Uint8Array, length: number, report: RtcpReport): boolean {
  let at = 0;
  for (let i = 0; i < MOST_PACKETS && at + 8 <= length; i++) {
    const end = at + 4 * (((bytes[at + 2]! << 8) | bytes[at + 3]!) + 1);
    const type = bytes[at + 1]!;
    const blocks = bytes[at]! & 0x1f;
    if (blocks > 0 && (type === SENDER_REPORT || type === RECEIVER_REPORT)) {
      const block = at + BLOCKS_AT[type];
      if (block + BLOCK_OCTETS > end || end > length) return false;
      // 24 bits with a sign.
      report.lost = Math.max(
        ((bytes[block + 5]! << 24) | (bytes[block + 6]! << 16) | (bytes[block + 7]! << 8)) >> 8,
        0,
      );
      report.jitter =
        bytes[block + 12]! * 2 ** 24 + ((bytes[block + 13]! << 16) | (bytes[block + 14]! << 8) | bytes[block + 15]!);
      return true;
    }
    at = end;
  }
  return false;
}
