// A host without findings of the doctor, and ways to break it.

import { parseConfig } from '../../../src/config/load.ts';
import type { Config } from '../../../src/config/schema.ts';
import { diagnose } from '../../../src/doctor/doctor.ts';
import type { HostFacts } from '../../../src/doctor/facts.ts';
import type { DoctorCode, Finding } from '../../../src/doctor/finding.ts';
import type { MemberRecord } from '../../../src/membership/member-record.ts';

const FILE = `farm: lab
member: fe1
store: { kind: etcd, hosts: [https://10.0.0.31:2379] }
listeners:
  - { name: edge, transport: udp, bind: 198.51.100.1:5060 }
balancer: { mode: dsr, probes: [198.51.100.254/32] }
keys: ["${'ab'.repeat(32)}"]
relay: { bind: 10.0.0.11:5064 }
service: { kind: upstream, server: "sip:127.0.0.1:5070", bind: 127.0.0.1:5062 }
`;

export const OWN_KEY = '0123456789abcdef';

/** Returns the sample configuration with `from` replaced by `to`. */
export function config(from = '', to = ''): Config {
  if (!FILE.includes(from)) throw new Error(`the sample holds no ${from}`);
  return parseConfig('x.yaml', FILE.replace(from, to), {}, { hostName: 'fe1' }).config;
}

export function record(k: number, given: Partial<MemberRecord> = {}): MemberRecord {
  return {
    v: 1,
    id: `fe${k}`,
    number: k,
    incarnation: 1,
    role: 'member',
    state: 'active',
    weight: 100,
    relay: `10.0.0.1${k}:5064`,
    listeners: [],
    versions: { sipfarm: '0.1.0', min: 1, max: 1 },
    keys: [OWN_KEY],
    startedAt: '2026-01-01T00:00:00.000Z',
    host: `fe${k}`,
    claim: `${k}`,
    ...given,
  };
}

/** net.ipv4.conf settings by interface. */
export type Conf = Readonly<Record<string, Readonly<Record<string, number>>>>;

const CONF: Conf = { all: { arp_ignore: 1, arp_announce: 2, rp_filter: 0 }, eth0: {}, lo: {} };

export function sysctls(conf: Conf = {}, others: Readonly<Record<string, string>> = {}): Map<string, string> {
  const found = new Map<string, string>([
    ['net/core/rmem_max', '8388608'],
    ['net/core/wmem_max', '8388608'],
    ['net/ipv4/ip_local_port_range', '32768\t60999'],
    ['net/ipv4/ip_local_reserved_ports', ''],
  ]);
  for (const device of new Set([...Object.keys(CONF), ...Object.keys(conf)]))
    for (const [name, value] of Object.entries({
      arp_ignore: 0,
      arp_announce: 0,
      rp_filter: 0,
      ...CONF[device],
      ...conf[device],
    }))
      found.set(`net/ipv4/conf/${device}/${name}`, String(value));
  for (const [name, value] of Object.entries(others)) found.set(name, value);
  return found;
}

export const LO = { name: 'lo', inner: true, up: true, addresses: [{ address: '127.0.0.1', prefix: 8 }] };
export const LO_WITH_VIP = { ...LO, addresses: [...LO.addresses, { address: '198.51.100.1', prefix: 32 }] };
export const ETH0 = { name: 'eth0', inner: false, up: true, addresses: [{ address: '10.0.0.11', prefix: 24 }] };

const PEER = { seated: true, reachable: true, misses: [] };

export function facts(given: Partial<HostFacts> = {}): HostFacts {
  return {
    file: '/etc/sipfarm/sipfarm.yaml',
    interfaces: [LO_WITH_VIP, ETH0],
    bound: new Map(),
    sysctl: sysctls(),
    persisted: new Map([
      ['net/ipv4/conf/all/arp_ignore', '1'],
      ['net/ipv4/conf/all/arp_announce', '2'],
    ]),
    modules: new Set(['nf_tables']),
    tracked: undefined,
    untracked: false,
    openFiles: { limit: 65_536, of: 'the running member' },
    defaultDevice: 'eth0',
    routes: new Map(['10.0.0.12', '198.51.100.254'].map((to) => [to, { device: 'eth0', mtu: 1500 }])),
    datagrams: { bufferFull: 0, fragmentsLost: 0 },
    records: [record(1), record(2)],
    paths: new Map([['10.0.0.12:5064', { tcp: 'open', passes: 1500 }]]),
    keys: [OWN_KEY],
    store: { trouble: undefined, medianMs: 2, slowestMs: 9, takesLarge: true, hosts: [] },
    raw: undefined,
    offload: undefined,
    member: {
      ready: true,
      reasons: [],
      peers: [{ id: 'fe2', relay: '10.0.0.12:5064', ...PEER }],
      media: [],
      forgedFrames: 0,
      forgedTokens: 0,
    },
    ...given,
  };
}

export function find(code: DoctorCode, given: Partial<HostFacts>, of: Config = config()): readonly Finding[] {
  return diagnose(of, [], facts(given)).filter((finding) => finding.code === code);
}

/** Returns the codes of the findings without repetition. */
export function codes(given: Partial<HostFacts>, of: Config = config()): readonly DoctorCode[] {
  return [...new Set(diagnose(of, [], facts(given)).map(({ code }) => code))];
}

/** Returns severity, code and subject of each finding. */
export function shown(findings: readonly Finding[]): readonly string[] {
  return findings.map(({ severity, code, about }) => `${severity} ${code} ${about}`);
}

/** Returns the lines of a finding's repair that a shell runs. */
export function commandsIn(finding: Finding | undefined): readonly string[] {
  return finding?.mend.filter((line) => !line.startsWith('#')) ?? [];
}
