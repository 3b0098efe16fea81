// The OPTIONS request that balancers ask a member with over TCP. A member answers it itself: 200 while it takes packets, 503 while it does not.
import { formatEndpoint } from '../base/endpoint.ts';
import { type BalancerPlan, type HealthCheck, sipPort } from './plan.ts';

/** Lines of the request, without their CRLF; the last one is empty. */
export function optionsRequest(plan: BalancerPlan, check: HealthCheck): string[] {
  const target = `sip:${formatEndpoint({ address: plan.vip, port: sipPort(plan) })};transport=tcp`;
  return [
    `OPTIONS ${target} SIP/2.0`,
    // Answered on the same connection (RFC 3261 18.2.2), so the name need not exist.
    `Via: SIP/2.0/TCP balancer.invalid:${check.port};branch=z9hG4bKcheck;rport`,
    'Max-Forwards: 70',
    'From: <sip:check@balancer.invalid>;tag=check',
    `To: <${target}>`,
    'Call-ID: check@balancer.invalid',
    'CSeq: 1 OPTIONS',
    'Content-Length: 0',
    '',
  ];
}

/** Beginning of the answer of a member that takes packets. */
export const GOOD_ANSWER = 'SIP/2.0 200';
