// Writes configurations for appliances of three vendors: Foundry ServerIron, Alteon AD3, F5 BIG-IP. The farm serves
// only SIP, by direct server return. Every line gets one comment. Addresses, passwords and networks of the device
// itself belong to its owner and are not written.
import { isIpv6 } from '../base/endpoint.ts';
import { isReliable } from '../packet/transport-kind.ts';
import { type BalancerPlan, sipPort } from './plan.ts';
import { GOOD_ANSWER } from './question.ts';

/** Physical port of the Alteon that faces the clients; the members' ports follow. */
const CLIENT_PORT = 1;

/** Returns the ports of the plan, each once, regardless of its transports. */
function portsOf(plan: BalancerPlan): number[] {
  return [...new Set(plan.services.map(({ port }) => port))];
}

/** Returns the configuration of a Foundry (Brocade) ServerIron. */
export function renderServerIron(plan: BalancerPlan): string {
  const ports = portsOf(plan);
  const profiles = ports.map(
    (port) => `! The port is known as one of TCP too, else it is taken for UDP and never asked for its health.
server port ${port}
 tcp
`,
  );
  const reals = plan.members.map(
    ({ id, address }) => `! Member ${id}, by its own address: health checks go there.
server real ${id} ${address}
${ports
  .map(
    (port) => ` ! SIP, over UDP and TCP.
 port ${port}
 ! Asked for its health; a member that does not answer leaves until it does.
 port ${port} keepalive
`,
  )
  .join('')}`,
  );
  const bound = ports.map(
    (port) => ` ! SIP on the VIP. There is no "sticky" here: it would bind a client to a member.
 port ${port}
 ! Direct server return: only MAC addresses change, answers do not come back this way.
 port ${port} dsr
 ! Which port of which member it goes to.
 bind ${port} ${plan.members.map(({ id }) => `${id} ${port}`).join(' ')}
`,
  );
  return `! Balancer of the farm ${plan.farm}: Foundry ServerIron, direct server return.
! On the members: balancer.mode dsr, answer direct, the VIP on lo.
! Never on this farm: "port ${ports[0]} sip-switch" and "port sip sip-proxy-server". They read Call-IDs and hold calls together, which is the farm's own work.
!
! One member after the other, unless a virtual server says otherwise.
server predictor round-robin
${profiles.join('')}${reals.join('')}! The address that clients know.
server virtual vip1 ${plan.vip}
 ! The choice for this VIP, said once more so that a changed default does not change it.
 predictor round-robin
${bound.join('')}! Here the configuration ends.
end
`;
}

/** Returns the configuration of an Alteon AD3 (Web OS 10). */
export function renderAlteon(plan: BalancerPlan): string {
  const ports = portsOf(plan);
  const hasUdp = (port: number): boolean =>
    plan.services.some((service) => service.port === port && !isReliable(service.transport));
  const reals = plan.members.map(
    ({ id, address }, i) => `/* Member ${id}.
/c/slb/real ${i + 1}
/* In use.
	ena
/* Its own address: health checks go there.
	rip ${address}
${ports
  .map(
    (port) => `/* SIP.
	addport ${port}
`,
  )
  .join(
    '',
  )}/* Frames to it carry the switch's own MAC address as source, so that no switch behind learns the router's at the wrong port.
	submac ena
`,
  );
  const services = ports.map(
    (port) => `/* SIP on the VIP, to that group. There is no "pbind" here: it would bind a client to a member.
/c/slb/virt 1/service ${port}
	group 1
${
  hasUdp(port)
    ? `/* UDP as well,
	udp enabled
/* and every datagram for itself: no session entry.
	udp stateless
`
    : ''
}/* Direct server return: only MAC addresses change, answers do not come back this way.
	nonat ena
`,
  );
  return `/* Balancer of the farm ${plan.farm}: Alteon AD3, direct server return.
/* On the members: balancer.mode dsr, answer direct, the VIP on lo.
/* Interface, router, users and management networks of the switch are set already; they are not part of this file.
/* Server load balancing is on.
/c/slb
	on
${reals.join('')}/* The group of all members.
/c/slb/group 1
${plan.members.map(({ id }, i) => `/* ${id}\n\tadd ${i + 1}\n`).join('')}/* One member after the other. Not "hash" and not "minmisses": they bind a client to a member.
	metric roundrobin
/* A member that takes no TCP connection on its SIP port leaves.
	health tcp
/* Physical port ${CLIENT_PORT}: here the clients' traffic comes in.
/c/slb/port ${CLIENT_PORT}
	client ena
${plan.members
  .map(
    ({ id }, i) => `/* Physical port ${CLIENT_PORT + 1 + i}: ${id} is behind it.
/c/slb/port ${CLIENT_PORT + 1 + i}
	server ena
`,
  )
  .join('')}/* The address that clients know.
/c/slb/virt 1
/* In use.
	ena
	vip ${plan.vip}
${services.join('')}/* Into force, then to flash.
apply
save
`;
}

/** Returns the configuration of an F5 BIG-IP (version 11 and later), for `tmsh load sys config merge file`. */
export function renderBigIp(plan: BalancerPlan): string {
  const { check, members, vip, services } = plan;
  const dot = isIpv6(vip) ? '.' : ':';
  const transports = [...new Set(services.map(({ transport }) => transport))];
  const kind = check?.kind ?? 'icmp';
  const question =
    check === null
      ? ''
      : check.kind === 'sip'
        ? `# Asks each member with OPTIONS over TCP: ${GOOD_ANSWER.slice(8)} is up, 503 (starting, draining) is down.
ltm monitor sip sipfarm_health {
    # What is not said here is as in the built-in monitor.
    defaults-from sip
    # The member's own address, and the port it answers there.
    destination *${dot}${check.port}
    # Seconds between two questions.
    interval 1
    # Seconds without a good answer after which a member leaves.
    timeout 4
    # The member answers on the connection it was asked on.
    mode tcp
}
`
        : `# Asks each member ${check.kind === 'http' ? 'for /readyz: 200 is up, 503 (starting, draining) is down' : 'for a TCP connection'}.
ltm monitor ${check.kind} sipfarm_health {
    # What is not said here is as in the built-in monitor.
    defaults-from ${check.kind}
    # The member's own address, and the port it answers there.
    destination *${dot}${check.port}
    # Seconds between two questions.
    interval 1
    # Seconds without a good answer after which a member leaves.
    timeout 4
${
  check.kind === 'http'
    ? `    # The question, and the beginning of a good answer.
    send "GET /readyz HTTP/1.0\\r\\n\\r\\n"
    recv "200 OK"
`
    : ''
}}
`;
  const pools = [...new Set(services.map(({ port }) => port))].map(
    (port) => `# All members.
ltm pool sipfarm_${port} {
    # One member after the other.
    load-balancing-mode round-robin
    members {
${members
  .map(
    ({ id, address }) => `        # ${id}
        ${address}${dot}${port} {
            address ${address}
        }
`,
  )
  .join('')}    }
    # Who does not answer leaves.
    monitor ${check === null ? 'gateway_icmp' : 'sipfarm_health'}
}
`,
  );
  const profile = (transport: 'udp' | 'tcp'): string =>
    !isReliable(transport)
      ? `# Datagrams.
ltm profile fastl4 sipfarm_udp {
    defaults-from fastL4
    # A flow entry ends with its datagram, so that no client is bound to a member.
    idle-timeout immediate
}
`
      : `# Connections of which only one direction passes here.
ltm profile fastl4 sipfarm_tcp {
    defaults-from fastL4
    # Seconds; above the keep-alive interval of the clients (RFC 5626: about 120 s).
    idle-timeout 900
    # The first FIN that is seen closes: the other one does not pass here.
    loose-close enabled
    # A connection begins with its SYN, not in the middle.
    loose-initialization disabled
    # A silent client is forgotten; a reset from here would be from the wrong side.
    reset-on-timeout disabled
    # No SYN cookies: the member's answer does not pass here.
    software-syn-cookie disabled
}
`;
  const virtuals = services.map(
    ({ transport, port }) => `# The address that clients know, ${transport.toUpperCase()}.
ltm virtual sipfarm_${transport}_${port} {
    destination ${vip}${dot}${port}
    ip-protocol ${transport}
    mask ${isIpv6(vip) ? 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff' : '255.255.255.255'}
    pool sipfarm_${port}
    # Layer 4 only. No profile of SIP, no persistence profile: they read Call-IDs and bind calls, which is the farm's own work.
    profiles {
        sipfarm_${transport} { }
    }
    # Direct server return (nPath): neither address nor port is changed, the members have the VIP on lo.
    translate-address disabled
    translate-port disabled
    # The client's address stays.
    source-address-translation {
        type none
    }
}
`,
  );
  return `# Balancer of the farm ${plan.farm}: F5 BIG-IP, direct server return ("nPath routing") for SIP at port ${sipPort(plan)}; health by ${kind}.
# On the members: balancer.mode dsr, answer direct, the VIP on lo, default route the router (not the BIG-IP).
# Load it with: tmsh load sys config merge file FILE; VLANs, own addresses and routes of the device are set already.
${question}${pools.join('')}${transports.map(profile).join('')}${virtuals.join('')}`;
}
