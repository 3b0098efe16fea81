// Where the farm sends nothing, whatever a client writes into Contact, Via or DNS: no hosts, the inside of this one, and its own doors; nor to
// an IPv6 address that leads to one of these through a tunnel or a translator.
import { ipv4Inside } from '../base/address.ts';
import { AddressList } from '../base/address-list.ts';
import type { Endpoint } from '../base/endpoint.ts';

/** Unspecified, multicast, reserved with broadcast (RFC 1122 3.2.1.3, RFC 4291 2.4). */
const NO_HOSTS = ['0.0.0.0/8', '224.0.0.0/4', '240.0.0.0/4', '::/128', 'ff00::/8'];
/** Networks of this host and this link only (RFC 1122 3.2.1.3, RFC 3927, RFC 4291 2.5). */
const NEAR = ['127.0.0.0/8', '::1/128', '169.254.0.0/16', 'fe80::/10'];

/** A door that is open on every address of this host is shut on all addresses: which are ours is not asked per packet. */
const WILDCARDS: Readonly<Record<string, readonly string[]>> = {
  '0.0.0.0': ['0.0.0.0/0'],
  '::': ['::/0', '0.0.0.0/0'],
};

export class ForbiddenTargets {
  readonly #noHosts = new AddressList(NO_HOSTS);
  readonly #near: AddressList;
  /** By port, as addresses: one address has many spellings. */
  readonly #remoteListeners = new Map<number, AddressList>();

  /**
   * `listeners`: a near network that one of them is on is not forbidden; undefined: messages leave from another host, which knows what is near it.
   * `doors`: endpoints that no SIP message may reach from here.
   */
  constructor(listeners: readonly Endpoint[] | undefined, remoteListeners: readonly Endpoint[]) {
    const near = (listeners ? NEAR : []).filter((network) => {
      const list = new AddressList([network]);
      return !listeners?.some(({ address }) => list.matches(address));
    });
    this.#near = new AddressList(near);
    for (const { port } of remoteListeners) {
      const addresses = remoteListeners.filter((remote) => remote.port === port).map(({ address }) => address);
      this.#remoteListeners.set(port, new AddressList(addresses.flatMap((address) => WILDCARDS[address] ?? [address])));
    }
  }

  /** The address is that of no host: unspecified, multicast, broadcast. */
  hasNoHost(address: string): boolean {
    return this.#noHosts.matches(address) || ipv4Inside(address).some((inside) => this.#noHosts.matches(inside));
  }

  has(address: string, port: number): boolean {
    return (
      this.hasNoHost(address) ||
      this.#holds(address, port) ||
      ipv4Inside(address).some((inside) => this.#holds(inside, port))
    );
  }

  #holds(address: string, port: number): boolean {
    return this.#near.matches(address) || this.#remoteListeners.get(port)?.matches(address) === true;
  }
}
