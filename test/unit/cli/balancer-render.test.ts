// `sipfarm balancer render`: its options, its output, and the plan of the live farm for each kind.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { Registry } from 'prom-client';
import { AdminServer } from '../../../src/admin/admin-server.ts';
import { BALANCER_KINDS, type BalancerKind } from '../../../src/balancer/render.ts';
import { makeLog } from '../../../src/base/log.ts';
import { planFor, type RenderOptions, showFiles } from '../../../src/cli/balancer-render.ts';
import { runProgram } from '../../../src/cli/program.ts';
import { type FakeApi, newFakeApi } from '../admin/fake-api.ts';
import { EXAMPLE } from '../balancer/plans.ts';

async function ask(
  t: TestContext,
  argv: readonly string[],
  api: FakeApi = newFakeApi(),
): Promise<{ code: number; out: string; err: string }> {
  const server = new AdminServer({
    bind: { address: '127.0.0.1', port: 0 },
    token: undefined,
    api,
    registry: new Registry(),
    log: makeLog({ level: 'silent' }),
  });
  const { port } = await server.start();
  t.after(() => server.stop());
  const out: string[] = [];
  const err: string[] = [];
  const never = () => Promise.reject(new Error('not asked for'));
  const code = await runProgram(['balancer', 'render', ...argv, '--admin', `127.0.0.1:${port}`], {
    version: '1.2.3',
    environment: {},
    out: (text) => void out.push(text),
    err: (text) => void err.push(text),
    runNode: never,
    runDemo: never,
    runWorker: never,
    runDoctor: never,
    following: { pause: never, interrupted: never },
  });
  return { code, out: out.join('\n'), err: err.join('\n') };
}

test('the command reads the live farm and prints only the one file, so that a pipe can use it', async (t) => {
  const { code, out, err } = await ask(t, ['nftables-nat']);
  assert.deepEqual([code, err], [0, '']);
  assert.ok(out.startsWith('#!/usr/sbin/nft -f\n'));
  assert.match(out, /define vip = 198\.51\.100\.1\n/);
  assert.match(out, /fe1 10\.0\.0\.11/);
});

test('several files are printed with their names, or one of them with --file', async (t) => {
  const all = await ask(t, ['ipvs']);
  assert.match(all.out, /^==> ipvsadm\.rules <==\n-A -u .*\n\n==> keepalived\.conf <==\n/s);
  const one = await ask(t, ['ipvs', '--file', 'ipvsadm.rules']);
  assert.ok(one.out.startsWith('-A -u 198.51.100.1:5060 -s wrr -o\n'));
  const { code, err } = await ask(t, ['ipvs', '--file', 'nothing']);
  assert.equal(code, 2);
  assert.match(err, /^SF_USAGE: ipvs has no file nothing, but ipvsadm\.rules, keepalived\.conf$/m);
});

test('--json prints the plan with all options', async (t) => {
  const options = ['--vip', '203.0.113.9', '--port', '5080', '--check', 'http:8060', '--mac', 'fe1=00:00:5E:00:53:11'];
  const more = [
    '--device',
    'wan0',
    '--out-device',
    'lan0',
    '--balancer-mac',
    '00:00:5e:00:53:01',
    '--address',
    'fe1=10.9.9.9',
  ];
  const { code, out, err } = await ask(t, ['haproxy', ...options, ...more, '--json']);
  assert.equal(code, 0);
  assert.match(err, /^warning: no member advertises 203\.0\.113\.9/);
  assert.deepEqual(JSON.parse(out), {
    farm: 'lab',
    vip: '203.0.113.9',
    services: [
      { transport: 'udp', port: 5080, targetPort: 5060 },
      { transport: 'tcp', port: 5080, targetPort: 5060 },
    ],
    members: [{ id: 'fe1', address: '10.9.9.9', weight: 100, mac: '00:00:5e:00:53:11' }],
    check: { kind: 'http', port: 8060 },
    device: 'wan0',
    outDevice: 'lan0',
    balancerMac: '00:00:5e:00:53:01',
  });
});

test('limits of a kind and unknown facts are printed as warnings to the standard error', async (t) => {
  assert.match((await ask(t, ['haproxy'])).err, /^warning: UDP 5060 is left out: haproxy balances TCP only/);
  const dsr = await ask(t, ['nftables-dsr', '--check', 'none']);
  assert.match(dsr.err, /warning: the MAC addresses of fe1 are unknown/);
  assert.match(dsr.err, /warning: the balancer's own MAC address is unknown/);
});

test('media is planned from the claims of all members, with a warning where a kind or the store has no answer', async (t) => {
  const api = newFakeApi();
  const own = { member: 'fe1', host: 'fe1', bind: '10.0.0.11', first: 10_000, last: 19_999 };
  const claims = [{ ...own, plan: 'multi-ip', advertised: '203.0.113.11' } as const];
  api.portsReport = { ...api.portsReport, claims };
  const nat = await ask(t, ['nftables-nat'], api);
  assert.match(nat.out, /ip daddr 203\.0\.113\.11 udp dport 10000-19999 notrack ip daddr set 10\.0\.0\.11/);
  assert.equal(nat.err, '');
  assert.match((await ask(t, ['nftables-dsr'], api)).err, /the MAC addresses of fe1 are unknown/);
  const haproxy = await ask(t, ['haproxy'], api);
  assert.match(haproxy.err, /media is left out: haproxy maps no ranges of UDP ports/);
  assert.match(haproxy.out, /^# fe1: UDP 203\.0\.113\.11, ports 10000-19999 -> 10\.0\.0\.11/m);
  api.portsReport = { ...api.portsReport, claims: null };
  assert.match((await ask(t, ['nftables-nat'], api)).err, /the store does not answer: media is left out/);
});

test('a farm without members gives SF_BALANCER_PLAN with exit code 1', async (t) => {
  const { code, err, out } = await ask(t, ['envoy'], { ...newFakeApi(), members: () => [] });
  assert.deepEqual([code, out], [1, '']);
  assert.match(err, /^SF_BALANCER_PLAN: no member takes packets/);
});

test('wrong usage of balancer render gives SF_USAGE with exit code 2', async (t) => {
  for (const argv of [
    ['nonsense'],
    [],
    ['haproxy', '--vip', 'somewhere'],
    ['haproxy', '--port', '0'],
    ['haproxy', '--check', 'sip'],
    ['haproxy', '--check', 'sip:70000'],
    ['haproxy', '--mac', 'fe1'],
    ['haproxy', '--mac', 'fe1=zz'],
    ['haproxy', '--balancer-mac', '1'],
    ['haproxy', '--device', 'a b'],
    ['haproxy', '--address', '=10.0.0.1'],
  ]) {
    const { code, err, out } = await ask(t, argv);
    assert.deepEqual([code, out], [2, ''], argv.join(' '));
    assert.match(err, /^SF_USAGE: /);
  }
});

describe('the plan of a kind', () => {
  const FARM = newFakeApi().members();
  const NEIGHBOURS = new Map([['10.0.0.11', '00:00:5e:00:53:11']]);
  const planned = (kind: BalancerKind, options: RenderOptions = {}) =>
    planFor(kind, 'lab', FARM, options, () => NEIGHBOURS);
  const warned = (kind: BalancerKind, options: RenderOptions = {}): number => planned(kind, options).warnings.length;

  test('has MAC addresses from the neighbour table for nftables-dsr only', () => {
    const known = BALANCER_KINDS.filter((kind) => planned(kind).plan.members[0]?.mac !== null);
    assert.deepEqual(known, ['nftables-dsr']);
  });

  test('reads the neighbour table for nftables-dsr only', () => {
    const reading: BalancerKind[] = [];
    for (const kind of BALANCER_KINDS)
      planFor(kind, 'lab', FARM, {}, () => {
        reading.push(kind);
        return NEIGHBOURS;
      });
    assert.deepEqual(reading, ['nftables-dsr']);
  });

  test('has a given MAC address before that of the neighbour table', () => {
    const { plan } = planned('nftables-dsr', { mac: new Map([['fe1', '00:00:5e:00:53:99']]) });
    assert.equal(plan.members[0]?.mac, '00:00:5e:00:53:99');
  });

  test('ends with a warning less for each MAC address that is known', () => {
    const none = planFor('nftables-dsr', 'lab', FARM, {}, () => new Map()).warnings.length;
    const own = { balancerMac: '00:00:5e:00:53:01' };
    assert.deepEqual([none - warned('nftables-dsr'), none - warned('nftables-dsr', own)], [1, 2]);
  });

  test('warns of a missing health check only where the kind has one, and not when it is left out on purpose', () => {
    const listeners = FARM[0]!.listeners.filter(({ transport }) => transport === 'udp');
    const farm = FARM.map((member) => ({ ...member, listeners }));
    const more = (kind: BalancerKind): number => {
      const without = (options: RenderOptions): number =>
        planFor(kind, 'lab', farm, options, () => NEIGHBOURS).warnings.length;
      return without({}) - without({ check: null });
    };
    assert.deepEqual(
      BALANCER_KINDS.filter((kind) => more(kind) === 0),
      ['nftables-nat', 'nftables-dsr'],
    );
  });

  test('is refused for a farm with a name that no farm can have, because it is written into the file', () => {
    for (const farm of ['', 'Lab', 'a b', 'lab\n', 'x'.repeat(33)])
      assert.throws(() => planFor('envoy', farm, FARM, {}, () => NEIGHBOURS), { code: 'SF_BALANCER_PLAN' }, farm);
  });
});

test('a file that is shown alone has no heading, whether it is the only one or the named one', () => {
  assert.doesNotMatch(showFiles('envoy', EXAMPLE, undefined), /==>/);
  assert.match(showFiles('kubernetes', EXAMPLE, 'metallb.yaml'), /^apiVersion: metallb/);
  const all = showFiles('kubernetes', EXAMPLE, undefined);
  assert.deepEqual(all.match(/^==> .* <==$/gm), [
    '==> service.yaml <==',
    '==> metallb.yaml <==',
    '==> cilium.yaml <==',
  ]);
  assert.throws(() => showFiles('kubernetes', EXAMPLE, 'envoy.yaml'), { code: 'SF_USAGE' });
});
