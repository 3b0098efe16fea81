// Decides whether a URI names this farm, this member, or this member's endpoint towards the SIP server (RFC 3261 16.4).
// The farm's names are the listeners of all nodes and the names that clients use. Cold code builds the table when
// records or configuration change; the packet path reads it.
import { GROUPS, readGroups } from '../../base/address.ts';
import { asHostPort, type HostPort, isIpv6, parseEndpoint, SIP_PORT, TLS_PORT } from '../../base/endpoint.ts';
import { advertisedIn, type ToldRecord } from '../../packet/advertised.ts';
import { Scheme, type Uri } from '../../sip/uri.ts';
import { Transport } from '../../sip/via.ts';

/** The part of a node's record that is read here. */
export interface NamedRecord {
  readonly listeners: readonly (ToldRecord & { readonly bind: string })[];
}

const groups = new Uint16Array(GROUPS);

/** Ports by host, the host as `canonical` returns it. */
type Places = ReadonlyMap<string, ReadonlySet<number>>;

export class OwnNames {
  readonly #own: readonly HostPort[];
  readonly #ownPlaces: Places;
  readonly #serverHost: string;
  readonly #serverPort: number;
  #names: readonly HostPort[];
  #records: readonly NamedRecord[] = [];
  #places: Places = new Map();

  /**
   * `server`: endpoint of this node that faces the SIP server. `listeners`: the other endpoints of this node. `names`:
   * names by which clients reach the farm; port 0 stands for 5060, 5061 and every port of a listener.
   */
  constructor(server: HostPort, listeners: readonly HostPort[], names: readonly HostPort[]) {
    this.#own = [server, ...listeners];
    this.#ownPlaces = placesOf(this.#own.map(({ host, port }) => [host, [port]]));
    this.#serverHost = canonical(server.host);
    this.#serverPort = server.port;
    this.#names = names;
    this.#build();
  }

  setNames(names: readonly HostPort[]): void {
    this.#names = names;
    this.#build();
  }

  /** Sets the records of all nodes, whatever their role. */
  setRecords(records: readonly NamedRecord[]): void {
    this.#records = records;
    this.#build();
  }

  /**
   * Returns whether the URI names this farm by host and port. Without a port the URI means 5060, with TLS also 5061.
   */
  has(bytes: Buffer, uri: Uri): boolean {
    const ports = this.#places.get(hostOf(bytes, uri));
    if (!ports) return false;
    if (uri.port !== 0) return ports.has(uri.port);
    const secure = uri.transport === Transport.TLS || uri.scheme === Scheme.SIPS;
    return ports.has(SIP_PORT) || (secure && ports.has(TLS_PORT));
  }

  /** Returns whether the URI names an endpoint of this node. Without a port the URI means 5060. */
  isOwn(bytes: Buffer, uri: Uri): boolean {
    return this.#ownPlaces.get(hostOf(bytes, uri))?.has(uri.port || SIP_PORT) === true;
  }

  /** Returns whether the URI names the endpoint of this node that faces the SIP server. */
  facesServer(bytes: Buffer, uri: Uri): boolean {
    return (uri.port || SIP_PORT) === this.#serverPort && hostOf(bytes, uri) === this.#serverHost;
  }

  #build(): void {
    const recorded = this.#records.flatMap(({ listeners }) =>
      listeners.flatMap((listener) => {
        const bind = parseEndpoint(listener.bind);
        return [bind && asHostPort(bind), advertisedIn(listener)];
      }),
    );
    const listeners = [...this.#own, ...recorded.filter((place) => place !== undefined)];
    const anyPort = [SIP_PORT, TLS_PORT, ...listeners.map(({ port }) => port)];
    this.#places = placesOf([
      ...listeners.map(({ host, port }) => [host, [port]] as const),
      ...this.#names.map(({ host, port }) => [host, port === 0 ? anyPort : [port]] as const),
    ]);
  }
}

function placesOf(entries: readonly (readonly [host: string, ports: readonly number[]])[]): Places {
  const places = new Map<string, Set<number>>();
  for (const [host, ports] of entries) {
    const key = canonical(host);
    places.set(key, new Set([...(places.get(key) ?? []), ...ports]));
  }
  return places;
}

function hostOf(bytes: Buffer, uri: Uri): string {
  return canonical(bytes.toString('latin1', uri.hostStart, uri.hostEnd));
}

/**
 * Returns one text for all spellings of a host (RFC 3261 19.1.4, RFC 4291 2.2): lower case, without the root dot of a
 * name.
 */
function canonical(host: string): string {
  if (isIpv6(host) && readGroups(host, groups)) return groups.join(':');
  return (host.endsWith('.') ? host.slice(0, -1) : host).toLowerCase();
}
