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
    (port) => `! Declares the port for TCP too. Without this it counts as UDP and gets no health checks.
server port ${port}
 tcp
`,
  );
  const reals = plan.members.map(
    ({ id, address }) => `! Member ${id}, by its own address, the target of health checks.
server real ${id} ${address}
${ports
  .map(
    (port) => ` ! SIP, over UDP and TCP.
 port ${port}
 ! Health check; a member without an answer gets no packets until it answers again.
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
 ! Members and ports that receive it.
 bind ${port} ${plan.members.map(({ id }) => `${id} ${port}`).join(' ')}
`,
  );
  return `! Balancer of the farm ${plan.farm}: Foundry ServerIron, direct server return.
! On the members: balancer.mode dsr, answer direct, the VIP on lo.
! Never on this farm: "port ${ports[0]} sip-switch" and "port sip sip-proxy-server". They read Call-IDs
! and bind calls to a member. The farm does that itself.
!
! Round robin, unless a virtual server sets another method.
server predictor round-robin
${profiles.join('')}${reals.join('')}! The clients' address of the farm.
server virtual vip1 ${plan.vip}
 ! The method of this VIP, set again so that a changed default does not change it.
 predictor round-robin
${bound.join('')}! End of the configuration.
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
/* Enabled.
	ena
/* Its own address, the target of health checks.
	rip ${address}
${ports
  .map(
    (port) => `/* SIP.
	addport ${port}
`,
  )
  .join(
    '',
  )}/* Frames to it have the switch's own MAC address as source. A switch behind it therefore does not map the router's
/* MAC address to the wrong port.
	submac ena
`,
  );
  const services = ports.map(
    (port) => `/* SIP on the VIP, to that group. There is no "pbind" here: it would bind a client to a member.
/c/slb/virt 1/service ${port}
	group 1
${
  hasUdp(port)
    ? `/* UDP too.
	udp enabled
/* Each datagram is balanced by itself, without a session entry.
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
${plan.members.map(({ id }, i) => `/* ${id}\n\tadd ${i + 1}\n`).join('')}/* Round robin. Not "hash" and not "minmisses": they bind a client to a member.
	metric roundrobin
/* A member that accepts no TCP connection on its SIP port gets no packets.
	health tcp
/* Physical port ${CLIENT_PORT}: the clients' traffic arrives here.
/c/slb/port ${CLIENT_PORT}
	client ena
${plan.members
  .map(
    ({ id }, i) => `/* Physical port ${CLIENT_PORT + 1 + i}: connects ${id}.
/c/slb/port ${CLIENT_PORT + 1 + i}
	server ena
`,
  )
  .join('')}/* The clients' address of the farm.
/c/slb/virt 1
/* Enabled.
	ena
	vip ${plan.vip}
${services.join('')}/* Applies the lines, then saves them to flash.
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
        ? `# Sends OPTIONS to each member over TCP: ${GOOD_ANSWER.slice(8)} is up, 503 (starting, draining) is down.
ltm monitor sip sipfarm_health {
    # All other values are those of the built-in monitor.
    defaults-from sip
    # The member's own address, and the port that answers there.
    destination *${dot}${check.port}
    # Seconds between two checks.
    interval 1
    # Seconds without a good answer until a member counts as down.
    timeout 4
    # The member answers on the connection of the request.
    mode tcp
}
`
        : `# ${check.kind === 'http' ? 'Requests /readyz of each member: 200 is up, 503 (starting, draining) is down' : 'Opens a TCP connection to each member'}.
ltm monitor ${check.kind} sipfarm_health {
    # All other values are those of the built-in monitor.
    defaults-from ${check.kind}
    # The member's own address, and the port that answers there.
    destination *${dot}${check.port}
    # Seconds between two checks.
    interval 1
    # Seconds without a good answer until a member counts as down.
    timeout 4
${
  check.kind === 'http'
    ? `    # The request, and the beginning of a good answer.
    send "GET /readyz HTTP/1.0\\r\\n\\r\\n"
    recv "200 OK"
`
    : ''
}}
`;
  const pools = [...new Set(services.map(({ port }) => port))].map(
    (port) => `# All members.
ltm pool sipfarm_${port} {
    # Round robin.
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
    # A member that does not answer gets no packets.
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
      : `# Connections; only the direction from the client passes here.
ltm profile fastl4 sipfarm_tcp {
    defaults-from fastL4
    # Seconds; above the keep-alive interval of the clients (RFC 5626: about 120 s).
    idle-timeout 900
    # The first FIN closes the connection: the other FIN does not pass here.
    loose-close enabled
    # A connection begins with its SYN, not in the middle.
    loose-initialization disabled
    # The entry of a silent client is deleted without a reset: the balancer is not an end of the connection.
    reset-on-timeout disabled
    # No SYN cookies: the member's answer does not pass here.
    software-syn-cookie disabled
}
`;
  const virtuals = services.map(
    ({ transport, port }) => `# The clients' address of the farm, ${transport.toUpperCase()}.
ltm virtual sipfarm_${transport}_${port} {
    destination ${vip}${dot}${port}
    ip-protocol ${transport}
    mask ${isIpv6(vip) ? 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff' : '255.255.255.255'}
    pool sipfarm_${port}
    # Layer 4 only. No SIP profile and no persistence profile: they read Call-IDs and bind calls to a member.
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
  return `# Balancer of the farm ${plan.farm}: F5 BIG-IP, direct server return ("nPath routing").
# SIP at port ${sipPort(plan)}; health checks by ${kind}.
# On the members: balancer.mode dsr, answer direct, the VIP on lo, the default route is the router (not the BIG-IP).
# Load it with: tmsh load sys config merge file FILE. VLANs, own addresses and routes of the device are set already.
${question}${pools.join('')}${transports.map(profile).join('')}${virtuals.join('')}`;
}
