// Checks what clients receive: judges the answers that came back through the balancer.

import { formatEndpoint } from '../base/endpoint.ts';
import { TRANSPORT_KINDS } from '../packet/transport-kind.ts';
import { type Finding, finding } from './finding.ts';
import { type Asked, LONG, type ThroughFacts } from './through-probe.ts';

const EVERYWHERE = '# on every member: sipfarm doctor';

function share({ sent, answered }: Asked): string {
  return answered === 0 ? `none of ${sent} was` : `only ${answered} of ${sent} were`;
}

function checkShort({ to, udp, tcp }: ThroughFacts): Finding[] {
  const found: Finding[] = [];
  for (const [kind, { short }] of [
    [TRANSPORT_KINDS.udp, udp],
    [TRANSPORT_KINDS.tcp, tcp],
  ] as const) {
    if (short.answered === short.sent) continue;
    const transport = kind.viaName;
    const about = `${formatEndpoint(to)} by ${transport}`;
    const why =
      short.answered === 0
        ? `the balancer does not pass ${transport} on, no member listens, or the answers do not find the way back`
        : 'the balancer also sends to members that are down, or whose answers do not find the way back';
    // A farm may have no TCP.
    const severity = kind.reliable && short.answered === 0 && udp.short.answered > 0 ? 'warning' : 'fault';
    const reason = `Of the requests sent there ${share(short)} answered: ${why}.`;
    found.push(finding('DR_THROUGH_SILENT', severity, about, reason, [EVERYWHERE]));
  }
  return found;
}

function checkLong({ to, udp, tcp }: ThroughFacts): Finding[] {
  const found: Finding[] = [];
  const place = formatEndpoint(to);
  if (udp.long.answered * udp.short.sent < udp.short.answered * udp.long.sent) {
    const reason = `Of the messages of ${LONG} octets ${share(udp.long)} answered, of the short ones ${udp.short.answered} of ${udp.short.sent}: on the way, most likely in the balancer, the fragments of a datagram are dropped or go to different members.`;
    const mend = [
      '# let the balancer keep the fragments of a datagram together (docs/limits.md), or clients with long messages use TCP',
      EVERYWHERE,
    ];
    found.push(finding('DR_THROUGH_LONG', 'warning', `${place} by UDP`, reason, mend));
  }
  if (tcp.long.answered < tcp.long.sent) {
    const reason = `On connections where a short message was answered, of those of ${LONG} octets ${share(tcp.long)}: packets of full size vanish on the way to a member, or between members.`;
    found.push(finding('DR_THROUGH_LONG', 'fault', `${place} by TCP`, reason, [`tracepath ${to.address}`, EVERYWHERE]));
  }
  return found;
}

function checkSource({ to, strangers }: ThroughFacts): Finding[] {
  if (strangers.length === 0) return [];
  const reason = `Answers come from ${strangers.join(', ')}, not from the address that was asked: routers and firewalls of clients drop them.`;
  const mend = [
    '# on the members with these addresses: sipfarm doctor',
    '# with direct server return: bind the listeners to the VIP; behind NAT: answer: ingress',
  ];
  return [finding('DR_THROUGH_SOURCE', 'fault', formatEndpoint(to), reason, mend)];
}

export function checkThrough(facts: ThroughFacts): readonly Finding[] {
  if (facts.isLocal) {
    const reason = `${facts.to.address} is an address of this host: what is sent there does not leave it, and passes no balancer.`;
    const mend = [
      `# on a host where a client could be: sipfarm doctor --through ${formatEndpoint(facts.to)} (no configuration needed)`,
    ];
    return [finding('DR_THROUGH_LOCAL', 'warning', formatEndpoint(facts.to), reason, mend)];
  }
  return [...checkShort(facts), ...checkSource(facts), ...checkLong(facts)];
}
