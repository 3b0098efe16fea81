// Opens the store that a configuration names.
import { readFileSync } from 'node:fs';
import { systemClock } from '../base/clock.ts';
import { SipfarmError } from '../base/errors.ts';
import type { Config } from '../config/schema.ts';
import { EtcdStore } from '../store/etcd-store.ts';
import { MemoryFarm } from '../store/memory-store.ts';
import type { Store } from '../store/store.ts';

function readSecretFile(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new SipfarmError('SF_CONFIG_SECRET', `${path} cannot be read`, { cause: error });
  }
}

/**
 * Opens the store. `observe` receives every request and its seconds. Throws SF_CONFIG_SECRET when a certificate or key
 * cannot be read.
 */
export function openStore(config: Config, observe: (operation: string, seconds: number) => void): Store {
  const { store, farm } = config;
  if (store.kind === 'memory') return new MemoryFarm(systemClock).open();
  const file = (path: string | undefined): Buffer | undefined =>
    path === undefined ? undefined : readSecretFile(path);
  const [ca, cert, key] = [file(store.ca), file(store.cert), file(store.key)];
  return new EtcdStore({
    hosts: store.hosts,
    farm,
    clock: systemClock,
    observe,
    ...(store.user !== undefined && store.password && { user: store.user, password: store.password.reveal() }),
    ...(ca || cert ? { tls: { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) } } : {}),
  });
}
