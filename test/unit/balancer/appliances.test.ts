// The configurations of the appliances: each command that the device gets, without the comments.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { renderAlteon, renderBigIp, renderServerIron } from '../../../src/balancer/appliances.ts';
import type { BalancerPlan, HealthCheck } from '../../../src/balancer/plan.ts';
import { EXAMPLE, FARMS, frontend } from './plans.ts';

const TWO_PORTS = FARMS['two ports, a connection checked'];

/** Returns the commands by the line that opens their section; commands before the first section have the key ''. */
function sections(text: string, comment: RegExp, opens: RegExp): Map<string, string[]> {
  const found = new Map<string, string[]>([['', []]]);
  let current = '';
  for (const line of text.trimEnd().split('\n')) {
    if (comment.test(line)) continue;
    if (opens.test(line)) {
      current = line;
      assert.ok(!found.has(line), `${line} is opened twice`);
      found.set(line, []);
    } else found.get(current)!.push(line.trim());
  }
  return found;
}

describe('ServerIron', () => {
  const of = (plan: BalancerPlan): Map<string, string[]> =>
    sections(renderServerIron(plan), /^\s*!/, /^(?:server|end)\b/);

  for (const [title, plan] of Object.entries(FARMS))
    test(`binds each port of the VIP to that port of every member, and checks it there, for ${title}`, () => {
      const commands = of(plan);
      const ports = [...new Set(plan.services.map(({ port }) => port))];
      for (const { id, address } of plan.members)
        assert.deepEqual(
          commands.get(`server real ${id} ${address}`),
          ports.flatMap((port) => [`port ${port}`, `port ${port} keepalive`]),
        );
      assert.deepEqual(commands.get(`server virtual vip1 ${plan.vip}`), [
        'predictor round-robin',
        ...ports.flatMap((port) => [
          `port ${port}`,
          `port ${port} dsr`,
          `bind ${port} ${plan.members.map(({ id }) => `${id} ${port}`).join(' ')}`,
        ]),
      ]);
      for (const port of ports) assert.deepEqual(commands.get(`server port ${port}`), ['tcp']);
      assert.equal([...commands.keys()].at(-1), 'end');
      assert.equal(commands.size, 1 + 1 + ports.length + plan.members.length + 1 + 1);
    });
});

describe('Alteon', () => {
  const of = (plan: BalancerPlan): Map<string, string[]> => sections(renderAlteon(plan), /^\/\* /, /^(?:\/c\/|apply)/);

  for (const [title, plan] of Object.entries(FARMS))
    test(`has a real server and a physical port for every member, all in one group, for ${title}`, () => {
      const commands = of(plan);
      const ports = [...new Set(plan.services.map(({ port }) => port))];
      for (const [i, { address }] of plan.members.entries()) {
        const real = ['ena', `rip ${address}`, ...ports.map((port) => `addport ${port}`), 'submac ena'];
        assert.deepEqual(commands.get(`/c/slb/real ${i + 1}`), real);
        assert.deepEqual(commands.get(`/c/slb/port ${i + 2}`), ['server ena']);
      }
      assert.deepEqual(commands.get('/c/slb/port 1'), ['client ena']);
      assert.deepEqual(commands.get('/c/slb/group 1'), [
        ...plan.members.map((_, i) => `add ${i + 1}`),
        'metric roundrobin',
        'health tcp',
      ]);
      assert.deepEqual(commands.get('/c/slb/virt 1'), ['ena', `vip ${plan.vip}`]);
      assert.deepEqual([...commands].at(-1), ['apply', ['save']]);
    });

  test('takes every datagram for itself, on the ports with UDP', () => {
    const commands = of({
      ...EXAMPLE,
      services: [...EXAMPLE.services, { transport: 'tcp', port: 5080, targetPort: 5080 }],
    });
    const udp = ['udp enabled', 'udp stateless'];
    assert.deepEqual(commands.get('/c/slb/virt 1/service 5060'), ['group 1', ...udp, 'nonat ena']);
    assert.deepEqual(commands.get('/c/slb/virt 1/service 5080'), ['group 1', 'nonat ena']);
  });
});

/** A block of BIG-IP: values and blocks by name. */
interface Block extends ReadonlyMap<string, string | Block> {}

/** Parses the text of tmsh. Fails on a block that is not closed and on a name that comes twice. */
function parseTmsh(text: string): Block {
  const lines = text.split('\n').map((line) => line.trim());
  let at = 0;
  const block = (): Block => {
    const found = new Map<string, string | Block>();
    const put = (name: string, value: string | Block): void => {
      assert.ok(!found.has(name), `${name} comes twice`);
      found.set(name, value);
    };
    for (; at < lines.length; at++) {
      const line = lines[at]!;
      if (line === '' || line.startsWith('#')) continue;
      if (line === '}') return found;
      const empty = /^(.*) \{ \}$/.exec(line)?.[1];
      const opened = /^(.*) \{$/.exec(line)?.[1];
      if (empty !== undefined) put(empty, new Map());
      else if (opened !== undefined) {
        at++;
        put(opened, block());
        assert.equal(lines[at], '}', `${opened} is closed`);
      } else {
        const [name = '', ...value] = line.split(' ');
        put(name, value.join(' '));
      }
    }
    return found;
  };
  const whole = block();
  assert.equal(at, lines.length, 'nothing is closed that was not opened');
  return whole;
}

describe('BIG-IP', () => {
  const of = (plan: BalancerPlan): Block => parseTmsh(renderBigIp(plan));
  const part = (plan: BalancerPlan, name: string): Block => {
    const found = of(plan).get(name);
    assert.ok(typeof found === 'object', `${name} is not among ${[...of(plan).keys()]}`);
    return found;
  };

  for (const [title, plan] of Object.entries(FARMS))
    test(`has a virtual server for each service, and a pool of every member for each port, for ${title}`, () => {
      const dot = plan.vip.includes(':') ? '.' : ':';
      for (const { transport, port } of plan.services) {
        const server = part(plan, `ltm virtual sipfarm_${transport}_${port}`);
        for (const [name, value] of [
          ['destination', `${plan.vip}${dot}${port}`],
          ['ip-protocol', transport],
          ['pool', `sipfarm_${port}`],
          ['translate-address', 'disabled'],
          ['translate-port', 'disabled'],
          ['source-address-translation', new Map([['type', 'none']])],
          ['profiles', new Map([[`sipfarm_${transport}`, new Map()]])],
        ] as const)
          assert.deepEqual(server.get(name), value, name);
        assert.ok(part(plan, `ltm profile fastl4 sipfarm_${transport}`));
        const own = plan.members.map(
          ({ address }) => [`${address}${dot}${port}`, new Map([['address', address]])] as const,
        );
        assert.deepEqual(part(plan, `ltm pool sipfarm_${port}`).get('members'), new Map(own));
      }
      const count = (type: string): number => [...of(plan).keys()].filter((name) => name.startsWith(type)).length;
      assert.deepEqual(
        [count('ltm virtual'), count('ltm pool'), count('ltm profile')],
        [
          plan.services.length,
          new Set(plan.services.map(({ port }) => port)).size,
          new Set(plan.services.map(({ transport }) => transport)).size,
        ],
      );
    });

  test('takes the VIP alone: its mask has all bits', () => {
    assert.equal(part(EXAMPLE, 'ltm virtual sipfarm_udp_5060').get('mask'), '255.255.255.255');
    const six = part(FARMS.IPv6, 'ltm virtual sipfarm_udp_5060').get('mask');
    assert.equal(six, Array(8).fill('ffff').join(':'));
  });

  test('forgets a flow of UDP with its datagram, and keeps one of TCP above the keep-alive interval', () => {
    const idle = (transport: string): unknown =>
      part(EXAMPLE, `ltm profile fastl4 sipfarm_${transport}`).get('idle-timeout');
    assert.deepEqual([idle('udp'), idle('tcp')], ['immediate', '900']);
  });

  for (const [title, check, monitor, more] of [
    ['by SIP', { kind: 'sip', port: 5060 }, 'ltm monitor sip sipfarm_health', { mode: 'tcp' }],
    ['by a connection', { kind: 'tcp', port: 5070 }, 'ltm monitor tcp sipfarm_health', {}],
    [
      'by /readyz',
      { kind: 'http', port: 8060 },
      'ltm monitor http sipfarm_health',
      { send: '"GET /readyz HTTP/1.0\\r\\n\\r\\n"', recv: '"200 OK"' },
    ],
  ] as const satisfies readonly (readonly [string, HealthCheck, string, object])[])
    test(`checks the health of the members ${title}, in every pool`, () => {
      const plan = { ...TWO_PORTS, check };
      const expected = { 'defaults-from': check.kind, destination: `*:${check.port}`, interval: '1', timeout: '4' };
      assert.deepEqual(part(plan, monitor), new Map(Object.entries({ ...expected, ...more })));
      for (const port of [5060, 5080])
        assert.equal(part(plan, `ltm pool sipfarm_${port}`).get('monitor'), 'sipfarm_health');
    });

  test('checks an IPv6 member at a port behind a dot', () => {
    assert.equal(part(FARMS.IPv6, 'ltm monitor sip sipfarm_health').get('destination'), '*.5060');
  });

  test('pings the members when no health check is planned, because a pool needs one', () => {
    const plan = { ...EXAMPLE, members: [frontend(1)], check: null };
    assert.equal(part(plan, 'ltm pool sipfarm_5060').get('monitor'), 'gateway_icmp');
    assert.deepEqual(
      [...of(plan).keys()].filter((name) => name.startsWith('ltm monitor')),
      [],
    );
  });
});
