// The addresses of this host.
import { networkInterfaces } from 'node:os';

/** Returns the addresses of all interfaces, loopback included, in the canonical text of the system, without zones. */
export function localAddresses(): ReadonlySet<string> {
  return new Set(
    Object.values(networkInterfaces()).flatMap((entries) => (entries ?? []).map(({ address }) => address)),
  );
}
