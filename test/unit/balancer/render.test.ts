// Configurations of all kinds equal the examples in deploy/lb-examples. UPDATE_EXAMPLES=1 writes the examples.
// test/integration/balancer loads them with their tools.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { BALANCER_KINDS, isDirectReturn, renderBalancer } from '../../../src/balancer/render.ts';
import { loadConfig } from '../../../src/config/load.ts';
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
}
