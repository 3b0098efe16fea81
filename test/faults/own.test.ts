// A host dies whose SIP server is an end of its calls (dialogs: own): `npm run test:faults`.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { Farm } from '../lab/farm.ts';
import { Lab } from '../lab/lab.ts';
import { LAB_TOOLS, without } from '../lab/missing.ts';
import { client } from '../lab/suite.ts';
import { until } from '../lab/until.ts';
import { ANSWERED } from './rig.ts';

const LIMIT = { timeout: 90_000 };
const CALLS = 90;

describe('dialogs: own', { skip: without(...LAB_TOOLS, 'etcd', 'etcdctl'), timeout: 150_000 }, () => {
  let lab: Lab;
  let farm: Farm;
  before(async () => {
    lab = Lab.open('nat');
    farm = await Farm.start(lab, { etcd: 3 });
  }, LIMIT);
  after(() => lab?.close());

  it(
    'SIGKILL of a member and its server makes each of its callers get a BYE within ten seconds, and no others',
    LIMIT,
    async (t) => {
      // These callers wait for the server's BYE, and the server waits for theirs.
      const caller = client(lab, 0, { name: 'caller', scenario: 'uac-hangup', calls: CALLS, rate: 45 });
      await until(
        () => [...farm.servers.values()].reduce((sum, server) => sum + server.result().created, 0) === CALLS,
        () => `not all calls are there: ${caller.result().errors}`,
      );
      await wait(1500);
      const orphans = farm.servers.get(2)!.result().created;
      assert.ok(orphans > 0);
      const at = Date.now();
      farm.die(2);
      lab.pool([1, 3]);
      await until(
        () => caller.result().successful >= orphans,
        () => `of ${orphans} calls ${caller.result().successful} were hung up`,
        ANSWERED + 1,
      ).finally(() =>
        t.diagnostic(`${orphans} calls, hung up ${caller.result().successful} after ${(Date.now() - at) / 1000} s`),
      );
      await wait(1500);
      assert.equal(caller.result().successful, orphans);
      await caller.stop(0);
    },
  );
});
