// The address that clients of a listener use: host, port and transport. Where a balancer ends TLS in front, this
// transport differs from the listener's own.
import { isIP } from 'node:net';
import { formatPlace, type HostPort, parseHostPort } from '../base/endpoint.ts';
import {
  type AdvertisedKind,
  advertisedKind,
  isListenerKind,
  isTransportName,
  type ListenerKind,
  TRANSPORT_KINDS,
} from './transport-kind.ts';

export interface Advertised extends HostPort {
  readonly transport: AdvertisedKind;
}

const PARTS = /^([^;]*)(?:;transport=([a-z]{1,8}))?$/;

/** `HOST[:PORT][;transport=NAME]` as written: a name or an address, and the parameter of a SIP URI. */
export interface AdvertisedText extends HostPort {
  readonly transport: string | undefined;
}

/**
 * Reads `sip.example.com`, `198.51.100.1:5060`, `sip.example.com;transport=tls`; undefined for anything else. The
 * default port is 5060, and 5061 for TLS.
 */
export function parseAdvertised(text: string): AdvertisedText | undefined {
  const [, place = '', transport] = PARTS.exec(text.toLowerCase()) ?? [];
  const found = parseHostPort(place);
  if (!found) return undefined;
  const { defaultPort } = TRANSPORT_KINDS[isTransportName(transport) ? transport : 'udp'];
  return { ...found, port: found.port || defaultPort, transport };
}

/**
 * Returns the advertised address of a listener of transport `own`; undefined when the transport in the text does not
 * fit. Without a transport in the text it is `own`.
 */
export function advertisedBy(own: ListenerKind, { transport, ...place }: AdvertisedText): Advertised | undefined {
  const kind = advertisedKind(own, transport ?? own);
  return kind && { ...place, transport: kind };
}

/** Returns the text of an advertised address, the inverse of the two functions above. */
export function formatAdvertised(own: ListenerKind, advertised: Advertised): string {
  const { transport } = advertised;
  return `${formatPlace(advertised)}${transport === own ? '' : `;transport=${transport}`}`;
}

/** Returns true for an IP address with the listener's own transport: a plain endpoint then describes it completely. */
export function isPlain(own: ListenerKind, { host, transport }: Advertised): boolean {
  return isIP(host) !== 0 && transport === own;
}

/** The part of a member's record with the address that clients use. */
export interface ToldRecord {
  readonly transport: string;
  /** `ip:port`. */
  readonly advertise: string;
  /** The complete address, where an endpoint is not enough. */
  readonly told?: string;
}

/** Returns the address that clients of a recorded listener use; undefined when it cannot be read. */
export function advertisedIn({ transport, advertise, told }: ToldRecord): Advertised | undefined {
  if (!isListenerKind(transport)) return undefined;
  const text = parseAdvertised(told ?? advertise);
  return text && advertisedBy(transport, text);
}
