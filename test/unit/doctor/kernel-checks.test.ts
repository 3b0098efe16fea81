// The kernel's resources for sipfarm: buffers, files, ports, the packet filter, lost packets.
import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import type { Config } from '../../../src/config/schema.ts';
import type { HostFacts } from '../../../src/doctor/facts.ts';
import { commandOf, type Finding } from '../../../src/doctor/finding.ts';
import { checkKernel } from '../../../src/doctor/kernel-checks.ts';
import { commandsIn, config, facts, shown, sysctls } from './facts.ts';

const check = (given: Partial<HostFacts>, of: Config = config()): readonly Finding[] => checkKernel(of, facts(given));
const fixesOf = (found: readonly Finding[]): string[] => found.flatMap(({ fixes }) => fixes.map(commandOf));
const settings = (others: Readonly<Record<string, string>>) => ({ sysctl: sysctls({}, others) });

test('a host with a correct setup has no finding', () => assert.deepEqual(check({}), []));

describe('socket buffers', () => {
  for (const [receive, send, about] of [
    ['4194304', '4194304', undefined],
    ['4194303', '4194304', 'net.core.rmem_max'],
    ['8388608', '212992', 'net.core.wmem_max'],
    ['212992', '212992', 'net.core.rmem_max, net.core.wmem_max'],
  ] as const)
    it(`${about ? 'are too small' : 'suffice'} with a limit of ${receive} and ${send} octets`, () => {
      const found = check(settings({ 'net/core/rmem_max': receive, 'net/core/wmem_max': send }));
      assert.deepEqual(shown(found), about ? [`warning DR_BUFFER ${about}`] : []);
      assert.deepEqual(fixesOf(found), about?.split(', ').map((name) => `sysctl -w ${name}=4194304`) ?? []);
    });

  it('are not judged when the limit cannot be read', () => assert.deepEqual(check({ sysctl: new Map() }), []));
});

describe('open files', () => {
  const few = config('relay:', 'limits: { tcpConnections: 1000, tcpConnectionsPerSource: 10 }\nrelay:');
  for (const [title, openFiles, of, expected] of [
    ['suffice for all connections and 256 more', { limit: 10_256, of: 'the running member' }, config(), []],
    ['are too few', { limit: 10_255, of: 'the running member' }, config(), ['warning DR_OPEN_FILES open files']],
    ['of this shell are only a hint', { limit: 1024, of: 'this shell' }, config(), ['hint DR_OPEN_FILES open files']],
    ['are needed for the configured connections', { limit: 1256, of: 'this shell' }, few, []],
    ['are not judged when they are unknown', undefined, config(), []],
  ] as const)
    it(title, () => assert.deepEqual(shown(check({ openFiles }, of)), expected));

  it('are raised to what the configured connections need', () => {
    const [found] = check({ openFiles: { limit: 1024, of: 'the running member' } });
    assert.match(commandsIn(found).join('\n'), /LimitNOFILE=10256/);
  });
});

test('loaded SIP modules of the packet filter are a fault, and are unloaded in the order of their use', () => {
  const [found, ...others] = check({ modules: new Set(['nf_conntrack', 'nf_conntrack_sip', 'nf_nat_sip']) });
  assert.deepEqual([...shown([found!]), ...others], ['fault DR_SIP_CONNTRACK nf_nat_sip, nf_conntrack_sip']);
  assert.equal(commandsIn(found)[0], 'modprobe -r nf_nat_sip nf_conntrack_sip');
  const one = check({ modules: new Set(['nf_conntrack_sip']) });
  assert.equal(commandsIn(one[0])[0], 'modprobe -r nf_conntrack_sip');
});

describe('the connection tracker', () => {
  const HINT = ['hint DR_CONNTRACK nf_conntrack'];
  const entries = (count: string) => settings({ 'net/netfilter/nf_conntrack_count': count });
  for (const [title, given, expected] of [
    ['has entries and no rule exempts packets', { ...entries('7'), untracked: false }, HINT],
    ['has entries and its rules cannot be read', { ...entries('7'), untracked: undefined }, HINT],
    ['has entries and a rule exempts packets', { ...entries('7'), untracked: true }, []],
    ['has no entries', { ...entries('0'), untracked: false }, []],
    ['has a readable table without SIP', { ...entries('7'), tracked: 0, untracked: false }, []],
    ['has a readable table with SIP, whatever rules there are', { ...entries('7'), tracked: 3, untracked: true }, HINT],
  ] as const)
    it(`${title}: ${expected.length > 0 ? 'a hint' : 'no finding'}`, () =>
      assert.deepEqual(shown(check(given)), expected));

  it('may track what it likes on a node without listeners', () => {
    assert.deepEqual(check(entries('7'), { ...config(), listeners: [] }), []);
  });

  it('is kept away from each port of a listener once', () => {
    const more = config(
      '5060 }',
      '5060 }\n  - { name: tcp, transport: tcp, bind: 198.51.100.1:5060 }\n  - { name: b, transport: udp, bind: 198.51.100.1:5080 }',
    );
    const rules = commandsIn(check(entries('7'), more)[0]).filter((line) => line.includes('notrack'));
    assert.equal(rules.length, 2);
    for (const rule of rules) assert.match(rule, /port \{ 5060, 5080 \} notrack/);
  });
});

describe("the kernel's range of ports", () => {
  const high = config('5060 }', '40000 }');
  const reserved = (list: string) => settings({ 'net/ipv4/ip_local_reserved_ports': list });
  for (const [title, given, of, fix] of [
    ['has no port of sipfarm', {}, config(), undefined],
    ['has a port of a listener', {}, high, '40000'],
    ['has the port of the relay link', {}, config('10.0.0.11:5064', '10.0.0.11:32768'), '32768'],
    ['has the last port', {}, config('127.0.0.1:5062', '127.0.0.1:60999'), '60999'],
    ['ends before the port', {}, config('127.0.0.1:5062', '127.0.0.1:61000'), undefined],
    ['has the port, which is reserved', reserved('40000'), high, undefined],
    ['has the port in a reserved range', reserved('1,39990-40010'), high, undefined],
    ['has the port beside a reserved range', reserved('50000-50010'), high, '50000-50010,40000'],
    ['cannot be read', settings({ 'net/ipv4/ip_local_port_range': '' }), high, undefined],
  ] as const)
    it(title, () => {
      const found = check(given, of);
      const expected = fix === undefined ? [] : [`sysctl -w net.ipv4.ip_local_reserved_ports=${fix}`];
      assert.deepEqual(fixesOf(found), expected);
      assert.deepEqual(
        shown(found),
        expected.map(() => `warning DR_PORT_RANGE ${fix?.split(',').at(-1)}`),
      );
    });
});

test('packets that the kernel has lost give a hint for each cause', () => {
  const lost = (bufferFull: number, fragmentsLost: number) =>
    shown(check({ datagrams: { bufferFull, fragmentsLost } }));
  assert.deepEqual(lost(3, 0), ['hint DR_UDP_LOST receive buffers']);
  assert.deepEqual(lost(0, 4), ['hint DR_UDP_LOST fragments']);
  assert.deepEqual(lost(3, 4), ['hint DR_UDP_LOST receive buffers', 'hint DR_UDP_LOST fragments']);
});
