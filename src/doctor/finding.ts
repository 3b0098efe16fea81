// Defines the findings of `sipfarm doctor`: the catalogue of codes, the parts of a finding, and the commands that
// repair it.

export const DOCTOR_CODES = {
  DR_CONFIG: 'The configuration is not valid. `sipfarm check` prints the same faults. The doctor makes no other check.',
  DR_CONFIG_WARNING: 'The configuration is valid, but part of it is probably a mistake.',
  DR_ADDRESS_MISSING:
    'This host does not hold an address that sipfarm binds. The member does not start, or receives nothing there.',
  DR_WILDCARD_BIND:
    'Under DSR a listener is bound to all addresses. Its answers leave from the address of the route, not from the ' +
    'VIP, and clients drop them.',
  DR_VIP_MISSING:
    'Under DSR the VIP is on no interface. The kernel drops packets for it, and the listener cannot bind.',
  DR_VIP_MASK:
    'The VIP on the loopback interface has a mask wider than one address. The kernel treats its whole network as ' +
    'local.',
  DR_VIP_NOT_ON_LO:
    'The VIP is on a network interface. This host answers ARP requests for it there, so traffic bypasses the balancer.',
  DR_ARP_IGNORE:
    'This host answers ARP requests for the VIP. All packets then bypass the balancer and come to one member.',
  DR_ARP_ANNOUNCE:
    'This host sends ARP requests with the VIP as sender. The router then maps the VIP to this host, and all ' +
    'packets bypass the balancer.',
  DR_NOT_PERSISTED: 'A kernel setting is right now, but no file sets it. The next boot loses it.',
  DR_RP_FILTER:
    'The strict source check drops packets of clients that arrive on another interface than the one of the route back.',
  DR_ADVERTISE_MISSING: 'Behind a NAT balancer a listener has no `advertise`. Clients receive the inner address.',
  DR_PROBES_EMPTY:
    '`balancer.probes` is empty. Health requests to the VIP may be relayed, and the balancer may mark a live ' +
    'member as down.',
  DR_BUFFER:
    'The kernel grants smaller socket buffers than sipfarm requests. Bursts are lost while the process is busy.',
  DR_OPEN_FILES:
    'The limit of open files is below the limit of TCP connections. New connections fail before their own limit.',
  DR_SIP_CONNTRACK: 'A SIP module of the packet filter is loaded. It rewrites messages and pins calls.',
  DR_CONNTRACK:
    'The connection tracker is active and no rule exempts SIP. Its entries pin clients, and a full table drops ' +
    'packets.',
  DR_PORT_RANGE:
    'A port of sipfarm lies in the range from which the kernel gives ports to other programs. A start may fail ' +
    'some day.',
  DR_UDP_LOST: 'The kernel has dropped datagrams: a receive buffer was full, or fragments could not be put together.',
  DR_RAW_MODULE: '`relay.mode` is transparent and the native module for it does not load. The member does not start.',
  DR_RAW_RIGHT:
    '`relay.mode` is transparent and the right to send with the addresses of clients (CAP_NET_RAW) is missing.',
  DR_OFFLOAD_NFT: '`media.offload` is not off, and there is no program nft. All media is relayed in user space.',
  DR_OFFLOAD_RIGHT:
    '`media.offload` is not off, and the right to change packet filters (CAP_NET_ADMIN) is missing. All media is ' +
    'relayed in user space.',
  DR_OFFLOAD_FORWARDING:
    '`media.offload` is not off, and this host passes on no packets. All media is relayed in user space.',
  DR_OFFLOAD_FILTER: '`media.offload` is not off, and a packet filter drops by default what this host passes on.',
  DR_OFFLOAD_SOURCE: 'The strict source check may drop media that arrives on another interface than its route back.',
  DR_RELAY_MTU:
    'Packets of the size that this member sends do not reach a peer. Long messages between the members are lost.',
  DR_RELAY_UNREACHABLE: 'The relay port of a peer cannot be reached from here.',
  DR_PEERS_APART: 'A peer reports that it cannot reach a member over the relay link.',
  DR_RELAY_DUPLICATE: 'Two members publish the same relay address. Packets for one go to the other.',
  DR_KEY_MISMATCH:
    'A member has a farm key that another does not have. They refuse the frames and tokens of each other.',
  DR_KEY_NOT_LOADED: 'The running member has other farm keys than its file.',
  DR_FORGED: 'Frames or tokens fail their check right now: a key is missing, or another host sends forged ones.',
  DR_STORE_UNREACHABLE: 'etcd does not answer from here.',
  DR_STORE_SLOW: 'etcd is slow. Leases are at risk, and the death of a member is detected late.',
  DR_STORE_TXN_OPS: 'etcd takes fewer operations in a transaction than sipfarm writes.',
  DR_STORE_SPACE: 'The database of etcd is nearly full. When it is full, etcd refuses every write.',
  DR_STORE_HISTORY: 'etcd keeps a long history: nothing compacts it.',
  DR_STORE_PLAIN:
    'Members reach etcd without TLS over a network. Anybody on that network can read and change the shared data.',
  DR_CLOCK: "The clock of this host differs from that of etcd. Times in the members' logs and records do not match.",
  DR_THROUGH_SILENT: 'Some or all requests to the VIP get no answer.',
  DR_THROUGH_SOURCE: 'Answers come from another address than the VIP. NATs and firewalls of clients drop them.',
  DR_THROUGH_LONG: 'Long messages get lost on the way through the balancer; short ones do not.',
  DR_THROUGH_LOCAL: 'The VIP is on the host of the doctor. The balancer was not tested.',
  DR_MEDIA_TROUBLE: 'The media relay of this member opens no new streams. New calls with media are answered 503.',
  DR_MEDIA_PORTS: 'Few media ports are free. New calls are answered 503 before the last ones are gone.',
  DR_NOT_READY: 'The running member reports that it is not ready.',
  DR_NOT_RUNNING: 'No running member answers at the admin address. Checks that need its data were left out.',
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
