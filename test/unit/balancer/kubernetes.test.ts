// The Kubernetes resources of a plan, read as YAML.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { renderCilium, renderMetallb, renderService } from '../../../src/balancer/kubernetes.ts';
import { EXAMPLE, FARMS, frontend } from './plans.ts';

interface Meta {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> };
}

interface Port {
  readonly name: string;
  readonly protocol: string;
  readonly port: number;
  readonly targetPort?: number;
}

interface Service extends Meta {
  readonly metadata: Meta['metadata'] & { readonly annotations: Readonly<Record<string, string>> };
  readonly spec: {
    readonly type: string;
    readonly selector?: unknown;
    readonly sessionAffinity: string;
    readonly externalTrafficPolicy: string;
    readonly ipFamilies: readonly string[];
    readonly ports: readonly Port[];
  };
}

interface Slice extends Meta {
  readonly addressType: string;
  readonly ports: readonly Port[];
  readonly endpoints: readonly { readonly addresses: readonly string[]; readonly nodeName: string }[];
}

function documents<T>(text: string): T {
  return parseAllDocuments(text, { strict: true }).map((document) => {
    assert.deepEqual([...document.errors, ...document.warnings], [], text);
    return document.toJS() as unknown;
  }) as T;
}

const serviceOf = (plan: typeof EXAMPLE): [Service, Slice] => documents(renderService(plan));

for (const [title, plan] of Object.entries(FARMS))
  test(`a Service without selector has the ports of the VIP, and its slice those of all members, for ${title}`, () => {
    const [{ metadata, spec }, slice] = serviceOf(plan);
    const family = plan.vip.includes(':') ? 'IPv6' : 'IPv4';
    assert.deepEqual(
      spec.ports.map(({ name, protocol, port, targetPort }) => [name, protocol, port, targetPort]),
      plan.services.map(({ transport, port, targetPort }) => [
        `sip-${transport}-${port}`,
        transport.toUpperCase(),
        port,
        targetPort,
      ]),
    );
    assert.deepEqual(Object.values(metadata.annotations), [plan.vip, plan.vip]);
    assert.deepEqual([spec.ipFamilies, slice.addressType, spec.selector], [[family], family, undefined]);
    assert.equal(slice.metadata.labels?.['kubernetes.io/service-name'], metadata.name);
    assert.deepEqual(
      slice.endpoints.map(({ addresses, nodeName }) => [nodeName, ...addresses]),
      plan.members.map(({ id, address }) => [id, address]),
    );
  });

test('a port of the slice is that of the members, under the name of the port of the Service', () => {
  const [{ spec }, slice] = serviceOf({ ...EXAMPLE, services: [{ transport: 'tcp', port: 5060, targetPort: 5070 }] });
  assert.deepEqual(spec.ports, [{ name: 'sip-tcp-5060', protocol: 'TCP', port: 5060, targetPort: 5070 }]);
  assert.deepEqual(slice.ports, [{ name: 'sip-tcp-5060', protocol: 'TCP', port: 5070 }]);
});

test('no client is bound to a member, and none loses its address on the way', () => {
  const [{ spec }] = serviceOf(EXAMPLE);
  assert.deepEqual([spec.type, spec.sessionAffinity, spec.externalTrafficPolicy], ['LoadBalancer', 'None', 'Local']);
});

test('the name of a member that looks like a number stays text', () => {
  const [, { endpoints }] = serviceOf({ ...EXAMPLE, members: ['007', '1e3', 'null'].map((id) => frontend(1, { id })) });
  assert.deepEqual(
    endpoints.map(({ nodeName }) => nodeName),
    ['007', '1e3', 'null'],
  );
});

for (const [vip, prefix] of [
  ['198.51.100.1', '198.51.100.1/32'],
  ['2001:db8::1', '2001:db8::1/128'],
] as const)
  test(`the pools of MetalLB and Cilium have the one address ${prefix}, for this Service only`, () => {
    const plan = { ...EXAMPLE, vip };
    const [{ metadata: service }] = serviceOf(plan);
    const [pool, advertisement] = documents<
      [Meta & { spec: { addresses: string[]; autoAssign: boolean } }, { spec: { ipAddressPools: string[] } }]
    >(renderMetallb(plan));
    assert.deepEqual(pool.spec, { addresses: [prefix], autoAssign: false });
    assert.deepEqual(advertisement.spec.ipAddressPools, [pool.metadata.name]);

    const only = { key: 'io.kubernetes.service.name', operator: 'In', values: [service.name] };
    const [own, announced] = documents<
      [
        { spec: { blocks: object[]; serviceSelector: object } },
        { spec: { advertisements: { service: object; selector: object }[] } },
      ]
    >(renderCilium(plan));
    assert.deepEqual(own.spec, { blocks: [{ cidr: prefix }], serviceSelector: { matchExpressions: [only] } });
    assert.deepEqual(
      announced.spec.advertisements.map(({ selector }) => selector),
      [{ matchExpressions: [only] }],
    );
  });
