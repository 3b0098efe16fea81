// The Terraform module of a plan: its blocks and their values. test/integration/balancer checks its form with
// terraform.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { renderAwsNlb } from '../../../src/balancer/aws-nlb.ts';
import type { BalancerPlan, HealthCheck, PlannedService } from '../../../src/balancer/plan.ts';
import { EXAMPLE, FARMS } from './plans.ts';

/** Returns the text of each resource of a type, in the order of the file. */
function resources(plan: BalancerPlan, type: string): string[] {
  const found = renderAwsNlb(plan).matchAll(new RegExp(`^resource "${type}" "[^"]+" \\{\\n(.*?)^\\}$`, 'gms'));
  return [...found].map(([, body = '']) => body);
}

/** Returns the value of a field, without its quotes; undefined when the block has no such field. */
const fieldOf = (block: string | undefined, field: string): string | undefined =>
  new RegExp(`^\\s*${field}\\s+= "?([^"\\n]*)"?$`, 'm').exec(block ?? '')?.[1];

const service = (transport: 'udp' | 'tcp', port = 5060, targetPort = port): PlannedService => ({
  transport,
  port,
  targetPort,
});
const withServices = (...services: PlannedService[]): BalancerPlan => ({ ...EXAMPLE, services });

for (const [title, services, expected] of [
  ['UDP', [service('udp')], ['UDP 5060']],
  ['TCP', [service('tcp')], ['TCP 5060']],
  ['UDP and TCP of one port', [service('udp'), service('tcp')], ['TCP_UDP 5060']],
  ['two ports', [service('udp'), service('tcp'), service('udp', 5080)], ['TCP_UDP 5060', 'UDP 5080']],
] as const)
  test(`a port of the VIP has one listener and one target group, for ${title}`, () => {
    const plan = withServices(...services);
    const shown = (type: string): string[] =>
      resources(plan, type).map((block) => `${fieldOf(block, 'protocol')} ${fieldOf(block, 'port')}`);
    assert.deepEqual([shown('aws_lb_listener'), shown('aws_lb_target_group')], [expected, expected]);
    const ports = resources(plan, 'aws_lb_target_group_attachment').map((block) => fieldOf(block, 'port'));
    assert.deepEqual(
      ports,
      expected.map((one) => one.split(' ')[1]),
    );
  });

test('a member is a target at its own port, where this differs from that of the VIP', () => {
  const plan = withServices(service('udp', 5060, 5070));
  for (const [type, port] of [
    ['aws_lb_listener', '5060'],
    ['aws_lb_target_group', '5070'],
    ['aws_lb_target_group_attachment', '5070'],
  ] as const)
    assert.deepEqual(
      resources(plan, type).map((block) => fieldOf(block, 'port')),
      [port],
      type,
    );
});

test('different ports of the members for UDP and TCP of one port are refused: a listener has one target port', () => {
  const plan = withServices(service('udp', 5060, 5060), service('tcp', 5060, 5070));
  assert.throws(() => renderAwsNlb(plan), { code: 'SF_BALANCER_PLAN' });
});

for (const [title, plan] of Object.entries(FARMS))
  test(`every member is a target by its own address, for ${title}`, () => {
    const locals = /^locals \{\n(.*?)^\}$/ms.exec(renderAwsNlb(plan))?.[1] ?? '';
    const targets = [...locals.matchAll(/^ {4}"([^"]+)" += "([^"]+)"$/gm)].map(([, id, address]) => [id, address]);
    assert.deepEqual(
      targets,
      plan.members.map(({ id, address }) => [id, address]),
    );
  });

test('the idle time is set where the listener has connections only', () => {
  const timeOf = (...services: PlannedService[]): (string | undefined)[] =>
    resources(withServices(...services), 'aws_lb_listener').map((block) => fieldOf(block, 'tcp_idle_timeout_seconds'));
  assert.deepEqual(timeOf(service('tcp'), service('udp', 5080)), ['900', undefined]);
  assert.deepEqual(timeOf(service('udp'), service('tcp')), [undefined]);
});

test('the client keeps its address, and is not bound to a member', () => {
  const [group] = resources(EXAMPLE, 'aws_lb_target_group');
  assert.deepEqual(
    ['preserve_client_ip', 'proxy_protocol_v2', 'enabled'].map((field) => fieldOf(group, field)),
    ['true', 'false', 'false'],
  );
});

describe('the health check', () => {
  for (const [title, check, expected] of [
    ['by /readyz is HTTP', { kind: 'http', port: 8060 }, ['HTTP', '8060', '/readyz', '200']],
    ['by SIP is a connection, because the balancer cannot send OPTIONS', { kind: 'sip', port: 5070 }, ['TCP', '5070']],
    ['by TCP is a connection', { kind: 'tcp', port: 5080 }, ['TCP', '5080']],
    ['is a connection to the SIP port when none is planned, because the balancer needs one', null, ['TCP', '5061']],
  ] as const satisfies readonly (readonly [string, HealthCheck | null, readonly string[]])[])
    test(title, () => {
      const [group = ''] = resources({ ...withServices(service('tcp', 5060, 5061)), check }, 'aws_lb_target_group');
      const block = group.slice(group.indexOf('health_check {'));
      const values = ['protocol', 'port', 'path', 'matcher'].map((field) => fieldOf(block, field));
      assert.deepEqual(
        values.filter((value) => value !== undefined),
        expected,
      );
    });
});

test('names fit: 32 characters at most with the port, none with a hyphen at an end', () => {
  for (const farm of ['a', 'x'.repeat(32), 'abcdefghijklmno-pqr', 'abcdefghijklmn--pqr', `a${'-'.repeat(31)}`]) {
    const plan = { ...EXAMPLE, farm, services: [service('udp', 65_535)] };
    for (const type of ['aws_lb', 'aws_lb_target_group'])
      assert.match(fieldOf(resources(plan, type)[0], 'name') ?? '', /^[a-z0-9](?=.{0,31}$)[a-z0-9-]*[a-z0-9]$/, farm);
  }
});
