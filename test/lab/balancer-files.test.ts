// Farms behind the very configurations that `sipfarm balancer render` writes for them while they run. Without haproxy or nginx (with
// its stream module) their tests are skipped; where it may, npm test installs them.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { globSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Farm, type LabConfig, sumOf } from './farm.ts';
import { clientAddress, Lab, VIP } from './lab.ts';
import { LAB_TOOLS, without } from './missing.ts';
import { Sipp, type SippOptions } from './sipp.ts';
import { until } from './until.ts';

const NEEDS = without(...LAB_TOOLS, 'etcd', 'etcdctl');
const LIMIT = { timeout: 90_000 };
/** The balancer's address on the members' side. */
const BALANCER = '10.0.0.1';
const LB_MAC = '00:00:5e:00:53:01';
const CALLS = 60;

const isThere = (program: string, flag: string): boolean => spawnSync(program, [flag]).status === 0;
const needs = (what: string, is: boolean): string | false => NEEDS || (is ? false : `needs ${what}`);

/** The scenario with rport in its Via headers (RFC 3581), as a path for `Sipp.start`: whoever sends through sessions of others needs it. */
function withRport(lab: Lab, scenario: string): string {
  const folder = join(import.meta.dirname, 'scenarios');
  const text = readFileSync(join(folder, `${scenario}.xml`), 'utf8');
  const path = join(lab.dir, `${scenario}-rport`);
  writeFileSync(`${path}.xml`, text.replaceAll('branch=[branch]', 'branch=[branch];rport'));
  return relative(folder, path);
}

/** Runs so many calls from client `i` to the VIP; all must be good. */
async function callsAreGood(lab: Lab, farm: Farm, i: number, given: Partial<SippOptions>): Promise<void> {
  const name = `client-${i}-${given.name ?? 'first'}`;
  const own = { host: 'c', address: clientAddress(i), port: 5060, remote: `${VIP}:5060` } as const;
  const load = { calls: CALLS, rate: 20, pauseMs: 200, timeoutSeconds: 30, load: true };
  const options = { scenario: 'uac-invite', user: 'invite', ...own, ...load, ...given, name };
  const { exit, successful, failed, errors } = await Sipp.start(lab, options).done;
  const logs = [1, 2, 3].map((k) => `\nmember ${k}: ${farm.logTail(k)}`).join('');
  const good = { exit: 0, successful: CALLS, failed: 0 };
  assert.deepEqual({ exit, successful, failed }, good, `${name}: ${errors}${logs}`);
}

/** What `sipfarm balancer render` prints at member 1. */
async function render(farm: Farm, ...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await farm.command(1, 'balancer', 'render', ...args);
  assert.deepEqual([code, stderr.replace(/^npm.*\n/gm, '')], [0, ''], stderr);
  return stdout;
}

/** Takes the laboratory's own balancer away; the text becomes a file of its directory. */
async function put(lab: Lab, name: string, text: string): Promise<string> {
  const path = join(lab.dir, name);
  writeFileSync(path, text);
  await lab.run('lb', 'nft', ['flush', 'ruleset']);
  return path;
}

for (const mode of ['nat', 'dsr'] as const)
  describe(`a farm behind what render writes for nftables-${mode}`, { skip: NEEDS }, () => {
    let lab: Lab;
    let farm: Farm;
    const rendered = (): Promise<string> =>
      render(farm, `nftables-${mode}`, '--vip', VIP, '--device', 'fr', '--out-device', 'bk', '--balancer-mac', LB_MAC);
    const load = async (): Promise<void> => {
      const file = await put(lab, 'sipfarm.nft', await rendered());
      const { code, stderr } = await lab.run('lb', 'nft', ['-f', file]);
      assert.equal(code, 0, stderr);
    };

    before(async () => {
      lab = Lab.open(mode);
      farm = await Farm.start(lab);
      await load();
      lab.forgetSources();
    }, LIMIT);
    after(() => lab?.close());

    it('carries calls by UDP, each datagram to another member', LIMIT, async () => {
      await callsAreGood(lab, farm, 0, { scenario: 'uac-invite' });
      const received = (await farm.metrics()).map((text) =>
        sumOf(text, 'sipfarm_received_packets_total', { listener: 'edge', class: 'sip' }),
      );
      const sum = received.reduce((a, b) => a + b);
      for (const one of received) assert.ok(Math.abs(one - sum / 3) < sum / 30, `${received}`);
    });
    it('carries calls by TCP, a connection for each', LIMIT, () => callsAreGood(lab, farm, 1, { transport: 'tn' }));
    it('carries requests of the farm to its clients', LIMIT, () =>
      callsAreGood(lab, farm, 2, { scenario: 'uac-hangup', user: 'hangup' }),
    );
    it('shows the client the VIP and nothing else', () => {
      assert.deepEqual([...lab.sources().keys()], [`${VIP}:5060`]);
    });
    it('leaves a member out that has gone, when it is written anew', LIMIT, async () => {
      assert.match(await rendered(), /\bm3\b/);
      farm.signal(3, 'SIGTERM');
      await farm.ended(3);
      await until(
        async () => !/\bm3\b/.test(await rendered()),
        () => 'm3 stays in the configuration',
      );
      await load();
      await callsAreGood(lab, farm, 3, { name: 'later' });
    });
  });

/** As the examples say for a proxy: a header on TCP, answers to UDP by the member it came to. */
function behindProxy(_: number, config: LabConfig): object {
  const listeners = config.listeners
    .filter(({ name }) => name !== 'edge6')
    .map((listener) =>
      listener.transport === 'tcp' ? { ...listener, proxyProtocol: 'require' } : { ...listener, answer: 'ingress' },
    );
  return { ...config, listeners, balancer: { mode: 'nat', trusted: [`${BALANCER}/32`] } };
}

describe('a farm behind what render writes for haproxy', { skip: needs('haproxy', isThere('haproxy', '-v')) }, () => {
  let lab: Lab;
  let farm: Farm;
  const headers = async (outcome: string): Promise<number[]> =>
    (await farm.metrics()).map((text) => sumOf(text, 'sipfarm_proxy_headers_total', { outcome }));

  before(async () => {
    lab = Lab.open('nat');
    farm = await Farm.start(lab, { adjust: behindProxy });
    const { code, stdout, stderr } = await farm.command(1, 'balancer', 'render', 'haproxy');
    assert.equal(code, 0, stderr);
    const file = await put(lab, 'haproxy.cfg', stdout);
    await lab.run('lb', 'ip', ['addr', 'add', `${VIP}/32`, 'dev', 'lo']);
    lab.exec('lb', 'haproxy', ['-db', '-f', file], 'haproxy');
    await until(
      async () => (await headers('local')).every((count) => count >= 2),
      () => `haproxy asks nobody: ${lab.log('haproxy')}`,
    );
    lab.forgetSources();
  }, LIMIT);
  after(() => lab?.close());

  it('carries calls, a connection for each', LIMIT, () => callsAreGood(lab, farm, 0, { transport: 'tn' }));
  it('carries requests of the farm by the connection of the client', LIMIT, () =>
    callsAreGood(lab, farm, 1, { scenario: 'uac-hangup', user: 'hangup', transport: 't1' }),
  );
  it('names the clients to the members, and every header is a good one', async () => {
    assert.ok((await headers('proxied')).reduce((a, b) => a + b) > CALLS);
    for (const wrong of ['malformed', 'nested', 'cut', 'too-long'])
      assert.deepEqual(await headers(wrong), [0, 0, 0], wrong);
    const said = lab.log('haproxy');
    assert.doesNotMatch(said, /is DOWN/);
  });
  it('sees a member drain by its check, and calls go on', LIMIT, async () => {
    farm.signal(3, 'SIGTERM');
    await until(
      () => /farm-5060\/m3 is DOWN, reason: Layer7/.test(lab.log('haproxy')),
      () => `not seen: ${lab.log('haproxy')}`,
    );
    await farm.ended(3);
    await callsAreGood(lab, farm, 2, { transport: 'tn', name: 'later' });
  });
});

const hasNginx = isThere('nginx', '-V') && globSync('/etc/nginx/modules-enabled/*stream*').length > 0;

describe('a farm behind what render writes for nginx-stream', {
  skip: needs('nginx with its stream module', hasNginx),
}, () => {
  let lab: Lab;
  let farm: Farm;

  before(async () => {
    lab = Lab.open('nat');
    farm = await Farm.start(lab, { adjust: behindProxy });
    const file = await put(lab, 'nginx.conf', await render(farm, 'nginx-stream'));
    await lab.run('lb', 'ip', ['addr', 'add', `${VIP}/32`, 'dev', 'lo']);
    const here = `daemon off; pid ${join(lab.dir, 'nginx.pid')}; error_log ${join(lab.dir, 'nginx-errors.log')};`;
    lab.exec('lb', 'nginx', ['-c', file, '-e', join(lab.dir, 'nginx-start.log'), '-g', here], 'nginx');
    await until(
      async () => /:5060 .*\n(?:.*\n)*.*:5060 /.test((await lab.run('lb', 'ss', ['-lntu'])).stdout),
      () => `nginx does not listen: ${lab.log('nginx')}${lab.log('nginx-errors')}`,
    );
    lab.forgetSources();
  }, LIMIT);
  after(() => lab?.close());

  it('carries calls by UDP through the sessions of nginx', LIMIT, () =>
    callsAreGood(lab, farm, 0, { scenario: withRport(lab, 'uac-invite') }),
  );
  it('carries calls by TCP, a connection for each', LIMIT, () => callsAreGood(lab, farm, 1, { transport: 'tn' }));
  it('carries requests of the farm to a client of UDP', LIMIT, () =>
    callsAreGood(lab, farm, 2, { scenario: withRport(lab, 'uac-hangup'), user: 'hangup' }),
  );
  it('shows the client the VIP and nothing else', () => {
    assert.deepEqual([...lab.sources().keys()], [`${VIP}:5060`]);
  });
});
