# Balancer of the farm example: an AWS Network Load Balancer.
# On the members: balancer.mode nat, answer ingress, advertise 198.51.100.1 (the elastic address below).
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
  description = "Allocation id of the elastic address 198.51.100.1."
}

locals {
  # Own addresses of the members.
  members = {
    "fe1" = "10.0.0.11"
    "fe2" = "10.0.0.12"
    "fe3" = "10.0.0.13"
    "fe4" = "10.0.0.14"
  }
}

resource "aws_lb" "sip" {
  name               = "sipfarm-example"
  load_balancer_type = "network"

  subnet_mapping {
    subnet_id     = var.subnet_id
    allocation_id = var.vip_allocation_id
  }
}

resource "aws_lb_target_group" "sip_5060" {
  name        = "sipfarm-example-5060"
  port        = 5060
  protocol    = "TCP_UDP"
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
    # The port is open while the member takes packets.
    protocol            = "TCP"
    port                = "5060"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_target_group_attachment" "sip_5060" {
  for_each = local.members

  target_group_arn = aws_lb_target_group.sip_5060.arn
  target_id        = each.value
  port             = 5060
}

resource "aws_lb_listener" "sip_5060" {
  load_balancer_arn = aws_lb.sip.arn
  port              = 5060
  protocol          = "TCP_UDP"

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.sip_5060.arn
  }
}
