// Addresses of this host: the VIP under DSR, ARP for it, addresses for clients, the source check.
import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import type { Config } from '../../../src/config/schema.ts';
import { checkAddresses, vips } from '../../../src/doctor/address-checks.ts';
import type { HostFacts } from '../../../src/doctor/facts.ts';
import { commandOf, type Finding } from '../../../src/doctor/finding.ts';
import { commandsIn, config, ETH0, facts, LO, LO_WITH_VIP, shown, sysctls } from './facts.ts';

const check = (given: Partial<HostFacts>, of: Config = config()): readonly Finding[] =>
  checkAddresses(of, facts(given));
const NAT = config('mode: dsr', 'mode: nat');
/** A listener on all addresses, behind NAT. */
const WILDCARD = config(
  '198.51.100.1:5060 }\nbalancer: { mode: dsr',
  '0.0.0.0:5060, advertise: 198.51.100.1:5060 }\nbalancer: { mode: nat',
);
const ETH1 = { ...ETH0, name: 'eth1', addresses: [{ address: '198.51.100.11', prefix: 24 }] };

test('the VIPs of DSR are the addresses of listeners, each once, except loopback', () => {
  const two =
    '198.51.100.1:5060 }\n  - { name: tcp, transport: tcp, bind: 198.51.100.1:5060 }\n  - { name: own, transport: udp, bind: 127.0.0.1:5060 }';
  assert.deepEqual(vips(config('198.51.100.1:5060 }', two)), ['198.51.100.1']);
  assert.deepEqual(vips(NAT), []);
});

describe('the VIP under DSR', () => {
  const wide = { ...LO, addresses: [{ address: '198.51.100.1', prefix: 24 }] };
  const outer = { ...ETH0, addresses: [...ETH0.addresses, { address: '198.51.100.1', prefix: 32 }] };
  const six = config('198.51.100.1:5060', '"[2001:db8::1]:5060"');
  const withSix = (prefix: number) => ({ ...LO, addresses: [{ address: '2001:db8::1', prefix }] });

  for (const [title, interfaces, of, expected] of [
    ['is on lo with the mask of one address', [LO_WITH_VIP, ETH0], config(), []],
    ['may be on a dummy interface', [LO, { ...LO_WITH_VIP, name: 'vip0' }, ETH0], config(), []],
    ['is missing on every interface', [LO, ETH0], config(), ['fault DR_VIP_MISSING 198.51.100.1']],
    ['has a mask of many addresses', [wide, ETH0], config(), ['fault DR_VIP_MASK 198.51.100.1']],
    ['is on an interface with neighbours', [LO, outer], config(), ['fault DR_VIP_NOT_ON_LO 198.51.100.1']],
    ['is there twice', [LO_WITH_VIP, outer], config(), ['fault DR_VIP_NOT_ON_LO 198.51.100.1']],
    ['is IPv6 with mask 128', [withSix(128), ETH0], six, []],
    ['is IPv6 with a wider mask', [withSix(64), ETH0], six, ['fault DR_VIP_MASK 2001:db8::1']],
    ['is IPv6 and missing', [LO, ETH0], six, ['fault DR_VIP_MISSING 2001:db8::1']],
  ] as const)
    it(title, () => assert.deepEqual(shown(check({ interfaces }, of)), expected));

  it('is added by the safe fix, and is moved by hand only, because no address may be removed', () => {
    const fixes = (interfaces: HostFacts['interfaces'], of?: Config): string[] =>
      check({ interfaces }, of).flatMap((found) => found.fixes.map(commandOf));
    assert.deepEqual(fixes([LO, ETH0]), ['ip addr add 198.51.100.1/32 dev lo']);
    assert.deepEqual(fixes([LO, ETH0], six), ['ip addr add 2001:db8::1/128 dev lo']);
    for (const [interfaces, del] of [
      [[wide, ETH0], 'ip addr del 198.51.100.1/24 dev lo'],
      [[LO, outer], 'ip addr del 198.51.100.1/32 dev eth0'],
    ] as const) {
      const [found] = check({ interfaces });
      assert.deepEqual(found?.fixes, []);
      assert.deepEqual(commandsIn(found), [del, 'ip addr add 198.51.100.1/32 dev lo']);
    }
  });

  it('is not checked in other modes', () => {
    const codes = check({ interfaces: [LO, ETH0] }, NAT).map(({ code }) => code);
    assert.deepEqual(
      codes.filter((code) => code.startsWith('DR_VIP')),
      [],
    );
  });
});

describe('ARP for the VIP', () => {
  const ofAll = (name: string, value: number): readonly string[] =>
    shown(check({ sysctl: sysctls({ all: { [name]: value } }) }));
  for (const [name, value, code] of [
    ['arp_ignore', 0, 'DR_ARP_IGNORE'],
    ['arp_ignore', 1, undefined],
    ['arp_ignore', 2, undefined],
    ['arp_ignore', 3, 'DR_ARP_IGNORE'],
    ['arp_ignore', 8, undefined],
    ['arp_announce', 0, 'DR_ARP_ANNOUNCE'],
    ['arp_announce', 1, 'DR_ARP_ANNOUNCE'],
    ['arp_announce', 2, undefined],
  ] as const)
    it(`is ${code ? 'answered' : 'quiet'} with ${name} ${value}`, () => {
      const faults = ofAll(name, value).filter((one) => one.startsWith('fault'));
      assert.deepEqual(faults, code ? [`fault ${code} eth0`] : []);
    });

  it('depends on the larger value of all and the interface', () => {
    const found = (all: number, eth0: number): readonly string[] =>
      shown(check({ sysctl: sysctls({ all: { arp_announce: all }, eth0: { arp_announce: eth0 } }) }));
    assert.deepEqual(found(0, 2), []);
    assert.deepEqual(found(1, 0), ['fault DR_ARP_ANNOUNCE eth0']);
  });

  it('is fixed for all, and at an interface whose own value is too large', () => {
    const fixes = (conf: Parameters<typeof sysctls>[0]): string[] =>
      check({ sysctl: sysctls(conf) }).flatMap((found) => found.fixes.map(commandOf));
    assert.deepEqual(fixes({ all: { arp_ignore: 0 } }), ['sysctl -w net.ipv4.conf.all.arp_ignore=1']);
    assert.deepEqual(fixes({ eth0: { arp_ignore: 3 } }), [
      'sysctl -w net.ipv4.conf.all.arp_ignore=1',
      'sysctl -w net.ipv4.conf.eth0.arp_ignore=1',
    ]);
  });

  it('does not depend on an interface that is down or has no IPv4 address', () => {
    const down = { ...ETH0, name: 'eth1', up: false };
    const six = { ...ETH0, name: 'eth2', addresses: [{ address: 'fd00::1', prefix: 64 }] };
    const sysctl = sysctls({ all: { arp_ignore: 0 }, eth0: { arp_ignore: 1 }, eth1: {}, eth2: {} });
    assert.deepEqual(shown(check({ interfaces: [LO_WITH_VIP, ETH0, down, six], sysctl })), []);
  });

  it('does not depend on the settings when the VIP is IPv6, or in other modes', () => {
    const sysctl = sysctls({ all: { arp_ignore: 0, arp_announce: 0 } });
    const six = config('198.51.100.1:5060', '"[2001:db8::1]:5060"');
    assert.deepEqual(shown(check({ sysctl }, six)), ['fault DR_VIP_MISSING 2001:db8::1']);
    assert.deepEqual(
      check({ sysctl }, WILDCARD).filter(({ code }) => code.startsWith('DR_ARP')),
      [],
    );
  });

  it('gives one hint for all settings that a boot loses, with the commands that keep them', () => {
    const found = check({ persisted: new Map() });
    assert.deepEqual(shown(found), [
      'hint DR_NOT_PERSISTED net.ipv4.conf.all.arp_ignore, net.ipv4.conf.all.arp_announce',
    ]);
    assert.deepEqual(commandsIn(found[0]), [
      "echo 'net.ipv4.conf.all.arp_ignore = 1' >> /etc/sysctl.d/60-sipfarm.conf",
      "echo 'net.ipv4.conf.all.arp_announce = 2' >> /etc/sysctl.d/60-sipfarm.conf",
    ]);
  });

  for (const [kept, hint] of [
    ['0', true],
    ['3', true],
    ['1', false],
    ['8', false],
  ] as const)
    it(`${hint ? 'gives a hint' : 'is kept'} when a boot file sets arp_ignore to ${kept}`, () => {
      const persisted = new Map([...facts().persisted, ['net/ipv4/conf/all/arp_ignore', kept]] as const);
      assert.deepEqual(shown(check({ persisted })), hint ? ['hint DR_NOT_PERSISTED net.ipv4.conf.all.arp_ignore'] : []);
    });

  it('gives no hint about a boot for a setting that is wrong now', () => {
    const found = check({ persisted: new Map(), sysctl: sysctls({ all: { arp_ignore: 0 } }) });
    assert.deepEqual(shown(found), [
      'fault DR_ARP_IGNORE eth0',
      'hint DR_NOT_PERSISTED net.ipv4.conf.all.arp_announce',
    ]);
  });
});

describe('a listener', () => {
  it('on a wildcard while its VIP is an alias here is reported in any mode, with the lines of its repair', () => {
    const found = check({}, WILDCARD);
    assert.deepEqual(shown(found), ['fault DR_WILDCARD_BIND listener edge (0.0.0.0:5060)']);
    assert.match(found[0]?.mend.join('\n') ?? '', /bind: "198\.51\.100\.1:5060"\n.*mode: dsr/);
    assert.deepEqual(shown(check({ interfaces: [LO, ETH0] }, WILDCARD)), [], 'behind NAT a wildcard is good');
  });

  for (const [title, given, reported] of [
    ['its own address', '198.51.100.1:5060', true],
    ['another address', '10.0.0.11:5060, advertise: 198.51.100.1:5060', false],
    ['a domain name', '10.0.0.11:5060, advertise: sip.example.com', false],
    ['another port', '10.0.0.11:5060, advertise: 10.0.0.11:5080', false],
  ] as const)
    it(`behind a NAT balancer ${reported ? 'may not' : 'may'} advertise ${title}`, () => {
      const of = config('198.51.100.1:5060 }\nbalancer: { mode: dsr', `${given} }\nbalancer: { mode: nat`);
      const expected = reported ? ['fault DR_ADVERTISE_MISSING listener edge (198.51.100.1:5060)'] : [];
      assert.deepEqual(shown(check({ interfaces: [LO, ETH0] }, of)), expected);
    });

  it('behind a NAT balancer may advertise its own address when that is a VIP on this host', () => {
    assert.deepEqual(shown(check({}, NAT)), []);
  });
});

test('missing probe sources give a warning behind a balancer with listeners, and nothing without', () => {
  const none = (mode: string): Config => config('mode: dsr, probes: [198.51.100.254/32]', `mode: ${mode}`);
  assert.deepEqual(shown(check({}, none('dsr'))), ['warning DR_PROBES_EMPTY balancer.probes']);
  assert.deepEqual(shown(check({}, none('nat'))), ['warning DR_PROBES_EMPTY balancer.probes']);
  assert.deepEqual(shown(check({}, none('none'))), []);
  assert.deepEqual(shown(check({}, { ...none('dsr'), listeners: [] })), []);
});

describe('the source check', () => {
  const routes = new Map([['198.51.100.254', { device: 'eth1', mtu: 1500 }]]);
  const two = { interfaces: [LO_WITH_VIP, ETH0, ETH1], sysctl: sysctls({ eth1: { rp_filter: 1 } }) };

  for (const [title, given, expected] of [
    ['is a fault where the balancer is', { ...two, routes }, ['fault DR_RP_FILTER eth1']],
    ['is a hint where the balancer may be', two, ['hint DR_RP_FILTER eth1']],
    ['is no fault where it is loose', { ...two, routes, sysctl: sysctls({ eth1: { rp_filter: 2 } }) }, []],
    ['is loose when all is', { ...two, sysctl: sysctls({ all: { rp_filter: 2 }, eth1: { rp_filter: 1 } }) }, []],
    [
      'is strict when all is',
      { ...two, routes, sysctl: sysctls({ all: { rp_filter: 1 } }) },
      ['fault DR_RP_FILTER eth1'],
    ],
    ['is no fault on the way back to clients', { ...two, routes, defaultDevice: 'eth1' }, []],
    ['is not judged without a default route', { ...two, routes, defaultDevice: undefined }, []],
  ] as const)
    it(title, () => assert.deepEqual(shown(check(given)), expected));

  it('is loosened by the safe fix where it is certain, and by hand where it is not', () => {
    const [certain] = check({ ...two, routes });
    assert.deepEqual(certain?.fixes.map(commandOf), ['sysctl -w net.ipv4.conf.eth1.rp_filter=2']);
    const [perhaps] = check(two);
    assert.deepEqual(perhaps?.fixes, []);
    assert.equal(commandsIn(perhaps)[0], 'sysctl -w net.ipv4.conf.eth1.rp_filter=2');
  });

  it('is not judged in other modes', () => {
    assert.deepEqual(shown(check({ ...two, routes }, NAT)), []);
  });

  it('must be loose on the relay link when packets are relayed with the addresses of clients', () => {
    const transparent = config('10.0.0.11:5064 }', '10.0.0.11:5064, mode: transparent }');
    const lan = { ...ETH0, name: 'eth1' };
    const wan = { ...ETH0, addresses: [{ address: '192.0.2.11', prefix: 24 }] };
    const given = { ...two, interfaces: [LO_WITH_VIP, wan, lan] };
    assert.deepEqual(shown(check(given, transparent)), ['fault DR_RP_FILTER eth1']);
    assert.deepEqual(shown(check({ ...given, defaultDevice: 'eth1' }, transparent)), []);
    assert.deepEqual(shown(check(given)), ['hint DR_RP_FILTER eth1'], 'frames come from the members');
  });
});
