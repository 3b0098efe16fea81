// Writes Envoy's configuration: UDP by its own sessions, TCP with a PROXY header (version 2), active health checks.

import { isReliable } from '../packet/transport-kind.ts';
import type { BalancerPlan, HealthCheck, PlannedService } from './plan.ts';
import { GOOD_ANSWER, optionsRequest } from './question.ts';

const TYPE = 'type.googleapis.com/envoy';
const hex = (text: string): string => Buffer.from(text, 'latin1').toString('hex');

function question(plan: BalancerPlan, { transport }: PlannedService, check: HealthCheck): string {
  const common = `    health_checks:
    # A draining member without calls is gone after four seconds. This check detects the drain earlier.
    - timeout: 1s
      interval: 1s
      unhealthy_threshold: 2
      healthy_threshold: 2
`;
  if (check.kind === 'http')
    return `${common}      # 200 while the member is ready, 503 while it starts or drains.
      http_health_check:
        path: /readyz
`;
  // OPTIONS is used only with the PROXY header of a TCP cluster. Without that header it would count as a client's
  // request.
  if (check.kind === 'tcp' || !isReliable(transport))
    return `${common}      # A TCP connection: shows death, not draining.
      tcp_health_check: {}
`;
  const request = optionsRequest(plan, check)
    .map((line) => `${line}\r\n`)
    .join('');
  return `${common}      # A SIP OPTIONS request in hexadecimal, and the beginning "${GOOD_ANSWER}" of a good answer.
      tcp_health_check:
        send:
          text: "${hex(request)}"
        receive:
        - text: "${hex(GOOD_ANSWER)}"
`;
}

function endpoints(plan: BalancerPlan, { targetPort }: PlannedService): string {
  return plan.members
    .map(
      ({ id, address, weight }) => `        # ${id}
        - load_balancing_weight: ${weight}
          endpoint:
            address:
              socket_address: { address: "${address}", port_value: ${targetPort} }
${plan.check && plan.check.port !== targetPort ? `            health_check_config: { port_value: ${plan.check.port} }\n` : ''}`,
    )
    .join('');
}

function listener(plan: BalancerPlan, { transport, port }: PlannedService): string {
  const name = `sip_${transport}_${port}`;
  const cluster = `farm_${transport}_${port}`;
  if (!isReliable(transport))
    return `  - name: ${name}
    address:
      socket_address: { protocol: UDP, address: "${plan.vip}", port_value: ${port} }
    udp_listener_config:
      downstream_socket_config:
        # At the default of 1500, larger messages would be truncated.
        max_rx_datagram_size: 65535
    listener_filters:
    - name: envoy.filters.udp_listener.udp_proxy
      typed_config:
        "@type": ${TYPE}.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig
        stat_prefix: ${name}
        # A session is one client port at one member. It must last longer than the time between two
        # registrations or keep-alives.
        idle_timeout: 900s
        upstream_socket_config:
          max_rx_datagram_size: 65535
        matcher:
          on_no_match:
            action:
              name: route
              typed_config:
                "@type": ${TYPE}.extensions.filters.udp.udp_proxy.v3.Route
                cluster: ${cluster}
`;
  return `  - name: ${name}
    address:
      socket_address: { protocol: TCP, address: "${plan.vip}", port_value: ${port} }
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": ${TYPE}.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: ${name}
          cluster: ${cluster}
          # Above the keep-alive interval of the clients (RFC 5626: about 120 s).
          idle_timeout: 900s
`;
}

function cluster(plan: BalancerPlan, service: PlannedService): string {
  const { transport, port } = service;
  const name = `farm_${transport}_${port}`;
  const header = `    transport_socket:
      name: envoy.transport_sockets.upstream_proxy_protocol
      typed_config:
        "@type": ${TYPE}.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport
        config: { version: V2 }
        transport_socket:
          name: envoy.transport_sockets.raw_buffer
          typed_config:
            "@type": ${TYPE}.extensions.transport_sockets.raw_buffer.v3.RawBuffer
`;
  return `  - name: ${name}
    type: STATIC
    connect_timeout: 3s
    # No hash policy: it would bind a client to a member.
    lb_policy: ROUND_ROBIN
${isReliable(transport) ? header : ''}${plan.check ? question(plan, service, plan.check) : ''}    load_assignment:
      cluster_name: ${name}
      endpoints:
      - lb_endpoints:
${endpoints(plan, service)}`;
}

/** Returns a static bootstrap file. */
export function renderEnvoy(plan: BalancerPlan): string {
  return `# Balancer of the farm ${plan.farm}.
# UDP: Envoy keeps a session per client and sends from ports of its own, so Envoy is the client for the members.
# On the members: balancer.mode nat, answer ingress on the UDP listener, proxyProtocol require on the TCP listener.
# This host is in balancer.trusted, but not in balancer.probes: it is the source of all UDP clients.
static_resources:
  listeners:
${plan.services.map((service) => listener(plan, service)).join('')}  clusters:
${plan.services.map((service) => cluster(plan, service)).join('')}`;
}
