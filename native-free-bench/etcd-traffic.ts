// Measures the traffic between one member and a real etcd, by a counting TCP proxy between them.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { systemClock } from '../src/base/clock.ts';
import { makeLog } from '../src/base/log.ts';
import { Membership } from '../src/membership/membership.ts';
import { EtcdStore } from '../src/store/etcd-store.ts';
import { fillStore, peerRecord } from './farm.ts';
import { find } from './machine.ts';
import { PLACE } from './socketless.ts';

export interface EtcdTraffic {
  /** Both ways, a minute, while nothing happens. */
  readonly restOctets: number;
  readonly restOperations: number;
  /** Both ways, from the join until the watches are established. */
  readonly joinOctets: number;
  /** Both ways, when another member joins: its record and the new view, written and read. */
  readonly changeOctets: number;
}

/** Seconds until a view is written and all members have read it. */
const SETTLE_MS = 2500;
const LEASE_SECONDS = 5;

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** Passes TCP on to a port and counts the octets. */
class CountingWire {
  octets = 0;
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();

  constructor(to: number) {
    this.#server = net.createServer((near) => {
      const far = net.connect(to, '127.0.0.1');
      for (const [from, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(from);
        from.on('data', (bytes) => {
          this.octets += bytes.length;
        });
        from.on('error', () => other.destroy());
        from.pipe(other);
      }
    });
  }

  async listen(): Promise<number> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return (this.#server.address() as net.AddressInfo).port;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

class Etcd {
  readonly folder = mkdtempSync(join(tmpdir(), 'sipfarm-bench-etcd-'));
  readonly port: number;
  readonly #server: ChildProcess;

  constructor(file: string, port: number, peerPort: number) {
    this.port = port;
    const [own, peer] = [`http://127.0.0.1:${port}`, `http://127.0.0.1:${peerPort}`];
    const args = [
      ['--name', 'bench', '--data-dir', this.folder, '--log-level', 'error', '--logger', 'zap'],
      ['--listen-client-urls', own, '--advertise-client-urls', own],
      ['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', `bench=${peer}`],
    ];
    this.#server = spawn(file, args.flat(), { stdio: 'ignore' });
    process.once('exit', () => this.close());
  }

  close(): void {
    this.#server.kill('SIGKILL');
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Measures one member of a farm of `members` for so many seconds. Returns the reason as text without etcd. */
export async function measureEtcd(members: number, seconds: number): Promise<EtcdTraffic | string> {
  const file = find('etcd');
  if (!file) return 'etcd is not there';
  const etcd = new Etcd(file, await freePort(), await freePort());
  const wire = new CountingWire(etcd.port);
  const hosts = [`http://127.0.0.1:${etcd.port}`];
  const others = new EtcdStore({ hosts, farm: 'bench', clock: systemClock, attempts: 50 });
  let operations = 0;
  const store = new EtcdStore({
    hosts: [`http://127.0.0.1:${await wire.listen()}`],
    farm: 'bench',
    clock: systemClock,
    observe: () => operations++,
  });
  const { number: _number, incarnation: _incarnation, ...own } = peerRecord(1, PLACE);
  const seated = Promise.withResolvers<void>();
  const membership = new Membership({
    store,
    clock: systemClock,
    log: makeLog({ level: 'error' }),
    id: 'fe1',
    leaseSeconds: LEASE_SECONDS,
    record: () => own,
    onView: () => seated.resolve(),
    onMembers: () => {},
    onIsolated: () => {},
    onRejoined: () => {},
    onSeatLost: () => {},
  });
  try {
    await fillStore(others, members, PLACE);
    await membership.join();
    await seated.promise;
    await wait(SETTLE_MS);
    const joinOctets = wire.octets;
    operations = 0;
    await wait(seconds * 1000);
    const restOctets = ((wire.octets - joinOctets) / seconds) * 60;
    const restOperations = (operations / seconds) * 60;
    const before = wire.octets;
    const newcomer = peerRecord(members + 1, PLACE);
    await others.commit([{ key: `members/${newcomer.id}`, value: newcomer }]);
    await wait(SETTLE_MS);
    return { restOctets, restOperations, joinOctets, changeOctets: wire.octets - before };
  } finally {
    await membership.leave();
    await store.close();
    await others.close();
    wire.close();
    etcd.close();
  }
}
