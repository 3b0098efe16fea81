import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, test } from 'node:test';
import { boundAddresses } from '../../../src/doctor/bind-checks.ts';
import { diagnose, diagnoseProblems, isWell } from '../../../src/doctor/doctor.ts';
import { commandOf, DOCTOR_CODES, fixesOf, sysctlName } from '../../../src/doctor/finding.ts';
import { codes, config, ETH0, facts, find, LO, LO_WITH_VIP, OWN_KEY, record, sysctls } from './facts.ts';

const NAT = ['mode: dsr', 'mode: nat'] as const;

test('a host with a correct setup has no finding', () => assert.deepEqual(codes({}), []));

describe('the VIP under DSR', () => {
  it('is reported as missing when it is on no interface, with an alias on lo as the fix', () => {
    const [found] = find('DR_VIP_MISSING', { interfaces: [LO, ETH0] });
    assert.equal(found?.severity, 'fault');
    assert.equal(found?.mend[0], 'ip addr add 198.51.100.1/32 dev lo');
  });

  it('must have the mask of one address', () => {
    const wide = { ...LO, addresses: [{ address: '198.51.100.1', prefix: 24 }] };
    const [found] = find('DR_VIP_MASK', { interfaces: [wide, ETH0] });
    assert.deepEqual(found?.mend.slice(0, 2), [
      'ip addr del 198.51.100.1/24 dev lo',
      'ip addr add 198.51.100.1/32 dev lo',
    ]);
    assert.deepEqual(found?.fixes, [], 'taking an address away is not safe');
  });

  it('may not be on an interface that has neighbours', () => {
    const outer = { ...ETH0, addresses: [...ETH0.addresses, { address: '198.51.100.1', prefix: 32 }] };
    assert.deepEqual(codes({ interfaces: [LO, outer] }), ['DR_VIP_NOT_ON_LO']);
  });

  it('may be on a dummy interface', () => {
    const dummy = { ...LO_WITH_VIP, name: 'vip0', inner: true };
    assert.deepEqual(codes({ interfaces: [LO, dummy, ETH0] }), []);
  });

  it('must have mask 128 when it is an IPv6 address, without a check of ARP', () => {
    const six = config('198.51.100.1:5060', '"[2001:db8::1]:5060"');
    const given = { sysctl: sysctls({ all: { arp_ignore: 0, arp_announce: 0 } }) };
    assert.deepEqual(codes(given, six), ['DR_VIP_MISSING']);
    assert.equal(find('DR_VIP_MISSING', given, six)[0]?.mend[0], 'ip addr add 2001:db8::1/128 dev lo');
  });

  it('is not checked in other modes', () => {
    const nat = config('dsr', 'nat');
    assert.ok(!codes({ interfaces: [LO, ETH0] }, nat).some((code) => code.startsWith('DR_VIP')));
  });
});

describe('a bound address', () => {
  const missing = { refused: 'EADDRNOTAVAIL', local: false };

  it('must be on this host in every mode, and is reported with all its uses', () => {
    for (const mode of ['dsr', 'nat', 'none']) {
      const bound = new Map(['10.0.0.11', '127.0.0.1'].map((address) => [address, missing]));
      const found = find('DR_ADDRESS_MISSING', { bound }, config('mode: dsr', `mode: ${mode}`));
      assert.deepEqual(
        found.map(({ severity, about }) => `${severity} ${about}`),
        ['fault 10.0.0.11 (relay.bind)', 'fault 127.0.0.1 (service.bind, admin.bind)'],
      );
      assert.match(found[0]?.reason ?? '', /EADDRNOTAVAIL.*SF_BIND_FAILED/);
      assert.match(found[0]?.mend.join('\n') ?? '', /^# .*net\.ipv4\.ip_nonlocal_bind=1$/m);
    }
  });

  it('is reported at a listener unless it is a VIP of DSR, which has its own finding', () => {
    const bound = new Map([['198.51.100.1', missing]]);
    const [found] = find('DR_ADDRESS_MISSING', { bound }, config('mode: dsr', 'mode: nat'));
    assert.equal(found?.about, '198.51.100.1 (listener edge)');
    assert.deepEqual(find('DR_ADDRESS_MISSING', { bound }), []);
    assert.deepEqual(codes({ bound, interfaces: [LO, ETH0] }), ['DR_VIP_MISSING']);
  });

  it('is also checked for transparent ports, and not when it is a wildcard', () => {
    const transparent = config('10.0.0.11:5064 }', '10.0.0.11:5064, mode: transparent }');
    const [found] = find('DR_ADDRESS_MISSING', { bound: new Map([['10.0.0.11', missing]]) }, transparent);
    assert.equal(found?.about, '10.0.0.11 (transparent port of listener edge, relay.bind)');
    const wild = config('bind: 127.0.0.1:5062', 'bind: 0.0.0.0:5062, advertise: 127.0.0.1:5062');
    assert.deepEqual(boundAddresses(wild), ['198.51.100.1', '10.0.0.11', '127.0.0.1']);
  });

  it('gives a warning when it can be bound without being here, because of ip_nonlocal_bind', () => {
    const bound = new Map([['10.0.0.11', { refused: undefined, local: false }]]);
    const [found] = find('DR_ADDRESS_MISSING', { bound });
    assert.equal(found?.severity, 'warning');
    assert.match(found?.reason ?? '', /ip_nonlocal_bind/);
    const well = [true, undefined].map((local) =>
      find('DR_ADDRESS_MISSING', { bound: new Map([['10.0.0.11', { refused: undefined, local }]]) }),
    );
    assert.deepEqual(well, [[], []]);
  });
});

describe('ARP for the VIP', () => {
  for (const [ignore, good] of [
    [0, false],
    [1, true],
    [2, true],
    [3, false],
    [8, true],
  ] as const) {
    it(`is ${good ? 'quiet' : 'answered'} with arp_ignore ${ignore}`, () => {
      const found = codes({ sysctl: sysctls({ all: { arp_ignore: ignore } }) }).includes('DR_ARP_IGNORE');
      assert.equal(found, !good);
    });
  }

  it('depends on the larger value of all and the interface', () => {
    assert.deepEqual(codes({ sysctl: sysctls({ all: { arp_announce: 0 }, eth0: { arp_announce: 2 } }) }), []);
    assert.deepEqual(codes({ sysctl: sysctls({ all: { arp_announce: 1 }, eth0: { arp_announce: 0 } }) }), [
      'DR_ARP_ANNOUNCE',
    ]);
  });

  it('is fixed at the interface, too, when its value there is too large', () => {
    const [found] = find('DR_ARP_IGNORE', { sysctl: sysctls({ eth0: { arp_ignore: 3 } }) });
    assert.deepEqual(found?.fixes.map(commandOf), [
      'sysctl -w net.ipv4.conf.all.arp_ignore=1',
      'sysctl -w net.ipv4.conf.eth0.arp_ignore=1',
    ]);
  });

  it('does not depend on an interface that is down or has no IPv4 address', () => {
    const down = { ...ETH0, name: 'eth1', up: false };
    const six = { ...ETH0, name: 'eth2', addresses: [{ address: 'fd00::1', prefix: 64 }] };
    const sysctl = sysctls({ all: { arp_ignore: 0 }, eth0: { arp_ignore: 1 }, eth1: {}, eth2: {} });
    assert.deepEqual(codes({ interfaces: [LO_WITH_VIP, ETH0, down, six], sysctl }), []);
  });

  it('gives a hint when the settings would be lost at a reboot', () => {
    const found = find('DR_NOT_PERSISTED', { persisted: new Map() });
    assert.deepEqual(found[0]?.mend, [
      "echo 'net.ipv4.conf.all.arp_ignore = 1' >> /etc/sysctl.d/60-sipfarm.conf",
      "echo 'net.ipv4.conf.all.arp_announce = 2' >> /etc/sysctl.d/60-sipfarm.conf",
    ]);
    assert.ok(isWell(found));
  });

  it('gives a hint when a boot file sets another value', () => {
    const persisted = new Map([...facts().persisted, ['net/ipv4/conf/all/arp_ignore', '0']] as const);
    assert.match(find('DR_NOT_PERSISTED', { persisted })[0]?.reason ?? '', /make it 0/);
  });

  it('is made quiet before the VIP is added', () => {
    const findings = [
      ...find('DR_VIP_MISSING', { interfaces: [LO, ETH0] }),
      ...find('DR_ARP_IGNORE', { sysctl: sysctls({ all: { arp_ignore: 0 } }) }),
    ];
    assert.deepEqual(fixesOf(findings).map(commandOf), [
      'sysctl -w net.ipv4.conf.all.arp_ignore=1',
      'ip addr add 198.51.100.1/32 dev lo',
    ]);
  });
});

describe('a listener', () => {
  it('on a wildcard while its VIP is an alias here is reported in any mode', () => {
    const wild = config(
      '198.51.100.1:5060 }\nbalancer: { mode: dsr',
      '0.0.0.0:5060, advertise: 198.51.100.1:5060 }\nbalancer: { mode: nat',
    );
    const [found] = find('DR_WILDCARD_BIND', {}, wild);
    assert.deepEqual(found?.mend, [
      '# in /etc/sipfarm/sipfarm.yaml, listener edge: bind: "198.51.100.1:5060"',
      '# in /etc/sipfarm/sipfarm.yaml: balancer: { mode: dsr }',
      'systemctl restart sipfarm',
    ]);
    assert.deepEqual(codes({ interfaces: [LO, ETH0] }, wild), [], 'behind NAT a wildcard is good');
  });

  it('without an address for clients is reported behind a NAT balancer', () => {
    assert.deepEqual(codes({ interfaces: [LO, ETH0] }, config(...NAT)), ['DR_ADVERTISE_MISSING']);
    const good = config(
      '198.51.100.1:5060 }\nbalancer: { mode: dsr',
      '10.0.0.11:5060, advertise: 198.51.100.1:5060 }\nbalancer: { mode: nat',
    );
    assert.deepEqual(codes({ interfaces: [LO, ETH0] }, good), []);
    const named = config(
      '198.51.100.1:5060 }\nbalancer: { mode: dsr',
      '10.0.0.11:5060, advertise: sip.example.com }\nbalancer: { mode: nat',
    );
    assert.deepEqual(codes({ interfaces: [LO, ETH0] }, named), [], 'a domain name is one');
  });

  it("with a port from the kernel's own range is reported, unless it is reserved", () => {
    const high = config('5060 }', '40000 }');
    const [found] = find('DR_PORT_RANGE', {}, high);
    assert.equal(found?.mend[0], 'sysctl -w net.ipv4.ip_local_reserved_ports=40000');
    const reserved = (list: string) => ({ sysctl: sysctls({}, { 'net/ipv4/ip_local_reserved_ports': list }) });
    assert.deepEqual(find('DR_PORT_RANGE', reserved('1,39990-40010'), high), []);
    assert.equal(
      find('DR_PORT_RANGE', reserved('50000'), high)[0]?.mend[0],
      'sysctl -w net.ipv4.ip_local_reserved_ports=50000,40000',
      'what is reserved stays reserved',
    );
  });
});

test('missing probe sources give a warning behind a balancer, and nothing without one', () => {
  assert.deepEqual(codes({}, config('[198.51.100.254/32]', '[]')), ['DR_PROBES_EMPTY']);
  assert.deepEqual(codes({}, config('mode: dsr, probes: [198.51.100.254/32]', 'mode: none')), []);
});

describe('the source check', () => {
  const eth1 = { ...ETH0, name: 'eth1', addresses: [{ address: '198.51.100.11', prefix: 24 }] };
  const strict = { interfaces: [LO_WITH_VIP, ETH0, eth1], sysctl: sysctls({ eth1: { rp_filter: 1 } }) };
  it('is a fault on the interface of the balancer', () => {
    const routes = new Map([['198.51.100.254', { device: 'eth1', mtu: 1500 }]]);
    const [found] = find('DR_RP_FILTER', { ...strict, routes });
    assert.equal(found?.severity, 'fault');
    assert.deepEqual(found?.fixes.map(commandOf), ['sysctl -w net.ipv4.conf.eth1.rp_filter=2']);
  });

  it('is a hint on interfaces that may have the balancer, and nothing when it is loose', () => {
    assert.equal(find('DR_RP_FILTER', strict)[0]?.severity, 'hint');
    assert.deepEqual(codes({ ...strict, sysctl: sysctls({ all: { rp_filter: 2 }, eth1: { rp_filter: 1 } }) }), []);
  });
});

describe('the transparent relay', () => {
  const transparent = config('10.0.0.11:5064 }', '10.0.0.11:5064, mode: transparent }');
  const able = { trouble: undefined, lacks: undefined, unitRights: 'cap_net_raw' } as const;
  const lan = { ...ETH0, name: 'eth1', addresses: [{ address: '10.0.0.11', prefix: 24 }] };
  const wan = { ...ETH0, addresses: [{ address: '192.0.2.11', prefix: 24 }] };
  const two = { interfaces: [LO_WITH_VIP, wan, lan], sysctl: sysctls({ eth1: { rp_filter: 1 } }), raw: able };

  it('needs a loose source check where packets of clients with a route by another interface come in', () => {
    const [found] = find('DR_RP_FILTER', two, transparent);
    assert.deepEqual([found?.severity, found?.about], ['fault', 'eth1']);
    assert.deepEqual(found?.fixes.map(commandOf), ['sysctl -w net.ipv4.conf.eth1.rp_filter=2']);
    assert.deepEqual(codes({ ...two, defaultDevice: 'eth1' }, transparent), []);
    assert.equal(find('DR_RP_FILTER', two)[0]?.severity, 'hint', 'frames come from the members');
  });

  it('is reported with the command that builds its module', () => {
    const trouble =
      'the module raw-socket does not load in Node.js 24; build it with: /usr/bin/node /opt/x.js (no such file)';
    const [found] = find('DR_RAW_MODULE', { raw: { ...able, lacks: 'module', trouble } }, transparent);
    assert.equal(found?.mend[0], '/usr/bin/node /opt/x.js');
  });

  it('needs its module and a service with the right', () => {
    const judged = (given: object, others: object = {}) =>
      diagnose(transparent, [], facts({ raw: { ...able, ...given }, ...others }))
        .filter(({ code }) => code.startsWith('DR_RAW'))
        .map(({ code, severity }) => `${code} ${severity}`);
    assert.deepEqual(judged({}), []);
    assert.deepEqual(judged({ lacks: 'module', trouble: 'not built' }), ['DR_RAW_MODULE fault']);
    assert.deepEqual(judged({ unitRights: 'cap_net_bind_service' }, { member: undefined }), ['DR_RAW_RIGHT fault']);
    assert.deepEqual(judged({ unitRights: '' }), ['DR_RAW_RIGHT hint'], 'it runs, so it was started otherwise');
    assert.deepEqual(judged({ lacks: 'right', unitRights: undefined }, { member: undefined }), ['DR_RAW_RIGHT hint']);
    assert.deepEqual(judged({ lacks: 'right' }), []);
  });
});

describe('the kernel', () => {
  it('must allow buffers of the size that sipfarm requests', () => {
    const [found] = find('DR_BUFFER', { sysctl: sysctls({}, { 'net/core/rmem_max': '212992' }) });
    assert.equal(found?.mend[0], 'sysctl -w net.core.rmem_max=4194304');
  });

  it('must allow as many open files as there may be connections', () => {
    assert.deepEqual(codes({ openFiles: { limit: 10_000, of: 'the running member' } }), ['DR_OPEN_FILES']);
    assert.deepEqual(codes({ openFiles: { limit: 10_256, of: 'the running member' } }), []);
  });

  it('must have no SIP module in its packet filter', () => {
    const [found] = find('DR_SIP_CONNTRACK', { modules: new Set(['nf_conntrack', 'nf_conntrack_sip', 'nf_nat_sip']) });
    assert.equal(found?.mend[0], 'modprobe -r nf_nat_sip nf_conntrack_sip');
  });

  it('should not track SIP', () => {
    const sysctl = sysctls({}, { 'net/netfilter/nf_conntrack_count': '7' });
    assert.deepEqual(codes({ sysctl }), ['DR_CONNTRACK']);
    assert.deepEqual(codes({ sysctl, untracked: true }), []);
    assert.deepEqual(codes({ sysctl, tracked: 0 }), [], 'the table itself says more than rules');
    assert.deepEqual(codes({ sysctl, tracked: 3, untracked: true }), ['DR_CONNTRACK']);
  });

  it('may track connections on a node without listeners, which gets no probes', () => {
    const sysctl = sysctls({}, { 'net/netfilter/nf_conntrack_count': '7' });
    const relay = { ...config('[198.51.100.254/32]', '[]'), role: 'relay' as const, listeners: [] };
    assert.deepEqual(codes({ sysctl }, relay), []);
  });

  it('is reported with its counters of lost packets', () => {
    assert.equal(find('DR_UDP_LOST', { datagrams: { bufferFull: 3, fragmentsLost: 4 } }).length, 2);
  });
});

describe('the relay link', () => {
  const path = (given: object) => ({
    paths: new Map([['10.0.0.12:5064', { tcp: 'open' as const, passes: 1500, ...given }]]),
  });

  it('has too large an MTU when the route is narrower than relay.mtu', () => {
    const routes = new Map([['10.0.0.12', { device: 'wg0', mtu: 1420 }]]);
    const [found] = find('DR_RELAY_MTU', { routes });
    assert.equal(found?.mend[0], '# on every member, in /etc/sipfarm/sipfarm.yaml: relay: { mtu: 1420 }');
    assert.deepEqual(codes({ routes }, config('10.0.0.11:5064 }', '10.0.0.11:5064, mtu: 1420 }')), []);
  });

  it('has too large an MTU when long packets are lost on the path', () => {
    const [found] = find('DR_RELAY_MTU', path({ passes: 1400 }));
    assert.match(found?.mend.join() ?? '', /mtu: 1400 /);
    assert.deepEqual(found?.fixes.map(commandOf), ['sysctl -w net.ipv4.tcp_mtu_probing=1']);
  });

  it('needs a kernel that probes the MTU of TCP when long packets are lost and relay.mtu is right', () => {
    const narrow = config('10.0.0.11:5064 }', '10.0.0.11:5064, mtu: 1400 }');
    const [found] = find('DR_RELAY_MTU', path({ passes: 1400 }), narrow);
    assert.doesNotMatch(found?.mend.join() ?? '', /relay:/);
    const sysctl = sysctls({}, { 'net/ipv4/tcp_mtu_probing': '1' });
    assert.deepEqual(codes({ ...path({ passes: 1400 }), sysctl }, narrow), []);
    assert.deepEqual(codes({ ...path({ passes: 1399 }), sysctl }, narrow), ['DR_RELAY_MTU']);
  });

  it('gets no MTU finding when the peer answers no packet of the probe at all', () => {
    assert.deepEqual(codes(path({ passes: undefined })), []);
  });

  for (const [tcp, said] of [
    ['refused', 'refuses TCP'],
    ['silent', 'does not answer TCP'],
  ] as const)
    it(`is reported when a peer's relay port ${said}`, () => {
      const [found] = find('DR_RELAY_UNREACHABLE', path({ tcp }));
      assert.ok(found?.reason.includes(said), found?.reason);
      assert.equal(found?.about, 'fe2 (10.0.0.12:5064)');
    });

  it("is reported when a peer answers no probe, with the peer's view of this member", () => {
    const peer = { id: 'fe2', relay: '10.0.0.12:5064', seated: false, reachable: false, misses: ['fe1'] };
    const member = { ...facts().member!, peers: [peer] };
    const [found] = find('DR_RELAY_UNREACHABLE', { member });
    assert.match(found?.reason ?? '', /probes.*does not reach this member either.*no seat/);
    assert.deepEqual(codes({ member }), ['DR_RELAY_UNREACHABLE'], 'one fault, one finding');
  });

  it('is reported when a peer reports that it cannot reach a third member', () => {
    const peer = { id: 'fe2', relay: '10.0.0.12:5064', seated: true, reachable: true, misses: ['fe3'] };
    const [found] = find('DR_PEERS_APART', { member: { ...facts().member!, peers: [peer] } });
    assert.equal(found?.about, 'fe2, fe3');
  });

  it('is fixed here first when only TCP gets through, or when only the peer misses this member', () => {
    const peer = { id: 'fe2', relay: '10.0.0.12:5064', seated: true, reachable: false, misses: [] };
    const seen = (given: object) => ({ member: { ...facts().member!, peers: [{ ...peer, ...given }] } });
    const rule = "nft insert rule inet filter input meta l4proto '{ tcp, udp }' th dport 5064 accept";
    assert.deepEqual(find('DR_RELAY_UNREACHABLE', seen({}))[0]?.mend.slice(0, 2), [rule, `# on fe2: ${rule}`]);
    const [outsideFarm] = find('DR_PEERS_APART', seen({ reachable: true, misses: ['fe1'] }));
    assert.deepEqual([outsideFarm?.severity, outsideFarm?.mend[0]], ['fault', rule]);
  });

  it('must have only one member at an address', () => {
    const records = [record(1), record(2, { relay: '10.0.0.11:5064' })];
    assert.match(find('DR_RELAY_DUPLICATE', { records })[0]?.mend[0] ?? '', /^# on fe2,/);
  });
});

describe('the farm keys', () => {
  const NEW = 'fedcba9876543210';
  it('must be the same', () => {
    const [found] = find('DR_KEY_MISMATCH', { records: [record(1), record(2, { keys: [NEW] })] });
    assert.match(found?.reason ?? '', /fe2 signs with a key that this member does not have; this member signs/);
  });

  it('are the fix, not the packet filter, when a peer with another key answers no probe', () => {
    const peer = { id: 'fe2', relay: '10.0.0.12:5064', seated: false, reachable: false, misses: ['fe1'] };
    const given = { records: [record(1), record(2, { keys: [NEW] })], member: { ...facts().member!, peers: [peer] } };
    assert.deepEqual(codes(given), ['DR_KEY_MISMATCH']);
  });

  it('may be in rotation: all members have both keys, and some already mint with the new one', () => {
    const records = [record(1, { keys: [OWN_KEY, NEW] }), record(2, { keys: [NEW, OWN_KEY] })];
    assert.deepEqual(codes({ records, keys: [OWN_KEY, NEW] }), []);
  });

  it('are not checked for a member that does not publish them', () => {
    const { keys: _, ...old } = record(2);
    assert.deepEqual(codes({ records: [record(1), old] }), []);
  });

  it('must be loaded by the running member', () => {
    assert.deepEqual(codes({ keys: [OWN_KEY, NEW] }), ['DR_KEY_NOT_LOADED']);
  });

  it('give a finding when frames fail their check while the doctor runs', () => {
    assert.deepEqual(codes({ member: { ...facts().member!, forgedFrames: 5 } }), ['DR_FORGED']);
  });
});

describe('etcd', () => {
  const store = (given: object) => ({ store: { ...facts().store!, ...given } });
  const host = (given: object) => store({ hosts: [{ host: 'h', clockAheadMs: 0, full: 0.1, history: 10, ...given }] });
  for (const [given, code] of [
    [store({ trouble: 'refused' }), 'DR_STORE_UNREACHABLE'],
    [store({ medianMs: 101 }), 'DR_STORE_SLOW'],
    [store({ takesLarge: false }), 'DR_STORE_TXN_OPS'],
    [host({ full: 0.81 }), 'DR_STORE_SPACE'],
    [host({ history: 1_000_001 }), 'DR_STORE_HISTORY'],
    [host({ clockAheadMs: -5001 }), 'DR_CLOCK'],
  ] as const)
    it(`has findings by its measurements: ${code}`, () => assert.deepEqual(codes(given), [code]));

  it('has no finding within these bounds', () => {
    assert.deepEqual(codes(host({ full: 0.8, history: 1_000_000, clockAheadMs: 5000 })), []);
    assert.deepEqual(codes(store({ medianMs: 100 })), []);
  });

  it('should have TLS over a network, not on this host', () => {
    assert.deepEqual(codes({}, config('https:', 'http:')), ['DR_STORE_PLAIN']);
    assert.deepEqual(codes({}, config('https://10.0.0.31', 'http://127.0.0.1')), []);
  });
});

test('a member that does not run gives a hint, and one that is not ready a warning with its own reasons', () => {
  assert.deepEqual(codes({ member: undefined }), ['DR_NOT_RUNNING']);
  const [found] = find('DR_NOT_READY', {
    member: { ...facts().member!, ready: false, reasons: ['the server is down'] },
  });
  assert.match(found?.reason ?? '', /the server is down/);
});

test('a wildcard under DSR that the configuration check refuses has the code of that error', () => {
  const wildcard = 'is a wildcard: with balancer.mode dsr answers must leave from the VIP; bind to the VIP itself';
  const problem = { code: 'SF_CONFIG_INVALID', line: 5, column: 3 } as const;
  const found = diagnoseProblems('x.yaml', [
    { ...problem, field: 'listeners[0].bind', message: wildcard },
    { ...problem, field: 'farm', message: 'is missing' },
  ]);
  assert.deepEqual(
    found.map(({ code }) => code),
    ['DR_WILDCARD_BIND', 'DR_CONFIG'],
  );
});

test('a path under /proc/sys is printed in the form for sysctl', () => {
  assert.equal(sysctlName('net/ipv4/conf/eth0.100/rp_filter'), 'net.ipv4.conf.eth0/100.rp_filter');
});

test('docs/doctor.md explains every code and no others', () => {
  const page = readFileSync(join(import.meta.dirname, '../../../docs/doctor.md'), 'utf8');
  const rows = new Map(
    [...page.matchAll(/^\| `(DR_\w+)` \| \w+(?: or \w+)? \| (.*) \|$/gm)].map(([, code, text]) => [code, text]),
  );
  assert.deepEqual(Object.fromEntries(rows), DOCTOR_CODES);
});

test('the workers of this host are not its peers, and the published data of one counts as its own', () => {
  const host = { ...config(), workers: 2 };
  const workers = [0, 1].map((index) => ({ ...record(1), id: `fe1.${index}`, relay: `10.0.0.11:${5064 + index}` }));
  const given = { records: [...workers, record(2)] };
  assert.deepEqual(codes(given, host), []);
  const outsideFarm = {
    ...facts().member!,
    peers: [{ id: 'fe2', relay: '10.0.0.12:5064', seated: true, reachable: true, misses: ['fe1.1'] }],
  };
  const [found] = find('DR_PEERS_APART', { ...given, member: outsideFarm }, host);
  assert.equal(found?.severity, 'fault');
  assert.match(found?.mend[0] ?? '', /th dport 5064-5065 accept$/);
  const old = workers.map((one) => ({ ...one, keys: ['00'.repeat(8)] }));
  assert.deepEqual(codes({ records: [...old, record(2)] }, host), ['DR_KEY_NOT_LOADED']);
});
