// Writes Linux IPVS configurations by direct routing: rules for ipvsadm-restore, and a keepalived.conf. keepalived sets
// the same rules itself and removes dead members.
import { isIpv6 } from '../base/endpoint.ts';
import { isReliable } from '../packet/transport-kind.ts';
import { atMember, atVip, type BalancerPlan, type HealthCheck, type PlannedService, smallWeights } from './plan.ts';

/** Highest weight that IPVS accepts. */
const HIGHEST_WEIGHT = 65_535;

const flag = ({ transport }: PlannedService): string => (!isReliable(transport) ? '-u' : '-t');

/** Returns rules for `ipvsadm-restore`, which accepts no comments. */
export function renderIpvsadm(plan: BalancerPlan): string {
  const weights = smallWeights(plan.members, HIGHEST_WEIGHT);
  return plan.services
    .flatMap((service) => {
      const at = `${flag(service)} ${atVip(plan, service)}`;
      // One-packet scheduling: no session entry, so no client is bound to a member.
      const once = !isReliable(service.transport) ? ' -o' : '';
      return [
        `-A ${at} -s wrr${once}`,
        ...plan.members.map((member, i) => `-a ${at} -r ${atMember(member, service)} -g -w ${weights[i]}`),
      ];
    })
    .map((line) => `${line}\n`)
    .join('');
}

function question(check: HealthCheck): string {
  if (check.kind === 'http')
    return `    # 200 while the member is ready, 503 while it starts or drains.
    HTTP_GET {
      url {
        path /readyz
        status_code 200
      }
      connect_port ${check.port}
      connect_timeout 2
    }
`;
  return `    # To the member's own address: the VIP is on every member.
    TCP_CHECK {
      connect_port ${check.port}
      connect_timeout 2
    }
`;
}

/** Returns keepalived.conf: the VIP shared by two balancers (VRRP), the rules of `renderIpvsadm`, and health checks. */
export function renderKeepalived(plan: BalancerPlan): string {
  const weights = smallWeights(plan.members, HIGHEST_WEIGHT);
  const { vip, check, device } = plan;
  const servers = (service: PlannedService): string =>
    plan.members
      .map(
        (member, i) => `  # ${member.id}
  real_server ${member.address} ${service.targetPort} {
    weight ${weights[i]}
${check ? question(check) : ''}  }
`,
      )
      .join('');
  const virtual = plan.services.map(
    (service) => `
virtual_server ${vip} ${service.port} {
  protocol ${service.transport.toUpperCase()}
  lvs_sched wrr
  # Direct routing: only the MAC address changes. Answers go directly from the member to the client.
  lvs_method DR
${
  !isReliable(service.transport)
    ? `  # One-packet scheduling. No session entry, no persistence_timeout, no persistence_engine sip: they bind clients.
  ops
`
    : ''
}  # Seconds between two checks. A member is removed after three failures in a row, and returns with the first success.
  delay_loop 1
  retry 2
  delay_before_retry 1
${servers(service)}}
`,
  );
  return `# Balancer of the farm ${plan.farm}: IPVS by direct routing.
# On the members: balancer.mode dsr, answer direct, the VIP on lo.
# The same file on both balancers. One has the VIP and forwards; the other is in reserve.

vrrp_instance sipfarm {
  state BACKUP
  # The first balancer does not take the VIP back when it returns.
  nopreempt
  interface ${device}
  virtual_router_id 51
  priority 100
  advert_int 1
  virtual_ipaddress {
    ${vip}/${isIpv6(vip) ? 128 : 32}
  }
}
${virtual.join('')}`;
}
