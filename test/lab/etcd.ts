// etcd in a laboratory: one server, or three in their own hosts that can be killed, stopped, cut off and emptied one by
// one.
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { ETCD, type EtcdHost, type Finished, type Lab } from './lab.ts';
import { until } from './until.ts';

const LOG_TAIL = 4000;
const url = (host: EtcdHost, port = 2379): string => `http://${ETCD[host]}:${port}`;

export class Etcd {
  readonly hosts: readonly EtcdHost[];
  readonly #lab: Lab;
  readonly #servers = new Map<EtcdHost, ChildProcess>();

  constructor(lab: Lab, hosts: readonly EtcdHost[]) {
    this.#lab = lab;
    this.hosts = hosts;
  }

  /** URLs for clients. */
  get urls(): readonly string[] {
    return this.hosts.map((host) => url(host));
  }

  /** Starts servers with their data, and waits until they answer with a quorum. */
  async start(hosts: readonly EtcdHost[] = this.hosts): Promise<void> {
    for (const host of hosts) this.#start(host);
    await until(
      async () => (await this.ctl('endpoint', 'health')).code === 0,
      () => `etcd does not answer: ${hosts.map((host) => this.#lab.log(`etcd-${host}`).slice(-LOG_TAIL)).join('\n')}`,
    );
  }

  #start(host: EtcdHost): void {
    const env = { ...process.env, ...(process.arch === 'arm64' ? { ETCD_UNSUPPORTED_ARCH: 'arm64' } : {}) };
    const cluster = this.hosts.map((each) => `${each}=${url(each, 2380)}`).join(',');
    const args = [
      ...['--name', host, '--data-dir', this.#data(host), '--logger', 'zap', '--log-level', 'warn'],
      ...['--listen-client-urls', url(host), '--advertise-client-urls', url(host)],
      ...['--listen-peer-urls', url(host, 2380), '--initial-advertise-peer-urls', url(host, 2380)],
      ...['--initial-cluster', cluster, '--heartbeat-interval', '30', '--election-timeout', '300', '--pre-vote'],
      ...['--grpc-keepalive-min-time', '500ms'],
    ];
    this.#servers.set(host, this.#lab.exec(host, 'etcd', args, `etcd-${host}`, { env }));
  }

  #data(host: EtcdHost): string {
    return join(this.#lab.memory, `etcd-${host}`);
  }

  signal(host: EtcdHost, signal: NodeJS.Signals): void {
    this.#servers.get(host)?.kill(signal);
  }

  /** Kills servers and waits for their end. Their data stay. */
  async kill(hosts: readonly EtcdHost[] = this.hosts): Promise<void> {
    for (const host of hosts) {
      const server = this.#servers.get(host);
      if (!server || server.exitCode !== null || server.signalCode !== null) continue;
      const exit = once(server, 'exit');
      server.kill('SIGKILL');
      await exit;
    }
  }

  /** Deletes the data of all servers, none of which may run. */
  wipe(): void {
    for (const host of this.hosts) rmSync(this.#data(host), { recursive: true, force: true });
  }

  /** Returns the current leader. */
  async leader(): Promise<EtcdHost> {
    let leader: EtcdHost | undefined;
    await until(
      async () => {
        const { stdout } = await this.ctl('endpoint', 'status', '-w', 'json');
        const all = JSON.parse(stdout || '[]') as Status[];
        const one = all.find(({ Status }) => Status.leader === Status.header.member_id);
        leader = this.hosts.find((host) => url(host) === one?.Endpoint);
        return leader !== undefined;
      },
      () => 'no server of etcd leads',
    );
    return leader!;
  }

  /** Runs etcdctl in a separate host, so that cuts of other hosts do not affect it. */
  ctl(...args: readonly string[]): Promise<Finished> {
    return this.#lab.run('k', 'etcdctl', [`--endpoints=${this.urls.join(',')}`, '--command-timeout=3s', ...args]);
  }
}

interface Status {
  readonly Endpoint: string;
  readonly Status: { readonly leader: number; readonly header: { readonly member_id: number } };
}
