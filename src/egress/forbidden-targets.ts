// Targets to which the farm never sends, whatever a client writes into Contact, Via or DNS: addresses of no host,
// networks of this host and link only, and the farm's own ports. IPv6 addresses that lead to one of these through a
// tunnel or translator are forbidden, too.
import { ipv4Inside } from '../base/address.ts';
import { AddressList } from '../base/address-list.ts';
import type { Endpoint } from '../base/endpoint.ts';

/** Unspecified, multicast, reserved with broadcast (RFC 1122 3.2.1.3, RFC 4291 2.4). */
const NO_HOSTS = ['0.0.0.0/8', '224.0.0.0/4', '240.0.0.0/4', '::/128', 'ff00::/8'];
/** Networks of this host and this link only (RFC 1122 3.2.1.3, RFC 3927, RFC 4291 2.5). */
const NEAR = ['127.0.0.0/8', '::1/128', '169.254.0.0/16', 'fe80::/10'];

/** A port bound on all addresses of this host is forbidden on every address: own addresses are not read per packet. */
const WILDCARDS: Readonly<Record<string, readonly string[]>> = {
  '0.0.0.0': ['0.0.0.0/0'],
  '::': ['::/0', '0.0.0.0/0'],
};

export class ForbiddenTargets {
  readonly #noHosts = new AddressList(NO_HOSTS);
  readonly #near: AddressList;
  /** Addresses by port, parsed: one address has many spellings. */
  readonly #ownPorts = new Map<number, AddressList>();

  /**
   * @param listeners a near network that contains one of them is allowed; undefined: messages leave from another host,
   *   which checks its own near networks
   * @param ownPorts endpoints of this node, to which no SIP message may be sent from here
   */
  constructor(listeners: readonly Endpoint[] | undefined, ownPorts: readonly Endpoint[]) {
    const near = (listeners ? NEAR : []).filter((network) => {
      const list = new AddressList([network]);
      return !listeners?.some(({ address }) => list.matches(address));
    });
    this.#near = new AddressList(near);
    for (const { port } of ownPorts) {
      const addresses = ownPorts.filter((own) => own.port === port).map(({ address }) => address);
      this.#ownPorts.set(port, new AddressList(addresses.flatMap((address) => WILDCARDS[address] ?? [address])));
    }
  }

  /** Returns true for an address of no host: unspecified, multicast, broadcast. */
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
    return this.#near.matches(address) || this.#ownPorts.get(port)?.matches(address) === true;
  }
}
