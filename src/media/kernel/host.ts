// The state of this host that paths in the kernel depend on.
import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import type { Clock } from '../../base/clock.ts';
import { missingForwarding } from './forwarding.ts';

/** Seam of tests. */
export interface KernelHost {
  /** Returns true for an address of this host. */
  isLocal(address: string): boolean;
  /** Returns the settings without which no packet for these addresses is passed on; '' when there are none. */
  lacks(addresses: readonly string[]): string;
}

/** Time for which the list of addresses is kept, ms. */
const KEPT_MS = 1000;

export function kernelHost(clock: Clock): KernelHost {
  let local = new Set<string>();
  let readAt = Number.NEGATIVE_INFINITY;
  return {
    isLocal(address) {
      if (clock.now() - readAt >= KEPT_MS) {
        readAt = clock.now();
        local = new Set(Object.values(networkInterfaces()).flatMap((all = []) => all.map((each) => each.address)));
      }
      return local.has(address);
    },
    lacks(addresses) {
      const interfaces = Object.entries(networkInterfaces()).map(([name, own = []]) => ({
        name,
        inner: own.some(({ internal }) => internal) || name.startsWith('dummy'),
        up: true,
        addresses: own,
      }));
      return missingForwarding(addresses, interfaces, readSetting)
        .map(({ path, value }) => `${path} is not ${value}`)
        .join(', ');
    },
  };
}

function readSetting(path: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/${path}`, 'utf8').trim();
  } catch {
    return undefined;
  }
}
