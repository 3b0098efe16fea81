// A real etcd of one server for a test, with its own ports and data folder, deleted afterwards; and a TCP connection to
// it that a test can cut.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);
const { PATH = '', CI } = process.env;

function installed(program: string): boolean {
  return PATH.split(':').some((folder) => existsSync(path.join(folder, program)));
}

/**
 * Returns the reason for the option `skip` of a test, or false. In CI it is always false, so that the test fails
 * instead.
 */
export function withoutEtcd(): string | false {
  if (CI === 'true' || (installed('etcd') && installed('etcdctl'))) return false;
  return 'etcd or etcdctl is missing: apt-get install etcd-server etcd-client';
}

/**
 * These ports are below those that systems assign by themselves, so no other program gets one by chance, neither before
 * etcd uses it nor while etcd is down. Only another etcd of a test can draw the same port at the same time.
 */
const PORTS = { first: 20_000, count: 12_000 };

async function freePort(): Promise<number> {
  for (let drawn = 0; drawn < 20; drawn++) {
    const port = PORTS.first + Math.floor(Math.random() * PORTS.count);
    const server = net.createServer().listen(port, '127.0.0.1');
    const isFree = await once(server, 'listening').then(
      () => true,
      () => false,
    );
    if (!isFree) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
  throw new Error('no free port for etcd');
}

export interface EtcdTls {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
}

export class FakeEtcd {
  readonly port: number;
  readonly #peerPort: number;
  readonly #folder: string;
  readonly #tls: EtcdTls | undefined;
  #server: ChildProcess | undefined;
  readonly #onExit = (): void => {
    this.#server?.kill('SIGKILL');
    rmSync(this.#folder, { recursive: true, force: true });
  };

  private constructor(port: number, peerPort: number, folder: string, tls: EtcdTls | undefined) {
    this.port = port;
    this.#peerPort = peerPort;
    this.#folder = folder;
    this.#tls = tls;
    process.on('exit', this.#onExit);
  }

  /** Starts a server. `tls`: paths of PEM files; the server then accepts only TLS. */
  static async start(tls?: EtcdTls): Promise<FakeEtcd> {
    const folder = await mkdtemp(path.join(tmpdir(), 'sipfarm-etcd-'));
    const etcd = new FakeEtcd(await freePort(), await freePort(), folder, tls);
    await etcd.up();
    return etcd;
  }

  get url(): string {
    return `${this.#tls ? 'https' : 'http'}://127.0.0.1:${this.port}`;
  }

  /** Starts the server with its data; resolves when it has a leader. */
  async up(): Promise<void> {
    const peer = `http://127.0.0.1:${this.#peerPort}`;
    const server = spawn(
      'etcd',
      [
        ['--name', 'test', '--data-dir', this.#folder, '--log-level', 'error', '--logger', 'zap'],
        ['--listen-client-urls', this.url, '--advertise-client-urls', this.url],
        ['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', `test=${peer}`],
        ['--heartbeat-interval', '20', '--election-timeout', '200'],
        this.#tls ? ['--cert-file', this.#tls.cert, '--key-file', this.#tls.key] : [],
      ].flat(),
      { stdio: 'ignore', env: { PATH } },
    );
    this.#server = server;
    await once(server, 'spawn');
    for (let asked = 0; asked < 100; asked++) {
      if (server.exitCode !== null) throw new Error(`etcd ended with ${server.exitCode}`);
      const answer = await this.ctl('endpoint', 'status').catch(() => undefined);
      if (answer !== undefined) return;
      await wait(50);
    }
    throw new Error('etcd does not come up');
  }

  /** Kills the server like a power failure; the data stay. */
  async down(): Promise<void> {
    const server = this.#server;
    if (!server || server.exitCode !== null || server.signalCode !== null) return;
    server.kill('SIGKILL');
    await once(server, 'exit');
  }

  async ctl(...args: string[]): Promise<string> {
    const tls = this.#tls ? ['--cacert', this.#tls.ca] : [];
    const all = ['--endpoints', this.url, '--command-timeout', '2s', '--dial-timeout', '2s', ...tls, ...args];
    const env = { PATH, ETCDCTL_API: '3' };
    return (await run('etcdctl', all, { env, maxBuffer: 64 * 1024 * 1024 })).stdout;
  }

  async close(): Promise<void> {
    process.off('exit', this.#onExit);
    await this.down();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** A TCP proxy to a port of this host that a test can cut. */
export class Wire {
  readonly #server: net.Server;
  readonly #pairs = new Set<readonly [net.Socket, net.Socket]>();
  readonly #swallowed = new Set<net.Socket>();
  readonly #target: number;
  #open = true;

  private constructor(target: number) {
    this.#target = target;
    this.#server = net.createServer((near) => this.#connect(near));
  }

  static async to(target: number): Promise<Wire> {
    const wire = new Wire(target);
    wire.#server.listen(0, '127.0.0.1');
    await once(wire.#server, 'listening');
    return wire;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as net.AddressInfo).port}`;
  }

  get connections(): number {
    return this.#pairs.size;
  }

  #connect(near: net.Socket): void {
    near.on('error', () => {});
    if (!this.#open) return void near.destroy();
    const far = net.connect(this.#target, '127.0.0.1');
    const pair = [near, far] as const;
    this.#pairs.add(pair);
    const end = (): void => {
      this.#pairs.delete(pair);
      near.destroy();
      far.destroy();
    };
    far.on('error', end).on('close', end);
    near.on('close', end);
    near.on('data', (bytes) => far.write(bytes));
    far.on('data', (bytes) => {
      if (!this.#swallowed.has(far)) near.write(bytes);
    });
  }

  /** Cuts all connections and refuses new ones. */
  cut(): void {
    this.#open = false;
    this.cutOnce();
  }

  /** Cuts all connections. */
  cutOnce(): void {
    for (const [near, far] of this.#pairs) {
      near.resetAndDestroy();
      far.destroy();
    }
    this.#pairs.clear();
  }

  mend(): void {
    this.#open = true;
  }

  /** Swallows all octets from the server on the present connections from now on; octets to the server pass. */
  swallowAnswers(): void {
    for (const [, far] of this.#pairs) this.#swallowed.add(far);
  }

  async close(): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
