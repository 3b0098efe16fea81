// Where the sender of a request is, by its own word and by what the network shows: the hash of its Contact, and whether it is behind a NAT.

import { isIP } from 'node:net';
import { AddressList } from '../../base/address-list.ts';
import { SIP_PORT } from '../../base/endpoint.ts';
import { digest, type SipKey, siphash, sipKey } from '../../base/siphash.ts';
import type { Packet } from '../../packet/packet.ts';
import { HeaderName } from '../../sip/header-name.ts';
import { findHeader, HeaderLine } from '../../sip/headers.ts';
import { NameAddr, parseNameAddr } from '../../sip/name-addr.ts';
import { isText } from '../../sip/octets.ts';
import { Method, type Scan } from '../../sip/scan.ts';
import { parseUri, Uri } from '../../sip/uri.ts';

/**
 * Signs of a NAT in front of a client. `rport`: its Via asks for the source port (RFC 3581) and is not the source. `detect`: also
 * without that, and a private Contact behind a public source. `never`: nothing.
 */
export const NAT_SIGNS = ['detect', 'rport', 'never'] as const;
export type NatSigns = (typeof NAT_SIGNS)[number];

/** Addresses that are only good inside of their network (RFC 1918, RFC 6598, RFC 4193). */
const PRIVATE = new AddressList(['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7']);
/** Octets of a host name that are hashed; names are shorter (RFC 1035 2.3.4). */
const MAX_HOST = 256;

const line = new HeaderLine();
const value = new NameAddr();
const uri = new Uri();
const block = Buffer.alloc(MAX_HOST + 2);
/** No secret: all members must make the same of a Contact for as long as its dialog lives, and nobody gains by two that are taken for one. */
const PUBLIC_KEY: SipKey = sipKey(new Uint8Array(16));

/** The address is private, and the other one is not: from there it cannot be reached. */
export function isHidden(address: string, from: string): boolean {
  return PRIVATE.matches(address) && !PRIVATE.matches(from);
}

/** Host and port of a URI as 31 bits, letters in any case; never 0. */
export function targetHash(bytes: Buffer, of: Uri): number {
  const length = Math.min(of.hostEnd - of.hostStart, MAX_HOST);
  for (let i = 0; i < length; i++) {
    const octet = bytes[of.hostStart + i]!;
    block[i] = octet >= 0x41 && octet <= 0x5a ? octet | 0x20 : octet;
  }
  block.writeUInt16BE(of.port || SIP_PORT, length);
  siphash(PUBLIC_KEY, block, 0, length + 2);
  return digest.low & 0x7fffffff || 1;
}

/** A tag as 32 bits; never 0, which stands for no tag. */
export function tagHash(key: SipKey, bytes: Buffer, start: number, end: number): number {
  if (start < 0) return 0;
  siphash(key, bytes, start, end);
  return digest.low >>> 0 || 1;
}

/** The place of a request's sender, by the request. One instance, filled anew per request. */
export class Place {
  /** `targetHash` of its Contact; 0 when it names none that can be read. */
  target = 0;
  /** Its Contact cannot be reached from here. */
  nat = false;
  /** Its Contact names another address than that it sends from. */
  elsewhere = false;
  /** Its Contact names the very address and port that it sends from. */
  here = false;

  /** Reads it of a request that came as `packet`. `signs`: what counts as a NAT. */
  read(scan: Scan, packet: Packet, signs: NatSigns): void {
    const { bytes } = scan;
    this.target = 0;
    this.elsewhere = false;
    this.here = false;
    // An in-dialog request without Contact changes no target (RFC 3261 12.2.2).
    const contact = scan.contactStart >= 0 && namesContact(scan);
    let hidden = false;
    if (contact && readUri(bytes, scan.contactStart, scan.contactEnd)) {
      this.target = targetHash(bytes, uri);
      if (isText(bytes, uri.hostStart, uri.hostEnd, packet.address)) this.here = (uri.port || SIP_PORT) === packet.port;
      else {
        const host = bytes.toString('latin1', uri.hostStart, uri.hostEnd);
        hidden = isHidden(host, packet.address);
        this.elsewhere = isIP(host) !== 0;
      }
    }
    // More than one Via: a proxy has sent it, and its Via and the Contact are those of two elements.
    if (scan.nextViaStart >= 0) {
      this.elsewhere = false;
      if (
        findHeader(scan, HeaderName.RECORD_ROUTE, scan.headersStart, line) &&
        readUri(bytes, line.valueStart, line.valueEnd)
      )
        hidden = isHidden(bytes.toString('latin1', uri.hostStart, uri.hostEnd), packet.address);
      this.nat = signs === 'detect' && hidden;
    } else if (signs === 'detect') this.nat = hidden || !isSource(scan, packet);
    else this.nat = signs === 'rport' && scan.via.rport >= 0 && !isSource(scan, packet);
  }
}

/** Methods whose requests name a Contact: those that open dialogs or refresh their target, and REGISTER. */
function namesContact({ method }: Scan): boolean {
  return (
    method === Method.INVITE ||
    method === Method.UPDATE ||
    method === Method.SUBSCRIBE ||
    method === Method.NOTIFY ||
    method === Method.REFER ||
    method === Method.REGISTER
  );
}

/** Reads the URI of the first value in the range into `uri`; false when it cannot be read. */
function readUri(bytes: Buffer, start: number, end: number): boolean {
  return parseNameAddr(bytes, start, end, value) && parseUri(bytes, value.uriStart, value.uriEnd, uri);
}

/** The top Via names the source: its address, and where it asks for it by rport, its port. A host name is taken at its word, unless rport is asked for. */
function isSource({ via, bytes }: Scan, packet: Packet): boolean {
  const named = isText(bytes, via.hostStart, via.hostEnd, packet.address);
  if (via.rport >= 0) return named && (via.port || SIP_PORT) === packet.port;
  return named || isIP(bytes.toString('latin1', via.hostStart, via.hostEnd)) === 0;
}
