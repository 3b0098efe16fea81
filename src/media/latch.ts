// Decides which source may send into one port of a media relay, and where the answers go: symmetric RTP (RFC 4961) with
// latching (RFC 7362). Pure. The session description names the expected place; a NAT may have changed it.
//
//    state      packets of the source pass         the relay sends to        left by
//    learning   only those of the exact place      the place of the SDP      three packets in order of the best source
//    locked     those of the locked source         the locked source         `expect` with another place
//    renewed    as locked                          as locked                 another source, after silence of the locked
//
// A stranger has no way in: a source that is worse than the locked one is never learned, nor a better one later on.
import { GROUPS, isMapped, readGroups } from '../base/address.ts';
import { isPrivate } from '../base/private-address.ts';
import { MediaKind, rtpSequence, rtpSsrc } from './media-packet.ts';

/** Packets in order that make a source known. */
const CONSISTENT = 3;
/** Time, ms, in which a better source may appear before one of a low rank is locked. */
const WINDOW_MS = 500;
/** Silence, ms, of the locked source after a new offer or answer that lets another source in. */
const SILENCE_MS = 500;
/** Most numbers that may be missing between two packets in order. */
const MOST_LOST = 50;

/** How well a source fits to the place that signalling names. The higher the better. */
export const Rank = { never: -1, unknown: 0, network: 1, signalling: 2, address: 3, exact: 4 } as const;
export type Rank = (typeof Rank)[keyof typeof Rank];

export interface ExpectedSource {
  /** Place in the session description. */
  readonly address: string;
  readonly port: number;
  /** Address that the party's signalling came from; '' = unknown, or not the party's own. */
  readonly signalling: string;
}

/** pass: forward the packet. learning: drop it, its source is not known yet. foreign: drop it. */
export const LatchOutcome = { pass: 0, learning: 1, foreign: 2 } as const;
export type LatchOutcome = (typeof LatchOutcome)[keyof typeof LatchOutcome];

const expectedGroups = new Uint16Array(GROUPS);
const sourceGroups = new Uint16Array(GROUPS);
/** Leading groups that make a network: /56 of IPv6 is three groups and the upper octet of the fourth. */
const NETWORK_GROUPS = 3;

/**
 * Returns how well a source fits. A party with a public address in its description never sends from another network; a
 * private address, or one of zeros (on hold), is no sign of the source.
 */
export function sourceRank(expected: ExpectedSource, address: string, port: number): Rank {
  if (address === expected.address) return port === expected.port ? Rank.exact : Rank.address;
  if (!readGroups(address, sourceGroups) || !readGroups(expected.address, expectedGroups)) return Rank.never;
  if (sourceGroups.every((group, i) => group === expectedGroups[i]))
    return port === expected.port ? Rank.exact : Rank.address;
  if (address === expected.signalling) return Rank.signalling;
  if (isUnspecified(expectedGroups) || isPrivate(expected.address)) return Rank.unknown;
  return sharesNetwork(sourceGroups, expectedGroups) ? Rank.network : Rank.never;
}

/** Returns true for 0.0.0.0 and `::`. */
function isUnspecified(groups: Uint16Array): boolean {
  return groups.every((group, i) => group === 0 || (i === 5 && isMapped(groups)));
}

/** Returns true for two addresses of one /24 (IPv4) or one /56 (IPv6). */
function sharesNetwork(one: Uint16Array, other: Uint16Array): boolean {
  if (isMapped(one) !== isMapped(other)) return false;
  if (isMapped(one)) return one[6] === other[6] && one[7]! >> 8 === other[7]! >> 8;
  for (let i = 0; i < NETWORK_GROUPS; i++) if (one[i] !== other[i]) return false;
  return one[NETWORK_GROUPS]! >> 8 === other[NETWORK_GROUPS]! >> 8;
}

/** The latch of one port. */
export class Latch {
  #expected: ExpectedSource | undefined;
  #locked = false;
  #renewed = false;
  /** Time of the last packet that passed. In future for ever: packets of the locked source pass unseen. */
  #passedAt = Number.NEGATIVE_INFINITY;
  #candidate = '';
  #candidatePort = 0;
  #candidateRank: Rank = Rank.never;
  /** Times of the candidate's first and last packet. */
  #firstAt = 0;
  #lastAt = 0;
  #packets = 0;
  #ssrc = 0;
  #sequence = 0;
  /** Where to send: the locked source, else the place in the description; '' before one is known. */
  address = '';
  port = 0;

  get locked(): boolean {
    return this.#locked;
  }

  /** Takes the place of a new offer or answer. The same place leaves a lock as it is while its source sends. */
  expect(expected: ExpectedSource): void {
    const known = this.#expected;
    this.#expected = expected;
    this.#candidateRank = Rank.never;
    if (this.#locked && known?.address === expected.address && known.port === expected.port) {
      this.#renewed = true;
      return;
    }
    this.#locked = false;
    this.#renewed = false;
    this.address = expected.address;
    this.port = expected.port;
  }

  /** Notes a packet of the locked source, which the caller has recognized. */
  passed(now: number): void {
    if (now > this.#passedAt) this.#passedAt = now;
  }

  /**
   * Held: the kernel forwards the packets of the locked source, so its silence here means nothing, and no other source
   * of the same offer is let in. Its silence is measured from the end of the hold on.
   */
  hold(held: boolean, now: number): void {
    this.#passedAt = held ? Number.POSITIVE_INFINITY : now;
  }

  /**
   * Decides about a checked packet from `address:port`. `now` is monotonic, ms. Allocates nothing. `bytes` is read only
   * for RTP.
   */
  take(kind: MediaKind, bytes: Uint8Array, address: string, port: number, now: number): LatchOutcome {
    if (this.#locked) {
      if (port === this.port && address === this.address) {
        this.passed(now);
        return LatchOutcome.pass;
      }
      if (!this.#renewed || now - this.#passedAt < SILENCE_MS) return LatchOutcome.foreign;
    }
    if (!this.#expected) return LatchOutcome.foreign;
    const rank = sourceRank(this.#expected, address, port);
    if (rank === Rank.never) return LatchOutcome.foreign;
    if (rank === Rank.exact) return this.#lock(address, port, now);
    if (port !== this.#candidatePort || address !== this.#candidate || this.#candidateRank === Rank.never) {
      if (rank <= this.#candidateRank && now - this.#lastAt < SILENCE_MS) return LatchOutcome.learning;
      this.#candidate = address;
      this.#candidatePort = port;
      this.#candidateRank = rank;
      this.#firstAt = now;
      this.#packets = 0;
    }
    this.#lastAt = now;
    this.#count(kind, bytes);
    const decided = rank >= Rank.signalling || now - this.#firstAt >= WINDOW_MS;
    return decided && this.#packets >= CONSISTENT ? this.#lock(address, port, now) : LatchOutcome.learning;
  }

  #lock(address: string, port: number, now: number): LatchOutcome {
    this.address = address;
    this.port = port;
    this.#locked = true;
    this.#renewed = false;
    this.#candidateRank = Rank.never;
    this.#passedAt = now;
    return LatchOutcome.pass;
  }

  /** Counts the candidate's packets in order. RTP that changes its SSRC or jumps begins anew. */
  #count(kind: MediaKind, bytes: Uint8Array): void {
    if (kind !== MediaKind.rtp) {
      this.#packets++;
      return;
    }
    const ssrc = rtpSsrc(bytes);
    const sequence = rtpSequence(bytes);
    const ahead = (sequence - this.#sequence) & 0xffff;
    const inOrder = this.#packets > 0 && ssrc === this.#ssrc && ahead > 0 && ahead <= MOST_LOST;
    this.#packets = inOrder ? this.#packets + 1 : 1;
    this.#ssrc = ssrc;
    this.#sequence = sequence;
  }
}
