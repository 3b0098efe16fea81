// Determines the place of a request's sender: the hash of its Contact, and whether it is behind a NAT. Compares the
// headers of the request with its source address.

import { isIP } from 'node:net';
import { SIP_PORT } from '../../base/endpoint.ts';
import { isHidden } from '../../base/private-address.ts';
import { digest, type SipKey, siphash, sipKey } from '../../base/siphash.ts';
import type { Packet } from '../../packet/packet.ts';
import { HeaderName } from '../../sip/header-name.ts';
import { findHeader, HeaderLine } from '../../sip/headers.ts';
import { NameAddr, parseNameAddr } from '../../sip/name-addr.ts';
import { isText } from '../../sip/octets.ts';
import { Method, type Scan } from '../../sip/scan.ts';
import { parseUri, Uri } from '../../sip/uri.ts';

/**
 * Signs of a NAT in front of a client. `rport`: its Via requests the source port (RFC 3581) and does not name the
 * source. `detect`: also a Via without rport that does not name the source, and a private Contact behind a public
 * source. `never`: no sign counts.
 */
const NAT_SIGNS = ['detect', 'rport', 'never'] as const;
export type NatSigns = (typeof NAT_SIGNS)[number];

/** Octets of a host name that are hashed; names are shorter (RFC 1035 2.3.4). */
const MAX_HOST = 256;

const line = new HeaderLine();
const value = new NameAddr();
const uri = new Uri();
const block = Buffer.alloc(MAX_HOST + 2);
/**
 * Fixed and not secret: all members must compute the same hash of a Contact for the life of its dialog. A collision
 * gives an attacker no advantage.
 */
const PUBLIC_KEY: SipKey = sipKey(new Uint8Array(16));

/** Returns a 31-bit hash of host and port of a URI, case-insensitive; never 0. */
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

/** Returns a 32-bit hash of a tag; 0 only when there is no tag. */
export function tagHash(key: SipKey, bytes: Buffer, start: number, end: number): number {
  if (start < 0) return 0;
  siphash(key, bytes, start, end);
  return digest.low >>> 0 || 1;
}

/** Place of a request's sender. One instance, filled anew per request. */
export class Place {
  /** `targetHash` of the Contact; 0 when there is no readable one. */
  target = 0;
  /** The Contact cannot be reached from here. */
  nat = false;
  /** The Contact names another IP address than the request's source. */
  elsewhere = false;
  /** The Contact names exactly the source address and port of the request. */
  here = false;

  /** Fills the fields from a request that came as `packet`. `signs`: what counts as a NAT. */
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
    // More than one Via: a proxy sent it. Its Via and the Contact then belong to two different elements.
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

/** Returns whether requests of this method carry a Contact: they open dialogs, refresh their target, or register. */
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

/** Parses the URI of the first value in the range into `uri`. Returns false when it cannot be parsed. */
function readUri(bytes: Buffer, start: number, end: number): boolean {
  return parseNameAddr(bytes, start, end, value) && parseUri(bytes, value.uriStart, value.uriEnd, uri);
}

/**
 * Returns whether the top Via names the source: its address, and with rport also its port. A host name counts as the
 * source, unless rport is present.
 */
function isSource({ via, bytes }: Scan, packet: Packet): boolean {
  const named = isText(bytes, via.hostStart, via.hostEnd, packet.address);
  if (via.rport >= 0) return named && (via.port || SIP_PORT) === packet.port;
  return named || isIP(bytes.toString('latin1', via.hostStart, via.hostEnd)) === 0;
}
