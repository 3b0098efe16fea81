// The place that clients of a listener are given: where they send to and how. Where a balancer ends TLS in front, that is not what the listener itself speaks.
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

/** `HOST[:PORT][;transport=NAME]` as it stands: a name or an address, and the parameter of a SIP URI. */
export interface AdvertisedText extends HostPort {
  readonly transport: string | undefined;
}

/** Reads `sip.example.com`, `198.51.100.1:5060`, `sip.example.com;transport=tls`; undefined for anything else. Without a port it is 5060, of TLS 5061. */
export function parseAdvertised(text: string): AdvertisedText | undefined {
  const [, place = '', transport] = PARTS.exec(text.toLowerCase()) ?? [];
  const found = parseHostPort(place);
  if (!found) return undefined;
  const { defaultPort } = TRANSPORT_KINDS[isTransportName(transport) ? transport : 'udp'];
  return { ...found, port: found.port || defaultPort, transport };
}

/** `text` for a listener of transport `own`, which is what clients are told when the text names none; undefined when the two do not fit. */
export function advertisedBy(own: ListenerKind, { transport, ...place }: AdvertisedText): Advertised | undefined {
  const kind = advertisedKind(own, transport ?? own);
  return kind && { ...place, transport: kind };
}

/** The inverse of the two above. */
export function formatAdvertised(own: ListenerKind, advertised: Advertised): string {
  const { transport } = advertised;
  return `${formatPlace(advertised)}${transport === own ? '' : `;transport=${transport}`}`;
}

/** Is it an address of this listener's own transport, so that a plain endpoint says it all? */
export function isPlain(own: ListenerKind, { host, transport }: Advertised): boolean {
  return isIP(host) !== 0 && transport === own;
}

/** The part of a member's record that says what clients are told. */
export interface ToldRecord {
  readonly transport: string;
  /** `ip:port`. */
  readonly advertise: string;
  /** The whole, where an endpoint is not enough. */
  readonly told?: string;
}

/** The place that the clients of a recorded listener are given; undefined when it cannot be read. */
export function advertisedIn({ transport, advertise, told }: ToldRecord): Advertised | undefined {
  if (!isListenerKind(transport)) return undefined;
  const text = parseAdvertised(told ?? advertise);
  return text && advertisedBy(transport, text);
}
