// Builds the OPTIONS request by which balancers check a member over TCP. The member answers it itself: 200 while it
// takes packets, else 503.
import { formatEndpoint } from '../base/endpoint.ts';
import { type BalancerPlan, type HealthCheck, sipPort } from './plan.ts';

/** Returns the lines of the request without CRLF; the last one is empty. */
export function optionsRequest(plan: BalancerPlan, check: HealthCheck): string[] {
  const target = `sip:${formatEndpoint({ address: plan.vip, port: sipPort(plan) })};transport=tcp`;
  return [
    `OPTIONS ${target} SIP/2.0`,
    // The answer uses the same connection (RFC 3261 18.2.2), so the host name need not exist.
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
