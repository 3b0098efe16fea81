// The needs of the media relay in the kernel: nft, the right to change packet filters, forwarding, and no filter
// against it.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { diagnose } from '../../../src/doctor/doctor.ts';
import type { OffloadFacts } from '../../../src/doctor/facts.ts';
import { checkOffload } from '../../../src/doctor/offload-checks.ts';
import { readUnitRights, tryOffload } from '../../../src/doctor/offload-facts.ts';
import { commandsIn, config, ETH0, facts, LO_WITH_VIP, shown, sysctls } from './facts.ts';

const ETH1 = { name: 'eth1', inner: false, up: true, addresses: [{ address: '2001:db8::1', prefix: 64 }] };
const USABLE = { nft: 'usable', unitRights: 'cap_net_admin', dropping: [] } as const;
const WISH = { mode: 'on', addresses: ['10.0.0.11'] } as const;
const MEDIA = { offload: 'on', bind: '198.51.100.1', inside: '10.0.0.11' } as const;
const FORWARDS = { all: { forwarding: 0 }, eth0: { forwarding: 1 } };

const check = (given: Partial<OffloadFacts>, conf: Parameters<typeof sysctls>[0] = {}, six: object = {}) =>
  checkOffload(
    facts({
      offload: { ...USABLE, ...WISH, ...given },
      interfaces: [LO_WITH_VIP, ETH0, ETH1],
      sysctl: sysctls({ ...FORWARDS, ...conf }, { ...six }),
    }),
  );

describe('the media relay in the kernel', () => {
  const rights = 'fault DR_OFFLOAD_RIGHT sipfarm.service';
  for (const [title, given, conf, expected] of [
    ['has all it needs', {}, {}, []],
    ['has no nft', { nft: 'missing' }, {}, ['fault DR_OFFLOAD_NFT nft']],
    ['has no nft, and user space is as good', { nft: 'missing', mode: 'auto' }, {}, ['hint DR_OFFLOAD_NFT nft']],
    ['has its inner ports on loopback', { addresses: ['127.0.0.1'] }, { eth0: { forwarding: 0 } }, []],
    ['has another right', { unitRights: 'cap_net_raw' }, {}, [rights]],
    ['has no right', { unitRights: '', nft: 'refused' }, {}, [rights]],
    ['is checked by a user without the right', { nft: 'refused' }, {}, ['hint DR_OFFLOAD_RIGHT this shell']],
    ['has no unit', { unitRights: undefined }, {}, []],
    ['cannot forward', {}, { eth0: { forwarding: 0 } }, ['fault DR_OFFLOAD_FORWARDING eth0']],
    [
      'cannot forward from one of the interfaces of a VIP on lo',
      { addresses: ['198.51.100.1'] },
      { eth1: { forwarding: 0 } },
      ['fault DR_OFFLOAD_FORWARDING eth0, eth1'],
    ],
    ['meets a filter', { dropping: ['ip filter FORWARD'] }, {}, ['hint DR_OFFLOAD_FILTER ip filter FORWARD']],
    ['has strict sources on the interface of the default route', {}, { all: { rp_filter: 1 } }, []],
    [
      'has strict sources on another one',
      { addresses: ['198.51.100.1'] },
      { eth1: { forwarding: 1, rp_filter: 1 } },
      ['hint DR_OFFLOAD_SOURCE eth1'],
    ],
  ] as const)
    it(title, () => assert.deepEqual(shown(check(given, conf)), expected));

  it('is not checked without media', () => assert.deepEqual(checkOffload(facts()), []));

  it('is part of the diagnosis', () => {
    const given = facts({ offload: { ...USABLE, ...WISH, nft: 'missing' } });
    assert.deepEqual(shown(diagnose(config(), [], given)), ['fault DR_OFFLOAD_NFT nft']);
  });

  it('gets forwarding for one interface of IPv4', () => {
    assert.deepEqual(check({}, { eth0: { forwarding: 0 } })[0]?.fixes, [
      { kind: 'sysctl', path: 'net/ipv4/conf/eth0/forwarding', value: '1' },
    ]);
  });

  for (const [title, six, expected] of [
    ['of one interface, where the kernel can', { eth1: { force_forwarding: 0 } }, ['eth1/force_forwarding=1']],
    ['of all others', {}, ['all/forwarding=1']],
    [
      'after the setting that keeps the routes of router advertisements',
      { eth0: { accept_ra: 1 }, eth1: { accept_ra: 0 } },
      ['eth0/accept_ra=2', 'all/forwarding=1'],
    ],
    ['no more where it is on for all', { all: { forwarding: 1 }, eth1: { force_forwarding: 0 } }, []],
  ] as const)
    it(`gets forwarding of IPv6 ${title}`, () => {
      const settings = Object.entries({ all: { forwarding: 0 }, ...six }).flatMap(([name, values]) =>
        Object.entries(values).map(([key, value]) => [`net/ipv6/conf/${name}/${key}`, String(value)]),
      );
      const found = check({ addresses: ['2001:db8::1'] }, {}, Object.fromEntries(settings));
      const fixes = found
        .flatMap((each) => each.fixes)
        .map((fix) => fix.kind === 'sysctl' && `${fix.path}=${fix.value}`);
      assert.deepEqual(
        fixes,
        expected.map((each) => `net/ipv6/conf/${each}`),
      );
    });

  it('keeps the other rights of the unit', () => {
    const [found] = check({ unitRights: 'cap_net_raw' });
    assert.match(commandsIn(found).join('\n'), /AmbientCapabilities=CAP_NET_RAW CAP_NET_ADMIN\\n/);
  });
});

describe('the facts for the media relay in the kernel', () => {
  const RULESET = `table inet own {
\tchain in {
\t\ttype filter hook input priority filter; policy drop;
\t}
\tchain on {
\t\ttype filter hook forward priority filter; policy accept;
\t}
}
table ip filter {
\tchain FORWARD {
\t\ttype filter hook forward priority filter; policy drop;
\t}
}
`;
  /** A host on which the programs in `answers` succeed, by their first arguments. */
  const host = (answers: Readonly<Record<string, string>>) => async (command: string, args: readonly string[]) =>
    Object.entries(answers).find(([line]) => `${command} ${args.join(' ')}`.startsWith(line))?.[1];

  for (const [title, answers, expected] of [
    ['without nft', {}, { nft: 'missing', unitRights: undefined, dropping: [] }],
    ['without a right', { 'nft --version': '' }, { nft: 'refused', unitRights: undefined, dropping: [] }],
    [
      'with a filter',
      { 'nft --version': '', 'nft -c add table inet sipfarm_media_doctor': '', 'nft list ruleset': RULESET },
      { nft: 'usable', unitRights: undefined, dropping: ['ip filter FORWARD'] },
    ],
  ] as const)
    it(`are those of a host ${title}`, async () =>
      assert.deepEqual(await tryOffload(host(answers), MEDIA), {
        ...{ mode: 'on', addresses: ['198.51.100.1', '10.0.0.11'] },
        ...expected,
      }));

  it('are not collected when it is off, or without media', async () => {
    assert.equal(await tryOffload(host({}), { ...MEDIA, offload: 'off' }), undefined);
    assert.equal(await tryOffload(host({}), undefined), undefined);
  });

  it('have the rights of a unit that is there', async () => {
    const unit = (state: string) => host({ systemctl: `LoadState=${state}\nAmbientCapabilities=cap_net_admin\n` });
    assert.deepEqual(
      [await readUnitRights(unit('loaded')), await readUnitRights(unit('not-found'))],
      ['cap_net_admin', undefined],
    );
  });
});
