// The address that clients of a listener use: host, port and transport. Where a balancer ends TLS in front, this
// transport differs from the listener's own.
import { isIP } from 'node:net';
import { formatPlace, type HostPort, parseHostPort, SIP_PORT, TLS_PORT } from './endpoint.ts';

/** Transports that may be advertised to clients, by the listener's own transport. */
const TOLD = { udp: ['udp'], tcp: ['tcp', 'tls'], tls: ['tls'] } as const;

type OwnTransport = keyof typeof TOLD;
export type ToldTransport = (typeof TOLD)[OwnTransport][number];

export interface Advertised extends HostPort {
  readonly transport: ToldTransport;
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
  return found && { ...found, port: found.port || (transport === 'tls' ? TLS_PORT : SIP_PORT), transport };
}

/** Returns, as text for people, the transports that a listener of transport `own` may advertise. */
export function toldTransports(own: OwnTransport): string {
  return TOLD[own].join(' or ');
}

/**
 * Returns the advertised address of a listener of transport `own`; undefined when the transport in the text does not
 * fit. Without a transport in the text it is `own`.
 */
export function advertisedBy(own: OwnTransport, { transport, ...place }: AdvertisedText): Advertised | undefined {
  const told = TOLD[own].find((each) => each === (transport ?? own));
  return told && { ...place, transport: told };
}

/** Returns the text of an advertised address, the inverse of the two functions above. */
export function formatAdvertised(own: OwnTransport, advertised: Advertised): string {
  const { transport } = advertised;
  return `${formatPlace(advertised)}${transport === own ? '' : `;transport=${transport}`}`;
}

/** Returns true for an IP address with the listener's own transport: a plain endpoint then describes it completely. */
export function isPlain(own: OwnTransport, { host, transport }: Advertised): boolean {
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
  if (transport !== 'udp' && transport !== 'tcp' && transport !== 'tls') return undefined;
  const text = parseAdvertised(told ?? advertise);
  return text && advertisedBy(transport, text);
}
