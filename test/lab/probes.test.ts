// Health probes of a balancer by SIP to each member: the probed member itself answers with its true state while calls
// run.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { BALANCER, clientAddress, memberAddress, VIP } from './addresses.ts';
import { Farm, sumOf } from './farm.ts';
import { Lab } from './lab.ts';
import { LAB_TOOLS, without } from './missing.ts';
import { Sipp } from './sipp.ts';
import { assertGood } from './suite.ts';
import { until } from './until.ts';

const TOOL = join(import.meta.dirname, '..', 'tools', 'probe.ts');
const PROBES = 20;
const MEMBERS = [1, 2, 3] as const;
/** Upper limit of a set-up or test while the farm works, ms. */
const LIMIT = { timeout: 240_000 };

for (const mode of ['nat', 'dsr'] as const) {
  describe(`probes of the balancer in ${mode} mode`, { skip: without(...LAB_TOOLS, 'etcd', 'etcdctl') }, () => {
    let lab: Lab;
    let farm: Farm;

    before(async () => {
      lab = Lab.open(mode);
      farm = await Farm.start(lab);
    }, LIMIT);
    after(() => lab?.close());

    /**
     * Sends `count` OPTIONS to member k under its own address; returns the statuses of the answers and the number of
     * datagrams.
     */
    async function ask(k: number, count: number, tries = 10): Promise<{ statuses: number[]; sent: number }> {
      let target = memberAddress(k);
      if (mode === 'dsr') {
        // Under DSR a member listens only on the VIP, so the balancer reaches this one by a route, as with packets of
        // clients.
        const { code, stderr } = await lab.run('lb', 'ip', ['route', 'replace', `${VIP}/32`, 'via', target]);
        assert.equal(code, 0, stderr);
        target = VIP;
      }
      const args = [TOOL, BALANCER, target, memberAddress(k), String(count), String(tries)];
      const { code, stdout, stderr } = await lab.run('lb', process.execPath, args);
      assert.equal(code, 0, stderr);
      return JSON.parse(stdout) as { statuses: number[]; sent: number };
    }

    /** Returns the status of member k's answer. */
    async function probe(k: number): Promise<number | undefined> {
      return (await ask(k, 1)).statuses[0];
    }

    /** Returns whether member k leaves two probes in a row unanswered, half a second apart. */
    async function isSilent(k: number): Promise<boolean> {
      return (await ask(k, 1, 2)).statuses[0] === 0;
    }

    /** Returns the number of requests that each running member has answered itself with `status`. */
    async function answered(status: number): Promise<number[]> {
      const texts = await farm.metrics();
      return texts.map((text) => sumOf(text, 'sipfarm_requests_answered_total', { status: String(status) }));
    }

    it(
      'are answered by each member itself under load, whichever owns the Call-ID, and by a draining one with 503',
      LIMIT,
      async () => {
        const load = Sipp.start(lab, {
          ...{ name: 'load', host: 'c', scenario: 'uac-invite', user: 'invite', load: true },
          ...{ remote: `${VIP}:5060`, address: clientAddress(0), port: 5060 },
          // Until the probes are over, however long they take.
          ...{ rate: 50, pauseMs: 300, timeoutSeconds: 110 },
        });
        await until(
          async () => (await farm.metrics()).every((text) => sumOf(text, 'sipfarm_relayed_packets_total') > 20),
          () => `the members carry no calls: ${farm.logTail(1)}`,
        );
        const expected = [0, 0, 0];
        for (const k of MEMBERS) {
          const { statuses, sent } = await ask(k, PROBES);
          assert.deepEqual(statuses, Array(PROBES).fill(200), `member ${k}`);
          expected[k - 1] = sent;
          assert.deepEqual(await answered(200), expected, `after the probes of member ${k}`);
        }

        // Long calls keep the member draining until its probe is answered, however busy the host is.
        const held = Sipp.start(lab, {
          ...{ name: 'held', host: 'c', scenario: 'uac-invite', user: 'invite', load: true, timeoutSeconds: 110 },
          ...{ remote: `${VIP}:5060`, address: clientAddress(0), port: 5061, calls: 20, rate: 50, pauseMs: 5000 },
        });
        await until(
          () => held.result().created === 20,
          () => `no long calls: ${held.result().errors}`,
        );
        farm.signal(2, 'SIGTERM');
        await until(
          async () => !(await farm.isReady(2)),
          () => `member 2 is still ready after SIGTERM: ${farm.logTail(2)}`,
        );
        // A balancer notices a drain within four seconds (docs/balancers.md).
        lab.pool([1, 3]);
        assert.equal(await probe(2), 503);
        assert.equal(await probe(1), 200);
        assert.equal(await probe(3), 200);
        assert.equal(await farm.ended(2), 0, farm.logTail(2));
        const result = await load.stop(40_000);
        assert.ok(result.created > 100, `${result.created} calls`);
        assertGood(result, result.created, 'load', farm);
        assertGood(await held.done, 20, 'held', farm);
      },
    );

    it(
      'are answered 503 by a member whose SIP server is down, 200 by the others, and 200 again when the server is back',
      LIMIT,
      async () => {
        await farm.servers.get(3)!.stop();
        await until(
          async () => (await probe(3)) === 503,
          () => `member 3 does not miss its server: ${farm.logTail(3)}`,
        );
        assert.equal(await probe(1), 200);
        const server = { name: 'server-3-again', host: 'm3', scenario: 'uas', load: true } as const;
        Sipp.start(lab, { ...server, address: '127.0.0.1', port: 5070 });
        await until(
          async () => (await probe(3)) === 200,
          () => `member 3 does not see that its server is back: ${farm.logTail(3)}`,
        );
      },
    );

    it('get no answer for a hanging or dead member from any member, and 200 from the others', LIMIT, async () => {
      const before = sumOf((await farm.get(1, '/metrics')).body, 'sipfarm_requests_answered_total', {
        status: '200',
      });
      let own = 0;
      const othersAnswer = async (): Promise<void> => {
        const { statuses, sent } = await ask(1, 5);
        own += sent;
        assert.deepEqual(statuses, Array(5).fill(200));
      };
      farm.signal(3, 'SIGSTOP');
      assert.ok(await isSilent(3));
      await othersAnswer();
      farm.signal(3, 'SIGCONT');
      await until(
        async () => (await probe(3)) === 200,
        () => `member 3 does not come back: ${farm.logTail(3)}`,
      );
      farm.signal(3, 'SIGKILL');
      assert.equal(await farm.ended(3), null);
      assert.ok(await isSilent(3));
      await othersAnswer();
      const after = sumOf((await farm.get(1, '/metrics')).body, 'sipfarm_requests_answered_total', { status: '200' });
      assert.equal(after - before, own, 'member 1 answered what was not asked of it');
    });
  });
}
