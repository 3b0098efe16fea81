// Writes an AWS Network Load Balancer as Terraform: targets by address, UDP and TCP of one port in one listener.
import { SipfarmError } from '../base/errors.ts';
import { isReliable } from '../packet/transport-kind.ts';
import type { BalancerPlan, PlannedService } from './plan.ts';

interface Both {
  readonly protocol: 'UDP' | 'TCP' | 'TCP_UDP';
  readonly port: number;
  readonly targetPort: number;
}

/** Characters of a load balancer's name. A target group has 32, with a hyphen and the port. */
const NAME_LENGTH = 24;

/**
 * Merges UDP and TCP of one port, because the balancer has one listener per port. Throws SF_BALANCER_PLAN when the
 * members have different ports for the two: a listener has one target port.
 */
function listeners(services: readonly PlannedService[]): Both[] {
  const byPort = new Map<number, Both>();
  for (const { transport, port, targetPort } of services) {
    const other = byPort.get(port);
    if (other && other.targetPort !== targetPort)
      throw new SipfarmError(
        'SF_BALANCER_PLAN',
        `aws-nlb sends UDP and TCP of port ${port} to one port, and the members have ${other.targetPort} and ${targetPort}: make their listeners alike`,
      );
    const protocol = other ? 'TCP_UDP' : !isReliable(transport) ? 'UDP' : 'TCP';
    byPort.set(port, { protocol, port, targetPort });
  }
  return [...byPort.values()];
}

/**
 * Returns main.tf of a module. All targets get the same share of traffic: the balancer has no weights. Throws
 * SF_BALANCER_PLAN as `listeners` does.
 */
export function renderAwsNlb(plan: BalancerPlan): string {
  const { check, members, farm } = plan;
  const name = `sipfarm-${farm}`.slice(0, NAME_LENGTH).replace(/-+$/, '');
  const asked = check ?? { kind: 'tcp', port: plan.services[0]!.targetPort };
  const http =
    asked.kind === 'http'
      ? `    protocol            = "HTTP"
    path                = "/readyz"
    matcher             = "200"
`
      : `    # The port is open while the member takes packets.
    protocol            = "TCP"
`;
  const resources = listeners(plan.services).map(
    ({ protocol, port, targetPort }) => `
resource "aws_lb_target_group" "sip_${port}" {
  name        = "${name}-${port}"
  port        = ${targetPort}
  protocol    = "${protocol}"
  target_type = "ip"
  vpc_id      = var.vpc_id

  # The members receive the client's own address, without a PROXY header.
  preserve_client_ip = true
  proxy_protocol_v2  = false

  # Seconds in which calls of a leaving member may end. Other members relay its packets to it.
  deregistration_delay = 60

  # No client is bound to a member.
  stickiness {
    type    = "source_ip"
    enabled = false
  }

  health_check {
${http}    port                = "${asked.port}"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_target_group_attachment" "sip_${port}" {
  for_each = local.members

  target_group_arn = aws_lb_target_group.sip_${port}.arn
  target_id        = each.value
  port             = ${targetPort}
}

resource "aws_lb_listener" "sip_${port}" {
  load_balancer_arn = aws_lb.sip.arn
  port              = ${port}
  protocol          = "${protocol}"
${
  protocol === 'TCP'
    ? `
  # Above the keep-alive interval of the clients (RFC 5626: about 120 s).
  tcp_idle_timeout_seconds = 900
`
    : ''
}
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.sip_${port}.arn
  }
}
`,
  );
  const widest = Math.max(...members.map(({ id }) => id.length));
  const targets = members.map(({ id, address }) => `    ${`"${id}"`.padEnd(widest + 2)} = "${address}"`);
  return `# Balancer of the farm ${farm}: an AWS Network Load Balancer.
# On the members: balancer.mode nat, answer ingress, advertise ${plan.vip} (the elastic address below).
# It hashes addresses and ports, and stores a UDP flow for two minutes. Clients must send keep-alives more often than
# that (RFC 5626).

variable "vpc_id" {
  type        = string
  description = "The VPC of the members."
}

variable "subnet_id" {
  type        = string
  description = "A public subnet for the balancer."
}

variable "vip_allocation_id" {
  type        = string
  description = "Allocation id of the elastic address ${plan.vip}."
}

locals {
  # Own addresses of the members.
  members = {
${targets.join('\n')}
  }
}

resource "aws_lb" "sip" {
  name               = "${name}"
  load_balancer_type = "network"

  subnet_mapping {
    subnet_id     = var.subnet_id
    allocation_id = var.vip_allocation_id
  }
}
${resources.join('')}`;
}
