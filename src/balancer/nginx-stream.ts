// Writes the configuration of nginx with its stream module. UDP uses nginx's own sessions. TCP has a PROXY header
// (version 1, the only one that nginx sends).

import { formatEndpoint } from '../base/endpoint.ts';
import { isReliable } from '../packet/transport-kind.ts';
import { atMember, atVip, type BalancerPlan, type PlannedService, smallWeights } from './plan.ts';

const HIGHEST_WEIGHT = 1000;

/** Returns a complete nginx.conf. */
export function renderNginx(plan: BalancerPlan): string {
  const weights = smallWeights(plan.members, HIGHEST_WEIGHT);
  const upstream = (service: PlannedService): string => {
    const watch = !isReliable(service.transport) ? 'max_fails=0' : 'max_fails=3 fail_timeout=10s';
    const servers = plan.members.map(
      (member, i) => `    server ${atMember(member, service)} weight=${weights[i]} ${watch}; # ${member.id}`,
    );
    return `
  # Round robin. No "hash" and no "least_conn".
  upstream farm_${service.transport}_${service.port} {
${servers.join('\n')}
  }
`;
  };
  const udp = (service: PlannedService): string => `
  server {
    listen ${atVip(plan, service)} udp reuseport;
    proxy_pass farm_udp_${service.port};
    # proxy_responses is not set: a session may have any number of answers and of requests to the client.
    # A session is one client port at one member. It must last longer than the time between two registrations or
    # keep-alives.
    proxy_timeout 15m;
  }
`;
  const tcp = (service: PlannedService): string => `
  server {
    listen ${atVip(plan, service)} reuseport;
    proxy_pass farm_tcp_${service.port};
    proxy_protocol on;
    proxy_connect_timeout 3s;
    # Above the keep-alive interval of the clients (RFC 5626: about 120 s).
    proxy_timeout 15m;
  }
`;
  const servers = plan.services.map(
    (service) => upstream(service) + (!isReliable(service.transport) ? udp(service) : tcp(service)),
  );
  const [first] = plan.services;
  return `# Balancer of the farm ${plan.farm} (${formatEndpoint({ address: plan.vip, port: first!.port })}).
# UDP: nginx keeps a session per client and sends from ports of its own, so nginx is the client for the members.
# On the members: balancer.mode nat, answer ingress on the UDP listener, proxyProtocol require on the TCP listener.
# This host is in balancer.trusted, but not in balancer.probes: it is the source of all UDP clients.

worker_processes auto;
# Every UDP session and every TCP connection needs two descriptors.
worker_rlimit_nofile 65536;
# On Debian the stream module is a package of its own: libnginx-mod-stream.
include /etc/nginx/modules-enabled/*.conf;

events {
  worker_connections 16384;
}

stream {
${servers.join('').replace(/^\n/, '')}}
`;
}
