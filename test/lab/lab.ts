// A laboratory of network namespaces: client, stateless balancer (nftables), switch, four members, one host for etcd, one for a
// SIP server that members share. Everything is made by this process, named after it, and gone when it ends. Needs root on Linux.
import { type ChildProcess, execFileSync, type SpawnOptions, spawn, spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** How packets for the VIP reach the members: rewritten (nat), same packet to another MAC (dsr), or no balancer at all (none). */
export type Mode = 'nat' | 'dsr' | 'none';
/** A host of the laboratory. */
export type Host = 'c' | 'lb' | 'sw' | 'e' | 'k' | `m${number}`;

export const VIP = '198.51.100.1';
export const VIP6 = '2001:db8:51::1';
export const ETCD = '10.9.0.31';
export const SHARED_SERVER = '10.9.0.40';
export const MEMBERS = [1, 2, 3, 4] as const;

/** Address of the i-th client, 0 to 19. */
export const clientAddress = (i: number): string => `203.0.113.${10 + i}`;
export const clientAddress6 = (i: number): string => `2001:db8:c::${10 + i}`;
/** Own address of member k, 1 to 4. */
export const memberAddress = (k: number): string => `10.9.0.1${k}`;
export const memberAddress6 = (k: number): string => `fd09::1${k}`;

const HOSTS: readonly Host[] = ['c', 'lb', 'sw', 'm1', 'm2', 'm3', 'm4', 'e', 'k'];
const LB_MAC = '02:00:00:00:00:fe';
const CLIENT_MAC = '02:00:00:00:00:fd';
const memberMac = (k: number): string => `02:00:00:00:00:0${k}`;
/** Namespaces are named sf<pid>n<count>-<host>, so that those of a dead process can be told. */
const NAME = /^sf(\d+)n\d+-[a-z0-9]+$/;
const DIRECTORY = /^sipfarm-lab-sf(\d+)n\d+-/;
/** Buckets of the balancer's hash for TCP flows and for fragments. */
const BUCKETS = 60;

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

let count = 0;
const open = new Set<Lab>();
let guarded = false;

/** Ends what still runs when the process ends in a way that no `close()` saw. */
function guard(): void {
  if (guarded) return;
  guarded = true;
  process.on('exit', () => {
    for (const lab of open) lab.close();
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      for (const lab of open) lab.close();
      process.kill(process.pid, signal);
    });
  }
}

function netns(): string[] {
  try {
    return readdirSync('/run/netns');
  } catch {
    return [];
  }
}

/** Kills what runs in a namespace and removes it. */
function removeNamespace(name: string): void {
  const pids = spawnSync('ip', ['netns', 'pids', name], { encoding: 'utf8' }).stdout ?? '';
  for (const pid of pids.split('\n').map(Number)) {
    try {
      if (pid > 1 && pid !== process.pid) process.kill(pid, 'SIGKILL');
    } catch {
      // it ended by itself
    }
  }
  spawnSync('ip', ['netns', 'del', name]);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Removes the namespaces and files of processes that are gone. */
function removeLeftovers(): void {
  const isLeft = (match: RegExpExecArray | null): boolean => {
    const pid = Number(match?.[1] ?? 0);
    return pid > 0 && pid !== process.pid && !isAlive(pid);
  };
  for (const name of netns()) if (isLeft(NAME.exec(name))) removeNamespace(name);
  for (const name of readdirSync(tmpdir())) {
    if (isLeft(DIRECTORY.exec(name))) rmSync(join(tmpdir(), name), { recursive: true, force: true });
  }
}

/** Rendezvous hashing of the buckets over the pool: a member that comes or goes moves only its own share of TCP flows. */
export function buckets(pool: readonly number[]): number[] {
  const score = (bucket: number, member: number): number => {
    const h = Math.imul((bucket + 1) * 0x9e3779b1, (member + 1) * 0x85ebca77);
    return Math.imul(h ^ (h >>> 15), 0xc2b2ae35) >>> 0;
  };
  return Array.from({ length: BUCKETS }, (_, bucket) =>
    pool.reduce((best, member) => (score(bucket, member) > score(bucket, best) ? member : best)),
  );
}

const table = (entries: readonly string[]): string => entries.map((to, i) => `${i} : ${to}`).join(', ');

/** Balancer by address rewriting, without a session table: destination on the way in, source of port 5060 on the way out. */
function natRules(pool: readonly number[]): string {
  const family = (ip: 'ip' | 'ip6', vip: string, address: (k: number) => string): string => {
    const live = table(pool.map(address));
    const hashed = table(buckets(pool).map(address));
    const fragments =
      ip === 'ip'
        ? `ip daddr ${vip} ip protocol udp ip frag-off & 0x3fff != 0 ip daddr set jhash ip saddr . ip id mod ${BUCKETS} seed 0x5eed map { ${hashed} } accept`
        : '';
    return `
table ${ip} balancer {
  chain in {
    type filter hook prerouting priority raw;
    ${ip} daddr ${vip} notrack
    ${ip} saddr { ${MEMBERS.map(address).join(', ')} } notrack
    iifname "fr" ${ip} daddr ${ip === 'ip' ? '10.9.0.0/24' : 'fd09::/64'} counter drop
    ${fragments}
    ${ip} daddr ${vip} udp dport 5060 counter ${ip} daddr set numgen random mod ${pool.length} map { ${live} }
    ${ip} daddr ${vip} tcp dport 5060 counter ${ip} daddr set jhash ${ip} saddr . tcp sport mod ${BUCKETS} seed 0x5eed map { ${hashed} }
  }
  chain out {
    type filter hook postrouting priority srcnat;
    oifname "fr" ${ip} saddr { ${MEMBERS.map(address).join(', ')} } meta l4proto { udp, tcp } th sport 5060 ${ip} saddr set ${vip}
  }
}`;
  };
  return family('ip', VIP, memberAddress) + family('ip6', VIP6, memberAddress6);
}

/** Balancer by direct server return: the frame goes on to a member's MAC; answers do not come this way. */
function dsrRules(pool: readonly number[]): string {
  const live = table(pool.map(memberMac));
  const hashed = table(buckets(pool).map(memberMac));
  const family = (ip: 'ip' | 'ip6', vip: string): string => `
    ${ip} daddr ${vip} udp dport 5060 counter ether saddr set ${LB_MAC} ether daddr set numgen random mod ${pool.length} map { ${live} } fwd to "bk"
    ${ip} daddr ${vip} tcp dport 5060 counter ether saddr set ${LB_MAC} ether daddr set jhash ${ip} saddr . tcp sport mod ${BUCKETS} seed 0x5eed map { ${hashed} } fwd to "bk"`;
  return `
table netdev balancer {
  chain in {
    type filter hook ingress device "fr" priority 0;
    ip daddr 10.9.0.0/24 counter drop
    ip6 daddr fd09::/64 counter drop
    ip daddr ${VIP} ip protocol udp ip frag-off & 0x3fff != 0 ether saddr set ${LB_MAC} ether daddr set jhash ip saddr . ip id mod ${BUCKETS} seed 0x5eed map { ${hashed} } fwd to "bk"
    ${family('ip', VIP)}
    ${family('ip6', VIP6)}
  }
}`;
}

/** One laboratory. `Lab.open()` makes it, `close()` removes it. */
export class Lab {
  /** Directory of logs and files of this laboratory; removed by `close()` unless SIPFARM_LAB_KEEP is set. */
  readonly dir: string;
  readonly #name: string;
  readonly #keep: boolean;
  readonly #children = new Set<ChildProcess>();
  #mode: Mode = 'none';

  private constructor() {
    count += 1;
    this.#name = `sf${process.pid}n${count}`;
    const { SIPFARM_LAB_KEEP } = process.env;
    this.#keep = SIPFARM_LAB_KEEP !== undefined;
    this.dir = mkdtempSync(join(tmpdir(), this.#keep ? 'sipfarm-kept-' : `sipfarm-lab-${this.#name}-`));
  }

  /** Makes namespaces, links and addresses. Throws with the tool's own words when the host does not allow it. */
  static open(mode: Mode = 'none', pool: readonly number[] = [1, 2, 3]): Lab {
    removeLeftovers();
    const lab = new Lab();
    open.add(lab);
    guard();
    try {
      lab.#build();
      lab.balance(mode, pool);
      return lab;
    } catch (error) {
      lab.close();
      throw error;
    }
  }

  /** Name of a host's namespace, for `ip netns exec`. */
  ns(host: Host): string {
    return `${this.#name}-${host}`;
  }

  get mode(): Mode {
    return this.#mode;
  }

  /** Sets the balancer's way and its live members. Members' routes and the VIP on their loopback follow. */
  balance(mode: Mode, pool: readonly number[]): void {
    this.#mode = mode;
    for (const k of MEMBERS) {
      const host: Host = `m${k}`;
      spawnSync('ip', ['-n', this.ns(host), 'addr', 'flush', 'dev', 'lo', 'to', `${VIP}/32`]);
      spawnSync('ip', ['-n', this.ns(host), '-6', 'addr', 'flush', 'dev', 'lo', 'to', `${VIP6}/128`]);
      const dsr = mode === 'dsr';
      this.#ip(host, [
        ...(dsr ? [`addr add ${VIP}/32 dev lo`, `addr add ${VIP6}/128 dev lo nodad`] : []),
        `route replace default via ${dsr ? '10.9.0.254' : '10.9.0.1'} src ${memberAddress(k)}`,
        `-6 route replace default via ${dsr ? 'fd09::fe' : 'fd09::1'}`,
      ]);
    }
    this.pool(pool);
  }

  /** Changes the live members in one step; TCP flows of members that stay keep their member. */
  pool(pool: readonly number[]): void {
    const rules = this.#mode === 'nat' ? natRules(pool) : this.#mode === 'dsr' ? dsrRules(pool) : '';
    execFileSync('ip', ['netns', 'exec', this.ns('lb'), 'nft', '-f', '-'], { input: `flush ruleset\n${rules}\n` });
  }

  /** Source address and port of every UDP and TCP packet that reached the client since the last call of `forgetSources()`, with the number of packets. */
  sources(): Map<string, number> {
    const seen = new Map<string, number>();
    for (const set of ['seen4', 'seen6']) {
      const text = execFileSync(
        'ip',
        ['netns', 'exec', this.ns('c'), 'nft', '-j', 'list', 'set', 'inet', 'watch', set],
        { encoding: 'utf8' },
      );
      const parsed = JSON.parse(text) as { nftables: { set?: { elem?: SeenElement[] } }[] };
      for (const { elem } of parsed.nftables.flatMap((item) => item.set?.elem ?? [])) {
        const [address, port] = elem.val.concat;
        seen.set(`${address}:${port}`, elem.counter.packets);
      }
    }
    return seen;
  }

  /** Starts the watch of `sources()` anew. */
  forgetSources(): void {
    execFileSync('ip', ['netns', 'exec', this.ns('c'), 'nft', '-f', '-'], { input: WATCH });
  }

  /** Starts a program in a host. Its output goes to `<dir>/<log>.log`, or to pipes when `log` is absent. Killed by `close()` at the latest. */
  exec(host: Host, command: string, args: readonly string[], log?: string, options: SpawnOptions = {}): ChildProcess {
    const out = log === undefined ? undefined : openSync(join(this.dir, `${log}.log`), 'a');
    const child = spawn('ip', ['netns', 'exec', this.ns(host), command, ...args], {
      cwd: this.dir,
      ...options,
      stdio: out === undefined ? ['ignore', 'pipe', 'pipe'] : ['ignore', out, out],
    });
    if (out !== undefined) closeSync(out);
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    child.once('error', () => this.#children.delete(child));
    return child;
  }

  /** Runs a program in a host to its end and hands back what it said. */
  run(host: Host, command: string, args: readonly string[]): Promise<Finished> {
    return new Promise((resolve, reject) => {
      const child = this.exec(host, command, args);
      let stdout = '';
      let stderr = '';
      child.stdout?.setEncoding('utf8').on('data', (text: string) => {
        stdout += text;
      });
      child.stderr?.setEncoding('utf8').on('data', (text: string) => {
        stderr += text;
      });
      child.once('error', reject);
      child.once('close', (code) => resolve({ code, stdout, stderr }));
    });
  }

  /** Text of a log file written by `exec`; empty when there is none. */
  log(name: string): string {
    try {
      return readFileSync(join(this.dir, `${name}.log`), 'utf8');
    } catch {
      return '';
    }
  }

  /** Kills all programs of this laboratory and removes it. Synchronous, so that it works while the process exits. */
  close(): void {
    if (!open.delete(this)) return;
    for (const child of this.#children) child.kill('SIGKILL');
    for (const host of HOSTS) removeNamespace(this.ns(host));
    if (!this.#keep) rmSync(this.dir, { recursive: true, force: true });
  }

  #ip(host: Host, lines: readonly string[]): void {
    // -6 is an option of the program, not of a line: such lines run in a batch of their own.
    const six = lines.filter((line) => line.startsWith('-6 ')).map((line) => line.slice(3));
    const four = lines.filter((line) => !line.startsWith('-6 '));
    for (const [flags, batch] of [
      [[], four],
      [['-6'], six],
    ] as const) {
      if (batch.length === 0) continue;
      execFileSync('ip', [...flags, '-n', this.ns(host), '-batch', '-'], { input: `${batch.join('\n')}\n` });
    }
  }

  /** Kernel settings as name=value; by a shell, because sysctl is not on every minimal host. */
  #sysctl(host: Host, settings: readonly string[]): void {
    const lines = settings.map((setting) => {
      const [name = '', value = ''] = setting.split('=');
      return `echo ${value} > /proc/sys/${name.replaceAll('.', '/')}`;
    });
    execFileSync('ip', ['netns', 'exec', this.ns(host), 'sh', '-ec', lines.join('\n')]);
  }

  /** One leg on the switch; the static forwarding entry keeps the bridge from flooding when a MAC is silent, as it is under DSR. */
  #leg(host: Host, device: string, mac: string, addresses: readonly string[]): void {
    const port = `${host}${device}`;
    this.#ip(host, [
      `link add ${device} address ${mac} type veth peer name ${port} netns ${this.ns('sw')}`,
      ...addresses.map((address) => `addr add ${address} dev ${device}${address.includes(':') ? ' nodad' : ''}`),
      `link set ${device} up`,
    ]);
    this.#ip('sw', [`link set ${port} master br0 up`]);
    execFileSync('bridge', ['-n', this.ns('sw'), 'fdb', 'replace', mac, 'dev', port, 'master', 'static']);
  }

  #build(): void {
    for (const host of HOSTS) {
      execFileSync('ip', ['netns', 'add', this.ns(host)]);
      this.#ip(host, ['link set lo up']);
      this.#sysctl(host, ['net.ipv4.conf.all.rp_filter=0', 'net.ipv4.conf.default.rp_filter=0']);
    }
    this.#ip('sw', ['link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0', 'link set br0 up']);
    this.#leg('lb', 'bk', LB_MAC, ['10.9.0.1/24', 'fd09::1/64']);
    this.#leg('e', 'eth0', '02:00:00:00:00:31', [`${ETCD}/24`]);
    this.#leg('k', 'eth0', '02:00:00:00:00:40', [`${SHARED_SERVER}/24`]);
    this.#ip('k', ['route add default via 10.9.0.1']);
    // The client's second leg is the members' way back under DSR; as a /32 it gives the client no route to the members.
    this.#leg('c', 'back', CLIENT_MAC, ['10.9.0.254/32', 'fd09::fe/128']);
    this.#ip('lb', [
      `link add fr type veth peer name eth0 netns ${this.ns('c')}`,
      'addr add 203.0.113.1/24 dev fr',
      'addr add 2001:db8:c::1/64 dev fr nodad',
      'link set fr up',
    ]);
    const clients = Array.from({ length: 20 }, (_, i) => i);
    this.#ip('c', [
      ...clients.map((i) => `addr add ${clientAddress(i)}/24 dev eth0`),
      ...clients.map((i) => `addr add ${clientAddress6(i)}/64 dev eth0 nodad`),
      'link set eth0 up',
      'route add default via 203.0.113.1',
      '-6 route add default via 2001:db8:c::1 dev eth0',
    ]);
    this.#sysctl('lb', [
      'net.ipv4.ip_forward=1',
      'net.ipv6.conf.all.forwarding=1',
      'net.ipv4.conf.all.send_redirects=0',
      'net.ipv4.conf.bk.send_redirects=0',
      'net.ipv4.conf.fr.send_redirects=0',
    ]);
    for (const k of MEMBERS) {
      const host: Host = `m${k}`;
      this.#leg(host, 'eth0', memberMac(k), [`${memberAddress(k)}/24`, `${memberAddress6(k)}/64`]);
      // Before the VIP is there, or one ARP answer draws the traffic past the balancer.
      this.#sysctl(host, [
        'net.ipv4.conf.all.arp_ignore=1',
        'net.ipv4.conf.all.arp_announce=2',
        'net.ipv4.conf.all.accept_redirects=0',
        'net.ipv4.conf.eth0.accept_redirects=0',
      ]);
      this.#ip(host, [`-6 neigh replace fd09::fe lladdr ${CLIENT_MAC} dev eth0 nud permanent`]);
    }
    this.forgetSources();
  }
}

interface SeenElement {
  readonly elem: {
    readonly val: { readonly concat: readonly [string, number] };
    readonly counter: { readonly packets: number };
  };
}

const WATCH = `flush ruleset
table inet watch {
  set seen4 { type ipv4_addr . inet_service; size 4096; flags dynamic; }
  set seen6 { type ipv6_addr . inet_service; size 4096; flags dynamic; }
  chain in {
    type filter hook input priority 0;
    iifname "lo" accept
    meta l4proto { udp, tcp } add @seen4 { ip saddr . th sport counter }
    meta l4proto { udp, tcp } add @seen6 { ip6 saddr . th sport counter }
  }
}
`;
