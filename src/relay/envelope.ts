// The frame of the relay link: a PROXY protocol v2 header (haproxy.org, proxy-protocol.txt 2.2) with one private TLV,
// then the message.
//
//    offset  octets
//    0       12   signature 0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A
//    12      1    0x21: version 2, command PROXY
//    13      1    0x11 TCP over IPv4, 0x12 UDP over IPv4, 0x21 TCP over IPv6, 0x22 UDP over IPv6: transport on which
//                 the message arrived or is to be sent
//    14      2    octets between this field and the message: 12 or 36 of addresses, and 43
//    16      8/32 true source (egress: the remote party), then the local address it came to (egress: zeros)
//    24/48   4    source port, local port (egress: remote port, then 1 if the party is behind a NAT, else 0)
//    28/52   1    0xE0, a type that the specification reserves for applications (2.2.7)
//    29/53   2    40
//    31/55   40   the value:
//
//     0                   1                   2                   3
//     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//    +---------------+---------------+-------+-------+---------------+
//    |    version    |     kind      |key id | flags |     hops      |
//    +---------------+---------------+-------+-------+---------------+
//    |         sender number         |        receiver number        |
//    +-------------------------------+---------------+---------------+
//    |              sender incarnation               |   listener    |
//    +-----------------------------------------------+---------------+
//    |             ingress incarnation               |  bound, low   |
//    +-------------------------------+---------------+---------------+
//    |         ingress number        |        sequence (high)        |
//    +-------------------------------+-------------------------------+
//    |                        sequence (low)                         |
//    +---------------------------------------------------------------+
//    |                            epoch                              |
//    +---------------------------------------------------------------+
//    |                         connection                            |
//    +---------------------------------------------------------------+
//    |  MAC: SipHash-2-4 over the whole frame, message included,     |
//    |  computed with the bound incarnation in the MAC's place       |
//    +---------------------------------------------------------------+
//
// The frame contains no time, so a jump of the wall clock has no effect. Three fields prevent replay:
// - the receiver's number;
// - the sequence number, which rises with each frame of one incarnation of a sender (sequence-window.ts);
// - the incarnation of the receiver that a datagram is bound to: a receiver that has just restarted has no window yet.
// Frames on a connection are bound to no incarnation. TLS prevents replay there, and a frame may wait for a receiver
// that restarts. Version 1 binds nothing, and has 0 in the octet "bound, low".

import { readAddress, writeAddress } from '../base/address-octets.ts';
import { isIpv6 } from '../base/endpoint.ts';
import { read16, read24, read32, write16, write24, write32 } from '../base/network-order.ts';
import { PROXY_SIGNATURE } from '../base/proxy-signature.ts';
import { digest, siphash } from '../base/siphash.ts';
import type { Keyring } from '../ownership/keyring.ts';

export const FrameKind = {
  /** A message from outside the farm, for the receiver's owner lookup. */
  packet: 1,
  /** A message that the receiver is to send by one of its flows. */
  egress: 2,
  /** A peer's probe or its answer (probe.ts). */
  probe: 3,
  /**
   * The sender has refused a frame; the head has the sender's incarnation and epoch. Message: the sequence number of
   * the refused frame, 6 octets; empty in version 1.
   */
  refusal: 4,
  /** An egress request comes back: the sender's connection is gone. The receiver may have another way. */
  returned: 5,
  /**
   * The sender's SIP server has made a call whose slot the receiver owns. Message: the key of its Call-ID, 8 octets
   * (IEEE 754).
   */
  made: 6,
} as const;
export type FrameKind = (typeof FrameKind)[keyof typeof FrameKind];

/** Versions of the frame: the one that this build writes, and the oldest that it reads. */
export const ENVELOPE_VERSION = 2;
export const OLDEST_ENVELOPE_VERSION = 1;
export type EnvelopeVersion = typeof OLDEST_ENVELOPE_VERSION | typeof ENVELOPE_VERSION;
/** The incarnation that frames on a connection and all frames of version 1 are bound to. No member has it. */
export const UNBOUND = 0;

/** Octets in front of the message. */
export const HEAD_IPV4 = 71;
export const HEAD_IPV6 = 95;
/** The longest frame: the longest message (65,535 octets) behind the longest head, with some room. */
export const MAX_FRAME_OCTETS = 70_000;

const TLV_TYPE = 0xe0;
const VALUE_OCTETS = 40;
const MAC_AT = 32;

/** All fields of a frame, and where its message is. Reused for each frame. */
export class Frame {
  version: EnvelopeVersion = ENVELOPE_VERSION;
  kind: FrameKind = FrameKind.packet;
  /** 0-15. Set by `decodeFrame`; `encodeFrame` writes the id of the primary key instead. */
  keyId = 0;
  /** SecondChance of the packet; 0-3. */
  secondChance = 0;
  hops = 0;
  sender = 0;
  senderIncarnation = 0;
  receiver = 0;
  /** Incarnation of the receiver that the MAC is valid for, or UNBOUND. Decoded without keys: only its low 8 bits. */
  bound = UNBOUND;
  /** Member that received the message from outside; egress: the receiver, with the incarnation that made the flow. */
  ingress = 0;
  ingressIncarnation = 0;
  /** Code of the listener, the same at every member (base/listener-code.ts). */
  listener = 0;
  /** Connection at member `ingress`; 0 for a datagram. */
  connection = 0;
  /** Epoch of the sender's view. */
  epoch = 0;
  /** 48 bits. */
  sequence = 0;
  address = '';
  port = 0;
  localAddress = '';
  localPort = 0;
  /** The message is `bytes[start..end)` of the decoded octets. */
  start = 0;
  end = 0;
}

/**
 * Why octets are no frame for this member. With 'mac' only `version`, `bound`, `keyId` and `receiver` are filled. With
 * 'other-incarnation' all fields are filled and the MAC is good.
 */
export type EnvelopeFault = 'short' | 'not-a-frame' | 'version' | 'mac' | 'other-incarnation';

/** Returns the octets of the head of `frame`: HEAD_IPV6 when one of its two addresses is IPv6. */
export function headOctets(frame: Readonly<Frame>): number {
  return isIpv6(frame.address) || isIpv6(frame.localAddress) ? HEAD_IPV6 : HEAD_IPV4;
}

/** Writes an address into a field of 16 octets; IPv4 as IPv4-mapped (RFC 4291 2.5.5.2). */
function writeAddress6(address: string, to: Buffer, at: number): void {
  if (isIpv6(address)) {
    writeAddress(address, to, at);
    return;
  }
  write32(0, to, at);
  write32(0, to, at + 4);
  write32(0xffff, to, at + 8);
  writeAddress(address, to, at + 12);
}

function writeMac(high: number, low: number, to: Buffer, at: number): void {
  write32(high, to, at);
  write32(low, to, at + 4);
}

/**
 * Writes head and `message[start..end)` into `to` at `at`. Returns the offset behind the frame. `to` must have room for
 * `headOctets(frame)` and the message. The MAC uses the primary key. An empty address is written as zeros.
 */
export function encodeFrame(
  keys: Keyring,
  frame: Readonly<Frame>,
  message: Buffer,
  start: number,
  end: number,
  to: Buffer,
  at: number,
): number {
  const six = headOctets(frame) === HEAD_IPV6;
  for (let i = 0; i < PROXY_SIGNATURE.length; i++) to[at + i] = PROXY_SIGNATURE[i]!;
  to[at + 12] = 0x21;
  to[at + 13] = (six ? 0x20 : 0x10) | (frame.connection === 0 ? 2 : 1);
  write16((six ? HEAD_IPV6 : HEAD_IPV4) - 16, to, at + 14);
  let here = at + 16;
  if (six) {
    writeAddress6(frame.address, to, here);
    writeAddress6(frame.localAddress, to, here + 16);
    here += 32;
  } else {
    writeAddress(frame.address, to, here);
    writeAddress(frame.localAddress, to, here + 4);
    here += 8;
  }
  write16(frame.port, to, here);
  write16(frame.localPort, to, here + 2);
  to[here + 4] = TLV_TYPE;
  write16(VALUE_OCTETS, to, here + 5);
  here += 7;
  const bound = frame.version === ENVELOPE_VERSION ? frame.bound : UNBOUND;
  to[here] = frame.version;
  to[here + 1] = frame.kind;
  to[here + 2] = (keys.primary.id << 4) | frame.secondChance;
  to[here + 3] = frame.hops;
  write16(frame.sender, to, here + 4);
  write16(frame.receiver, to, here + 6);
  write24(frame.senderIncarnation, to, here + 8);
  to[here + 11] = frame.listener;
  write24(frame.ingressIncarnation, to, here + 12);
  to[here + 15] = bound & 0xff;
  write16(frame.ingress, to, here + 16);
  write16(frame.sequence / 2 ** 32, to, here + 18);
  write32(frame.sequence, to, here + 20);
  write32(frame.epoch, to, here + 24);
  write32(frame.connection, to, here + 28);
  writeMac(0, bound, to, here + MAC_AT);
  const messageAt = here + VALUE_OCTETS;
  message.copy(to, messageAt, start, end);
  const behind = messageAt + (end - start);
  siphash(keys.primary.relay, to, at, behind);
  writeMac(digest.high, digest.low, to, here + MAC_AT);
  return behind;
}

/**
 * Returns the incarnation nearest to `own` with the low 8 bits `low`: up to 128 starts before `own`, or up to 127 after
 * it (a backup was restored).
 */
function nearest(own: number, low: number): number {
  const incarnation = own + (((low - own) << 24) >> 24);
  return incarnation < 0 ? incarnation + 256 : incarnation;
}

/**
 * Returns true when one of the valid keys with id `keyId` made the MAC at `at` of a frame bound to `bound`. Overwrites
 * the MAC in `bytes` for the hash, and restores it.
 */
function frameMacAgrees(
  keys: Keyring,
  keyId: number,
  bound: number,
  bytes: Buffer,
  at: number,
  start: number,
  end: number,
): boolean {
  const high = read32(bytes, at);
  const low = read32(bytes, at + 4);
  writeMac(0, bound, bytes, at);
  let agrees = false;
  for (let i = 0; i < keys.all.length && !agrees; i++) {
    const key = keys.all[i]!;
    if (key.id !== keyId) continue;
    siphash(key.relay, bytes, start, end);
    // One comparison of both halves: its duration does not depend on where they differ.
    agrees = ((digest.high ^ high) | (digest.low ^ low)) === 0;
  }
  writeMac(high, low, bytes, at);
  return agrees;
}

/**
 * Reads the frame `bytes[start..end)` into `out`. Returns null when the frame is whole, one of the keys made its MAC,
 * and it is bound to the incarnation `own` (UNBOUND: to none) or of version 1. Never throws, never reads outside.
 * Without `keys` the MAC is not checked: only for inspection tools, never on the packet path. Does not check sender,
 * receiver and sequence.
 */
export function decodeFrame(
  bytes: Buffer,
  start: number,
  end: number,
  keys: Keyring | undefined,
  own: number,
  out: Frame,
): EnvelopeFault | null {
  const octets = end - start;
  for (let i = 0; i < 12; i++) {
    if (i === octets) return 'short';
    if (bytes[start + i] !== PROXY_SIGNATURE[i]) return 'not-a-frame';
  }
  if (octets < 16) return 'short';
  const family = bytes[start + 13]!;
  const head = (family & 0xf0) === 0x20 ? HEAD_IPV6 : HEAD_IPV4;
  if (
    bytes[start + 12] !== 0x21 ||
    (family !== 0x11 && family !== 0x12 && family !== 0x21 && family !== 0x22) ||
    read16(bytes, start + 14) !== head - 16
  )
    return 'not-a-frame';
  if (octets < head) return 'short';
  const at = start + head - VALUE_OCTETS;
  if (bytes[at - 3] !== TLV_TYPE || read16(bytes, at - 2) !== VALUE_OCTETS) return 'not-a-frame';
  const version = bytes[at]!;
  if (version !== ENVELOPE_VERSION && version !== OLDEST_ENVELOPE_VERSION) return 'version';
  const low = bytes[at + 15]!;
  const bound = version === OLDEST_ENVELOPE_VERSION ? UNBOUND : keys === undefined ? low : nearest(own, low);
  out.version = version;
  out.bound = bound;
  out.keyId = bytes[at + 2]! >>> 4;
  out.receiver = read16(bytes, at + 6);
  if (keys !== undefined && !frameMacAgrees(keys, out.keyId, bound, bytes, at + MAC_AT, start, end)) return 'mac';
  out.kind = bytes[at + 1]! as FrameKind;
  out.secondChance = bytes[at + 2]! & 3;
  out.hops = bytes[at + 3]!;
  out.sender = read16(bytes, at + 4);
  out.senderIncarnation = read24(bytes, at + 8);
  out.listener = bytes[at + 11]!;
  out.ingressIncarnation = read24(bytes, at + 12);
  out.ingress = read16(bytes, at + 16);
  out.sequence = read16(bytes, at + 18) * 2 ** 32 + read32(bytes, at + 20);
  out.epoch = read32(bytes, at + 24);
  out.connection = read32(bytes, at + 28);
  const width = head === HEAD_IPV6 ? 16 : 4;
  out.address = readAddress(bytes, start + 16, width);
  out.localAddress = readAddress(bytes, start + 16 + width, width);
  out.port = read16(bytes, start + 16 + 2 * width);
  out.localPort = read16(bytes, start + 18 + 2 * width);
  out.start = start + head;
  out.end = end;
  return version === OLDEST_ENVELOPE_VERSION || keys === undefined || bound === own ? null : 'other-incarnation';
}
