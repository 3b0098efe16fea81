// Envoy's bootstrap file of a plan, read as YAML.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { renderEnvoy } from '../../../src/balancer/envoy.ts';
import type { BalancerPlan, HealthCheck } from '../../../src/balancer/plan.ts';
import { Message } from '../../fake/sip.ts';
import { EXAMPLE, FARMS, frontend } from './plans.ts';

interface Address {
  readonly socket_address: { readonly address: string; readonly port_value: number; readonly protocol?: string };
}

interface Listener {
  readonly name: string;
  readonly address: Address;
}

interface Endpoint {
  readonly load_balancing_weight: number;
  readonly endpoint: { readonly address: Address; readonly health_check_config?: { readonly port_value: number } };
}

interface Check {
  readonly http_health_check?: { readonly path: string };
  readonly tcp_health_check?: {
    readonly send?: { readonly text: string };
    readonly receive?: readonly { readonly text: string }[];
  };
}

interface Cluster {
  readonly name: string;
  readonly lb_policy: string;
  readonly health_checks?: readonly Check[];
  readonly transport_socket?: { readonly typed_config: { readonly config: { readonly version: string } } };
  readonly load_assignment: {
    readonly cluster_name: string;
    readonly endpoints: readonly [{ readonly lb_endpoints: readonly Endpoint[] }];
  };
}

function bootstrap(plan: BalancerPlan): {
  readonly listeners: readonly Listener[];
  readonly clusters: readonly Cluster[];
} {
  const [document, ...others] = parseAllDocuments(renderEnvoy(plan), { strict: true });
  assert.deepEqual([document?.errors, document?.warnings, others], [[], [], []]);
  return (document!.toJS() as { static_resources: ReturnType<typeof bootstrap> }).static_resources;
}

const endpointsOf = (cluster: Cluster): readonly Endpoint[] => cluster.load_assignment.endpoints[0].lb_endpoints;

for (const [title, plan] of Object.entries(FARMS))
  test(`each service of the VIP has a listener, and a cluster of all members by weight, for ${title}`, () => {
    const { listeners, clusters } = bootstrap(plan);
    const at = (protocol: string, address: string, port: number): string => `${protocol} ${address} ${port}`;
    assert.deepEqual(
      listeners.map(({ address: { socket_address: own } }) => at(own.protocol!, own.address, own.port_value)),
      plan.services.map(({ transport, port }) => at(transport.toUpperCase(), plan.vip, port)),
    );
    for (const [k, { name, lb_policy: policy, load_assignment: assignment }] of clusters.entries()) {
      const { transport, port } = plan.services[k]!;
      assert.deepEqual([name, assignment.cluster_name, policy], [`farm_${transport}_${port}`, name, 'ROUND_ROBIN']);
      assert.ok(JSON.stringify(listeners[k]).includes(`"cluster":"${name}"`), name);
    }
    for (const cluster of clusters)
      assert.deepEqual(
        endpointsOf(cluster).map(({ load_balancing_weight: weight, endpoint }) => [
          endpoint.address.socket_address.address,
          weight,
        ]),
        plan.members.map(({ address, weight }) => [address, weight]),
      );
  });

test('a member is reached at its own port, where this differs from that of the VIP', () => {
  const { listeners, clusters } = bootstrap({
    ...EXAMPLE,
    services: [{ transport: 'udp', port: 5060, targetPort: 5070 }],
  });
  assert.equal(listeners[0]?.address.socket_address.port_value, 5060);
  for (const { endpoint } of endpointsOf(clusters[0]!)) assert.equal(endpoint.address.socket_address.port_value, 5070);
});

test('only connections get a PROXY header, of version 2', () => {
  const headers = bootstrap(EXAMPLE).clusters.map(
    ({ transport_socket: socket }) => socket?.typed_config.config.version,
  );
  assert.deepEqual(headers, [undefined, 'V2']);
});

describe('the health check', () => {
  const checksOf = (check: HealthCheck | null): readonly (Check | undefined)[] =>
    bootstrap({ ...EXAMPLE, check }).clusters.map(({ health_checks: checks }) => checks?.[0]);
  /** Returns the kind of the check in each cluster, with its values. */
  const kindsOf = (check: HealthCheck | null) =>
    checksOf(check).map((one) => one && [one.http_health_check, one.tcp_health_check]);

  for (const [title, check, expected] of [
    ['none', null, undefined],
    ['a connection', { kind: 'tcp', port: 5060 }, [undefined, {}]],
    ['/readyz', { kind: 'http', port: 8060 }, [{ path: '/readyz' }, undefined]],
  ] as const)
    test(`${title} is the same for UDP and TCP`, () => assert.deepEqual(kindsOf(check), [expected, expected]));

  test('by SIP is OPTIONS in the TCP cluster, and a connection in the UDP cluster, which has no PROXY header', () => {
    const [udp, tcp] = checksOf({ kind: 'sip', port: 5060 });
    assert.deepEqual(udp?.tcp_health_check, {});
    const { send, receive } = tcp!.tcp_health_check!;
    const text = (hex: string | undefined): string => Buffer.from(hex ?? '', 'hex').toString('latin1');
    const sent = new Message(text(send?.text));
    assert.equal(sent.startLine, 'OPTIONS sip:198.51.100.1:5060;transport=tcp SIP/2.0');
    assert.deepEqual(
      ['Content-Length', 'CSeq', 'Max-Forwards'].map((name) => sent.one(name)),
      ['0', '1 OPTIONS', '70'],
    );
    assert.deepEqual([sent.body, sent.branch.startsWith('z9hG4bK')], ['', true]);
    assert.deepEqual(
      receive?.map((one) => text(one.text)),
      ['SIP/2.0 200'],
    );
  });

  test('goes to its own port, which is named only where it is not that of the packets', () => {
    const portsOf = (port: number): (number | undefined)[] =>
      bootstrap({ ...EXAMPLE, members: [frontend(1)], check: { kind: 'tcp', port } }).clusters.flatMap((cluster) =>
        endpointsOf(cluster).map(({ endpoint }) => endpoint.health_check_config?.port_value),
      );
    assert.deepEqual(portsOf(5060), [undefined, undefined]);
    assert.deepEqual(portsOf(8060), [8060, 8060]);
  });
});
