// Collects the facts of this host and its farm. A fact that cannot be obtained is left out; nothing here fails.

import type { Clock } from '../base/clock.ts';
import { isIpv6, parseEndpoint } from '../base/endpoint.ts';
import type { SipfarmError } from '../base/errors.ts';
import type { Network } from '../base/network.ts';
import type { Config } from '../config/schema.ts';
import { memberIds } from '../config/workers.ts';
import { type MemberRecord, parseMemberRecord } from '../membership/member-record.ts';
import { keyName, keyring } from '../ownership/keyring.ts';
import { isReliable } from '../packet/transport-kind.ts';
import type { Store } from '../store/store.ts';
import { boundAddresses } from './bind-checks.ts';
import type {
  BoundFacts,
  HostFacts,
  InterfaceFacts,
  MediaFacts,
  MemberFacts,
  PathFacts,
  RawFacts,
  RouteFacts,
  SeenPeer,
  StoreFacts,
  StoreHostFacts,
} from './facts.ts';
import { leastOf, sumOf } from './metrics-text.ts';
import { readUnitRights, tryOffload } from './offload-facts.ts';
import { MAX_PACKET, probePath } from './path-probe.ts';

/** Sources of the doctor's facts. Every method returns undefined, or an empty list, when a fact cannot be obtained. */
export interface HostAccess {
  readonly network: Network;
  readonly clock: Clock;
  /** undefined with the memory store: it is inside the running member. */
  readonly store: Store | undefined;
  readFile(path: string): string | undefined;
  /** Returns the names in a folder. */
  listFiles(path: string): readonly string[];
  /** Returns the standard output of a program that exits with success. */
  run(command: string, args: readonly string[]): Promise<string | undefined>;
  /** Returns the body of an answer of the running member's admin API. */
  ask(path: string): Promise<string | undefined>;
  /** Returns the body and the Date header of a page. */
  fetchPage(url: string): Promise<{ readonly text: string; readonly date: string | null } | undefined>;
}

const SYSCTLS = [
  'net/core/rmem_max',
  'net/core/wmem_max',
  'net/ipv4/ip_local_port_range',
  'net/ipv4/ip_local_reserved_ports',
  'net/ipv4/tcp_mtu_probing',
  'net/netfilter/nf_conntrack_count',
  'net/netfilter/nf_conntrack_max',
];
const PER_INTERFACE = ['arp_ignore', 'arp_announce', 'rp_filter', 'forwarding'];
const PER_INTERFACE6 = ['forwarding', 'force_forwarding', 'accept_ra'];
/** A file in a later folder replaces one of the same name: sysctl.d(5). */
const SYSCTL_FOLDERS = ['/usr/lib/sysctl.d', '/usr/local/lib/sysctl.d', '/run/sysctl.d', '/etc/sysctl.d'];
const READS = 9;
/** Operations of the largest transaction that sipfarm makes. */
const LARGE = 100;
/** Milliseconds that counters are watched: peers probe four times a second. */
const WATCH_MS = 1200;
/** Peers whose path is probed. A farm is seldom larger, and each peer costs a handful of packets. */
const MAX_PEERS = 64;

/** Parses JSON of another program; undefined when it is not valid. */
function parseJson(text: string | undefined): unknown {
  try {
    return text === undefined ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}

interface IpLink {
  readonly ifname?: string;
  readonly flags?: readonly string[];
  readonly mtu?: number;
  readonly linkinfo?: { readonly info_kind?: string };
  readonly addr_info?: readonly { readonly local?: string; readonly prefixlen?: number }[];
}

interface IpRoute {
  readonly type?: string;
  readonly dev?: string;
  readonly metrics?: readonly { readonly mtu?: number }[];
}

function interfaceOf({ ifname = '', flags = [], linkinfo, addr_info = [] }: IpLink): InterfaceFacts {
  return {
    name: ifname,
    inner: flags.includes('LOOPBACK') || linkinfo?.info_kind === 'dummy',
    up: flags.includes('UP'),
    addresses: addr_info.map(({ local = '', prefixlen = 0 }) => ({ address: local, prefix: prefixlen })),
  };
}

async function listRoute(access: HostAccess, args: readonly string[]): Promise<IpRoute | undefined> {
  const answer = parseJson(await access.run('ip', ['-j', ...args])) as readonly IpRoute[] | undefined;
  return answer?.find(({ dev }) => dev !== undefined);
}

async function findRoute(
  access: HostAccess,
  address: string,
  mtuOf: ReadonlyMap<string, number>,
): Promise<RouteFacts | undefined> {
  const route = await listRoute(access, ['route', 'get', address]);
  if (route?.dev === undefined) return undefined;
  const own = mtuOf.get(route.dev) ?? 65_535;
  return { device: route.dev, mtu: Math.min(own, ...(route.metrics ?? []).map(({ mtu }) => mtu ?? own)) };
}

/** Errors that mean that the system does not hold an address. Other errors do not concern the address. */
const NOT_HELD = ['EADDRNOTAVAIL', 'EAFNOSUPPORT', 'EINVAL'];

/**
 * Binds the address at a free port, as the start would, and reads its route. The route does not depend on
 * net.ipv4.ip_nonlocal_bind.
 */
async function tryAddress(access: HostAccess, address: string): Promise<BoundFacts> {
  const handlers = { onDatagram: () => {}, onSendError: () => {} };
  const refused = await access.network.bindUdp({ address, port: 0 }, handlers).then(
    async (socket) => void (await socket.close()),
    ({ code = '' }: NodeJS.ErrnoException) => NOT_HELD.find((one) => one === code),
  );
  const route = await listRoute(access, ['route', 'get', address]);
  return { refused, local: route && route.type === 'local' };
}

function readSysctls(access: HostAccess, interfaces: readonly InterfaceFacts[]): Map<string, string> {
  const devices = ['all', ...interfaces.map(({ name }) => name)];
  const paths = devices.flatMap((device) => [
    ...PER_INTERFACE.map((name) => `net/ipv4/conf/${device}/${name}`),
    ...PER_INTERFACE6.map((name) => `net/ipv6/conf/${device}/${name}`),
  ]);
  const found = new Map<string, string>();
  for (const path of [...SYSCTLS, ...paths]) {
    const value = access.readFile(`/proc/sys/${path}`)?.trim();
    if (value !== undefined) found.set(path, value);
  }
  return found;
}

/** Returns the settings of one file of sysctl.d(5), by path under /proc/sys. */
export function parseSysctlFile(text: string): [string, string][] {
  return text.split('\n').flatMap((line): [string, string][] => {
    const match = /^\s*-?([^#;=\s]+)\s*=\s*(.*?)\s*$/.exec(line);
    if (!match) return [];
    const [, name = '', value = ''] = match;
    // sysctl.d(5): a name whose first separator is a slash is already a path.
    const isPath = /^[^./]*\//.test(name);
    return [[isPath ? name : name.replace(/[./]/g, (sign) => (sign === '.' ? '/' : '.')), value]];
  });
}

function readPersisted(access: HostAccess): Map<string, string> {
  const byName = new Map<string, string>();
  for (const folder of SYSCTL_FOLDERS)
    for (const name of access.listFiles(folder)) if (name.endsWith('.conf')) byName.set(name, `${folder}/${name}`);
  const files = [...byName].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, path]) => path);
  return new Map([...files, '/etc/sysctl.conf'].flatMap((path) => parseSysctlFile(access.readFile(path) ?? '')));
}

/** Returns a counter of /proc/net/snmp; 0 when it is not there. */
export function snmpCounter(text: string, group: string, name: string): number {
  const [names, values] = text.split('\n').filter((line) => line.startsWith(`${group}: `));
  const column = names?.split(' ').indexOf(name) ?? -1;
  return column > 0 ? Number(values?.split(' ')[column] ?? 0) : 0;
}

/** Returns whether a rule of nftables or iptables keeps packets out of the connection tracker. */
async function isUntracked(access: HostAccess): Promise<boolean | undefined> {
  const texts = await Promise.all([access.run('nft', ['list', 'ruleset']), access.run('iptables-save', ['-t', 'raw'])]);
  if (texts.every((text) => text === undefined)) return undefined;
  return texts.some((text) => /\bnotrack\b/i.test(text ?? ''));
}

/**
 * Counts the tracked clients of the UDP listeners; undefined when the kernel has no table, or the doctor is not root.
 */
function countTracked(access: HostAccess, config: Config): number | undefined {
  const text = access.readFile('/proc/net/nf_conntrack');
  if (text === undefined) return undefined;
  const ports = new Set(
    config.listeners.filter(({ transport }) => !isReliable(transport)).map(({ bind }) => bind.port),
  );
  return text
    .split('\n')
    .filter((line) => / udp .*? dport=/.test(line) && ports.has(Number(/ dport=(\d+)/.exec(line)?.[1]))).length;
}

async function askStoreHost(access: HostAccess, host: string): Promise<StoreHostFacts> {
  const { clock } = access;
  const before = clock.wall();
  const page = host.startsWith('http:') ? await access.fetchPage(`${host.replace(/\/$/, '')}/metrics`) : undefined;
  const { text = '', date = null } = page ?? {};
  const middle = (before + clock.wall()) / 2;
  const told = date === null ? Number.NaN : Date.parse(date);
  const quota = sumOf(text, 'etcd_server_quota_backend_bytes');
  const size =
    sumOf(text, 'etcd_mvcc_db_total_size_in_bytes') ?? sumOf(text, 'etcd_debugging_mvcc_db_total_size_in_bytes');
  const current = sumOf(text, 'etcd_debugging_mvcc_current_revision');
  const compacted = sumOf(text, 'etcd_debugging_mvcc_compact_revision');
  return {
    host,
    // The header has whole seconds: 500 ms is the middle.
    clockAheadMs: Number.isNaN(told) ? undefined : told + 500 - middle,
    full: quota && size !== undefined ? size / quota : undefined,
    history: current !== undefined && compacted !== undefined ? current - Math.max(0, compacted) : undefined,
  };
}

/**
 * Measures some reads, and tries one transaction of the largest size. Its condition cannot hold, so it writes nothing.
 */
async function measureStore(store: Store, clock: Clock): Promise<Omit<StoreFacts, 'hosts'>> {
  const times: number[] = [];
  try {
    for (let read = 0; read < READS; read++) {
      const begun = clock.now();
      await store.get('view');
      times.push(clock.now() - begun);
    }
  } catch (error) {
    return { trouble: (error as Error).message, medianMs: 0, slowestMs: 0, takesLarge: true };
  }
  const writes = Array.from({ length: LARGE }, (_, i) => ({ key: `doctor/${i}`, value: undefined, expect: 1n }));
  const refusal = await store.commit(writes).then(
    () => undefined,
    (error: SipfarmError) => error,
  );
  times.sort((a, b) => a - b);
  return {
    trouble: undefined,
    medianMs: times[READS >> 1] ?? 0,
    slowestMs: times.at(-1) ?? 0,
    takesLarge: !/too many operations/i.test(refusal?.message ?? ''),
  };
}

async function askStore(access: HostAccess, config: Config): Promise<StoreFacts | undefined> {
  if (!access.store || config.store.kind !== 'etcd') return undefined;
  const [measured, hosts] = await Promise.all([
    measureStore(access.store, access.clock),
    Promise.all(config.store.hosts.map((host) => askStoreHost(access, host))),
  ]);
  return { ...measured, hosts };
}

async function listRecords(store: Store | undefined): Promise<readonly MemberRecord[]> {
  const entries = (await store?.list('members/').catch(() => [])) ?? [];
  return entries.flatMap(({ key, value }) => parseMemberRecord(key.slice('members/'.length), value) ?? []);
}

function isStrings(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((entry) => typeof entry === 'string');
}

function seenPeers(value: unknown): readonly SeenPeer[] {
  const { peers } = (value ?? {}) as { readonly peers?: unknown };
  if (!Array.isArray(peers)) return [];
  return (peers as (Partial<SeenPeer> | null)[]).flatMap((peer) => {
    const { id, relay, seated, reachable, misses } = peer ?? {};
    if (typeof id !== 'string' || typeof relay !== 'string' || !isStrings(misses)) return [];
    return [{ id, relay, misses, seated: seated === true, reachable: reachable === true }];
  });
}

function mediaFacts(value: unknown): readonly MediaFacts[] {
  const { own } = (value ?? {}) as { readonly own?: unknown };
  if (!Array.isArray(own)) return [];
  return (own as (Record<string, unknown> | null)[]).flatMap((each) => {
    const { member, bind, inside, trouble, counts } = each ?? {};
    if (typeof member !== 'string') return [];
    const { message = '' } = (trouble ?? {}) as { readonly message?: unknown };
    const ofSides = (counts ?? {}) as { readonly outside?: unknown; readonly inside?: unknown };
    const sides = [
      [bind, ofSides.outside],
      [inside, ofSides.inside],
    ].flatMap(([address, states]) => {
      const numbers = Object.values(states ?? {}).filter((count) => typeof count === 'number');
      const { free } = (states ?? {}) as { readonly free?: unknown };
      if (typeof address !== 'string' || typeof free !== 'number') return [];
      return [{ address, free, all: numbers.reduce((sum, count) => sum + count, 0) }];
    });
    return [{ member, trouble: String(message), sides }];
  });
}

/** Reads the counters of the running member that rise when keys differ, and its limit of open files. */
async function forgedNow(
  access: HostAccess,
): Promise<{ frames: number; tokens: number; maxFiles: number | undefined }> {
  const text = (await access.ask('/metrics')) ?? '';
  return {
    frames: sumOf(text, 'sipfarm_relay_refused_total', { reason: 'mac' }) ?? 0,
    tokens: sumOf(text, 'sipfarm_forged_tokens_total') ?? 0,
    maxFiles: leastOf(text, 'process_max_fds'),
  };
}

async function askMember(
  access: HostAccess,
): Promise<{ readonly facts: MemberFacts; readonly maxFiles: number | undefined } | undefined> {
  const readiness = parseJson(await access.ask('/readyz')) as { ready?: unknown; reasons?: unknown } | null | undefined;
  // Another program may listen there.
  if (typeof readiness?.ready !== 'boolean') return undefined;
  const before = await forgedNow(access);
  await new Promise<void>((resolve) => void access.clock.after(WATCH_MS, resolve));
  const after = await forgedNow(access);
  const facts: MemberFacts = {
    ready: readiness.ready,
    reasons: isStrings(readiness.reasons) ? readiness.reasons : [],
    peers: seenPeers(parseJson(await access.ask('/v1/peers'))),
    media: mediaFacts(parseJson(await access.ask('/v1/ports'))),
    forgedFrames: after.frames - before.frames,
    forgedTokens: after.tokens - before.tokens,
  };
  return { facts, maxFiles: after.maxFiles };
}

async function probePeers(
  access: HostAccess,
  config: Config,
  records: readonly MemberRecord[],
  routes: ReadonlyMap<string, RouteFacts>,
): Promise<Map<string, PathFacts>> {
  const own = memberIds(config);
  const relays = new Set(records.filter(({ id }) => !own.includes(id)).map(({ relay }) => relay));
  const probed = [...relays].slice(0, MAX_PEERS).map(async (relay): Promise<[string, PathFacts] | undefined> => {
    const endpoint = parseEndpoint(relay);
    if (!endpoint) return undefined;
    // TCP fills packets up to the MTU of the route, regardless of relay.mtu.
    const mtu = routes.get(endpoint.address)?.mtu ?? config.relay.mtu;
    return [relay, await probePath(access, endpoint, Math.min(mtu, MAX_PACKET))];
  });
  return new Map((await Promise.all(probed)).filter((entry) => entry !== undefined));
}

async function findRoutes(
  access: HostAccess,
  config: Config,
  records: readonly MemberRecord[],
  mtuOf: ReadonlyMap<string, number>,
): Promise<Map<string, RouteFacts>> {
  const peers = records
    .filter(({ id }) => !memberIds(config).includes(id))
    .map(({ relay }) => parseEndpoint(relay)?.address ?? '');
  const probes = config.balancer.probes.map((probe) => probe.replace(/\/(32|128)$/, ''));
  const single = [...peers, ...probes].filter((address) => address !== '' && !/[/!]/.test(address));
  const found = new Map<string, RouteFacts>();
  for (const address of new Set(single.slice(0, 2 * MAX_PEERS))) {
    const route = await findRoute(access, address, mtuOf);
    if (route) found.set(address, route);
  }
  return found;
}

async function tryRaw(access: HostAccess, config: Config): Promise<RawFacts | undefined> {
  const { network } = access;
  if (config.relay.mode !== 'transparent') return undefined;
  const unitRights = await readUnitRights(access.run);
  try {
    network.openRaw?.(isIpv6(config.relay.bind.address)).close();
    return { trouble: undefined, lacks: undefined, unitRights };
  } catch (error) {
    const trouble = error instanceof Error ? error.message : String(error);
    return { trouble, lacks: trouble.startsWith('no raw socket') ? 'right' : 'module', unitRights };
  }
}

/** Collects all facts in some three seconds. Never rejects. `file`: path of the configuration. */
export async function collectFacts(config: Config, access: HostAccess, file: string): Promise<HostFacts> {
  const links = (parseJson(await access.run('ip', ['-j', '-d', 'addr', 'show'])) ?? []) as readonly IpLink[];
  const interfaces = links.map(interfaceOf);
  const mtuOf = new Map(links.map(({ ifname = '', mtu = 65_535 }) => [ifname, mtu]));
  const [records, store, member, untracked, defaultRoute] = await Promise.all([
    listRecords(access.store),
    askStore(access, config),
    askMember(access),
    isUntracked(access),
    listRoute(access, ['route', 'show', 'default']),
  ]);
  const addresses = boundAddresses(config);
  const bound = await Promise.all(addresses.map((address) => tryAddress(access, address)));
  const routes = await findRoutes(access, config, records, mtuOf);
  const paths = await probePeers(access, config, records, routes);
  const snmp = access.readFile('/proc/net/snmp') ?? '';
  const ownLimit = Number(
    /^Max open files\s+(\d+)/m.exec(access.readFile('/proc/self/limits') ?? '')?.[1] ?? Number.NaN,
  );
  const openFiles =
    member?.maxFiles !== undefined
      ? ({ limit: member.maxFiles, of: 'the running member' } as const)
      : Number.isNaN(ownLimit)
        ? undefined
        : ({ limit: ownLimit, of: 'this shell' } as const);
  return {
    file,
    interfaces,
    bound: new Map(addresses.map((address, at) => [address, bound[at]!])),
    sysctl: readSysctls(access, interfaces),
    persisted: readPersisted(access),
    modules: new Set((access.readFile('/proc/modules') ?? '').split('\n').map((line) => line.split(' ', 1)[0] ?? '')),
    tracked: countTracked(access, config),
    untracked,
    openFiles,
    defaultDevice: defaultRoute?.dev,
    // Read after the probes: the kernel then has the result of path MTU discovery.
    routes: await findRoutes(access, config, records, mtuOf),
    datagrams: {
      bufferFull: snmpCounter(snmp, 'Udp', 'RcvbufErrors'),
      fragmentsLost: snmpCounter(snmp, 'Ip', 'ReasmFails'),
    },
    records,
    paths,
    keys: keyring(config.keys.map((key) => key.reveal())).all.map(keyName),
    store,
    raw: await tryRaw(access, config),
    offload: await tryOffload(access.run, config.media),
    member: member?.facts,
  };
}
