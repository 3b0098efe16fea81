// Writes HAProxy's configuration: TCP only. A PROXY header (version 2) carries the client's address.

import { isReliable } from '../packet/transport-kind.ts';
import { atMember, atVip, type BalancerPlan, type HealthCheck, type PlannedService, smallWeights } from './plan.ts';
import { GOOD_ANSWER, optionsRequest } from './question.ts';

/** Highest weight that HAProxy accepts. */
const HIGHEST_WEIGHT = 256;

function question(plan: BalancerPlan, check: HealthCheck): string {
  if (check.kind === 'tcp') return '  # A TCP connection is the health check. It shows that the process is up.\n';
  if (check.kind === 'http')
    return `  # 200 while the member is ready, 503 while it starts or drains.
  option httpchk GET /readyz
  http-check expect status 200
`;
  const lines = optionsRequest(plan, check).map((line) => `  tcp-check send "${line}\\r\\n"`);
  return `  # OPTIONS: 200 while the member takes packets, 503 while it starts or drains.
  option tcp-check
${lines.join('\n')}
  tcp-check expect string "${GOOD_ANSWER}"
`;
}

/** Returns the bind line of a frontend. An operator installs the certificate. */
function bindOf(plan: BalancerPlan, service: PlannedService): string {
  const bind = `  bind ${atVip(plan, service)}`;
  if (!service.tls) return bind;
  return `  # TLS from the clients, TCP to the members. The file contains certificate, chain and key (PEM).
${bind} ssl crt /etc/haproxy/sipfarm-${plan.farm}.pem`;
}

/** Returns haproxy.cfg. It leaves out the UDP services of the plan: HAProxy has no UDP. */
export function renderHaproxy(plan: BalancerPlan): string {
  const { check, members } = plan;
  const weights = smallWeights(members, HIGHEST_WEIGHT);
  const services = plan.services.filter(({ transport }) => isReliable(transport));
  const asksHere = check?.kind === 'sip' && services.some(({ targetPort }) => targetPort === check.port);
  const sections = services.map((service) => {
    // HAProxy sends a check to another port without a PROXY header. Therefore each of several SIP ports is checked
    // itself.
    const elsewhere = check && !asksHere && check.port !== service.targetPort ? ` port ${check.port}` : '';
    const asked = check ? ` check${elsewhere} inter 1s fall 2 rise 2` : '';
    const servers = members.map(
      (member, i) => `  server ${member.id} ${atMember(member, service)} weight ${weights[i]} send-proxy-v2${asked}`,
    );
    return `
frontend sip-${service.port}
${bindOf(plan, service)}
  default_backend farm-${service.port}

backend farm-${service.port}
  # Any method works. No stick-table and no balance source: they bind a client to a member.
  balance roundrobin
${check ? question(plan, check) : ''}${servers.join('\n')}
`;
  });
  return `# Balancer of the farm ${plan.farm} for SIP over TCP. UDP needs another balancer (HAProxy has none).
# On the members: proxyProtocol require on the TCP listener, this host in balancer.trusted.

global
  log /dev/log local0
  # No maxconn: the limit of open files is the bound, and each connection needs two (LimitNOFILE of the service).

defaults
  mode tcp
  log global
  option tcplog
  timeout connect 3s
  # Above the keep-alive interval of the clients (RFC 5626: about 120 s), so that flows survive here.
  # The member closes idle ones.
  timeout client 15m
  timeout server 15m
  # A draining member without calls is gone after four seconds. The checks below detect the drain earlier.
  timeout check 1s
${sections.join('')}`;
}
