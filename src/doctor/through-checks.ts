// Checks the answers that came back through the balancer, as a client receives them.

import { formatEndpoint } from '../base/endpoint.ts';
import { TRANSPORT_KINDS } from '../packet/transport-kind.ts';
import { type Finding, finding } from './finding.ts';
import { type Asked, LONG, type ThroughFacts } from './through-probe.ts';

const EVERYWHERE = '# on every member: sipfarm doctor';

/** Returns the subject and verb of a sentence about answers. */
function share({ sent, answered }: Asked, messages: string): string {
  return answered === 0 ? `None of ${sent} ${messages} was` : `Only ${answered} of ${sent} ${messages} were`;
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
        ? `the balancer does not forward ${transport}, no member listens, or the answers are lost`
        : 'the balancer also sends to members that are down, or whose answers are lost';
    // A farm may have no TCP.
    const severity = kind.reliable && short.answered === 0 && udp.short.answered > 0 ? 'warning' : 'fault';
    const reason = `${share(short, 'requests')} answered: ${why}.`;
    found.push(finding('DR_THROUGH_SILENT', severity, about, reason, [EVERYWHERE]));
  }
  return found;
}

function checkLong({ to, udp, tcp }: ThroughFacts): Finding[] {
  const found: Finding[] = [];
  const place = formatEndpoint(to);
  if (udp.long.answered * udp.short.sent < udp.short.answered * udp.long.sent) {
    const reason =
      `${share(udp.long, `messages of ${LONG} octets`)} answered, but ${udp.short.answered} of ${udp.short.sent} ` +
      'short ones. Fragments of a datagram are dropped or go to different members, most likely in the balancer.';
    const mend = [
      '# let the balancer keep the fragments of a datagram together (docs/limits.md), or clients with long ' +
        'messages use TCP',
      EVERYWHERE,
    ];
    found.push(finding('DR_THROUGH_LONG', 'warning', `${place} by UDP`, reason, mend));
  }
  if (tcp.long.answered < tcp.long.sent) {
    const reason =
      `${share(tcp.long, `messages of ${LONG} octets`)} answered, on connections where a short one was. Packets of ` +
      'full size are lost on the way to a member, or between members.';
    found.push(finding('DR_THROUGH_LONG', 'fault', `${place} by TCP`, reason, [`tracepath ${to.address}`, EVERYWHERE]));
  }
  return found;
}

function checkSource({ to, strangers }: ThroughFacts): Finding[] {
  if (strangers.length === 0) return [];
  const reason =
    `Answers come from ${strangers.join(', ')}, not from the address of the request. NATs and firewalls of clients ` +
    'drop them.';
  const mend = [
    '# on the members with these addresses: sipfarm doctor',
    '# with direct server return: bind the listeners to the VIP; behind NAT: answer: ingress',
  ];
  return [finding('DR_THROUGH_SOURCE', 'fault', formatEndpoint(to), reason, mend)];
}

export function checkThrough(facts: ThroughFacts): readonly Finding[] {
  if (facts.isLocal) {
    const reason = `${facts.to.address} is an address of this host. Packets to it stay on the host and pass no balancer.`;
    const mend = [
      `# on a host where a client could be: sipfarm doctor --through ${formatEndpoint(facts.to)} (no configuration ` +
        'needed)',
    ];
    return [finding('DR_THROUGH_LOCAL', 'warning', formatEndpoint(facts.to), reason, mend)];
  }
  return [...checkShort(facts), ...checkSource(facts), ...checkLong(facts)];
}
