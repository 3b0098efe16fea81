// Faults of etcd while calls run. docs/operations.md has a row for each, under the same name.
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { ETCD, type EtcdHost } from '../lab/addresses.ts';
import { FARM } from '../lab/farm.ts';
import { until } from '../lab/until.ts';
import { assertSurvived } from './deaths.ts';
import { fate, type History } from './histories.ts';
import { NOTICED, type Rig } from './rig.ts';

/** Calls per second in these cases. */
const RATE = 50;
const CALM = 3000;
const OUTAGE = 60_000;
const SERVERS = Object.values(ETCD);

export interface EtcdFault {
  /** Text of the row in docs/operations.md. */
  readonly fault: string;
  /** Text of the assertion in that row. */
  readonly holds: string;
  run(t: TestContext, rig: Rig): Promise<void>;
}

/**
 * Makes calls, runs `happen`, which makes and repairs a fault, waits until the farm is whole, and makes calls for a
 * while longer.
 */
async function during(t: TestContext, rig: Rig, happen: () => Promise<void>): Promise<readonly History[]> {
  await rig.whole();
  const load = rig.load({ rate: RATE });
  await wait(CALM);
  await happen();
  await rig.whole();
  await wait(CALM);
  const calls = await load.stop();
  t.diagnostic(`${await rig.drops()}; ${await rig.left()}`);
  return calls;
}

/** Asserts that no member has left or joined the view since `before`. */
function assertSameView(rig: Rig, before: readonly number[]): void {
  assert.deepEqual(rig.epochs(), before, 'the view has changed');
}

/** Asserts that every member has logged since `at` that it is isolated, and is still ready. */
async function isolatedAndReady(rig: Rig, at: number): Promise<void> {
  for (const k of rig.members) {
    await until(
      () => rig.logged(k, at).some(({ msg }) => msg.startsWith('isolated')),
      () => `member ${k} does not say that it is isolated: ${rig.farm.logTail(k)}`,
      15,
    );
    assert.ok(await rig.farm.isReady(k), `member ${k} is not ready`);
  }
}

async function outage(t: TestContext, rig: Rig, what: string, hosts: readonly EtcdHost[]): Promise<void> {
  const { etcd } = rig.farm;
  let before: number[] = [];
  const calls = await during(t, rig, async () => {
    before = rig.epochs();
    const at = Date.now();
    await etcd.kill(hosts);
    await isolatedAndReady(rig, at);
    await wait(OUTAGE - (Date.now() - at));
    assertSameView(rig, before);
    await etcd.start(hosts);
  });
  rig.assertAllGood(t, what, calls);
}

export const ETCD_FAULTS: readonly EtcdFault[] = [
  {
    fault: 'the leader dies',
    holds: '0 failed calls, no member leaves the view',
    run: async (t, rig) => {
      const { etcd } = rig.farm;
      let before: number[] = [];
      const calls = await during(t, rig, async () => {
        before = rig.epochs();
        const leader = await etcd.leader();
        await etcd.kill([leader]);
        assert.notEqual(await etcd.leader(), leader);
        await wait(CALM);
        await etcd.start([leader]);
      });
      assertSameView(rig, before);
      rig.assertAllGood(t, 'leader killed', calls);
    },
  },
  {
    fault: 'no quorum for a minute',
    holds: '0 failed calls; the members log that they are isolated, stay ready and keep the view',
    run: (t, rig) => outage(t, rig, 'quorum lost', ['e2', 'e3']),
  },
  {
    fault: 'all servers gone for a minute',
    holds: '0 failed calls; the members log that they are isolated, stay ready and keep the view',
    run: (t, rig) => outage(t, rig, 'all of etcd gone', ['e', 'e2', 'e3']),
  },
  {
    fault: 'a member dies while all servers are gone',
    holds:
      'calls of the other members do not fail; once etcd is back the dead one is detected and no call fails any more',
    run: async (t, rig) => {
      const { etcd } = rig.farm;
      let back = 0;
      let died = 0;
      const calls = await during(t, rig, async () => {
        await etcd.kill();
        await wait(8000);
        died = Date.now();
        rig.farm.die(3);
        await wait(8000);
        back = Date.now();
        await etcd.start();
        t.diagnostic(`noticed ${(await rig.noticed(3, back)).toFixed(2)} s after etcd was started`);
        await wait(CALM);
        await rig.farm.revive(3);
      });
      rig.tell(t, 'a member died meanwhile', calls);
      const owners = rig.owners();
      const bad = calls.filter((call) => fate(call) !== 'complete');
      const ofOthers = bad.filter(({ callId }) => {
        const by = owners.get(callId);
        return by !== undefined && !by.includes(3);
      });
      assert.deepEqual(rig.describe(ofOthers), [], 'calls of living members were lost');
      const later = bad.filter(({ invited }) => invited > back + 10_000 || invited < died - 30_000);
      assert.deepEqual(rig.describe(later), [], 'calls failed after etcd was back');
    },
  },
  {
    fault: 'all data lost, then back empty',
    holds: '0 failed calls; the members write their view and records again',
    run: async (t, rig) => {
      const { etcd } = rig.farm;
      const calls = await during(t, rig, async () => {
        await etcd.kill();
        etcd.wipe();
        await wait(8000);
        await etcd.start();
        const seats = async (): Promise<number> => {
          const { stdout } = await rig.farm.etcdctl('get', `/sipfarm/${FARM}/v1/view`, '--print-value-only');
          return ((JSON.parse(stdout || '{}') as { seats?: readonly unknown[] }).seats ?? []).length;
        };
        await until(
          async () => (await seats()) === rig.members.length,
          () => 'the view is not written again',
          30,
        );
      });
      rig.assertAllGood(t, 'data lost', calls);
    },
  },
  {
    fault: 'a watch compacted while its member is cut off',
    holds: '0 failed calls; the member reads all anew and ends with the view of the others',
    run: async (t, rig) => {
      const { etcd } = rig.farm;
      const calls = await during(t, rig, async () => {
        rig.cutFromEtcd(3, SERVERS);
        for (let i = 0; i < 20; i++) await etcd.ctl('put', `/sipfarm/${FARM}/v1/aor/history`, String(i));
        await etcd.ctl('del', `/sipfarm/${FARM}/v1/aor/history`);
        await rig.noticed(3, Date.now() - CALM);
        const { stdout } = await etcd.ctl('get', `/sipfarm/${FARM}/v1/view`, '-w', 'json');
        const { header } = JSON.parse(stdout) as { header: { revision: number } };
        assert.equal((await etcd.ctl('compact', String(header.revision))).code, 0);
        rig.lab.filter('m3', '');
      });
      assert.equal(new Set(rig.epochs()).size, 1, `epochs ${rig.epochs()}`);
      rig.assertAllGood(t, 'watch compacted', calls);
    },
  },
  {
    fault: 'slow disks',
    holds: '0 failed calls, no member leaves the view',
    run: async (t, rig) => {
      const { etcd } = rig.farm;
      let before: number[] = [];
      const calls = await during(t, rig, async () => {
        before = rig.epochs();
        // Each server stands still for most of a second, again and again, like one that waits for its disk.
        for (let i = 0; i < 15; i++) {
          for (const host of etcd.hosts) etcd.signal(host, 'SIGSTOP');
          await wait(700);
          for (const host of etcd.hosts) etcd.signal(host, 'SIGCONT');
          await wait(300);
        }
      });
      assertSameView(rig, before);
      rig.assertAllGood(t, 'slow disks', calls);
    },
  },
  {
    fault: 'one member cut off from etcd, not from its peers',
    holds: '0 failed calls; it loses its seat, is taken out of the balancer, and joins anew',
    run: async (t, rig) => {
      const at = Date.now();
      const calls = await during(t, rig, async () => {
        rig.cutFromEtcd(3, SERVERS);
        await rig.noticed(3, at);
        await until(
          async () => !(await rig.farm.isReady(3)),
          () => 'member 3 stays ready without a seat',
          15,
        );
        await wait(CALM);
        rig.lab.filter('m3', '');
      });
      rig.assertAllGood(t, 'cut off from etcd', calls);
    },
  },
  {
    fault: 'one member cut off from its peers, not from etcd',
    holds:
      'nothing that rings or is established is lost, all else is answered; it loses its seat within two seconds and comes back by itself',
    run: async (t, rig) => {
      let at = 0;
      const calls = await during(t, rig, async () => {
        at = Date.now();
        rig.cutFromPeers(3);
        const noticed = await rig.noticed(3, at);
        t.diagnostic(`noticed after ${noticed.toFixed(2)} s`);
        assert.ok(noticed <= NOTICED, `noticed after ${noticed} s`);
        await wait(CALM);
        rig.lab.filter('m3', '');
      });
      rig.tell(t, 'cut off from peers', calls);
      assertSurvived(rig, calls, at, NOTICED);
    },
  },
];
