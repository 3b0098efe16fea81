// The hosts and ports by which a Route value names this farm (RFC 3261 16.4), this member, or its side of the SIP server: listeners of all nodes,
// and the names that clients reach the farm by. Built by cold code whenever records or configuration change, read per packet.
import { GROUPS, readGroups } from '../../base/address.ts';
import { asHostPort, type HostPort, parseEndpoint, SIP_PORT, TLS_PORT } from '../../base/endpoint.ts';
import { advertisedIn, type ToldRecord } from '../../packet/advertised.ts';
import { Scheme, type Uri } from '../../sip/uri.ts';
import { Transport } from '../../sip/via.ts';

/** The part of a node's record that is read here. */
export interface NamedRecord {
  readonly listeners: readonly (ToldRecord & { readonly bind: string })[];
}

const groups = new Uint16Array(GROUPS);

/** Ports by host, in the form of `canonical`. */
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
   * `server`: endpoint of this node that faces the SIP server. `listeners`: those that do not. `names`: by which clients reach the farm; port 0 is any
   * that a listener has.
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

  /** The records of all nodes, whatever their role. */
  setRecords(records: readonly NamedRecord[]): void {
    this.#records = records;
    this.#build();
  }

  /** The URI names this farm by host and port. Without a port it means 5060, and with TLS 5061, too. */
  has(bytes: Buffer, uri: Uri): boolean {
    const ports = this.#places.get(hostOf(bytes, uri));
    if (!ports) return false;
    if (uri.port !== 0) return ports.has(uri.port);
    const secure = uri.transport === Transport.TLS || uri.scheme === Scheme.SIPS;
    return ports.has(SIP_PORT) || (secure && ports.has(TLS_PORT));
  }

  /** The URI names an endpoint of this node. Without a port it means 5060. */
  isOwn(bytes: Buffer, uri: Uri): boolean {
    return this.#ownPlaces.get(hostOf(bytes, uri))?.has(uri.port || SIP_PORT) === true;
  }

  /** The URI names the endpoint of this node that faces the SIP server. */
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

/** One text for all spellings of a host (RFC 3261 19.1.4, RFC 4291 2.2): in lower case, a name without the dot of the root. */
function canonical(host: string): string {
  if (host.includes(':') && readGroups(host, groups)) return groups.join(':');
  return (host.endsWith('.') ? host.slice(0, -1) : host).toLowerCase();
}
