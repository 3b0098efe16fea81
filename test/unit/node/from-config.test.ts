// Advertised addresses of a member's listeners in its record, and forbidden targets. A node that sends through members
// leaves the check of their surroundings to them.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Config } from '../../../src/config/schema.ts';
import {
  familiesOf,
  forbiddenTargets,
  listenerRecords,
  ownHosts,
  transportsOf,
} from '../../../src/node/from-config.ts';
import { changed, GOOD, load } from '../config/sample.ts';

const member = load(GOOD).config;
const relay = load(`${GOOD.replace(/listeners:\n(?: .*\n)+/, 'listeners: []\n')}role: relay\n`).config;
const oneWay = load(changed('  - { name: edge-tcp, transport: tcp, bind: 198.51.100.1:5060 }\n', '')).config;

describe('a member', () => {
  it('resolves only transports and families of its own listeners', () => {
    assert.deepEqual([transportsOf(oneWay), familiesOf(oneWay)], [['udp'], [4]]);
  });

  it('sends nothing to addresses inside of its host', () => {
    for (const address of ['127.0.0.9', '::1', '169.254.1.1']) assert.ok(forbiddenTargets(member).has(address, 5060));
  });
});

describe('a node of role relay', () => {
  it('resolves all transports and families that a member can have', () => {
    assert.deepEqual(
      [transportsOf(relay), familiesOf(relay)],
      [
        ['udp', 'tcp'],
        [4, 6],
      ],
    );
  });

  it('leaves the check of loopback and link-local targets to the member', () => {
    for (const address of ['127.0.0.9', '::1', '169.254.1.1']) assert.ok(!forbiddenTargets(relay).has(address, 5060));
  });

  it('sends nothing to its own ports, to the store, and to addresses that are no host', () => {
    const forbidden = forbiddenTargets(relay);
    for (const [address, port] of [
      ['10.0.0.11', 5064],
      ['127.0.0.1', 5062],
      ['127.0.0.1', 2379],
      ['0.0.0.0', 5060],
      ['224.0.0.1', 5060],
    ] as const)
      assert.ok(forbidden.has(address, port), `${address}:${port}`);
  });
});

describe('the listeners in a record', () => {
  const open = ({ listeners }: Config, port?: number) =>
    listeners.map((each) => ({ ...each, local: { ...each.bind, ...(port !== undefined && { port }) } }));
  const TCP = '{ name: edge-tcp, transport: tcp, bind: 198.51.100.1:5060 }';
  /** Returns the values for the TCP listener. */
  const recordOf = (bind: string, advertise: string) => {
    const text = `{ name: edge-tcp, transport: tcp, bind: "${bind}", advertise: "${advertise}" }`;
    const config = load(changed(TCP, text).replace('mode: dsr', 'mode: nat')).config;
    const { advertise: told, told: more } = listenerRecords(open(config), [])[1]!;
    return [told, more];
  };

  it('have only the address and port when these are enough', () => {
    const [udp, tcp] = listenerRecords(open(member), []);
    const endpoints = { bind: '198.51.100.1:5060', advertise: '198.51.100.1:5060' };
    assert.deepEqual(
      [udp, tcp],
      [
        { name: 'edge', transport: 'udp', ...endpoints },
        { name: 'edge-tcp', transport: 'tcp', ...endpoints },
      ],
    );
    assert.deepEqual(recordOf('10.0.0.11:5060', '192.0.2.1:5065;transport=tcp'), ['192.0.2.1:5065', undefined]);
  });

  it('have the port that the system has picked for port 0', () => {
    const { config } = load(changed(TCP, TCP.replace(':5060', ':0')));
    assert.equal(listenerRecords(open(config, 40_001), [])[1]?.bind, '198.51.100.1:40001');
  });

  it('have an endpoint that older versions can read, and the complete value for newer ones', () => {
    const by = 'sip.example.com:5061;transport=tls';
    assert.deepEqual(recordOf('10.0.0.11:5061', 'sip.example.com;transport=tls'), ['10.0.0.11:5061', by]);
    assert.deepEqual(recordOf('10.0.0.11:5061', '[2001:db8::1];transport=tls'), [
      '[2001:db8::1]:5061',
      '[2001:db8::1]:5061;transport=tls',
    ]);
    assert.deepEqual(recordOf('10.0.0.11:5060', 'sip.example.com'), ['10.0.0.11:5060', 'sip.example.com:5060']);
  });
});

describe('a listener whose clients use TLS up to the balancer', () => {
  const TLS = '{ name: edge-tls, transport: tcp, bind: 10.0.0.11:5061, advertise: sip.example.com;transport=tls }';
  const only = load(changed('{ name: edge-tcp, transport: tcp, bind: 198.51.100.1:5060 }', TLS).replace('dsr', 'nat'));

  it('gives no TCP transport for outgoing requests', () => assert.deepEqual(transportsOf(only.config), ['udp']));
  it('has an address that only this member has', () => assert.ok(ownHosts(only.config).includes('10.0.0.11')));
});
