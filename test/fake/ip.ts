// Reads IP packets like the stack of a host: checks lengths and checksums, joins fragments, returns UDP datagrams. It
// shares no code with src/relay/ip-packet.ts, which it checks (RFC 768, RFC 791, RFC 8200).
import assert from 'node:assert/strict';
import type { Endpoint } from '../../src/base/endpoint.ts';

export interface Datagram {
  readonly from: Endpoint;
  readonly to: Endpoint;
  readonly bytes: Buffer;
}

interface IpPayload {
  readonly source: Buffer;
  readonly destination: Buffer;
  readonly protocol: number;
  /** Octets before this piece, and whether more pieces follow; unfragmented: 0 and false. */
  readonly offset: number;
  readonly more: boolean;
  readonly identification: number;
  readonly piece: Buffer;
}

/**
 * Returns the sum of all 16-bit words with carries added back; 0xffff when a contained checksum is correct (RFC 1071
 * 1).
 */
function onesSum(...parts: readonly Buffer[]): number {
  const all = Buffer.concat(parts);
  const even = all.length % 2 === 0 ? all : Buffer.concat([all, Buffer.of(0)]);
  let sum = 0n;
  for (let i = 0; i < even.length; i += 2) sum += BigInt(even.readUInt16BE(i));
  while (sum > 0xffffn) sum = (sum & 0xffffn) + (sum >> 16n);
  return Number(sum);
}

function addressText(octets: Buffer): string {
  if (octets.length === 4) return [...octets].join('.');
  const groups = Array.from({ length: 8 }, (_, i) => octets.readUInt16BE(2 * i).toString(16));
  // The URL class writes the form of RFC 5952.
  return new URL(`http://[${groups.join(':')}]/`).hostname.slice(1, -1);
}

function readPacket(packet: Buffer): IpPayload {
  const version = packet[0]! >> 4;
  if (version === 4) {
    assert.equal(packet[0], 0x45, 'a header without options');
    assert.equal(packet.readUInt16BE(2), packet.length, 'total length');
    assert.equal(onesSum(packet.subarray(0, 20)), 0xffff, 'header checksum');
    assert.notEqual(packet.readUInt16BE(4), 0, 'identification');
    assert.ok(packet[8]! > 0, 'time to live');
    const word = packet.readUInt16BE(6);
    return {
      source: packet.subarray(12, 16),
      destination: packet.subarray(16, 20),
      protocol: packet[9]!,
      offset: (word & 0x1fff) * 8,
      more: (word & 0x2000) !== 0,
      identification: packet.readUInt16BE(4),
      piece: packet.subarray(20),
    };
  }
  assert.equal(version, 6);
  assert.equal(packet.readUInt16BE(4), packet.length - 40, 'payload length');
  assert.ok(packet[7]! > 0, 'hop limit');
  const ends = { source: packet.subarray(8, 24), destination: packet.subarray(24, 40) };
  if (packet[6] !== 44)
    return {
      ...ends,
      protocol: packet[6]!,
      offset: 0,
      more: false,
      identification: 0,
      piece: packet.subarray(40),
    };
  const word = packet.readUInt16BE(42);
  return {
    ...ends,
    protocol: packet[40]!,
    offset: word & 0xfff8,
    more: (word & 1) !== 0,
    identification: packet.readUInt32BE(44),
    piece: packet.subarray(48),
  };
}

function readDatagram(source: Buffer, destination: Buffer, udp: Buffer): Datagram {
  assert.equal(udp.readUInt16BE(4), udp.length, 'length in the UDP header');
  assert.notEqual(udp.readUInt16BE(6), 0, 'there is a UDP checksum');
  const pseudo = Buffer.alloc(8);
  pseudo.writeUInt32BE(udp.length, 0);
  pseudo.writeUInt32BE(17, 4);
  assert.equal(onesSum(source, destination, pseudo, udp), 0xffff, 'UDP checksum');
  return {
    from: { address: addressText(source), port: udp.readUInt16BE(0) },
    to: { address: addressText(destination), port: udp.readUInt16BE(2) },
    bytes: Buffer.from(udp.subarray(8)),
  };
}

/** Accepts packets in any order. Throws where a host would drop an invalid packet. */
export class IpReader {
  readonly #waiting = new Map<string, IpPayload[]>();

  /** Returns the datagram that this packet completes; undefined while fragments are missing. */
  take(bytes: Buffer): Datagram | undefined {
    const packet = readPacket(Buffer.from(bytes));
    const { source, destination, protocol, offset, more, identification } = packet;
    assert.equal(protocol, 17, 'UDP');
    if (offset === 0 && !more) return readDatagram(source, destination, packet.piece);
    if (more) assert.equal(packet.piece.length % 8, 0, 'all fragments but the last are multiples of eight');
    const key = `${source.toString('hex')} ${destination.toString('hex')} ${identification}`;
    const pieces = [...(this.#waiting.get(key) ?? []), packet].sort((a, b) => a.offset - b.offset);
    this.#waiting.set(key, pieces);
    let reached = 0;
    for (const piece of pieces) {
      if (piece.offset !== reached) return undefined;
      reached += piece.piece.length;
    }
    if (pieces.at(-1)!.more) return undefined;
    this.#waiting.delete(key);
    return readDatagram(source, destination, Buffer.concat(pieces.map(({ piece }) => piece)));
  }

  /** Number of datagrams with missing fragments. */
  get incomplete(): number {
    return this.#waiting.size;
  }
}
