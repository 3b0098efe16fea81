// A farm in a laboratory: etcd, and members as an operator runs them: `node bin/sipfarm.js run -c FILE`, one per
// namespace.
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { Etcd } from './etcd.ts';
import { PROXY, SHARED_PORT, startProxy } from './kamailio.ts';
import {
  type Finished,
  type Host,
  isDirectReturn,
  type Lab,
  type Mode,
  memberAddress,
  memberAddress6,
  SHARED_SERVER,
  VIP,
  VIP6,
} from './lab.ts';
import { Sipp } from './sipp.ts';
import { until } from './until.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const MAIN = join(ROOT, 'bin', 'sipfarm.js');
/** A built checkout of another version: member 1 runs it. For the proof of a rolling upgrade. */
const { SIPFARM_LAB_OTHER_BUILD: OTHER_BUILD } = process.env;
/** Name of the farm, whose keys in etcd are under /sipfarm/lab/. */
export const FARM = 'lab';
/** Characters of a member's log in an error message. */
const LOG_TAIL = 4000;
/** Address of a member's own SIP server, in the member's namespace. */
const OWN_SERVER = { address: '127.0.0.1', port: 5070 } as const;

/** Configuration of the members for each mode of the balancer. */
const WAYS: Readonly<Record<Mode, { readonly balancer: string; readonly answer: string }>> = {
  nat: { balancer: 'nat', answer: 'direct' },
  session: { balancer: 'nat', answer: 'ingress' },
  dsr: { balancer: 'dsr', answer: 'direct' },
  tunnel: { balancer: 'dsr', answer: 'direct' },
  none: { balancer: 'none', answer: 'ingress' },
};

export interface FarmOptions {
  /** Members that are started; 1 to 3 by default. */
  readonly members?: readonly number[];
  /** Number of nodes that count as members in the view; by default all. The others get another role by `adjust`. */
  readonly counted?: number;
  /**
   * True: one Kamailio behind all members (started by `startSharedServer`). False: a SIPp server behind each member.
   */
  readonly shared?: boolean;
  /** Address:port of a callee: each member gets its own Kamailio, which calls every user there, through the farm. */
  readonly proxiesTo?: string;
  /** True: the test itself starts a SIP server behind each member, at 127.0.0.1:5070. */
  readonly bare?: boolean;
  /** Number of etcd servers; one by default. */
  readonly etcd?: 1 | 3;
  /** Environment of member k, in addition to that of this process. */
  readonly env?: (k: number) => Readonly<Record<string, string>>;
  readonly adjust?: Farm['adjust'];
}

/** Sections of a member's configuration that tests change. */
export interface LabConfig {
  readonly listeners: readonly {
    readonly name: string;
    readonly transport: string;
    readonly bind: string;
    readonly advertise: string;
    readonly answer?: string;
  }[];
  readonly balancer: { readonly mode: string; readonly probes: readonly string[] };
  readonly keys: readonly string[];
  readonly relay: { readonly bind: string };
  readonly [section: string]: unknown;
}

/** Returns the sum of the values in a Prometheus text over all series of `name` that have all of `labels`. */
export function sumOf(metrics: string, name: string, labels: Readonly<Record<string, string>> = {}): number {
  const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  let sum = 0;
  for (const line of metrics.split('\n')) {
    const match = /^([a-zA-Z_:]+)(?:\{(.*)\})? (\S+)/.exec(line);
    if (match?.[1] !== name) continue;
    const given = new Set(match[2]?.match(/[a-zA-Z_]+="(?:[^"\\]|\\.)*"/g) ?? []);
    if (wanted.every((label) => given.has(label))) sum += Number(match[3]);
  }
  return sum;
}

function mainOf(k: number): string {
  return OTHER_BUILD && k === 1 ? join(OTHER_BUILD, 'bin', 'sipfarm.js') : MAIN;
}

export class Farm {
  readonly lab: Lab;
  readonly servers = new Map<number, Sipp>();
  /** Changes the configuration of a member, from the next `writeConfig` or `startMember` on. */
  adjust: (k: number, config: LabConfig) => object = (_, config) => config;
  readonly etcd: Etcd;
  readonly #options: FarmOptions;
  readonly #key = randomBytes(32).toString('hex');
  readonly #members = new Map<number, ChildProcess>();
  /** Members with a running proxy. */
  readonly #proxies = new Set<number>();

  private constructor(lab: Lab, options: FarmOptions) {
    this.lab = lab;
    this.#options = options;
    this.etcd = new Etcd(lab, options.etcd === 3 ? ['e', 'e2', 'e3'] : ['e']);
    if (options.adjust) this.adjust = options.adjust;
  }

  /** Starts etcd, the SIP servers and the members, and waits until all members are ready. */
  static async start(lab: Lab, options: FarmOptions = {}): Promise<Farm> {
    if (!existsSync(join(ROOT, 'dist', 'main.js'))) throw new Error('the farm is not built: npm run build');
    const farm = new Farm(lab, options);
    await farm.etcd.start();
    await Promise.all((options.members ?? [1, 2, 3]).map((k) => farm.startMember(k)));
    await farm.seesMembers(options.counted ?? options.members?.length ?? 3);
    return farm;
  }

  /** Starts member k, with its SIP server, and waits until it is ready. */
  async startMember(k: number): Promise<void> {
    const host: Host = `m${k}`;
    const { shared, bare, proxiesTo, env } = this.#options;
    if (proxiesTo !== undefined && !this.#proxies.has(k)) {
      this.#proxies.add(k);
      await startProxy(this.lab, k, proxiesTo);
    } else if (!shared && !bare && proxiesTo === undefined && !this.servers.has(k)) {
      const server = { name: `server-${k}`, host, scenario: 'uas', load: true, ...OWN_SERVER } as const;
      this.servers.set(k, Sipp.start(this.lab, server));
    }
    const file = this.writeConfig(k);
    const options = { env: { ...process.env, ...env?.(k) } };
    const child = this.lab.exec(host, process.execPath, [mainOf(k), 'run', '-c', file], host, options);
    this.#members.set(k, child);
    let ended = false;
    child.once('exit', () => {
      ended = true;
    });
    const said = (): string => `member ${k} ${ended ? 'ended' : 'is not ready'}: ${this.logTail(k)}`;
    await until(async () => ended || (await this.isReady(k)), said);
    if (ended) throw new Error(said());
  }

  /** Writes the configuration file of member k; returns its path. */
  writeConfig(k: number): string {
    const file = join(this.lab.dir, `m${k}.yaml`);
    writeFileSync(file, stringify(this.adjust(k, this.#config(k))));
    return file;
  }

  /** Runs a command of sipfarm in the namespace of member k, with its configuration. */
  command(k: number, ...args: readonly string[]): Promise<Finished> {
    const file = join(this.lab.dir, `m${k}.yaml`);
    return this.lab.run(`m${k}`, process.execPath, [MAIN, ...args, '-c', file]);
  }

  /**
   * Cuts the power of member k's host: member and SIP server end, and nothing answers there any more. `revive` starts
   * it again.
   */
  die(k: number): void {
    this.lab.die(`m${k}`);
    this.servers.delete(k);
    this.#proxies.delete(k);
  }

  /** Starts a dead host: its SIP server, without any earlier state, and its member. */
  revive(k: number): Promise<void> {
    this.lab.filter(`m${k}`, '');
    return this.startMember(k);
  }

  /** Sends a signal to member k. SIGTERM drains it. */
  signal(k: number, signal: NodeJS.Signals): void {
    this.#members.get(k)?.kill(signal);
  }

  /** Resolves to the exit code of member k once it has ended; null when a signal ended it. */
  async ended(k: number): Promise<number | null> {
    const child = this.#members.get(k)!;
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    return child.exitCode;
  }

  /** Waits until every running member has a view with that many active members. */
  async seesMembers(count: number): Promise<void> {
    await until(
      async () => {
        const texts = await this.metrics();
        return texts.every((text) => sumOf(text, 'sipfarm_members', { state: 'active' }) === count);
      },
      () => `the members do not agree on ${count}: ${[...this.#members.keys()].map((k) => this.logTail(k)).join('\n')}`,
      60,
    );
  }

  async isReady(k: number): Promise<boolean> {
    return (await this.get(k, '/readyz')).status === 200;
  }

  /** Sends a GET to the admin server of member k, from within its namespace. Status 0: no answer. */
  async get(k: number, path: string): Promise<{ status: number; body: string }> {
    const request = `GET ${path} HTTP/1.0\\r\\nHost: 127.0.0.1\\r\\n\\r\\n`;
    const script = `exec 3<>/dev/tcp/127.0.0.1/8060 && printf '${request}' >&3 && exec timeout 5 cat <&3`;
    const { stdout } = await this.lab.run(`m${k}`, 'bash', ['-c', script]);
    const end = stdout.indexOf('\r\n\r\n');
    return { status: Number(/^HTTP\/1\.[01] (\d{3})/.exec(stdout)?.[1] ?? 0), body: stdout.slice(end + 4) };
  }

  /** Returns /metrics of every running member. Waits for a member that is slow to answer. */
  async metrics(): Promise<string[]> {
    const running = [...this.#members].filter(([, child]) => child.exitCode === null && child.signalCode === null);
    return Promise.all(
      running.map(async ([k, child]) => {
        let answer = { status: 0, body: '' };
        const asked = async (): Promise<boolean> => {
          answer = await this.get(k, '/metrics');
          return answer.status === 200 || child.exitCode !== null || child.signalCode !== null;
        };
        await until(asked, () => `member ${k} shows no metrics: ${this.logTail(k)}`, 30);
        return answer.body;
      }),
    );
  }

  etcdctl(...args: readonly string[]): Promise<Finished> {
    return this.etcd.ctl(...args);
  }

  /** Returns the end of a member's log. */
  logTail(k: number): string {
    return this.lab.log(`m${k}`).slice(-LOG_TAIL);
  }

  #config(k: number): LabConfig {
    const { mode } = this.lab;
    const own = { v4: `${memberAddress(k)}:5060`, v6: `[${memberAddress6(k)}]:5060` };
    const vip = { v4: `${VIP}:5060`, v6: `[${VIP6}]:5060` };
    const bind = isDirectReturn(mode) ? vip : own;
    const advertise = mode === 'none' ? own : vip;
    const { balancer, answer } = WAYS[mode];
    return {
      farm: FARM,
      member: `m${k}`,
      store: { kind: 'etcd', hosts: this.etcd.urls },
      listeners: [
        { name: 'edge', transport: 'udp', bind: bind.v4, advertise: advertise.v4, answer },
        { name: 'edge-tcp', transport: 'tcp', bind: bind.v4, advertise: advertise.v4 },
        { name: 'edge6', transport: 'udp', bind: bind.v6, advertise: advertise.v6, answer },
        { name: 'edge6-tcp', transport: 'tcp', bind: bind.v6, advertise: advertise.v6 },
      ],
      balancer: { mode: balancer, probes: [] },
      keys: [this.#key],
      relay: { bind: `${memberAddress(k)}:5064` },
      rampSeconds: 0,
      service: { kind: 'upstream', ...this.#service(k) },
      admin: { bind: '127.0.0.1:8060' },
    };
  }

  #service(k: number): object {
    const { shared, proxiesTo } = this.#options;
    if (proxiesTo !== undefined) {
      const proxy = { server: `sip:${PROXY.server}`, bind: PROXY.member };
      return { ...proxy, dialogs: 'shared', health: { method: 'options' } };
    }
    const common = { server: `sip:${SHARED_SERVER}:${SHARED_PORT}`, bind: `${memberAddress(k)}:5062` };
    if (shared) return { ...common, dialogs: 'shared', health: { method: 'options' } };
    const own = { server: `sip:${OWN_SERVER.address}:${OWN_SERVER.port}`, bind: '127.0.0.1:5062' };
    return { ...own, dialogs: 'own', health: { method: this.#options.bare ? 'none' : 'keepalive' } };
  }
}
