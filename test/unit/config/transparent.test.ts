// relay.mode transparent in the configuration: listeners with a transparent port, its address, and conflicts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { liveDiff } from '../../../src/config/live.ts';
import { transparentPorts } from '../../../src/config/transparent-ports.ts';
import { workerConfig } from '../../../src/config/workers.ts';
import { GOOD, load, problemsOf } from './sample.ts';

const LISTENERS = `  - { name: edge, transport: udp, bind: 198.51.100.1:5060 }
  - { name: edge-tcp, transport: tcp, bind: 198.51.100.1:5060 }
`;

/** Returns GOOD in transparent mode, with other listeners and the relay link at `bind`. */
function file(listeners = LISTENERS, bind = '10.0.0.11:5064'): string {
  return GOOD.replace(LISTENERS, listeners).replace('bind: 10.0.0.11:5064', `bind: ${bind}, mode: transparent`);
}

const ports = (text: string): string[] =>
  transparentPorts(load(text).config).map(({ name, at: target }) => `${name} ${target.address} ${target.port}`);

test('relay.mode is envelope by default, without transparent ports', () => {
  const { config } = load(GOOD);
  assert.equal(config.relay.mode, 'envelope');
  assert.deepEqual(transparentPorts(config), []);
});

test("each UDP listener with direct answers in the link's family has a transparent port after the relay link", () => {
  const listeners = `  - { name: tcp, transport: tcp, bind: 198.51.100.1:5060 }
  - { name: edge, transport: udp, bind: 198.51.100.1:5060 }
  - { name: edge6, transport: udp, bind: "[2001:db8::1]:5060" }
  - { name: back, transport: udp, bind: 198.51.100.1:5080, answer: ingress }
  - { name: proxied, transport: udp, bind: 198.51.100.1:5090, proxyProtocol: accept }
  - { name: other, transport: udp, bind: 198.51.100.2:5060, answer: direct }
`;
  const trusted = (text: string): string => text.replace('mode: dsr', 'mode: dsr, trusted: [10.0.0.1]');
  assert.deepEqual(ports(trusted(file(listeners))), ['edge 10.0.0.11 5066', 'other 10.0.0.11 5070']);
  assert.deepEqual(ports(trusted(file(listeners, '"[2001:db8::11]:5064"'))), ['edge6 2001:db8::11 5067']);
  assert.deepEqual(ports(trusted(file(listeners, '10.0.0.11:0'))), ['edge 10.0.0.11 0', 'other 10.0.0.11 0']);
});

test('the transparent ports of several workers follow their relay links, and all ports differ', () => {
  const { config } = load(`${file()}workers: 3\n`);
  const workers = [0, 1, 2].map((index) => workerConfig(config, index));
  assert.deepEqual(
    workers.map((one) => [one.relay.bind.port, ...transparentPorts(one).map(({ at: target }) => target.port)]),
    [
      [5064, 5067],
      [5065, 5069],
      [5066, 5071],
    ],
  );
  for (const { worker } of workers)
    for (const port of [5067, 5069, 5071]) assert.ok(worker?.ownPorts.some((door) => door.port === port));
  const [problem] = problemsOf(`${file().replace('127.0.0.1:5062', '10.0.0.11:5068')}workers: 3\n`);
  assert.match(problem?.message ?? '', /opens 10\.0\.0\.11:5069 .*service\.bind/);
});

for (const role of ['disabled', 'relay'])
  test(`a node of role ${role} has no transparent ports, because its packets go in frames, and gets no warning`, () => {
    const { config, warnings } = load(`${file()}role: ${role}\n`);
    assert.deepEqual(transparentPorts(config), []);
    assert.ok(!warnings.join().includes('transparent'));
  });

test('a mode that no listener can use gives a warning', () => {
  assert.deepEqual(load(file()).warnings, []);
  const { warnings } = load(file().replace('mode: dsr', 'mode: none'));
  assert.match(warnings.join(), /relay\.mode is transparent/);
});

for (const [what, text] of [
  ['the port of the service', file().replace('127.0.0.1:5062', '10.0.0.11:5065')],
  [
    'the port of a listener',
    file(
      '  - { name: edge, transport: udp, bind: 10.0.0.11:5060 }\n  - { name: two, transport: udp, bind: 10.0.0.11:5065 }\n',
    ),
  ],
  ['a port above 65535', file(LISTENERS, '10.0.0.11:65535')],
] as const)
  test(`a transparent port at ${what} is refused with the name of the field to change`, () => {
    const [problem, ...more] = problemsOf(text);
    assert.equal(problem?.field, 'relay.bind');
    assert.match(problem?.message ?? '', /opens 10\.0\.0\.11:\d+ for listener edge/);
    assert.deepEqual(more, []);
  });

test('another mode needs a restart', () => {
  assert.deepEqual(liveDiff(load(GOOD).config, load(file()).config), { live: [], restart: ['relay.mode'] });
});
