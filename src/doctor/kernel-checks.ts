// Checks the kernel's resources for the process: buffers, files, ports, and how the packet filter treats SIP.
import { UDP_BUFFER_BYTES } from '../base/network.ts';
import type { Config } from '../config/schema.ts';
import { boundBy } from './bind-checks.ts';
import type { HostFacts } from './facts.ts';
import { type Finding, type Fix, finding, sysctlName } from './finding.ts';

/** Files that a member has open in addition to its clients' connections: sockets, store, peers, log. */
const OWN_FILES = 256;

function checkBuffers(facts: HostFacts): Finding[] {
  const low = ['net/core/rmem_max', 'net/core/wmem_max'].filter(
    (path) => Number(facts.sysctl.get(path) ?? UDP_BUFFER_BYTES) < UDP_BUFFER_BYTES,
  );
  if (low.length === 0) return [];
  const names = low.map(sysctlName);
  const reason =
    `sipfarm requests ${UDP_BUFFER_BYTES} octets per UDP socket; ` +
    `${low.map((path) => `${sysctlName(path)} allows ${facts.sysctl.get(path)}`).join(', ')}.`;
  const mend = ['systemctl restart sipfarm    # open sockets keep their size'];
  const fixes = low.map((path): Fix => ({ kind: 'sysctl', path, value: String(UDP_BUFFER_BYTES) }));
  return [finding('DR_BUFFER', 'warning', names.join(', '), reason, mend, fixes)];
}

function checkOpenFiles(config: Config, { openFiles }: HostFacts): Finding[] {
  const needed = config.limits.tcpConnections + OWN_FILES;
  if (openFiles === undefined || openFiles.limit >= needed) return [];
  const reason =
    `${openFiles.of} may have ${openFiles.limit} files open; limits.tcpConnections ${config.limits.tcpConnections} ` +
    `needs ${needed}.`;
  const mend = [
    'mkdir -p /etc/systemd/system/sipfarm.service.d',
    `printf '[Service]\\nLimitNOFILE=${needed}\\n' > /etc/systemd/system/sipfarm.service.d/files.conf`,
    'systemctl daemon-reload',
    'systemctl restart sipfarm',
  ];
  const severity = openFiles.of === 'this shell' ? 'hint' : 'warning';
  return [finding('DR_OPEN_FILES', severity, 'open files', reason, mend)];
}

function checkSipModules(facts: HostFacts): Finding[] {
  const loaded = ['nf_nat_sip', 'nf_conntrack_sip'].filter((name) => facts.modules.has(name));
  if (loaded.length === 0) return [];
  const reason =
    `${loaded.join(' and ')}: such a gateway rewrites addresses inside SIP messages and opens ports for them. It ` +
    'damages tokens and misleads answers.';
  const mend = [
    `modprobe -r ${loaded.join(' ')}`,
    `printf 'install %s /bin/false\\n' ${loaded.join(' ')} > /etc/modprobe.d/sipfarm.conf`,
  ];
  return [finding('DR_SIP_CONNTRACK', 'fault', loaded.join(', '), reason, mend)];
}

function checkTracking(config: Config, { sysctl, tracked, untracked }: HostFacts): Finding[] {
  // A node of role relay may have no listeners.
  if (config.listeners.length === 0) return [];
  const entries = Number(sysctl.get('net/netfilter/nf_conntrack_count') ?? 0);
  // The table may be unreadable. Then any rule that exempts packets counts as the required one.
  if (tracked === 0 || (tracked === undefined && (entries === 0 || untracked === true))) return [];
  const ports = [...new Set(config.listeners.map(({ bind }) => bind.port))].join(', ');
  const limit = sysctl.get('net/netfilter/nf_conntrack_max') ?? 'an unknown number';
  const state =
    tracked === undefined
      ? `The connection tracker has ${entries} entries of ${limit}, and ` +
        `${untracked === undefined ? 'only root can read whether SIP is exempt' : 'no rule exempts SIP'}`
      : `The connection tracker of this host has entries for ${tracked} UDP clients of port ${ports}, ${entries} ` +
        `entries of ${limit} in all`;
  const reason =
    `${state}. A rule that rewrites addresses pins a client to its first target. When the table is full, new clients ` +
    'are dropped.';
  const mend = [
    'nft add table inet sipfarm',
    "nft 'add chain inet sipfarm in { type filter hook prerouting priority raw; }'",
    `nft 'add rule inet sipfarm in meta l4proto udp th dport { ${ports} } notrack'`,
    "nft 'add chain inet sipfarm out { type filter hook output priority raw; }'",
    `nft 'add rule inet sipfarm out meta l4proto udp th sport { ${ports} } notrack'`,
    'nft list table inet sipfarm >> /etc/nftables.conf    # read at boot where nftables.service is enabled',
  ];
  return [finding('DR_CONNTRACK', 'hint', 'nf_conntrack', reason, mend)];
}

/** Returns the ports that must be free at the start, with their names in the configuration. */
function portsOf(config: Config): Map<number, string> {
  return new Map(boundBy(config).map(({ what, bind }) => [bind.port, what]));
}

function isReserved(port: number, list: string): boolean {
  return list.split(',').some((part) => {
    const [first, last = first] = part.split('-').map(Number);
    return first !== undefined && last !== undefined && port >= first && port <= last;
  });
}

function checkPortRange(config: Config, facts: HostFacts): Finding[] {
  const range = /^(\d+)\s+(\d+)$/.exec(facts.sysctl.get('net/ipv4/ip_local_port_range') ?? '');
  if (!range) return [];
  const [low, high] = [Number(range[1]), Number(range[2])];
  const reserved = facts.sysctl.get('net/ipv4/ip_local_reserved_ports') ?? '';
  const inside = [...portsOf(config)].filter(([port]) => port >= low && port <= high && !isReserved(port, reserved));
  if (inside.length === 0) return [];
  const list = [reserved, ...inside.map(([port]) => String(port))].filter((part) => part !== '').join(',');
  const reason =
    `${inside.map(([port, what]) => `${port} (${what})`).join(', ')} is between ${low} and ${high}. The kernel may ` +
    "give it to any program's connection before sipfarm starts.";
  const path = 'net/ipv4/ip_local_reserved_ports';
  const about = inside.map(([port]) => port).join(', ');
  return [finding('DR_PORT_RANGE', 'warning', about, reason, [], [{ kind: 'sysctl', path, value: list }])];
}

function checkLost({ datagrams: { bufferFull, fragmentsLost } }: HostFacts): Finding[] {
  const found: Finding[] = [];
  if (bufferFull > 0)
    found.push(
      finding(
        'DR_UDP_LOST',
        'hint',
        'receive buffers',
        `Since boot ${bufferFull} datagrams were dropped because a receive buffer of sipfarm or of another program ` +
          'was full.',
        ["nstat -az UdpRcvbufErrors    # grows under load? then sipfarm's share of the processor is too small"],
      ),
    );
  if (fragmentsLost > 0)
    found.push(
      finding(
        'DR_UDP_LOST',
        'hint',
        'fragments',
        `Since boot ${fragmentsLost} packets lost some of their fragments. A balancer may spread fragments over ` +
          'the members.',
        ['nstat -az IpReasmFails    # grows when clients send long messages? then see docs/limits.md on fragments'],
      ),
    );
  return found;
}

export function checkKernel(config: Config, facts: HostFacts): Finding[] {
  return [
    ...checkSipModules(facts),
    ...checkBuffers(facts),
    ...checkOpenFiles(config, facts),
    ...checkPortRange(config, facts),
    ...checkTracking(config, facts),
    ...checkLost(facts),
  ];
}
