// Defines the findings of `sipfarm doctor`: the catalogue of codes, the parts of a finding, and the commands that
// repair it.

export const DOCTOR_CODES = {
  DR_CONFIG: 'The configuration is not valid. `sipfarm check` says the same; nothing else is looked at.',
  DR_CONFIG_WARNING: 'The configuration is valid, but has something that is probably not meant.',
  DR_ADDRESS_MISSING:
    'An address that sipfarm binds is not on this host: the member does not start, or nothing comes in there.',
  DR_WILDCARD_BIND:
    'Under DSR a listener is bound to all addresses, so its answers leave from the address of the route, not from the VIP; clients drop them.',
  DR_VIP_MISSING:
    'Under DSR the VIP is on no interface: the kernel takes no packet for it, and the listener cannot bind.',
  DR_VIP_MASK:
    'The VIP on the loopback interface has a mask wider than one address: the kernel takes its whole network for local.',
  DR_VIP_NOT_ON_LO: 'The VIP is on an interface of the network: this host answers for it there, past the balancer.',
  DR_ARP_IGNORE: 'This host answers ARP requests for the VIP: packets come here past the balancer, all to one member.',
  DR_ARP_ANNOUNCE:
    'This host asks by ARP with the VIP as sender: the router then believes that the VIP is here, and sends all packets past the balancer.',
  DR_NOT_PERSISTED: 'A kernel setting is right now, but no file sets it: it is gone after the next boot.',
  DR_RP_FILTER:
    'The strict source check drops packets of clients that come in by another interface than the way back to them.',
  DR_ADVERTISE_MISSING: 'Behind a NAT balancer a listener has no `advertise`: clients are told the inner address.',
  DR_PROBES_EMPTY:
    'No probe sources are named: health requests to the VIP may be relayed, and the balancer takes a live member for dead.',
  DR_BUFFER: 'The kernel caps socket buffers below what sipfarm asks for: bursts are lost while the process is busy.',
  DR_OPEN_FILES: 'Fewer files may be open than TCP connections are allowed: new connections fail before the limit.',
  DR_SIP_CONNTRACK: 'A SIP module of the packet filter is loaded: it rewrites messages and pins calls.',
  DR_CONNTRACK:
    'The connection tracker is at work and no rule exempts SIP: entries pin clients, and a full table drops packets.',
  DR_PORT_RANGE:
    'A port of sipfarm lies in the range from which the kernel takes ports for others: some day the start fails.',
  DR_UDP_LOST:
    'The kernel has dropped datagrams because a receive buffer was full, or could not put fragments together.',
  DR_RAW_MODULE: 'relay.mode is transparent and the native module for it does not load: the member does not start.',
  DR_RAW_RIGHT:
    'relay.mode is transparent and the right to send with the addresses of clients (CAP_NET_RAW) is missing.',
  DR_RELAY_MTU:
    'A packet of the size that is sent there does not reach a peer: long messages are lost between the members.',
  DR_RELAY_UNREACHABLE: 'The relay port of a peer cannot be reached from here.',
  DR_PEERS_APART: 'A peer says that it cannot reach a member over the relay link.',
  DR_RELAY_DUPLICATE: 'Two members publish the same relay address: what is for one goes to the other.',
  DR_KEY_MISMATCH:
    'A member has a farm key that another does not have: they refuse the frames and tokens of each other.',
  DR_KEY_NOT_LOADED: 'The running member has other farm keys than its file.',
  DR_FORGED: 'Frames or tokens fail their check right now: a key is missing, or somebody tries.',
  DR_STORE_UNREACHABLE: 'etcd does not answer from here.',
  DR_STORE_SLOW: 'etcd is slow: leases are at risk, and a member that dies is replaced late.',
  DR_STORE_TXN_OPS: 'etcd takes fewer operations in a transaction than sipfarm writes.',
  DR_STORE_SPACE: 'The database of etcd is nearly full: when it is, etcd refuses every write.',
  DR_STORE_HISTORY: 'etcd keeps a long history: nothing compacts it.',
  DR_STORE_PLAIN:
    'etcd is spoken to without TLS over a network: who listens there can read and change what members share.',
  DR_CLOCK:
    'The clock of this host differs from that of etcd: times in logs and records of the members do not fit together.',
  DR_THROUGH_SILENT: 'Requests to the VIP stay without an answer, all or some.',
  DR_THROUGH_SOURCE: 'Answers come from another address than the VIP: clients behind NAT or a firewall never see them.',
  DR_THROUGH_LONG: 'Long messages get lost on the way through the balancer, short ones do not.',
  DR_THROUGH_LOCAL: 'The VIP is on the host that asks: the balancer was not looked at.',
  DR_NOT_READY: 'The running member says that it is not ready.',
  DR_NOT_RUNNING: 'No running member answers at the admin address: what only it knows was not looked at.',
} as const;

export type DoctorCode = keyof typeof DOCTOR_CODES;

/**
 * `fault`: calls fail. `warning`: calls will fail some day, or under load. `hint`: information; does not affect the
 * exit code.
 */
export type Severity = 'fault' | 'warning' | 'hint';

/** A change of this host that `--fix` may make: it removes nothing, and the next boot undoes it. */
export type Fix =
  | { readonly kind: 'sysctl'; readonly path: string; readonly value: string }
  | { readonly kind: 'address'; readonly address: string; readonly prefix: number };

export interface Finding {
  readonly code: DoctorCode;
  readonly severity: Severity;
  /** An interface, address, listener, member or setting. */
  readonly about: string;
  /** The fault and its consequence. */
  readonly reason: string;
  /**
   * Steps of the repair, in this order: shell commands for this host. Manual steps and steps on other hosts are
   * comments, so that all lines can be pasted.
   */
  readonly mend: readonly string[];
  readonly fixes: readonly Fix[];
}

/**
 * Returns a path under /proc/sys in the notation of sysctl. Slashes become dots, and dots of an interface name such as
 * eth0.100 become slashes.
 */
export function sysctlName(path: string): string {
  return path.replace(/[./]/g, (sign) => (sign === '/' ? '.' : '/'));
}

/** Returns the command line of a fix. */
export function commandOf(fix: Fix): string {
  return fix.kind === 'sysctl'
    ? `sysctl -w ${sysctlName(fix.path)}=${fix.value}`
    : `ip addr add ${fix.address}/${fix.prefix} dev lo`;
}

/** File of the kernel settings that survive a boot. */
const SYSCTL_FILE = '/etc/sysctl.d/60-sipfarm.conf';

/** Returns the command line that keeps a kernel setting after a boot. */
export function keepCommand(path: string, value: string): string {
  return `echo '${sysctlName(path)} = ${value}' >> ${SYSCTL_FILE}`;
}

/** Returns the command lines of a fix, and the one that keeps it after a boot if that is a single command. */
function commandsOf(fix: Fix): readonly string[] {
  return fix.kind === 'sysctl' ? [commandOf(fix), keepCommand(fix.path, fix.value)] : [commandOf(fix)];
}

/** Returns a finding. Its repair is `fixes`, then the steps in `mend`. */
export function finding(
  code: DoctorCode,
  severity: Severity,
  about: string,
  reason: string,
  mend: readonly string[],
  fixes: readonly Fix[] = [],
): Finding {
  return { code, severity, about, reason, mend: [...fixes.flatMap(commandsOf), ...mend], fixes };
}

/**
 * Returns the fixes of all findings in the required order. Kernel settings come before addresses: otherwise one ARP
 * answer draws traffic past the balancer.
 */
export function fixesOf(findings: readonly Finding[]): readonly Fix[] {
  const byCommand = new Map(findings.flatMap(({ fixes }) => fixes).map((fix) => [commandOf(fix), fix]));
  return [...byCommand.values()].sort((a, b) => Number(a.kind === 'address') - Number(b.kind === 'address'));
}
