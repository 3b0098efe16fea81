// Writes nftables rules for a Linux balancer without a session table. Each datagram goes to the next member; each TCP
// connection stays at one member by a hash. There are two forms: address rewriting (nftables-nat) and direct server
// return (nftables-dsr).
import { isIpv6 } from '../base/endpoint.ts';
import { rangeText } from '../media/port-claims.ts';
import { isReliable } from '../packet/transport-kind.ts';
import { isMapped, type PlannedMedia } from './media.ts';
import { type BalancerPlan, buckets, type PlannedMember, smallWeights } from './plan.ts';

/** Buckets of the hash for TCP connections. More buckets spread more evenly and make a longer file. */
const BUCKETS = 64;
/** Highest weight in the round-robin map, so that the map stays readable. */
const HIGHEST_WEIGHT = 100;

interface Words {
  readonly ip: 'ip' | 'ip6';
  /** Name of the table. */
  readonly table: string;
}

function words({ vip }: BalancerPlan): Words {
  return isIpv6(vip) ? { ip: 'ip6', table: 'sipfarm6' } : { ip: 'ip', table: 'sipfarm' };
}

/** Returns a round-robin map: each member has as many numbers as its weight. */
function round(
  members: readonly PlannedMember[],
  target: (member: PlannedMember) => string,
): { modulus: number; map: string } {
  let next = 0;
  const entries = smallWeights(members, HIGHEST_WEIGHT).map((weight, i) => {
    const first = next;
    next += weight;
    return `${weight === 1 ? first : `${first}-${next - 1}`} : ${target(members[i]!)}`;
  });
  return { modulus: next, map: `map { ${entries.join(', ')} }` };
}

function hashed(members: readonly PlannedMember[], target: (member: PlannedMember) => string): string {
  const entries = buckets(members, BUCKETS).map((member, bucket) => `${bucket} : ${target(member)}`);
  const rows = Array.from({ length: Math.ceil(BUCKETS / 4) }, (_, row) =>
    entries.slice(row * 4, row * 4 + 4).join(', '),
  );
  return `map {\n      ${rows.join(',\n      ')}\n    }`;
}

/** Returns commands that replace a table of the same name in one step: no packet meets a half-loaded table. */
function replaced(family: string, name: string): string {
  return `table ${family} ${name}\ndelete table ${family} ${name}`;
}

/** Returns rules with a comment above them; nothing without rules. */
function commented(comment: string, rules: readonly string[]): string {
  return rules.length === 0 ? '' : `\n    # ${comment}\n${rules.map((rule) => `    ${rule}`).join('\n')}`;
}

/** Returns the rules that rewrite the destination of media; the ports stay. */
function mediaIn(mapped: readonly PlannedMedia[], ip: Words['ip']): string {
  const inward = mapped.map(
    (one) => `${ip} daddr ${one.outer} udp dport ${rangeText(one)} notrack ${ip} daddr set ${one.local} counter accept`,
  );
  const answers = mapped.map((one) => `${ip} saddr ${one.local} udp sport ${rangeText(one)} notrack`);
  return commented('Media: each range of ports belongs to one member.', [...inward, ...answers]);
}

/** Returns the rules that rewrite the source of media; the ports stay. */
function mediaOut(mapped: readonly PlannedMedia[], ip: Words['ip']): string {
  const outward = mapped.map(
    (one) => `${ip} saddr ${one.local} udp sport ${rangeText(one)} ${ip} saddr set ${one.outer} counter`,
  );
  return commented('Media leaves with the public address of its member.', outward);
}

/** Returns the rules that send media on to the MAC address of its member. */
function mediaForward(inward: readonly PlannedMedia[], ip: Words['ip'], forward: string): string {
  const rules = inward.map((one) => {
    const change = isMapped(one) ? `${ip} daddr set ${one.local} ` : '';
    return `${ip} daddr ${one.outer} udp dport ${rangeText(one)} ${change}${forward} ${macOf(one)} counter fwd to $out`;
  });
  return commented('Media: each range of ports belongs to one member.', rules);
}

/**
 * Names the sources that another device must rewrite, because media of direct server return does not come back here.
 */
function mediaReturn(media: readonly PlannedMedia[]): string {
  const sources = media
    .filter(isMapped)
    .map((one) => `#   ${one.id}: ${one.local}, UDP ${rangeText(one)} -> ${one.outer}\n`);
  if (sources.length === 0) return '';
  return `# Media does not come back through this host. The router of the members rewrites its source, same ports:\n${sources.join('')}`;
}

/** Names the hosts whose media needs no rule. */
function unmapped(media: readonly PlannedMedia[]): string {
  const own = media.filter((one) => !isMapped(one)).map((one) => `${one.id} ${one.outer} ${rangeText(one)}`);
  return own.length === 0 ? '' : `# Media with an address of its own passes unchanged: ${own.join(', ')}.\n`;
}

/**
 * Returns rules for stateless NAT: they rewrite the destination inward and the source outward. The client's address
 * stays.
 */
export function renderNftablesNat(plan: BalancerPlan): string {
  const { ip, table } = words(plan);
  const { members, services, media = [] } = plan;
  const mapped = media.filter(isMapped);
  const target = (member: PlannedMember): string => member.address;
  const datagrams = round(members, target);
  const way = services.map(({ transport, port, targetPort }) => {
    const change = port === targetPort ? '' : ` ${transport} dport set ${targetPort}`;
    const spread = !isReliable(transport)
      ? `numgen inc mod ${datagrams.modulus} ${datagrams.map}`
      : `jhash ${ip} saddr . tcp sport mod ${BUCKETS} seed 0x5eed ${hashed(members, target)}`;
    return `    ${ip} daddr $vip ${transport} dport ${port} notrack ${ip} daddr set ${spread}${change} counter accept`;
  });
  const back = services.map(({ transport, port, targetPort }) => {
    const change = port === targetPort ? '' : ` ${transport} sport set ${port}`;
    return `    ${ip} saddr $members ${transport} sport ${targetPort} ${ip} saddr set $vip${change} counter`;
  });
  const answers = services.map(
    ({ transport, targetPort }) => `    ${ip} saddr $members ${transport} sport ${targetPort} notrack`,
  );
  // IPv6 fragments are left out: the rule would have to read their extension header first. So are changed UDP ports,
  // because later fragments contain no port to change.
  const four =
    ip === 'ip' && services.every(({ transport, port, targetPort }) => isReliable(transport) || port === targetPort);
  return `#!/usr/sbin/nft -f
# Balancer of the farm ${plan.farm} by address rewriting without a session table.
# On the members: balancer.mode nat, answer direct.
# Needs net.ipv4.ip_forward=1 (IPv6: net.ipv6.conf.all.forwarding=1); the members' default route is this host.
${unmapped(media)}
define vip = ${plan.vip}
# Members: ${members.map(({ id, address }) => `${id} ${address}`).join(', ')}.
define members = { ${members.map(({ address }) => address).join(', ')} }

${replaced(ip, table)}
table ${ip} ${table} {
  chain in {
    # Before connection tracking (raw), which notrack then skips: a tracked flow would bind a client to one member.
    type filter hook prerouting priority raw; policy accept;
${
  four
    ? `    # Only the first fragment has ports. A hash of the identification brings all fragments to one member.
    ip daddr $vip ip protocol udp ip frag-off & 0x3fff != 0 notrack ip daddr set jhash ip saddr . ip id mod ${datagrams.modulus} seed 0x5eed ${datagrams.map} counter accept
`
    : ''
}    # UDP: round robin, one number for each unit of weight. TCP: by a hash of the client's address and port into
    # ${BUCKETS} buckets. A member that comes or goes moves only its own share of them.
${way.join('\n')}
    # Packets from the members' SIP ports: answers and new requests.
${answers.join('\n')}${mediaIn(mapped, ip)}
  }

  chain out {
    # The source becomes the VIP here. In prerouting the kernel would drop packets with its own address as source.
    type filter hook postrouting priority srcnat; policy accept;
${back.join('\n')}${
  four
    ? `
    # Later fragments of large answers have no port.
    ip saddr $members ip protocol udp ip frag-off & 0x1fff != 0 ip saddr set $vip counter`
    : ''
}${mediaOut(mapped, ip)}
  }
}
`;
}

/** Returns a placeholder for an unknown MAC address. nft refuses the file and names the placeholder. */
function macOf({ id, mac }: Pick<PlannedMember, 'id' | 'mac'>): string {
  return mac ?? `MAC-OF-${id}`;
}

/**
 * Returns rules for direct server return. The frame goes on to a member's MAC address and stays otherwise unchanged,
 * except for its source MAC address. Answers do not pass this host.
 */
export function renderNftablesDsr(plan: BalancerPlan): string {
  const { ip, table } = words(plan);
  const { members, services, device, outDevice, balancerMac, media = [] } = plan;
  const datagrams = round(members, macOf);
  const forward = `ether saddr set $balancer ether daddr set`;
  const macs = new Map(members.map((member) => [member.id, member.mac]));
  const inward = media
    .filter((one) => one.plan !== 'direct')
    .map((one) => ({ ...one, mac: one.mac ?? macs.get(one.id) ?? null }));
  const others = inward.filter(({ id }) => !macs.has(id)).map(({ id, local, mac }) => ({ id, address: local, mac }));
  const unknown = [
    ...(balancerMac === null ? ['this host (--balancer-mac, `ip link show`)'] : []),
    ...[...members, ...others]
      .filter(({ mac }) => mac === null)
      .map(({ id, address }) => `${id} (--mac ${id}=..., \`ip neigh show ${address}\`)`),
  ];
  const missing =
    unknown.length === 0
      ? ''
      : `# NOT READY: replace each MAC-OF-... by the MAC address of ${unknown.join(', ')}.\n` +
        '# nft refuses this file until then.\n';
  const way = services.map(({ transport, port }) => {
    const spread = !isReliable(transport)
      ? `numgen inc mod ${datagrams.modulus} ${datagrams.map}`
      : `jhash ${ip} saddr . tcp sport mod ${BUCKETS} seed 0x5eed ${hashed(members, macOf)}`;
    return `    ${ip} daddr $vip ${transport} dport ${port} ${forward} ${spread} counter fwd to $out`;
  });
  return `#!/usr/sbin/nft -f
# Balancer of the farm ${plan.farm} by direct server return.
# On the members: balancer.mode dsr, answer direct, the VIP on lo.
# Balancer and members share one segment with no router between. Only this host answers ARP for the VIP.
${mediaReturn(media)}${missing}
define vip = ${plan.vip}
define in = "${device}"
define out = "${outDevice}"
define balancer = ${balancerMac ?? 'MAC-OF-THE-BALANCER'}

# Members: ${members.map(({ id, mac }) => `${id} ${mac ?? 'unknown'}`).join(', ')}.

${replaced('netdev', table)}
table netdev ${table} {
  chain in {
    type filter hook ingress device $in priority 0; policy accept;
${
  ip === 'ip'
    ? `    # Only the first fragment has ports. A hash of the identification brings all fragments to one member.
    ip daddr $vip ip protocol udp ip frag-off & 0x3fff != 0 ${forward} jhash ip saddr . ip id mod ${datagrams.modulus} seed 0x5eed ${datagrams.map} counter fwd to $out
`
    : ''
}    # UDP: round robin, one number for each unit of weight. TCP: by a hash of the client's address and port into
    # ${BUCKETS} buckets. A member that comes or goes moves only its own share of them.
${way.join('\n')}${mediaForward(inward, ip, forward)}
  }
}
`;
}
