// Logs which other member is refused and why: once per member and reason.
import type { Logger } from 'pino';
import { formatEndpoint, parseEndpoint } from '../base/endpoint.ts';
import { type KeyHolder, sharesKey } from '../membership/key-check.ts';

/** Most members that are remembered as reported. Beyond it the first are forgotten, and reported again. */
const MOST_TOLD = 1000;

const REASONS = {
  keys: 'no farm key in common with this peer: each side refuses the frames of the other',
  mac: 'frames from the address of this peer have a MAC of an unknown farm key: they are refused',
} as const;
type Reason = keyof typeof REASONS;

interface Peer extends KeyHolder {
  /** Address of its relay link, `ip:port`. */
  readonly relay: string;
}

export class RefusedPeers {
  readonly #log: Logger;
  /** Relay links by address, then by port: workers of a host share the address. */
  #byAddress: ReadonlyMap<string, Map<number, string>> = new Map();
  /** `<reason> <member>` */
  readonly #reported = new Set<string>();

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Takes the records of the other members. `self` holds the keys of this one. */
  take(records: readonly Peer[], self: KeyHolder): void {
    const byAddress = new Map<string, Map<number, string>>();
    for (const record of records) {
      if (record.id === self.id) continue;
      const at = parseEndpoint(record.relay);
      if (at) byAddress.set(at.address, (byAddress.get(at.address) ?? new Map()).set(at.port, record.id));
      if (!sharesKey(self, record)) this.#report('keys', record.id, { theirs: record.keys, ours: self.keys });
      else if (this.#reported.delete(`keys ${record.id}`)) this.#reported.delete(`mac ${record.id}`);
    }
    this.#byAddress = byAddress;
  }

  /** Reports a frame from that address with a MAC of none of our keys. Called per packet: costs two lookups. */
  badMac(address: string, port: number): void {
    const ports = this.#byAddress.get(address);
    const id = ports?.get(port);
    if (id === undefined) return;
    ports!.delete(port);
    this.#report('mac', id, { from: formatEndpoint({ address, port }) });
  }

  #report(reason: Reason, peer: string, more: Readonly<Record<string, unknown>>): void {
    const key = `${reason} ${peer}`;
    if (this.#reported.has(key)) return;
    this.#reported.add(key);
    for (const first of this.#reported) {
      if (this.#reported.size <= MOST_TOLD) break;
      this.#reported.delete(first);
    }
    this.#log.warn({ peer, reason, ...more }, REASONS[reason]);
  }
}
