// The schema of the configuration, on values as the file gives them: checks across fields, defaults that depend on
// other fields, the cluster-wide settings.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  clusterSchema,
  clusterSections,
  configSchema,
  isLoopback,
  type ParsedConfig,
  settle,
} from '../../../src/config/schema.ts';

type Values = Readonly<Record<string, unknown>>;

const ETCD = { kind: 'etcd', hosts: ['http://127.0.0.1:2379'] };
const UDP = { name: 'edge', transport: 'udp', bind: '198.51.100.1:5060' };
const TCP = { name: 'edge-tcp', transport: 'tcp', bind: '198.51.100.1:5060' };
const SERVICE = { kind: 'upstream', server: 'sip:127.0.0.1:5070', bind: '127.0.0.1:5062' };

/** Returns a valid configuration, with the given sections in place of its own. */
const values = (changes: Values = {}): Values => ({
  farm: 'lab',
  member: 'fe1',
  store: ETCD,
  listeners: [UDP, TCP],
  balancer: { mode: 'dsr' },
  keys: ['ab'.repeat(32)],
  relay: { bind: '10.0.0.11:5064' },
  service: SERVICE,
  ...changes,
});

const parsed = (changes: Values = {}): ParsedConfig => configSchema.parse(values(changes));
const inForce = (changes: Values = {}) => settle(parsed(changes), 'host1', [], {});

/** Returns the field and message of each fault. */
function faults(changes: Values): (readonly [string, string])[] {
  const { error } = configSchema.safeParse(values(changes));
  return (error?.issues ?? []).map(({ path, message }) => [path.join('.'), message]);
}

test('a valid configuration has no fault', () => assert.deepEqual(faults({}), []));

for (const [title, changes, field, remedy] of [
  [
    'a wildcard under DSR',
    { listeners: [{ ...UDP, bind: '0.0.0.0:5060', advertise: '198.51.100.1:5060' }] },
    'listeners.0.bind',
    /bind to the VIP itself/,
  ],
  [
    'a wildcard without an address for clients',
    { listeners: [{ ...UDP, bind: '[::]:5060' }], balancer: { mode: 'nat' } },
    'listeners.0.bind',
    /set advertise/,
  ],
  ['an advertised wildcard', { listeners: [{ ...UDP, advertise: '[::]' }] }, 'listeners.0.advertise', /is a wildcard/],
  [
    'TLS in front of a UDP listener',
    { listeners: [{ ...UDP, advertise: 'sip.example.com;transport=tls' }] },
    'listeners.0.advertise',
    /clients of a udp listener send by udp;/,
  ],
  [
    'a WebSocket in front of a TCP listener',
    { listeners: [{ ...TCP, advertise: 'sip.example.com;transport=ws' }] },
    'listeners.0.advertise',
    /clients of a tcp listener send by tcp or tls;/,
  ],
  ['two listeners with one name', { listeners: [UDP, { ...TCP, name: 'edge' }] }, 'listeners.1.name', /its own name/],
  [
    'two listeners whose names share a code',
    { listeners: [UDP, { ...TCP, name: 'tcp-110' }] },
    'listeners.1.name',
    /same one-octet code as edge/,
  ],
  [
    'two listeners with one address',
    { listeners: [UDP, { ...UDP, name: 'other' }] },
    'listeners.1.bind',
    /bound by two udp listeners/,
  ],
  [
    'PROXY headers without a trusted proxy',
    { listeners: [UDP, { ...TCP, proxyProtocol: 'require' }] },
    'listeners.1.proxyProtocol',
    /list the proxies in balancer\.trusted/,
  ],
  [
    'PROXY headers where balancer.trusted only excludes',
    { listeners: [{ ...TCP, proxyProtocol: 'accept' }], balancer: { trusted: ['!10.0.0.1'] } },
    'listeners.0.proxyProtocol',
    /list the proxies in balancer\.trusted/,
  ],
  [
    'direct answers to clients behind a proxy',
    { listeners: [{ ...UDP, proxyProtocol: 'require', answer: 'direct' }], balancer: { trusted: ['10.0.0.1'] } },
    'listeners.0.answer',
    /write ingress/,
  ],
  ['a relay link on all addresses', { relay: { bind: '0.0.0.0:5064' } }, 'relay.bind', /one address of this host/],
  [
    'the relay link on a listener',
    { listeners: [TCP], relay: { bind: '198.51.100.1:5060' } },
    'relay.bind',
    /its own port/,
  ],
  ['the relay link on the service', { relay: { bind: '127.0.0.1:5062' } }, 'service.bind', /its own port/],
  ['the service on a UDP listener', { service: { ...SERVICE, bind: '198.51.100.1:5060' } }, 'service.bind', /its own/],
  ['a service on all addresses', { service: { ...SERVICE, bind: '0.0.0.0:5062' } }, 'service.bind', /advertise/],
  [
    'a service that advertises a wildcard',
    { service: { ...SERVICE, advertise: '0.0.0.0:5062' } },
    'service.advertise',
    /the SIP server uses/,
  ],
  [
    'a server at the address of the service',
    { service: { ...SERVICE, server: 'sip:127.0.0.1:5062' } },
    'service.server',
    /send to itself/,
  ],
  [
    'a server at the address of a UDP listener',
    { service: { ...SERVICE, server: 'sip:198.51.100.1:5060' } },
    'service.server',
    /send to itself/,
  ],
  ['http and https', { store: { ...ETCD, hosts: ['http://a:1', 'https://b:1'] } }, 'store.hosts', /use one of them/],
  ['an authority without https', { store: { ...ETCD, ca: '/x.pem' } }, 'store.ca', /https/],
  [
    'a certificate without its key',
    { store: { ...ETCD, hosts: ['https://a:1'], cert: '/x.pem' } },
    'store.cert',
    /set both/,
  ],
  ['a key without its certificate', { store: { ...ETCD, hosts: ['https://a:1'], key: '/x.pem' } }, 'store.key', /both/],
  ['a user without a password', { store: { ...ETCD, user: 'sip' } }, 'store.user', /set both/],
  ['a password without a user', { store: { ...ETCD, password: 'x' } }, 'store.password', /set both/],
  [
    'a limit per source above the limit of all connections',
    { limits: { tcpConnections: 10, tcpConnectionsPerSource: 11 } },
    'limits.tcpConnectionsPerSource',
    /lower it/,
  ],
  [
    'calls that ring longer than a call lasts',
    { ownership: { longestCallSeconds: 60, ringingSeconds: 61 } },
    'ownership.ringingSeconds',
    /lower it/,
  ],
  ['a member without listeners', { listeners: [] }, 'listeners', /add a listener, or set role: relay/],
  ['a disabled node without listeners', { listeners: [], role: 'disabled' }, 'listeners', /add a listener/],
  [
    'a role auto that becomes disabled without listeners',
    { listeners: [], role: 'auto', store: { kind: 'memory' } },
    'listeners',
    /auto becomes disabled/,
  ],
  ['a relay with a store of its own', { role: 'relay', store: { kind: 'memory' } }, 'role', /use etcd/],
  ['workers with a store each', { workers: 2, store: { kind: 'memory' } }, 'workers', /use etcd, or one worker/],
  [
    'workers on different ports of a listener',
    { workers: 2, listeners: [{ ...UDP, bind: '198.51.100.1:0' }] },
    'listeners.0.bind',
    /name one/,
  ],
  ['keys and a file of keys', { keyFile: '/k' }, 'keyFile', /leave one of them out/],
] as const satisfies readonly (readonly [string, Values, string, RegExp])[])
  test(`the one fault of ${title} is at its field, with the remedy`, () => {
    const found = faults(changes);
    assert.deepEqual(
      found.map(([at]) => at),
      [field],
    );
    assert.match(found[0]![1], remedy);
  });

test('settings that look like conflicts and are none are accepted', () => {
  for (const changes of [
    { listeners: [UDP, { ...TCP, bind: '198.51.100.1:5060' }] },
    { listeners: [UDP, { ...UDP, name: 'other', bind: '198.51.100.2:5060' }] },
    { listeners: [1, 2].map((k) => ({ ...UDP, name: `free${k}`, bind: '198.51.100.1:0' })) },
    { listeners: [{ ...TCP, bind: '127.0.0.1:5062' }] },
    { listeners: [{ ...TCP, bind: '127.0.0.1:5070' }] },
    { listeners: [{ ...UDP, bind: '0.0.0.0:5060', advertise: 'sip.example.com' }], balancer: { mode: 'nat' } },
    { listeners: [{ ...TCP, proxyProtocol: 'require', answer: 'direct' }], balancer: { trusted: ['10.0.0.1'] } },
    { listeners: [], role: 'relay' },
    { limits: { tcpConnections: 10, tcpConnectionsPerSource: 10 } },
    { service: { kind: 'answer' } },
  ])
    assert.deepEqual(faults(changes), [], JSON.stringify(changes));
});

describe('a listener in force', () => {
  const answers = (mode: string, ...listeners: Values[]) =>
    inForce({ listeners, balancer: { mode, trusted: ['10.0.0.1'] } }).listeners.map(({ answer }) => answer);
  for (const [title, mode, listener, expected] of [
    ['directly under DSR', 'dsr', UDP, 'direct'],
    ['through the ingress behind NAT', 'nat', UDP, 'ingress'],
    ['through the ingress without a balancer', 'none', UDP, 'ingress'],
    ['through the ingress under DSR behind a proxy', 'dsr', { ...UDP, proxyProtocol: 'require' }, 'ingress'],
    ['directly under DSR by TCP behind a proxy', 'dsr', { ...TCP, proxyProtocol: 'require' }, 'direct'],
    ['as it is told, under DSR', 'dsr', { ...UDP, answer: 'ingress' }, 'ingress'],
    ['as it is told, behind NAT', 'nat', { ...UDP, answer: 'direct' }, 'direct'],
  ] as const)
    test(`answers ${title}`, () => assert.deepEqual(answers(mode, listener), [expected]));

  for (const [title, listener, expected] of [
    ['its own address', UDP, { host: '198.51.100.1', port: 5060, transport: 'udp' }],
    ['a name', { ...TCP, advertise: 'Sip.Example.com' }, { host: 'sip.example.com', port: 5060, transport: 'tcp' }],
    [
      'a name with TLS',
      { ...TCP, advertise: 'sip.example.com;transport=tls' },
      { host: 'sip.example.com', port: 5061, transport: 'tls' },
    ],
    ['an address', { ...UDP, advertise: '[2001:db8::1]:5080' }, { host: '2001:db8::1', port: 5080, transport: 'udp' }],
  ] as const)
    test(`advertises ${title}, complete with port and transport`, () =>
      assert.deepEqual(inForce({ listeners: [listener] }).listeners[0]?.advertise, expected));
});

describe('the role in force', () => {
  for (const [title, changes, role, chosen] of [
    ['is member by default', {}, 'member', false],
    ['is that of the file', { role: 'relay' }, 'relay', false],
    ['is member for auto with listeners and a shared store', { role: 'auto' }, 'member', true],
    ['is relay for auto without listeners', { role: 'auto', listeners: [] }, 'relay', true],
    ['is disabled for auto with the memory store', { role: 'auto', store: { kind: 'memory' } }, 'disabled', true],
  ] as const)
    test(`${title}${chosen ? ', with the reason' : ''}`, () => {
      const { role: now, roleChosenBecause: because } = inForce(changes);
      assert.deepEqual([now, because !== ''], [role, chosen]);
    });
});

test('the member has the name of the host unless the file names it', () => {
  assert.deepEqual([inForce().member, inForce({ member: undefined }).member], ['fe1', 'host1']);
});

test('the configuration in force has neither keys nor a key file of the text', () => {
  const config = settle(parsed({ keys: undefined, keyFile: '/k' }), 'host1', [], {});
  assert.deepEqual([config.keys, 'keyFile' in config], [[], false]);
});

describe('the cluster-wide settings', () => {
  const fields = (settings: unknown): string[] =>
    (clusterSchema.safeParse(settings).error?.issues ?? []).map(({ path }) => path.join('.'));

  test('may have any of their fields alone, and get no defaults', () => {
    for (const settings of [
      {},
      { log: { level: 'debug' } },
      { balancer: { probes: ['10.0.0.1'] } },
      { limits: { idleSeconds: 60 } },
      { drain: {} },
      { ownership: { records: 'none' } },
    ])
      assert.deepEqual(clusterSchema.parse(settings), settings);
  });

  test('have the bounds of the file', () => {
    assert.deepEqual(fields({ drain: { deadlineSeconds: -1 }, limits: { idleSeconds: 9 } }), [
      'limits.idleSeconds',
      'drain.deadlineSeconds',
    ]);
  });

  test('have no other sections or fields', () => {
    for (const wrong of [{ weight: 1 }, { balancer: { mode: 'nat' } }, { log: { levels: 'info' } }, { keys: [] }])
      assert.equal(fields(wrong).length, 1, JSON.stringify(wrong));
  });

  test('are complete with the defaults of the file', () => {
    const { log, balancer, limits, drain, ownership, media } = parsed({
      ...{ balancer: undefined, media: { bind: '10.0.0.11' } },
    });
    const { bind: _bind, ports: _ports, ...shared } = media!;
    const filled = clusterSections.parse({ log: {}, balancer: {}, limits: {}, drain: {}, ownership: {}, media: {} });
    assert.deepEqual(filled, { log, balancer, limits, drain, ownership, media: shared });
  });
});

test('loopback is 127.0.0.0/8 and ::1', () => {
  for (const [address, is] of [
    ['127.0.0.1', true],
    ['127.255.255.255', true],
    ['::1', true],
    ['128.0.0.1', false],
    ['10.0.0.1', false],
    ['::', false],
    ['::2', false],
  ] as const)
    assert.equal(isLoopback(address), is, address);
});
