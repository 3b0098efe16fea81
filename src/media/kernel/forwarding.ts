// The kernel's settings without which it passes on no packets of a path. Pure.
import { isIpv6 } from '../../base/endpoint.ts';
import { LOOPBACK } from './kernel-path.ts';

export interface HostInterface {
  readonly name: string;
  /** lo, or an interface of kind dummy: no packet arrives there. */
  readonly inner: boolean;
  readonly up: boolean;
  readonly addresses: readonly { readonly address: string }[];
}

/** A setting as a path under /proc/sys, and the value that it needs. */
interface Setting {
  readonly path: string;
  readonly value: string;
}

/**
 * Returns the interfaces on which packets for an address arrive: its own one, or each one for an address on lo; none
 * for a loopback address, whose packets stay on this host.
 */
export function arrivalsOf(address: string, interfaces: readonly HostInterface[]): readonly string[] {
  if (LOOPBACK.matches(address)) return [];
  const own = interfaces.filter((each) => !each.inner && each.addresses.some((one) => one.address === address));
  const all = own.length > 0 ? own : interfaces.filter(({ inner, up }) => !inner && up);
  return all.map(({ name }) => name);
}

/**
 * Returns the settings that are off and that let packets for these local addresses pass on, each once. `read` returns
 * the value at a path; undefined when it cannot be read.
 */
export function missingForwarding(
  addresses: readonly string[],
  interfaces: readonly HostInterface[],
  read: (path: string) => string | undefined,
): readonly Setting[] {
  const needed = addresses.flatMap((address) =>
    arrivalsOf(address, interfaces).map((name) =>
      isIpv6(address) ? ofIpv6(name) : `net/ipv4/conf/${name}/forwarding`,
    ),
  );
  return [...new Set(needed)].filter((path) => read(path) === '0').map((path) => ({ path, value: '1' }));

  function ofIpv6(name: string): string {
    const all = 'net/ipv6/conf/all/forwarding';
    // Since Linux 6.17 one interface can forward.
    const own = `net/ipv6/conf/${name}/force_forwarding`;
    return read(all) === '1' || read(own) === undefined ? all : own;
  }
}
