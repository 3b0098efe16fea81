// The place that clients of a listener are given: where they send to and how. Where a balancer ends TLS in front, that is not what the listener itself speaks.
import { isIP } from 'node:net';
import { formatPlace, type HostPort, parseHostPort, SIP_PORT, TLS_PORT } from './endpoint.ts';

/** Transports that clients may be given, by that of the listener itself. */
const TOLD = { udp: ['udp'], tcp: ['tcp', 'tls'], tls: ['tls'] } as const;

type OwnTransport = keyof typeof TOLD;
export type ToldTransport = (typeof TOLD)[OwnTransport][number];

export interface Advertised extends HostPort {
  readonly transport: ToldTransport;
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
  return found && { ...found, port: found.port || (transport === 'tls' ? TLS_PORT : SIP_PORT), transport };
}

/** Transports that clients of a listener of transport `own` may be given, for people. */
export function toldTransports(own: OwnTransport): string {
  return TOLD[own].join(' or ');
}

/** `text` for a listener of transport `own`, which is what clients are told when the text names none; undefined when the two do not fit. */
export function advertisedBy(own: OwnTransport, { transport, ...place }: AdvertisedText): Advertised | undefined {
  const told = TOLD[own].find((each) => each === (transport ?? own));
  return told && { ...place, transport: told };
}

/** The inverse of the two above. */
export function formatAdvertised(own: OwnTransport, advertised: Advertised): string {
  const { transport } = advertised;
  return `${formatPlace(advertised)}${transport === own ? '' : `;transport=${transport}`}`;
}

/** Is it an address of this listener's own transport, so that a plain endpoint says it all? */
export function isPlain(own: OwnTransport, { host, transport }: Advertised): boolean {
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
  if (transport !== 'udp' && transport !== 'tcp' && transport !== 'tls') return undefined;
  const text = parseAdvertised(told ?? advertise);
  return text && advertisedBy(transport, text);
}
