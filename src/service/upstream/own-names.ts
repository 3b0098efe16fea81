// What a Route value names when it names this farm (RFC 3261 16.4): the listeners of all nodes, and the names that clients reach the farm by.
// Built by cold code whenever records or configuration change, read per packet.
import { GROUPS, readGroups } from '../../base/address.ts';
import { advertisedIn, type ToldRecord } from '../../base/advertised.ts';
import { asHostPort, type HostPort, parseEndpoint } from '../../base/endpoint.ts';
import { Scheme, type Uri } from '../../sip/uri.ts';
import { Transport } from '../../sip/via.ts';

/** The part of a node's record that is read here. */
export interface NamedRecord {
  readonly listeners: readonly (ToldRecord & { readonly bind: string })[];
}

/** RFC 3261 19.1.2. */
const SIP_PORT = 5060;
const TLS_PORT = 5061;

const groups = new Uint16Array(GROUPS);

export class OwnNames {
  readonly #own: readonly HostPort[];
  #names: readonly HostPort[];
  #records: readonly NamedRecord[] = [];
  /** Ports by host, in the form of `canonical`. */
  #ports: ReadonlyMap<string, ReadonlySet<number>> = new Map();

  /** `own`: endpoints of this node. `names`: by which clients reach the farm; port 0 is any that a listener has. */
  constructor(own: readonly HostPort[], names: readonly HostPort[]) {
    this.#own = own;
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
    const ports = this.#ports.get(canonical(bytes.toString('latin1', uri.hostStart, uri.hostEnd)));
    if (!ports) return false;
    if (uri.port !== 0) return ports.has(uri.port);
    const secure = uri.transport === Transport.TLS || uri.scheme === Scheme.SIPS;
    return ports.has(SIP_PORT) || (secure && ports.has(TLS_PORT));
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
    const ports = new Map<string, Set<number>>();
    const add = (host: string, more: readonly number[]): void => {
      const key = canonical(host);
      ports.set(key, new Set([...(ports.get(key) ?? []), ...more]));
    };
    for (const { host, port } of listeners) add(host, [port]);
    for (const { host, port } of this.#names) add(host, port === 0 ? anyPort : [port]);
    this.#ports = ports;
  }
}

/** One text for all spellings of a host (RFC 3261 19.1.4, RFC 4291 2.2): in lower case, a name without the dot of the root. */
function canonical(host: string): string {
  if (host.includes(':') && readGroups(host, groups)) return groups.join(':');
  return (host.endsWith('.') ? host.slice(0, -1) : host).toLowerCase();
}
