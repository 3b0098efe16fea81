// A laboratory of network namespaces: client, balancer (nftables), switch, a router, four members, three hosts for
// etcd, one for a shared SIP server. IP and MAC addresses are those of deploy/lb-examples. This process makes and names
// everything, and removes it at its end. Needs root on Linux.
import { type ChildProcess, execFileSync, type SpawnOptions, spawn, spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  BACK,
  BALANCER,
  BALANCER_MAC,
  clientAddress,
  clientAddress6,
  ETCD,
  type EtcdHost,
  FRONT,
  type Host,
  isDirectReturn,
  MEMBERS,
  type Mode,
  memberAddress,
  memberAddress6,
  memberMac,
  SHARED_SERVER,
  VIP,
  VIP6,
} from './addresses.ts';
import { RULES } from './balancer-rules.ts';

export * from './addresses.ts';

const HOSTS: readonly Host[] = ['c', 'lb', 'sw', 'r', 'm1', 'm2', 'm3', 'm4', 'e', 'e2', 'e3', 'k'];
const ETCD_HOSTS = Object.keys(ETCD) as readonly EtcdHost[];
const CLIENT_MAC = '00:00:5e:00:53:fd';
/** Returns the MAC address of member k inside of its tunnel. */
const tunnelMac = (k: number): string => `00:00:5e:00:53:2${k}`;
/** The segment between balancer and router; the tunnels start here and cross the router. */
const OUTER = { balancer: '10.8.0.1', router: '10.8.0.2' } as const;
/** The router in the members' segment. */
const ROUTER = '10.0.0.2';
/** Names of namespaces: sf<pid>n<count>-<host>, so that those of a dead process can be found. */
const NAME = /^sf(\d+)n\d+-[a-z0-9]+$/;
const DIRECTORY = /^sipfarm-lab-sf(\d+)n\d+-/;
/** The file system in memory of every Linux. */
const MEMORY = '/dev/shm';

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

let count = 0;
const open = new Set<Lab>();
let guarded = false;

/** Removes all laboratories when the process ends without a `close()`. */
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

/** Kills all programs in a namespace and removes it. */
function removeNamespace(name: string): void {
  const pids = spawnSync('ip', ['netns', 'pids', name], { encoding: 'utf8' }).stdout ?? '';
  for (const pid of pids.split('\n').map(Number)) {
    try {
      if (pid > 1 && pid !== process.pid) process.kill(pid, 'SIGKILL');
    } catch {
      // it has ended by itself
    }
  }
  spawnSync('ip', ['netns', 'del', name]);
  // Files that replace those of /etc for programs in that namespace: ip-netns(8).
  rmSync(join('/etc/netns', name), { recursive: true, force: true });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Removes namespaces and files of ended processes. */
function removeLeftovers(): void {
  const isLeft = (match: RegExpExecArray | null): boolean => {
    const pid = Number(match?.[1] ?? 0);
    return pid > 0 && pid !== process.pid && !isAlive(pid);
  };
  for (const name of netns()) if (isLeft(NAME.exec(name))) removeNamespace(name);
  for (const folder of new Set([tmpdir(), MEMORY]))
    for (const name of readdirSync(folder))
      if (isLeft(DIRECTORY.exec(name))) rmSync(join(folder, name), { recursive: true, force: true });
}

/** One laboratory. `Lab.open()` makes it, `close()` removes it. */
export class Lab {
  /** Directory of logs and files of this laboratory; removed by `close()` unless SIPFARM_LAB_KEEP is set. */
  readonly dir: string;
  /** Directory in memory, for the data of etcd: a disk that stands still for seconds ends every lease. */
  readonly memory: string;
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
    this.memory = mkdtempSync(join(MEMORY, `sipfarm-lab-${this.#name}-`));
  }

  /**
   * Makes namespaces, links and addresses. Throws with the error of the failing tool when the host does not allow it.
   */
  static open(mode: Mode = 'none', pool: readonly number[] = [1, 2, 3]): Lab {
    removeLeftovers();
    const lab = new Lab();
    open.add(lab);
    guard();
    try {
      lab.#build();
      if (mode === 'tunnel') lab.#dig();
      lab.balance(mode, pool);
      return lab;
    } catch (error) {
      lab.close();
      throw error;
    }
  }

  /** Returns the name of a host's namespace, for `ip netns exec`. */
  ns(host: Host): string {
    return `${this.#name}-${host}`;
  }

  get mode(): Mode {
    return this.#mode;
  }

  /**
   * Sets the mode of the balancer (`tunnel` only if it was the first mode) and its live members. Members' routes and
   * the VIP on their loopback follow.
   */
  balance(mode: Mode, pool: readonly number[]): void {
    this.#mode = mode;
    const direct = isDirectReturn(mode);
    for (const k of MEMBERS) {
      const host: Host = `m${k}`;
      spawnSync('ip', ['-n', this.ns(host), 'addr', 'flush', 'dev', 'lo', 'to', `${VIP}/32`]);
      spawnSync('ip', ['-n', this.ns(host), '-6', 'addr', 'flush', 'dev', 'lo', 'to', `${VIP6}/128`]);
      this.#ip(host, [
        ...(direct ? [`addr add ${VIP}/32 dev lo`, `addr add ${VIP6}/128 dev lo nodad`] : []),
        `route replace default via ${direct ? '10.0.0.254' : BALANCER} src ${memberAddress(k)}`,
        `-6 route replace default via ${direct ? 'fd09::fe' : 'fd09::1'}`,
      ]);
    }
    this.pool(pool);
  }

  /** Changes the live members in one step; TCP flows of remaining members keep their member. */
  pool(pool: readonly number[]): void {
    const rules = RULES[this.#mode](pool);
    execFileSync('ip', ['netns', 'exec', this.ns('lb'), 'nft', '-f', '-'], { input: `flush ruleset\n${rules}\n` });
  }

  /** Returns the number of packets that members sent through the balancer outside of its sessions (mode `session`). */
  outsideSessions(): number {
    const rules = execFileSync('ip', ['netns', 'exec', this.ns('lb'), 'nft', 'list', 'ruleset'], { encoding: 'utf8' });
    const counts = [...rules.matchAll(/packets (\d+) .*"outside"/g)].map(([, packets]) => Number(packets));
    return counts.reduce((sum, packets) => sum + packets, 0);
  }

  /**
   * Returns source address and port of every UDP and TCP packet at the client since the last call of `forgetSources()`,
   * with the number of packets.
   */
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

  /** Clears the counts of `sources()`. */
  forgetSources(): void {
    execFileSync('ip', ['netns', 'exec', this.ns('c'), 'nft', '-f', '-'], { input: WATCH });
  }

  /**
   * Starts a program in a host. Its output goes to `<dir>/<log>.log`, or to pipes without `log`. `close()` kills it at
   * the latest.
   */
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

  /** Runs a program in a host to its end and returns its output and exit code. */
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

  /** Returns the processes in a host. */
  #pids(host: Host): number[] {
    const { stdout } = spawnSync('ip', ['netns', 'pids', this.ns(host)], { encoding: 'utf8' });
    return (stdout ?? '')
      .split('\n')
      .map(Number)
      .filter((pid) => pid > 1 && pid !== process.pid);
  }

  /**
   * Replaces the packet rules of a host by the chains of one table of family inet named `faults`; '' deletes the table.
   */
  filter(host: Host, chains: string): void {
    const clean = 'table inet faults {}\ndelete table inet faults\n';
    const input = chains === '' ? clean : `${clean}table inet faults {\n${chains}\n}\n`;
    execFileSync('ip', ['netns', 'exec', this.ns(host), 'nft', '-f', '-'], { input });
  }

  /**
   * Cuts the power of a host: it sends no more packets, and all its programs are killed. `filter(host, '')` connects it
   * again.
   */
  die(host: Host): void {
    const [incoming, outgoing] = ['iifname != "lo" drop', 'oifname != "lo" drop'];
    this.filter(
      host,
      `chain in { type filter hook prerouting priority -400; ${incoming}; }
       chain out { type filter hook postrouting priority 400; ${outgoing}; }`,
    );
    for (const pid of this.#pids(host)) process.kill(pid, 'SIGKILL');
  }

  /** Returns the text of a log file written by `exec`; empty when there is none. */
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
    rmSync(this.memory, { recursive: true, force: true });
    if (!this.#keep) rmSync(this.dir, { recursive: true, force: true });
  }

  #ip(host: Host, lines: readonly string[]): void {
    // -6 is an option of the program and not of a line, so such lines run in a separate batch.
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

  /** Sets kernel settings given as name=value; with a shell, because minimal hosts lack sysctl. */
  #sysctl(host: Host, settings: readonly string[]): void {
    const lines = settings.map((setting) => {
      const [name = '', value = ''] = setting.split('=');
      return `echo ${value} > /proc/sys/${name.replaceAll('.', '/')}`;
    });
    execFileSync('ip', ['netns', 'exec', this.ns(host), 'sh', '-ec', lines.join('\n')]);
  }

  /**
   * Makes one leg on the switch. The static forwarding entry keeps the bridge from flooding when a MAC is silent, as
   * under DSR.
   */
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

  /**
   * Makes one tunnel from the balancer to each member, through the router. VXLAN is in every kernel and, like IPIP, GUE
   * or IPVS tunnels, carries the packet for the VIP inside of another one for the member's own address. The balancer's
   * leg in the members' segment goes down.
   */
  #dig(): void {
    this.#ip('lb', [
      `link set ${BACK} down`,
      `link add out type veth peer name in netns ${this.ns('r')}`,
      `addr add ${OUTER.balancer}/24 dev out`,
      'link set out up',
      `route replace 10.0.0.0/24 via ${OUTER.router}`,
    ]);
    this.#leg('r', 'eth0', '00:00:5e:00:53:02', [`${ROUTER}/24`]);
    this.#ip('r', [`addr add ${OUTER.router}/24 dev in`, 'link set in up']);
    this.#sysctl('r', ['net.ipv4.ip_forward=1']);
    // One id for each member, by which the balancer distinguishes the tunnels.
    const vxlan = (k: number, name: string, mac: string, local: string, remote: string): readonly string[] => [
      `link add ${name} address ${mac} type vxlan id ${5060 + k} local ${local} remote ${remote} dstport 4789 nolearning`,
      `link set ${name} up`,
    ];
    for (const k of MEMBERS) {
      this.#ip(`m${k}`, [
        `route replace ${OUTER.balancer}/32 via ${ROUTER}`,
        ...vxlan(k, 'tunnel', tunnelMac(k), memberAddress(k), OUTER.balancer),
      ]);
      const device = `tunnel${k}`;
      const route = `default dev ${device} table ${k}`;
      const neighbour = `lladdr ${tunnelMac(k)} dev ${device} nud permanent`;
      this.#ip('lb', [
        ...vxlan(k, device, BALANCER_MAC, OUTER.balancer, memberAddress(k)),
        `route replace ${route}`,
        `neigh replace ${VIP} ${neighbour}`,
        `rule add iif ${FRONT} fwmark ${k} lookup ${k}`,
        `-6 route replace ${route}`,
        `-6 neigh replace ${VIP6} ${neighbour}`,
        `-6 rule add iif ${FRONT} fwmark ${k} lookup ${k}`,
      ]);
    }
  }

  #build(): void {
    for (const host of HOSTS) {
      execFileSync('ip', ['netns', 'add', this.ns(host)]);
      this.#ip(host, ['link set lo up']);
      this.#sysctl(host, ['net.ipv4.conf.all.rp_filter=0', 'net.ipv4.conf.default.rp_filter=0']);
    }
    this.#ip('sw', ['link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0', 'link set br0 up']);
    this.#leg('lb', BACK, BALANCER_MAC, [`${BALANCER}/24`, 'fd09::1/64']);
    for (const [i, host] of ETCD_HOSTS.entries())
      this.#leg(host, 'eth0', `00:00:5e:00:53:3${i + 1}`, [`${ETCD[host]}/24`]);
    this.#leg('k', 'eth0', '00:00:5e:00:53:40', [`${SHARED_SERVER}/24`]);
    this.#ip('k', [`route add default via ${BALANCER}`]);
    // The client's second leg is the members' return path under DSR; as a /32 it gives the client no route to the
    // members.
    this.#leg('c', 'back', CLIENT_MAC, ['10.0.0.254/32', 'fd09::fe/128']);
    this.#ip('lb', [
      `link add ${FRONT} type veth peer name eth0 netns ${this.ns('c')}`,
      `addr add 203.0.113.1/24 dev ${FRONT}`,
      `addr add 2001:db8:c::1/64 dev ${FRONT} nodad`,
      `link set ${FRONT} up`,
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
      `net.ipv4.conf.${BACK}.send_redirects=0`,
      `net.ipv4.conf.${FRONT}.send_redirects=0`,
    ]);
    for (const k of MEMBERS) {
      const host: Host = `m${k}`;
      this.#leg(host, 'eth0', memberMac(k), [`${memberAddress(k)}/24`, `${memberAddress6(k)}/64`]);
      // Set before the VIP is added, because one ARP answer would draw the traffic past the balancer.
      this.#sysctl(host, [
        'net.ipv4.conf.all.arp_ignore=1',
        'net.ipv4.conf.all.arp_announce=2',
        'net.ipv4.conf.all.accept_redirects=0',
        // The balancer may return a packet for the VIP to the member that has sent it. Its source is then the member's
        // own address.
        'net.ipv4.conf.all.accept_local=1',
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
