// Reads the header that a proxy writes in front of the client's octets: PROXY protocol v1 and v2 (haproxy.org,
// proxy-protocol.txt), and the simple header. That one has 38 octets; some proxies put it on each datagram.
// Pure: octets become a value, or the reason why they are no header. Never throws.

import net from 'node:net';
import { readAddress, writeAddress } from '../base/address-octets.ts';
import { isIpv6 } from '../base/endpoint.ts';
import { PROXY_SIGNATURE } from '../base/proxy-signature.ts';

/** Outcomes of a header, or of its absence. Values of the label `outcome` of proxy_headers_total. */
export const PROXY_OUTCOMES = {
  proxied: 'a header with the client, accepted',
  local: 'a header with command LOCAL: a message of the proxy itself, such as a health check, with its own address',
  unknown: 'a header without a client (UNKNOWN, unspecified family): the real address of the other side applies',
  none: '`accept`: there was no header; the real address of the other side applies',
  missing: '`require`: there was no header; refused',
  untrusted: 'a header from outside `balancer.trusted`; refused',
  malformed: 'a header with an invalid version, command, family, length, address, TLV or checksum; refused',
  'too-long': 'a header over 4,096 octets, or a line over 107; refused',
  nested: 'a second header behind the first; refused',
  cut: 'a header that ended too early; refused',
  timeout: 'a header that was not complete in time; its connection was closed',
} as const;
export type ProxyOutcome = keyof typeof PROXY_OUTCOMES;
/** Reasons why octets that begin like a header are none. */
type ProxyFault = 'malformed' | 'too-long' | 'nested';

/** Octets of the longest accepted header. The addresses need 52, the rest is TLVs. */
export const MAX_HEADER_OCTETS = 4096;
/** Octets of the simple header. */
export const SIMPLE_OCTETS = 38;
/** Octets of the longest line of version 1, CRLF included. */
const MAX_LINE_OCTETS = 107;
const FIXED_OCTETS = 16;

/** Leading octets of the signature that may also be keep-alives (RFC 5626 4.4.1). */
const AMBIGUOUS_OCTETS = 4;
const LINE_START = Buffer.from('PROXY ');
const SIMPLE_MAGIC = Uint8Array.of(0x56, 0xec);

const COMMAND_LOCAL = 0;
const COMMAND_PROXY = 1;
const UNSPECIFIED = 0x00;
const STREAM = 1;
const DATAGRAM = 2;
const TLV_CRC32C = 0x03;
const CRC_OCTETS = 4;

/** A header that was read. One instance per reader, filled again for each header. */
export class ProxyHeader {
  /** Selects the valid ends: those of the header (`proxied`), or those of the socket (`local`, `unknown`). */
  outcome: 'proxied' | 'local' | 'unknown' = 'unknown';
  /** The client, and the address and port it sent to; set only with `proxied`. IPv4-mapped addresses are plain IPv4. */
  address = '';
  port = 0;
  localAddress = '';
  localPort = 0;
  /** True for the simple header. */
  simple = false;
  /** Offset of the first octet after the header. */
  end = 0;
}

/** `none`: no header. `part`: a header so far, the rest is missing. `header`: `out` is filled. */
export type Reading = 'none' | 'part' | 'header' | ProxyFault;

/** Returns how many octets of `bytes[start..end)` agree with `pattern`. */
function agreeing(bytes: Uint8Array, start: number, end: number, pattern: Uint8Array): number {
  const most = Math.min(pattern.length, end - start);
  let n = 0;
  while (n < most && bytes[start + n] === pattern[n]) n++;
  return n;
}

/** Reads the header at the beginning of a connection. `bytes[start..end)` is what has been received so far. */
export function readStreamHeader(bytes: Buffer, start: number, end: number, out: ProxyHeader): Reading {
  const here = end - start;
  const line = agreeing(bytes, start, end, LINE_START);
  if (line === LINE_START.length) return readLine(bytes, start, end, out);
  const signature = agreeing(bytes, start, end, PROXY_SIGNATURE);
  if (signature === PROXY_SIGNATURE.length) return readBinary(bytes, start, end, STREAM, out);
  return line === here || signature === here ? 'part' : 'none';
}

/**
 * Reads the header of the datagram `bytes[start..end)`: version 2, or the simple one. `part`: the datagram was cut.
 * Line ends alone are a keep-alive, not a cut signature.
 */
export function readDatagramHeader(bytes: Buffer, start: number, end: number, out: ProxyHeader): Reading {
  const reading = readOneOfDatagram(bytes, start, end, out);
  return reading === 'header' && beginsHeader(bytes, out.end, end) ? 'nested' : reading;
}

function readOneOfDatagram(bytes: Buffer, start: number, end: number, out: ProxyHeader): Reading {
  if (agreeing(bytes, start, end, SIMPLE_MAGIC) === SIMPLE_MAGIC.length) return readSimple(bytes, start, end, out);
  const signature = agreeing(bytes, start, end, PROXY_SIGNATURE);
  if (signature === PROXY_SIGNATURE.length) return readBinary(bytes, start, end, DATAGRAM, out);
  return signature === end - start && signature > AMBIGUOUS_OCTETS ? 'part' : 'none';
}

/** Returns true for the first octets of a header that cannot begin SIP. Applied to the octets after a header. */
export function beginsHeader(bytes: Uint8Array, start: number, end: number): boolean {
  return (
    agreeing(bytes, start, end, PROXY_SIGNATURE) > AMBIGUOUS_OCTETS ||
    agreeing(bytes, start, end, LINE_START) === LINE_START.length ||
    agreeing(bytes, start, end, SIMPLE_MAGIC) === SIMPLE_MAGIC.length
  );
}

/**
 * Returns true when `bytes[start..end)` holds only the line ends that begin a signature. It may then be a keep-alive.
 */
export function mayBeKeepAlive(bytes: Uint8Array, start: number, end: number): boolean {
  return end - start <= AMBIGUOUS_OCTETS && agreeing(bytes, start, end, PROXY_SIGNATURE) === end - start;
}

/** Reads version 1 (2.1): `PROXY TCP4 client here port port` CRLF, at most 107 octets. */
function readLine(bytes: Buffer, start: number, end: number, out: ProxyHeader): Reading {
  const lineEnd = bytes.indexOf('\r\n', start, 'latin1');
  if (lineEnd < 0 || lineEnd + 2 > end) return end - start >= MAX_LINE_OCTETS ? 'too-long' : 'part';
  if (lineEnd + 2 - start > MAX_LINE_OCTETS) return 'too-long';
  const line = bytes.toString('latin1', start, lineEnd);
  out.simple = false;
  out.end = lineEnd + 2;
  if (line === 'PROXY UNKNOWN' || line.startsWith('PROXY UNKNOWN ')) {
    out.outcome = 'unknown';
    return 'header';
  }
  const match = /^PROXY TCP([46]) ([0-9a-fA-F:.]+) ([0-9a-fA-F:.]+) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4})$/.exec(line);
  if (!match) return 'malformed';
  const [, family, client = '', here = ''] = match;
  if (net.isIP(client) !== Number(family) || net.isIP(here) !== Number(family)) return 'malformed';
  const port = Number(match[4]);
  const localPort = Number(match[5]);
  if (port > 65_535 || localPort > 65_535) return 'malformed';
  return takeEnds(out, canonical(client), port, canonical(here), localPort);
}

/** Returns the literal in the form that sockets report. */
function canonical(address: string): string {
  const octets = new Uint8Array(16);
  return readAddress(octets, 0, writeAddress(address, octets, 0));
}

/** Reads version 2 (2.2). Its signature stands at `start`. */
function readBinary(bytes: Buffer, start: number, end: number, transport: number, out: ProxyHeader): Reading {
  if (end - start < FIXED_OCTETS) return 'part';
  const command = bytes[start + 12]! & 0x0f;
  if (bytes[start + 12]! >> 4 !== 2 || command > COMMAND_PROXY) return 'malformed';
  const headerEnd = start + FIXED_OCTETS + bytes.readUInt16BE(start + 14);
  if (headerEnd - start > MAX_HEADER_OCTETS) return 'too-long';
  if (headerEnd > end) return 'part';
  out.simple = false;
  out.end = headerEnd;
  if (command === COMMAND_LOCAL) {
    // The address block is skipped and its family not checked (2.2).
    out.outcome = 'local';
    return 'header';
  }
  const kind = bytes[start + 13]!;
  const at = start + FIXED_OCTETS;
  if (kind === UNSPECIFIED) {
    out.outcome = 'unknown';
    return 'header';
  }
  const width = kind >> 4 === 1 ? 4 : 16;
  const tlvs = at + 2 * width + 4;
  if ((kind !== (0x10 | transport) && kind !== (0x20 | transport)) || tlvs > headerEnd) return 'malformed';
  if (!tlvsAgree(bytes, start, tlvs, headerEnd)) return 'malformed';
  return takeEnds(
    out,
    readAddress(bytes, at, width),
    bytes.readUInt16BE(at + 2 * width),
    readAddress(bytes, at + width, width),
    bytes.readUInt16BE(at + 2 * width + 2),
  );
}

/**
 * Checks that the TLVs fill `bytes[at..end)` exactly, and that a checksum among them is correct (2.2.3).
 * The checksum covers the header, which begins at `start`.
 */
function tlvsAgree(bytes: Buffer, start: number, at: number, end: number): boolean {
  let here = at;
  while (here < end) {
    if (end - here < 3) return false;
    const value = here + 3;
    const behind = value + bytes.readUInt16BE(here + 1);
    if (behind > end) return false;
    if (bytes[here] === TLV_CRC32C) {
      if (behind - value !== CRC_OCTETS) return false;
      if (bytes.readUInt32BE(value) !== crc32cWithout(bytes, start, end, value)) return false;
    }
    here = behind;
  }
  return true;
}

const CRC32C_TABLE = Uint32Array.from({ length: 256 }, (_, octet) => {
  let crc = octet;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/** Returns the CRC-32C of `bytes[start..end)` with the four octets at `hole` as zeros. */
function crc32cWithout(bytes: Uint8Array, start: number, end: number, hole: number): number {
  let crc = 0xffff_ffff;
  for (let at = start; at < end; at++) {
    const octet = at >= hole && at < hole + CRC_OCTETS ? 0 : bytes[at]!;
    crc = CRC32C_TABLE[(crc ^ octet) & 0xff]! ^ (crc >>> 8);
  }
  return (crc ^ 0xffff_ffff) >>> 0;
}

/**
 * Reads the simple header: magic, client address, proxy address (16 octets each, IPv4 mapped), client port, proxy port.
 */
function readSimple(bytes: Buffer, start: number, end: number, out: ProxyHeader): Reading {
  if (end - start < SIMPLE_OCTETS) return 'part';
  out.simple = true;
  out.end = start + SIMPLE_OCTETS;
  return takeEnds(
    out,
    readAddress(bytes, start + 2, 16),
    bytes.readUInt16BE(start + 34),
    readAddress(bytes, start + 18, 16),
    bytes.readUInt16BE(start + 36),
  );
}

/** Writes the simple header for an answer to `client` into `to[0..38)`. `proxy` is the address the client sent to. */
export function writeSimpleHeader(
  to: Buffer,
  client: string,
  clientPort: number,
  proxy: string,
  proxyPort: number,
): void {
  to.set(SIMPLE_MAGIC, 0);
  writeMapped(client, to, 2);
  writeMapped(proxy, to, 18);
  to.writeUInt16BE(clientPort, 34);
  to.writeUInt16BE(proxyPort, 36);
}

/** Writes the address as 16 octets; IPv4 is mapped into IPv6 (RFC 4291 2.5.5.2). */
function writeMapped(address: string, to: Buffer, at: number): void {
  if (writeAddress(address, to, at) === 16) return;
  to.copy(to, at + 12, at, at + 4);
  to.fill(0, at, at + 10);
  to.fill(0xff, at + 10, at + 12);
}

/** Stores both ends in `out`. Rejects a client at port 0, 0.0.0.0, :: or a multicast address: no host has it. */
function takeEnds(out: ProxyHeader, address: string, port: number, localAddress: string, localPort: number): Reading {
  if (port === 0 || isNobody(address)) return 'malformed';
  out.outcome = 'proxied';
  out.address = address;
  out.port = port;
  out.localAddress = localAddress;
  out.localPort = localPort;
  return 'header';
}

function isNobody(address: string): boolean {
  if (isIpv6(address)) return address === '::' || address.startsWith('ff');
  const first = Number.parseInt(address, 10);
  return address === '0.0.0.0' || first >= 224;
}
