// Builds the IP packets of a UDP datagram whose source address is chosen by the caller. A datagram longer than the MTU
// becomes fragments, because the kernel does not fragment packets that bring their own IP header.
// RFC 768, RFC 791, RFC 1071, RFC 8200 4.5 and 8.1.
import { addressOctets, writeAddress } from '../base/address-octets.ts';
import { type Endpoint, isIpv6 } from '../base/endpoint.ts';
import { MAX_DATAGRAM_OCTETS } from './datagram-link.ts';

/** Destination of datagrams, with its address as octets. */
export interface IpTarget extends Endpoint {
  /** 4 or 16. */
  readonly octets: Uint8Array;
}

/** Returns the target for an endpoint whose `address` is an IP literal. */
export function makeTarget({ address, port }: Endpoint): IpTarget {
  return { address, port, octets: addressOctets(address) };
}

const IPV4_OCTETS = 20;
const IPV6_OCTETS = 40;
const FRAGMENT_OCTETS = 8;
const UDP_OCTETS = 8;
const UDP = 17;
const FRAGMENT = 44;
const HOP_LIMIT = 64;
const MORE_FRAGMENTS = 0x2000;

/** Builds one packet after the other in one buffer: call `begin`, then `next` until it returns 0. */
export class IpPacket {
  /** The packet that `next` has built last. */
  readonly bytes: Buffer;
  readonly #ipv6: boolean;
  readonly #mtu: number;
  /** Offset of the two addresses in `bytes`, source first, and the octets of one. */
  readonly #addressesAt: number;
  readonly #addressOctets: number;
  readonly #udp = Buffer.alloc(UDP_OCTETS);
  #message: Buffer = this.#udp;
  #start = 0;
  /** Octets of the UDP datagram, header included, and how many of them are already in packets. */
  #length = 0;
  #done = 0;
  #identification: number;

  /**
   * @param mtu maximum octets of an IP packet
   * @param identification identification of the last fragmented datagram; random, so that others cannot guess it and
   *   members do not share it
   */
  constructor(ipv6: boolean, mtu: number, identification: number) {
    this.#ipv6 = ipv6;
    this.#mtu = mtu;
    this.#addressesAt = ipv6 ? 8 : 12;
    this.#addressOctets = ipv6 ? 16 : 4;
    this.#identification = ipv6 ? identification >>> 0 : identification & 0xffff || 1;
    this.bytes = Buffer.alloc(mtu);
  }

  /**
   * Takes `message[start..end)`, which must not change until `next` returns 0. Returns false when source or target is
   * of the other address family, or the message is too long for a datagram. Also returns false for a source that no
   * host may have (RFC 1122 3.2.1.3, RFC 4291 2.5).
   */
  begin(source: string, sourcePort: number, to: IpTarget, message: Buffer, start: number, end: number): boolean {
    const { bytes } = this;
    const at = this.#addressesAt;
    const octets = this.#addressOctets;
    this.#length = 0;
    this.#done = 0;
    if (isIpv6(source) !== this.#ipv6 || to.octets.length !== octets || end - start > MAX_DATAGRAM_OCTETS) return false;
    writeAddress(source, bytes, at);
    if (this.#ipv6 ? source.includes('%') || !mayBeSource6(bytes, at) : !mayBeSource4(bytes[at]!)) return false;
    bytes.set(to.octets, at + octets);
    this.#message = message;
    this.#start = start;
    this.#length = UDP_OCTETS + end - start;
    if ((this.#ipv6 ? IPV6_OCTETS : IPV4_OCTETS) + this.#length > this.#mtu) this.#identify();
    const udp = this.#udp;
    udp.writeUInt16BE(sourcePort, 0);
    udp.writeUInt16BE(to.port, 2);
    udp.writeUInt16BE(this.#length, 4);
    udp.writeUInt16BE(0, 6);
    // Pseudo header (RFC 768, RFC 8200 8.1): both addresses, the protocol, the length.
    let sum = addWords(UDP + this.#length, bytes, at, at + 2 * octets);
    sum = addWords(sum, udp, 0, UDP_OCTETS);
    sum = addWords(sum, message, start, end);
    // 0 would mean "no checksum" (RFC 768).
    udp.writeUInt16BE(complement(sum) || 0xffff, 6);
    return true;
  }

  /**
   * Advances the identification. Called only for fragmented datagrams, so that a value repeats as late as possible
   * (RFC 4963). Never 0 over IPv4: the kernel would replace 0 by an own value, different for each fragment.
   */
  #identify(): void {
    const last = this.#identification;
    this.#identification = this.#ipv6 ? (last + 1) >>> 0 : (last % 0xffff) + 1;
  }

  /** Builds the next packet in `bytes`. Returns its octets; 0 when the datagram is complete. */
  next(): number {
    const from = this.#done;
    const left = this.#length - from;
    if (left === 0) return 0;
    const head = this.#ipv6 ? IPV6_OCTETS : IPV4_OCTETS;
    const whole = from === 0 && head + left <= this.#mtu;
    const body = this.#ipv6 && !whole ? head + FRAGMENT_OCTETS : head;
    // All fragments except the last hold a multiple of eight octets.
    const room = (this.#mtu - body) & ~7;
    const size = whole || left <= this.#mtu - body ? left : room;
    const more = size < left;
    this.#done += size;
    this.#copy(from, from + size, body);
    if (this.#ipv6) this.#writeHeader6(whole, from, more, body + size);
    else this.#writeHeader4(from, more, body + size);
    return body + size;
  }

  /** Copies the octets `from..to` of the datagram to offset `at` of `bytes`. */
  #copy(from: number, to: number, at: number): void {
    let begin = from;
    if (from === 0) {
      this.bytes.set(this.#udp, at);
      begin = UDP_OCTETS;
    }
    const shift = this.#start - UDP_OCTETS;
    this.#message.copy(this.bytes, at + begin - from, shift + begin, shift + to);
  }

  #writeHeader4(offset: number, more: boolean, octets: number): void {
    const { bytes } = this;
    bytes[0] = 0x45;
    bytes[1] = 0;
    bytes.writeUInt16BE(octets, 2);
    bytes.writeUInt16BE(this.#identification, 4);
    bytes.writeUInt16BE((more ? MORE_FRAGMENTS : 0) | (offset >>> 3), 6);
    bytes[8] = HOP_LIMIT;
    bytes[9] = UDP;
    bytes.writeUInt16BE(0, 10);
    bytes.writeUInt16BE(complement(addWords(0, bytes, 0, IPV4_OCTETS)), 10);
  }

  #writeHeader6(whole: boolean, offset: number, more: boolean, octets: number): void {
    const { bytes } = this;
    bytes.writeUInt32BE(0x60000000, 0);
    bytes.writeUInt16BE(octets - IPV6_OCTETS, 4);
    bytes[6] = whole ? UDP : FRAGMENT;
    bytes[7] = HOP_LIMIT;
    if (whole) return;
    bytes[IPV6_OCTETS] = UDP;
    bytes[IPV6_OCTETS + 1] = 0;
    bytes.writeUInt16BE(offset | Number(more), IPV6_OCTETS + 2);
    bytes.writeUInt32BE(this.#identification, IPV6_OCTETS + 4);
  }
}

/** Returns false for "this network", loopback, multicast, reserved and broadcast addresses. */
function mayBeSource4(first: number): boolean {
  return first !== 0 && first !== 127 && first < 224;
}

/** Returns false for multicast, link-local and ::/64 (unspecified, loopback, IPv4-mapped). */
function mayBeSource6(bytes: Uint8Array, at: number): boolean {
  if (bytes[at] === 0xff || (bytes[at] === 0xfe && (bytes[at + 1]! & 0xc0) === 0x80)) return false;
  for (let i = 0; i < 8; i++) if (bytes[at + i] !== 0) return true;
  return false;
}

/** Adds 16-bit words (RFC 1071); an odd last octet counts as the high one. 65,535 octets do not overflow 32 bits. */
function addWords(start: number, bytes: Uint8Array, from: number, to: number): number {
  let sum = start;
  let at = from;
  for (; at + 1 < to; at += 2) sum += (bytes[at]! << 8) | bytes[at + 1]!;
  return at < to ? sum + (bytes[at]! << 8) : sum;
}

function complement(sum: number): number {
  const once = (sum & 0xffff) + (sum >>> 16);
  return ~(once + (once >>> 16)) & 0xffff;
}
