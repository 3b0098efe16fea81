// The nftables rules of a plan: how they spread packets over the members, and what they change in a packet.
// test/integration/balancer loads them with nft.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { renderNftablesDsr, renderNftablesNat } from '../../../src/balancer/nftables.ts';
import { type BalancerPlan, buckets, type PlannedService } from '../../../src/balancer/plan.ts';
import { EXAMPLE, FARMS, frontend } from './plans.ts';

/** One rule per element: comments are left out, and a map of several lines becomes one. */
function rulesOf(text: string, chain: 'in' | 'out'): string[] {
  const lines = text
    .replaceAll(/^\s*#.*\n/gm, '')
    .replaceAll(/\{\n?([^{}]*:[^{}]*)\}/g, (map) => map.replaceAll(/\s+/g, ' '));
  const body = new RegExp(`^  chain ${chain} \\{\\n(.*?)\\n  \\}$`, 'ms').exec(lines)?.[1] ?? assert.fail(text);
  return body.split('\n').map((line) => line.trim());
}

/** Returns the targets of a rule's map by number. Fails unless each number below the modulus has exactly one. */
function targetsOf(rule: string): string[] {
  const [, modulus = '', entries = ''] = /\bmod (\d+) (?:seed \w+ )?map \{ (.*) \}/.exec(rule) ?? assert.fail(rule);
  const targets: string[] = [];
  for (const entry of entries.split(', ')) {
    const [, first, last = first, target = ''] = /^(\d+)(?:-(\d+))? : (\S+)$/.exec(entry.trim()) ?? assert.fail(entry);
    assert.equal(Number(first), targets.length, `${entry} follows the number before`);
    targets.push(...Array<string>(Number(last) - Number(first) + 1).fill(target));
  }
  assert.equal(targets.length, Number(modulus));
  return targets;
}

const ruleOf = (text: string, part: string): string =>
  rulesOf(text, 'in').find((rule) => rule.includes(part)) ?? assert.fail(`no rule for ${part} in ${text}`);
const count = (targets: readonly string[], one: string): number => targets.filter((target) => target === one).length;

const service = (transport: 'udp' | 'tcp', port: number, targetPort: number): PlannedService => ({
  transport,
  port,
  targetPort,
});
const withServices = (...services: PlannedService[]): BalancerPlan => ({ ...EXAMPLE, services });
const fragmentsOf = (text: string, chain: 'in' | 'out'): string[] =>
  rulesOf(text, chain).filter((rule) => rule.includes('frag-off'));

const KINDS = [
  ['address rewriting', renderNftablesNat, ({ address }: { readonly address: string }) => address],
  ['direct server return', renderNftablesDsr, ({ mac }: { readonly mac: string | null }) => mac ?? ''],
] as const;

for (const [title, render, target] of KINDS)
  describe(`nftables by ${title}`, () => {
    for (const [farm, plan] of Object.entries(FARMS))
      for (const { transport, port } of plan.services)
        test(`gives every member its share of ${transport} ${port} for ${farm}`, () => {
          const targets = targetsOf(ruleOf(render(plan), `${transport} dport ${port} `));
          const expected = transport === 'tcp' ? buckets(plan.members, 64).map(target) : undefined;
          if (expected) assert.deepEqual(targets, expected);
          else for (const member of plan.members) assert.ok(count(targets, target(member)) > 0, member.id);
          assert.deepEqual(
            targets.filter((one) => !plan.members.some((member) => target(member) === one)),
            [],
          );
        });

    test('gives as many numbers of the round to a member as it has units of weight', () => {
      const members = [frontend(1, { weight: 300 }), frontend(2, { weight: 100 }), frontend(3, { weight: 200 })];
      const targets = targetsOf(ruleOf(render({ ...EXAMPLE, members }), 'udp dport 5060 '));
      assert.deepEqual(
        members.map((member) => count(targets, target(member))),
        [3, 1, 2],
      );
    });

    test('never has a round of more than a hundred numbers for a member, nor of none', () => {
      const members = [frontend(1, { weight: 997 }), frontend(2, { weight: 1 })];
      const targets = targetsOf(ruleOf(render({ ...EXAMPLE, members }), 'udp dport 5060 '));
      assert.deepEqual(
        members.map((member) => count(targets, target(member))),
        [100, 1],
      );
    });

    test('hashes the address and port of a TCP client only, so that a connection stays at its member', () => {
      assert.match(ruleOf(render(EXAMPLE), 'tcp dport'), / jhash ip saddr \. tcp sport mod 64 seed 0x5eed map /);
      assert.match(ruleOf(render(FARMS.IPv6), 'tcp dport'), / jhash ip6 saddr \. tcp sport mod 64 seed 0x5eed map /);
    });

    test('sends all fragments of an IPv4 datagram to one member, by its sender and identification', () => {
      const [first, ...others] = fragmentsOf(render(EXAMPLE), 'in');
      assert.match(
        first!,
        /^ip daddr \$vip ip protocol udp ip frag-off & 0x3fff != 0 .*\bjhash ip saddr \. ip id mod 4 /,
      );
      assert.deepEqual([new Set(targetsOf(first!)).size, others], [4, []]);
      assert.ok(rulesOf(render(EXAMPLE), 'in').indexOf(first!) === 1, 'before the rules that read ports');
      assert.deepEqual(fragmentsOf(render(FARMS.IPv6), 'in'), []);
    });

    test('replaces its own table of the same family in one step', () => {
      const family =
        title === 'address rewriting' ? ['ip sipfarm', 'ip6 sipfarm6'] : ['netdev sipfarm', 'netdev sipfarm6'];
      for (const [at, plan] of [EXAMPLE, FARMS.IPv6].entries()) {
        const tables = render(plan).match(/^(?:delete )?table .*$/gm);
        assert.deepEqual(tables, [`table ${family[at]}`, `delete table ${family[at]}`, `table ${family[at]} {`]);
      }
    });
  });

describe('address rewriting', () => {
  test('takes every packet out of the connection tracker, inward and outward', () => {
    const rules = rulesOf(renderNftablesNat(FARMS['two ports, a connection checked']), 'in').slice(1);
    for (const rule of rules) assert.match(rule, /\bnotrack\b/);
    assert.equal(rules.length, 1 + 3 + 3);
  });

  test('changes the port inward and outward where the members have another one, and only there', () => {
    const text = renderNftablesNat(withServices(service('udp', 5060, 5060), service('tcp', 5060, 5070)));
    assert.doesNotMatch(ruleOf(text, 'udp dport 5060 '), /dport set/);
    assert.match(ruleOf(text, 'tcp dport 5060 '), / tcp dport set 5070 counter accept$/);
    assert.deepEqual(rulesOf(text, 'in').slice(-2), [
      'ip saddr $members udp sport 5060 notrack',
      'ip saddr $members tcp sport 5070 notrack',
    ]);
    assert.deepEqual(rulesOf(text, 'out').slice(1, 3), [
      'ip saddr $members udp sport 5060 ip saddr set $vip counter',
      'ip saddr $members tcp sport 5070 ip saddr set $vip tcp sport set 5060 counter',
    ]);
  });

  test('gives later fragments of an answer the VIP as source', () => {
    assert.deepEqual(fragmentsOf(renderNftablesNat(EXAMPLE), 'out'), [
      'ip saddr $members ip protocol udp ip frag-off & 0x1fff != 0 ip saddr set $vip counter',
    ]);
  });

  test('leaves fragments alone when a UDP port is changed, because later ones contain none', () => {
    for (const [plan, rules] of [
      [withServices(service('udp', 5060, 5070)), 0],
      [withServices(service('udp', 5060, 5060), service('udp', 5080, 5070)), 0],
      [withServices(service('udp', 5060, 5060), service('tcp', 5060, 5070)), 1],
    ] as const)
      for (const chain of ['in', 'out'] as const)
        assert.equal(fragmentsOf(renderNftablesNat(plan), chain).length, rules);
  });

  test('names the VIP and the addresses of all members once', () => {
    const text = renderNftablesNat(FARMS.IPv6);
    assert.match(text, /^define vip = 2001:db8::1$/m);
    assert.match(text, /^define members = \{ 2001:db8::11, 2001:db8::12 \}$/m);
  });
});

describe('direct server return', () => {
  const rules = (plan: BalancerPlan): string[] => rulesOf(renderNftablesDsr(plan), 'in').slice(1);

  test('changes only the MAC addresses of a frame, and sends it on by the interface of the members', () => {
    for (const rule of rules({ ...EXAMPLE, device: 'wan0', outDevice: 'lan0' })) {
      assert.deepEqual(rule.match(/\S+ \S+ set\b/g), ['ether saddr set', 'ether daddr set'], rule);
      assert.match(rule, / ether saddr set \$balancer ether daddr set .* counter fwd to \$out$/);
    }
  });

  test('reads at the interface of the clients', () => {
    const text = renderNftablesDsr({ ...EXAMPLE, device: 'wan0', outDevice: 'lan0' });
    assert.match(text, /^define in = "wan0"\ndefine out = "lan0"\ndefine balancer = 00:00:5e:00:53:01$/m);
    assert.match(text, /^ {4}type filter hook ingress device \$in /m);
  });

  test('marks an unknown MAC address with the name of its member, and the file as not ready', () => {
    const text = renderNftablesDsr({
      ...EXAMPLE,
      members: [frontend(1), frontend(2, { mac: null })],
      balancerMac: null,
    });
    assert.match(text, /^define balancer = MAC-OF-THE-BALANCER$/m);
    assert.deepEqual(targetsOf(ruleOf(text, 'udp dport')), ['00:00:5e:00:53:11', 'MAC-OF-fe2']);
    assert.match(text, /^# NOT READY: .*--balancer-mac.*\bfe2 .*--mac fe2=/m);
    assert.doesNotMatch(text, /--mac fe1=/);
    assert.doesNotMatch(renderNftablesDsr(EXAMPLE), /NOT READY|MAC-OF/);
  });
});
