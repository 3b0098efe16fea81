// Farms for tests of the balancers' configurations.
import type { PlannedMedia } from '../../../src/balancer/media.ts';
import type { BalancerPlan, PlannedMember } from '../../../src/balancer/plan.ts';
import { type BalancerKind, renderBalancer } from '../../../src/balancer/render.ts';

export const frontend = (k: number, given: Partial<PlannedMember> = {}): PlannedMember => ({
  id: `fe${k}`,
  address: `10.0.0.1${k}`,
  weight: 100,
  mac: `00:00:5e:00:53:1${k}`,
  ...given,
});

/** The farm of the examples: four frontends, documentation addresses (RFC 5737, RFC 7042). */
export const EXAMPLE: BalancerPlan = {
  farm: 'example',
  vip: '198.51.100.1',
  services: [
    { transport: 'udp', port: 5060, targetPort: 5060 },
    { transport: 'tcp', port: 5060, targetPort: 5060 },
  ],
  members: [1, 2, 3, 4].map((k) => frontend(k)),
  check: { kind: 'sip', port: 5060 },
  device: 'eth0',
  outDevice: 'eth0',
  balancerMac: '00:00:5e:00:53:01',
};

/** Media ports of fe<k>, mapped from a public address of its own. */
export const media = (k: number, given: Partial<PlannedMedia> = {}): PlannedMedia => ({
  id: `fe${k}`,
  plan: 'multi-ip',
  outer: `203.0.113.1${k}`,
  local: `10.0.0.1${k}`,
  first: 10_000,
  last: 19_999,
  mac: `00:00:5e:00:53:1${k}`,
  ...given,
});

/** The same of one public address for all: each host has its own range. */
export const sharedMedia = (k: number, given: Partial<PlannedMedia> = {}): PlannedMedia =>
  media(k, { plan: 'single-ip', outer: '198.51.100.1', first: 10_000 * k, last: 10_000 * k + 9999, ...given });

const named = <Name extends string>(farms: Readonly<Record<Name, BalancerPlan>>) => farms;

/** The example, and farms that differ from it in one way each. */
export const FARMS = named({
  'the example': EXAMPLE,
  'one member': { ...EXAMPLE, members: [frontend(1)] },
  'odd weights': { ...EXAMPLE, members: [frontend(1, { weight: 997 }), frontend(2, { weight: 1 }), frontend(3)] },
  'forty members': {
    ...EXAMPLE,
    members: Array.from({ length: 40 }, (_, i) =>
      frontend(i, { address: `10.0.1.${i}`, mac: `00:00:5e:00:53:${i + 10}` }),
    ),
  },
  'names with dots and hyphens': {
    ...EXAMPLE,
    members: [frontend(1, { id: 'fe-1.example.org' }), frontend(2, { id: '2_b' })],
  },
  'UDP only, no health check': { ...EXAMPLE, services: EXAMPLE.services.slice(0, 1), check: null },
  'TCP only, /readyz checked': { ...EXAMPLE, services: EXAMPLE.services.slice(1), check: { kind: 'http', port: 8060 } },
  'two ports, a connection checked': {
    ...EXAMPLE,
    services: [...EXAMPLE.services, { transport: 'udp', port: 5080, targetPort: 5080 }],
    check: { kind: 'tcp', port: 5070 },
  },
  'media at own addresses': {
    ...EXAMPLE,
    media: [1, 2].map((k) => media(k, { plan: 'direct', local: `203.0.113.1${k}` })),
  },
  'media mapped address to address': { ...EXAMPLE, media: [1, 2, 3, 4].map((k) => media(k)) },
  'media mapped range to member': { ...EXAMPLE, media: [1, 2, 3, 4].map((k) => sharedMedia(k)) },
  'media over IPv6': {
    ...EXAMPLE,
    vip: '2001:db8::1',
    members: [1, 2].map((k) => frontend(k, { address: `2001:db8::1${k}` })),
    media: [1, 2].map((k) => media(k, { outer: `2001:db8:1::${k}`, local: `2001:db8::1${k}` })),
  },
  IPv6: {
    ...EXAMPLE,
    vip: '2001:db8::1',
    members: [1, 2].map((k) => frontend(k, { address: `2001:db8::1${k}` })),
  },
});

export const hasTcp = ({ services }: BalancerPlan): boolean => services.some(({ transport }) => transport === 'tcp');

/** Returns the file `name` of a kind, or its first file. */
export function textOf(kind: BalancerKind, plan: BalancerPlan, name?: string): string {
  const files = renderBalancer(kind, plan);
  return (name === undefined ? files[0]! : files.find((file) => file.name === name)!).text;
}
