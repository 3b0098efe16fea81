// One file for several workers: the configuration of each, and conflicts.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { liveDiff } from '../../../src/config/live.ts';
import { memberIds, workerConfig } from '../../../src/config/workers.ts';
import { forbiddenTargets, listenerConfigs } from '../../../src/node/from-config.ts';
import { changed, GOOD, load, problemsOf, upstreamOf } from './sample.ts';

const WORKERS = changed('member: fe1', 'member: fe1\nworkers: 3');

test('a configuration without workers is for one process, which shares no listeners', () => {
  const { config } = load(GOOD);
  assert.equal(config.workers, 1);
  assert.deepEqual(memberIds(config), ['fe1']);
  assert.deepEqual(
    listenerConfigs(config, undefined).map(({ shared }) => shared),
    [false, false],
  );
});

test('each worker is its own member, with its own ports and the same listeners', () => {
  const { config } = load(WORKERS);
  assert.deepEqual(memberIds(config), ['fe1.0', 'fe1.1', 'fe1.2']);
  for (const index of [0, 1, 2]) {
    const own = workerConfig(config, index);
    assert.equal(own.member, `fe1.${index}`);
    assert.deepEqual(own.relay, { ...config.relay, bind: { address: '10.0.0.11', port: 5064 + index } });
    assert.deepEqual(upstreamOf(own).bind, { address: '127.0.0.1', port: 5062 + index });
    assert.deepEqual(upstreamOf(own).advertise, { address: '127.0.0.1', port: 5062 + index });
    assert.deepEqual(own.listeners, config.listeners);
    assert.deepEqual(memberIds(own), [`fe1.${index}`]);
    assert.deepEqual(
      listenerConfigs(own, undefined).map(({ shared }) => shared),
      [true, true],
    );
    // All other fields are as in the file.
    const { live, restart } = liveDiff(config, own);
    assert.deepEqual(live, []);
    assert.deepEqual(restart, [
      ...(index === 0 ? ['member'] : ['member', 'relay.bind', 'service.advertise', 'service.bind']),
    ]);
  }
});

test('an advertised address of the service is counted up from itself, and a port chosen by the system stays 0', () => {
  const text = WORKERS.replace('bind: 127.0.0.1:5062', 'bind: 127.0.0.1:0, advertise: 192.0.2.1:6000');
  const service = upstreamOf(workerConfig(load(text).config, 2));
  assert.deepEqual(service.bind, { address: '127.0.0.1', port: 0 });
  assert.deepEqual(service.advertise, { address: '192.0.2.1', port: 6002 });
});

test('a change of the file is the same change for a worker as for the host', () => {
  const before = workerConfig(load(WORKERS).config, 1);
  const after = workerConfig(load(WORKERS.replace('workers: 3', 'workers: 4\nweight: 7')).config, 1);
  assert.deepEqual(liveDiff(before, after), { live: ['weight'], restart: ['workers'] });
});

test('requests of the SIP server cannot reach the ports of another worker', () => {
  const own = workerConfig(load(WORKERS).config, 0);
  const forbidden = forbiddenTargets({
    ...own,
    listeners: own.listeners.map((one) => ({ ...one, bind: { address: '127.0.0.1', port: 5060 } })),
  });
  for (const [address, port] of [
    ['10.0.0.11', 5066],
    ['127.0.0.1', 5063],
  ] as const)
    assert.equal(forbidden.has(address, port), true, `${address}:${port}`);
  assert.equal(forbidden.has('10.0.0.11', 5067), false);
});

test('workers that conflict with the rest of the file are refused at the conflicting field', () => {
  const cases: readonly (readonly [string, string, string, RegExp])[] = [
    [
      '{ kind: etcd, hosts: [http://127.0.0.1:2379] }',
      '{ kind: memory }',
      'workers',
      /memory is inside one process.*use etcd/,
    ],
    [
      'bind: 198.51.100.1:5060 }\nbalancer',
      'bind: 198.51.100.1:0 }\nbalancer',
      'listeners[1].bind',
      /all workers must have the same/,
    ],
    ['10.0.0.11:5064', '10.0.0.11:65534', 'relay.bind', /leaves no ports for 3 workers/],
    ['bind: 127.0.0.1:5062', 'bind: 127.0.0.1:65534', 'service.bind', /leaves no ports/],
    [
      'bind: 127.0.0.1:5062',
      'bind: 127.0.0.1:5062, advertise: 192.0.2.1:65534',
      'service.advertise',
      /leaves no ports/,
    ],
    [
      'bind: 127.0.0.1:5062',
      'bind: 127.0.0.1:5068',
      'service.bind',
      /127\.0\.0\.1:5070 for worker 2, which is also service\.server/,
    ],
    [
      '10.0.0.11:5064',
      '127.0.0.1:5064',
      'relay.bind',
      /127\.0\.0\.1:5064 for worker 0, which is also service\.bind of worker 2/,
    ],
    [
      '10.0.0.11:5064',
      '198.51.100.1:5058',
      'relay.bind',
      /198\.51\.100\.1:5060 for worker 2, which is also listener edge/,
    ],
    ['10.0.0.11:5064', '127.0.0.1:8059', 'relay.bind', /127\.0\.0\.1:8060 for worker 1, which is also admin\.bind/],
    [
      'bind: 127.0.0.1:5062',
      'bind: 0.0.0.0:5062, advertise: 10.0.0.11:5062',
      'relay.bind',
      /also service\.bind of worker 2/,
    ],
    ['member: fe1', `member: ${'m'.repeat(62)}`, 'member', /longer than 61 characters/],
  ];
  for (const [from, to, field, message] of cases) {
    assert.ok(WORKERS.includes(from), from);
    const problems = problemsOf(WORKERS.replace(from, to));
    const told = problems.find((problem) => problem.field === field);
    assert.match(told?.message ?? JSON.stringify(problems), message, to);
    assert.ok((told?.line ?? 0) > 0);
  }
  for (const wrong of ['0', '65', '1.5', 'many'])
    assert.equal(problemsOf(WORKERS.replace('workers: 3', `workers: ${wrong}`))[0]?.field, 'workers');
});

test('adjacent ports on different addresses or of different transports do not conflict', () => {
  for (const [from, to] of [
    ['10.0.0.11:5064', '10.0.0.11:5062'],
    // The SIP server is reached by UDP, the admin server by TCP.
    ['bind: 127.0.0.1:5062', 'bind: 127.0.0.1:8058'],
  ] as const)
    assert.deepEqual(load(WORKERS.replace(from, to)).warnings, []);
});
