// Configurations of all kinds equal the examples in deploy/lb-examples. UPDATE_EXAMPLES=1 writes the examples.
// test/integration/balancer loads them with their tools.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Registry } from 'prom-client';
import { parseAllDocuments } from 'yaml';
import { AdminServer } from '../../../src/admin/admin-server.ts';
import { BALANCER_KINDS, isDirectReturn, renderBalancer } from '../../../src/balancer/render.ts';
import { makeLog } from '../../../src/base/log.ts';
import { runProgram } from '../../../src/cli/program.ts';
import { loadConfig } from '../../../src/config/load.ts';
import { type FakeApi, newFakeApi } from '../admin/fake-api.ts';
import { EXAMPLE, FARMS, hasTcp, textOf } from './plans.ts';

const EXAMPLES = join(import.meta.dirname, '../../../deploy/lb-examples');
const { UPDATE_EXAMPLES } = process.env;

for (const kind of BALANCER_KINDS) {
  test(`the example of ${kind} equals the output of render for the same farm`, () => {
    for (const { name, text } of renderBalancer(kind, EXAMPLE)) {
      const path = join(EXAMPLES, kind, name);
      if (UPDATE_EXAMPLES) {
        mkdirSync(join(EXAMPLES, kind), { recursive: true });
        writeFileSync(path, text);
      }
      assert.equal(readFileSync(path, 'utf8'), text, path);
    }
  });

  test(`the example of ${kind} contains only its files and a README`, () => {
    const names = [...renderBalancer(kind, EXAMPLE).map(({ name }) => name), 'README.md'];
    assert.deepEqual(readdirSync(join(EXAMPLES, kind)).sort(), names.sort());
  });

  test(`no file of ${kind} contains a password or binds a client to a member`, () => {
    const carried = Object.values(FARMS).filter((plan) => kind !== 'haproxy' || hasTcp(plan));
    for (const plan of carried)
      for (const { text } of renderBalancer(kind, plan)) {
        const lines = text.split('\n').filter((line) => !/^\s*(?:#|!|\/\*)/.test(line));
        const wrong =
          /passw|admpw|auth_pass|sip-switch|sip-proxy|--pe |persistence_|\bpbind\b|sticky|stick-table|ip_hash|ClientIP/i;
        for (const line of lines) assert.doesNotMatch(line, wrong);
        assert.ok(text.endsWith('\n') && !text.includes('undefined') && !text.includes('[object'), text);
      }
  });
}

for (const kind of BALANCER_KINDS)
  test(`the sipfarm.yaml in the README of ${kind} passes the check`, (t) => {
    const readme = readFileSync(join(EXAMPLES, kind, 'README.md'), 'utf8');
    const sample = /^ {7}listeners:\n(?: {7}.*\n)+/m.exec(readme)?.[0].replace(/^ {7}/gm, '');
    assert.ok(sample, 'it has a sample');
    const folder = mkdtempSync(join(tmpdir(), 'sipfarm-balancer-'));
    t.after(() => rmSync(folder, { recursive: true }));
    const path = join(folder, 'sipfarm.yaml');
    const rest = `farm: example
member: fe1
store: { kind: etcd, hosts: [http://10.0.0.31:2379] }
keys: ["\${SIPFARM_KEY}"]
relay: { bind: 10.0.0.11:5064 }
service: { kind: upstream, server: "sip:127.0.0.1:5070", bind: 127.0.0.1:5062 }
`;
    writeFileSync(path, rest + sample);
    const { config, warnings } = loadConfig(path, { SIPFARM_KEY: 'ab'.repeat(32) });
    // For the members these proxies are clients of UDP, so they may not be in balancer.probes.
    const empty = kind === 'nginx-stream' || kind === 'envoy' ? [/balancer\.probes is empty/] : [];
    assert.equal(warnings.length, empty.length, warnings.join());
    for (const [i, expected] of empty.entries()) assert.match(warnings[i]!, expected);
    assert.equal(config.balancer.mode, isDirectReturn(kind) ? 'dsr' : 'nat');
    for (const heading of ['Set-up, in this order', 'Settings to avoid', 'Checks that it works'])
      assert.ok(readme.includes(`\n## ${heading}\n`), heading);
  });

test('every kind of the examples can be rendered', () => {
  const folders = readdirSync(EXAMPLES, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  assert.deepEqual(folders.map(({ name }) => name).sort(), [...BALANCER_KINDS].sort());
});

for (const [title, plan] of Object.entries(FARMS)) {
  test(`the rules for ipvsadm-restore have one service per port and one line per member for ${title}`, () => {
    const endpoint = '(?:\\[[0-9a-f:]+\\]|[0-9.]+):[0-9]+';
    const lines = textOf('ipvs', plan).trimEnd().split('\n');
    const service = new RegExp(`^-A -u ${endpoint} -s wrr -o$|^-A -t ${endpoint} -s wrr$`);
    const server = new RegExp(`^-a -[ut] ${endpoint} -r ${endpoint} -g -w [1-9][0-9]*$`);
    for (const line of lines) assert.ok(service.test(line) || server.test(line), line);
    assert.equal(lines.filter((line) => line.startsWith('-A')).length, plan.services.length);
    assert.equal(lines.length, plan.services.length * (plan.members.length + 1));
  });

  test(`the YAML of envoy and kubernetes can be parsed and has every member for ${title}`, () => {
    const files = [...renderBalancer('envoy', plan), ...renderBalancer('kubernetes', plan)];
    const seen = new Map<string, unknown[]>();
    for (const { name, text } of files) {
      const documents = parseAllDocuments(text, { strict: true });
      for (const { errors, warnings } of documents) assert.deepEqual([...errors, ...warnings], [], text);
      seen.set(
        name,
        documents.map((document) => document.toJS()),
      );
    }
    const own = plan.members.map(({ address }) => address);
    const [, slice] = seen.get('service.yaml') as { endpoints: { addresses: string[] }[] }[];
    assert.deepEqual(
      slice!.endpoints.flatMap(({ addresses }) => addresses),
      own,
    );
    const [bootstrap] = seen.get('envoy.yaml') as {
      static_resources: { listeners: object[]; clusters: EnvoyCluster[] };
    }[];
    const { listeners, clusters } = bootstrap!.static_resources;
    assert.deepEqual([listeners.length, clusters.length], [plan.services.length, plan.services.length]);
    for (const { load_assignment: assignment, transport_socket: socket, health_checks: checks } of clusters) {
      const [{ lb_endpoints: endpoints }] = assignment.endpoints;
      const addresses = endpoints.map(({ endpoint }) => endpoint.address.socket_address.address);
      assert.deepEqual(addresses, own);
      assert.equal(socket !== undefined, assignment.cluster_name.startsWith('farm_tcp'));
      assert.equal(checks !== undefined, plan.check !== null);
    }
  });

  test(`the texts for appliances name the VIP, the port and every member for ${title}`, () => {
    for (const kind of ['serveriron', 'alteon', 'bigip'] as const) {
      const text = textOf(kind, plan);
      for (const { address, id } of plan.members)
        assert.ok(text.includes(address) && text.includes(id), `${kind} ${id}`);
      assert.ok(text.includes(plan.vip));
      for (const { port } of plan.services) assert.match(text, new RegExp(`\\b${port}\\b`));
    }
  });
}

interface EnvoyEndpoint {
  readonly endpoint: { readonly address: { readonly socket_address: { readonly address: string } } };
}

interface EnvoyCluster {
  readonly load_assignment: {
    readonly cluster_name: string;
    readonly endpoints: readonly [{ readonly lb_endpoints: readonly EnvoyEndpoint[] }];
  };
  readonly transport_socket?: object;
  readonly health_checks?: object;
}

async function ask(
  t: TestContext,
  argv: readonly string[],
  api: FakeApi = newFakeApi(),
): Promise<{ code: number; out: string; err: string }> {
  const server = new AdminServer({
    bind: { address: '127.0.0.1', port: 0 },
    token: undefined,
    api,
    registry: new Registry(),
    log: makeLog({ level: 'silent' }),
  });
  const { port } = await server.start();
  t.after(() => server.stop());
  const out: string[] = [];
  const err: string[] = [];
  const never = () => Promise.reject(new Error('not asked for'));
  const code = await runProgram(['balancer', 'render', ...argv, '--admin', `127.0.0.1:${port}`], {
    version: '1.2.3',
    environment: {},
    out: (text) => void out.push(text),
    err: (text) => void err.push(text),
    runNode: never,
    runDemo: never,
    runWorker: never,
    runDoctor: never,
    following: { pause: never, interrupted: never },
  });
  return { code, out: out.join('\n'), err: err.join('\n') };
}

test('the command reads the live farm and prints only the one file, so that a pipe can use it', async (t) => {
  const { code, out, err } = await ask(t, ['nftables-nat']);
  assert.deepEqual([code, err], [0, '']);
  assert.ok(out.startsWith('#!/usr/sbin/nft -f\n'));
  assert.match(out, /define vip = 198\.51\.100\.1\n/);
  assert.match(out, /fe1 10\.0\.0\.11/);
});

test('several files are printed with their names, or one of them with --file', async (t) => {
  const all = await ask(t, ['ipvs']);
  assert.match(all.out, /^==> ipvsadm\.rules <==\n-A -u .*\n\n==> keepalived\.conf <==\n/s);
  const one = await ask(t, ['ipvs', '--file', 'ipvsadm.rules']);
  assert.ok(one.out.startsWith('-A -u 198.51.100.1:5060 -s wrr -o\n'));
  const { code, err } = await ask(t, ['ipvs', '--file', 'nothing']);
  assert.equal(code, 2);
  assert.match(err, /^SF_USAGE: ipvs has no file nothing, but ipvsadm\.rules, keepalived\.conf$/m);
});

test('--json prints the plan with all options', async (t) => {
  const options = ['--vip', '203.0.113.9', '--port', '5080', '--check', 'http:8060', '--mac', 'fe1=00:00:5E:00:53:11'];
  const more = [
    '--device',
    'wan0',
    '--out-device',
    'lan0',
    '--balancer-mac',
    '00:00:5e:00:53:01',
    '--address',
    'fe1=10.9.9.9',
  ];
  const { code, out, err } = await ask(t, ['haproxy', ...options, ...more, '--json']);
  assert.equal(code, 0);
  assert.match(err, /^warning: no member advertises 203\.0\.113\.9/);
  assert.deepEqual(JSON.parse(out), {
    farm: 'lab',
    vip: '203.0.113.9',
    services: [
      { transport: 'udp', port: 5080, targetPort: 5060 },
      { transport: 'tcp', port: 5080, targetPort: 5060 },
    ],
    members: [{ id: 'fe1', address: '10.9.9.9', weight: 100, mac: '00:00:5e:00:53:11' }],
    check: { kind: 'http', port: 8060 },
    device: 'wan0',
    outDevice: 'lan0',
    balancerMac: '00:00:5e:00:53:01',
  });
});

test('limits of a kind and unknown facts are printed as warnings to the standard error', async (t) => {
  assert.match((await ask(t, ['haproxy'])).err, /^warning: UDP 5060 is left out: haproxy balances TCP only/);
  const dsr = await ask(t, ['nftables-dsr', '--check', 'none']);
  assert.match(dsr.err, /warning: the MAC addresses of fe1 are unknown/);
  assert.match(dsr.err, /warning: the balancer's own MAC address is unknown/);
});

test('a farm without members gives SF_BALANCER_PLAN with exit code 1', async (t) => {
  const { code, err, out } = await ask(t, ['envoy'], { ...newFakeApi(), members: () => [] });
  assert.deepEqual([code, out], [1, '']);
  assert.match(err, /^SF_BALANCER_PLAN: no member takes packets/);
});

test('wrong usage of balancer render gives SF_USAGE with exit code 2', async (t) => {
  for (const argv of [
    ['nonsense'],
    [],
    ['haproxy', '--vip', 'somewhere'],
    ['haproxy', '--port', '0'],
    ['haproxy', '--check', 'sip'],
    ['haproxy', '--check', 'sip:70000'],
    ['haproxy', '--mac', 'fe1'],
    ['haproxy', '--mac', 'fe1=zz'],
    ['haproxy', '--balancer-mac', '1'],
    ['haproxy', '--device', 'a b'],
    ['haproxy', '--address', '=10.0.0.1'],
  ]) {
    const { code, err, out } = await ask(t, argv);
    assert.deepEqual([code, out], [2, ''], argv.join(' '));
    assert.match(err, /^SF_USAGE: /);
  }
});
