// The transports of SIP messages. This is the one table of their properties: no other file compares with a kind's name.
import { SIP_PORT, TLS_PORT } from '../base/endpoint.ts';

export interface TransportKind {
  /**
   * The transport repeats lost octets and keeps their order. A message is sent once (RFC 3261 17.1.1.2), and a
   * connection leads to the party.
   */
  readonly reliable: boolean;
  /** The hop is encrypted. */
  readonly secure: boolean;
  /** In a Via (RFC 3261 20.42, RFC 7118 5.2). */
  readonly viaName: string;
  /** Parameter of a SIP URI for this kind, with its semicolon; '' for the default of a SIP URI (RFC 3261 19.1.4). */
  readonly uriParameter: string;
  /** Prefix of the domain in a query for SRV records (RFC 3263 4.1), and the NAPTR service; '' = none is registered. */
  readonly srvPrefix: string;
  readonly naptrService: string;
  /** Port of a URI that names none (RFC 3261 19.1.2, RFC 7118 8). */
  readonly defaultPort: number;
}

const WS_PARAMETER = ';transport=ws';

export const TRANSPORT_KINDS = {
  udp: {
    reliable: false,
    secure: false,
    viaName: 'UDP',
    uriParameter: '',
    srvPrefix: '_sip._udp.',
    naptrService: 'SIP+D2U',
    defaultPort: SIP_PORT,
  },
  tcp: {
    reliable: true,
    secure: false,
    viaName: 'TCP',
    uriParameter: ';transport=tcp',
    srvPrefix: '_sip._tcp.',
    naptrService: 'SIP+D2T',
    defaultPort: SIP_PORT,
  },
  tls: {
    reliable: true,
    secure: true,
    viaName: 'TLS',
    uriParameter: ';transport=tls',
    srvPrefix: '_sips._tcp.',
    naptrService: 'SIPS+D2T',
    defaultPort: TLS_PORT,
  },
  ws: {
    reliable: true,
    secure: false,
    viaName: 'WS',
    uriParameter: WS_PARAMETER,
    srvPrefix: '',
    naptrService: '',
    defaultPort: 80,
  },
  wss: {
    reliable: true,
    secure: true,
    viaName: 'WSS',
    uriParameter: WS_PARAMETER,
    srvPrefix: '',
    naptrService: '',
    defaultPort: 443,
  },
} as const satisfies Readonly<Record<string, TransportKind>>;

export type TransportName = keyof typeof TRANSPORT_KINDS;

/** Kinds that a listener of this build may have, the one that RFC 3263 4.1 takes without a hint first. */
export const LISTENER_KINDS = ['udp', 'tcp'] as const satisfies readonly TransportName[];
export type ListenerKind = (typeof LISTENER_KINDS)[number];

/** Kinds that the clients of a listener may be given, by the listener's own kind: a balancer in front may end TLS. */
const ADVERTISED_KINDS = { udp: ['udp'], tcp: ['tcp', 'tls'] } as const satisfies Readonly<
  Record<ListenerKind, readonly TransportName[]>
>;
export type AdvertisedKind = (typeof ADVERTISED_KINDS)[ListenerKind][number];

export function isTransportName(name: string | undefined): name is TransportName {
  return name !== undefined && Object.hasOwn(TRANSPORT_KINDS, name);
}

export function isListenerKind(name: string): name is ListenerKind {
  return (LISTENER_KINDS as readonly string[]).includes(name);
}

/** Messages of this kind travel over connections. */
export function isReliable(name: TransportName): boolean {
  return TRANSPORT_KINDS[name].reliable;
}

/** The kind `name` of those that clients of a listener of kind `own` may be given; undefined for any other. */
export function advertisedKind(own: ListenerKind, name: string): AdvertisedKind | undefined {
  return advertisedKinds(own).find((kind) => kind === name);
}

/** The kinds that clients of a listener of kind `own` may be given, its own first. */
export function advertisedKinds(own: ListenerKind): readonly AdvertisedKind[] {
  return ADVERTISED_KINDS[own];
}
