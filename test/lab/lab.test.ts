// Tests of the laboratory itself, without the farm: stand-ins for members forward without state to one server, so any
// of them can handle any packet.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { buckets } from './balancer-rules.ts';
import { SHARED_PORT, startSharedServer, startStandIn } from './kamailio.ts';
import {
  clientAddress,
  clientAddress6,
  isDirectReturn,
  Lab,
  memberAddress,
  memberAddress6,
  SHARED_SERVER,
  VIP,
  VIP6,
} from './lab.ts';
import { LAB_TOOLS, without } from './missing.ts';
import { startPhones } from './phones.ts';
import { parseStatistics, Sipp, type SippResult } from './sipp.ts';

const SCENARIOS = ['invite', 'cancel', 'reject', 'auth', 'prack', 'hangup', 'subscribe'] as const;

/** Asserts that all calls were made and succeeded. */
function assertGood(result: SippResult, calls: number, who: string): void {
  const { exit, created, successful, failed, errors } = result;
  assert.deepEqual(
    { exit, created, successful, failed },
    { exit: 0, created: calls, successful: calls, failed: 0 },
    `${who}: ${errors}`,
  );
}

describe('the laboratory', { skip: without(...LAB_TOOLS) }, () => {
  for (const mode of ['nat', 'dsr'] as const) {
    it(`carries every scenario through the balancer in ${mode} mode, and the client gets packets only from the VIP`, {
      skip: without('kamailio'),
    }, async (t) => {
      const lab = Lab.open(mode);
      t.after(() => lab.close());
      for (const k of [1, 2, 3]) await startStandIn(lab, k, `${SHARED_SERVER}:${SHARED_PORT}`);
      const server = { host: 'k', address: SHARED_SERVER, port: SHARED_PORT } as const;
      const uas = Sipp.start(lab, { name: 'uas', scenario: 'uas', load: true, ...server });
      const client = { host: 'c', remote: `${VIP}:5060`, port: 5060, timeoutSeconds: 20 } as const;
      const runs = SCENARIOS.map((name, i) =>
        Sipp.start(lab, {
          name,
          scenario: `uac-${name}`,
          user: name,
          address: clientAddress(i),
          calls: 20,
          rate: 20,
          pauseMs: 100,
          ...client,
        }),
      );
      for (const [i, run] of runs.entries()) assertGood(await run.done, 20, SCENARIOS[i]!);
      assertGood(await uas.stop(), 20 * SCENARIOS.length, 'server');
      assert.deepEqual([...lab.sources().keys()], [`${VIP}:5060`]);
    });
  }

  for (const mode of ['nat', 'session', 'dsr', 'tunnel'] as const) {
    it(`carries IPv6 through the balancer in ${mode} mode, only to the members in the pool`, async (t) => {
      const lab = Lab.open(mode, [2]);
      t.after(() => lab.close());
      const address = isDirectReturn(mode) ? VIP6 : memberAddress6(2);
      const uas = Sipp.start(lab, { name: 'uas', scenario: 'uas', host: 'm2', address, port: 5060 });
      const uac = Sipp.start(lab, {
        name: 'uac',
        scenario: 'uac-hangup',
        user: 'hangup',
        host: 'c',
        address: clientAddress6(0),
        port: 5060,
        remote: `[${VIP6}]:5060`,
        calls: 3,
        rate: 10,
        timeoutSeconds: 10,
      });
      assertGood(await uac.done, 3, 'client');
      assertGood(await uas.stop(), 3, 'server');
      assert.deepEqual([...lab.sources().keys()], [`${VIP6}:5060`]);
    });
  }

  it('detects a source other than the VIP', async (t) => {
    const lab = Lab.open('nat', [1]);
    t.after(() => lab.close());
    const send = `printf x > /dev/udp/${clientAddress(3)}/5060`;
    await lab.run('m1', 'bash', ['-c', send]);
    const [leak = ''] = lab.sources().keys();
    assert.match(leak, new RegExp(`^${memberAddress(1)}:\\d+$`));
    lab.forgetSources();
    assert.equal(lab.sources().size, 0);
  });

  it('has a shared server that routes a call to the member in the Path', {
    skip: without('kamailio'),
  }, async (t) => {
    const lab = Lab.open('none');
    t.after(() => lab.close());
    await startSharedServer(lab);
    const remote = `${SHARED_SERVER}:${SHARED_PORT}`;
    const common = { host: 'm1', address: memberAddress(1), user: 'phone', timeoutSeconds: 10 } as const;
    const register = { name: 'register', scenario: 'register-path', port: 5066, calls: 1, remote } as const;
    assertGood(await Sipp.start(lab, { ...common, ...register }).done, 1, 'register');
    const uas = Sipp.start(lab, { name: 'uas', scenario: 'uas', host: 'm1', address: memberAddress(1), port: 5062 });
    const caller = {
      name: 'uac',
      scenario: 'uac-invite',
      port: 5060,
      calls: 10,
      rate: 20,
      pauseMs: 100,
      remote,
    } as const;
    assertGood(
      await Sipp.start(lab, { ...common, ...caller, host: 'm2', address: memberAddress(2) }).done,
      10,
      'caller',
    );
    assertGood(await uas.stop(), 10, 'server');
  });

  it('has phones that take calls on the TCP connection of their registration', {
    skip: without('kamailio'),
  }, async (t) => {
    const lab = Lab.open('none');
    t.after(() => lab.close());
    await startSharedServer(lab);
    const phones = await startPhones(lab, SHARED_SERVER, SHARED_PORT, clientAddress(1), 5);
    const caller = Sipp.start(lab, {
      name: 'caller',
      scenario: 'uac-user',
      users: phones.users,
      host: 'c',
      address: clientAddress(0),
      port: 5060,
      remote: `${SHARED_SERVER}:${SHARED_PORT}`,
      calls: 10,
      rate: 20,
      pauseMs: 100,
      timeoutSeconds: 10,
    });
    assertGood(await caller.done, 10, 'caller');
    assert.deepEqual(await phones.stop(), { answered: 10, ended: 10, faults: [] });
  });

  it('leaves nothing behind when a signal ends its process, and removes the rest of a killed one', async () => {
    const program = `import { Lab } from ${JSON.stringify(join(import.meta.dirname, 'lab.ts'))};
      const lab = Lab.open(); lab.exec('m1', 'sleep', ['60']); console.log('ready'); setInterval(() => {}, 1000);`;
    const run = async (signal: NodeJS.Signals): Promise<string[]> => {
      const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      await once(child.stdout, 'data');
      child.kill(signal);
      await once(child, 'exit');
      return readdirSync('/run/netns').filter((name) => name.startsWith(`sf${child.pid}n`));
    };
    assert.deepEqual(await run('SIGTERM'), []);
    const left = await run('SIGKILL');
    assert.notDeepEqual(left, []);
    Lab.open().close();
    const still = new Set(readdirSync('/run/netns'));
    assert.deepEqual(
      left.filter((name) => still.has(name)),
      [],
    );
    assert.equal(execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' }).includes(`sf${process.pid}n`), false);
  });
});

describe('the balancer', () => {
  it('moves only the share of the leaving member', () => {
    const before = buckets([1, 2, 3]);
    const after = buckets([1, 3]);
    assert.deepEqual([...new Set(before)].sort(), [1, 2, 3]);
    for (const [i, member] of before.entries()) if (member !== 2) assert.equal(after[i], member);
    assert.deepEqual([...new Set(after)].sort(), [1, 3]);
  });
});

describe('statistics of SIPp', () => {
  it('are read from the last line by column name', () => {
    const sums = parseStatistics('A;SuccessfulCall(C);B;\n1;2;x;\n3;40;y;\n');
    assert.equal(sums.get('SuccessfulCall(C)'), 40);
    assert.equal(sums.get('A'), 3);
    assert.equal(parseStatistics('').size, 0);
  });
});
