// Claims of media ports on a real etcd: members that claim at once, and the end of a lease.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { systemClock } from '../../../src/base/clock.ts';
import type { MediaPlan } from '../../../src/media/plan.ts';
import { listPortClaims, PortClaims } from '../../../src/media/port-claims.ts';
import { EtcdStore } from '../../../src/store/etcd-store.ts';
import type { Lease } from '../../../src/store/store.ts';
import { FakeEtcd, withoutEtcd } from '../../fake/etcd.ts';

const MEMBERS = 6;
const plan = (first: number, last: number): MediaPlan => ({
  ...{ kind: 'single-ip', bind: '10.0.0.11', advertised: '203.0.113.10', inside: '127.0.0.1' },
  ...{ first, last },
});

describe('claims of media ports on etcd', { skip: withoutEtcd(), timeout: 240_000 }, () => {
  let etcd: FakeEtcd;
  let stores: EtcdStore[] = [];
  let leases: Lease[] = [];

  before(async () => {
    etcd = await FakeEtcd.start();
  });
  after(async () => {
    await Promise.all(stores.map((store) => store.close()));
    await etcd.close();
  });

  const join = async (farm: string): Promise<PortClaims[]> => {
    const own = Array.from({ length: MEMBERS }, () => new EtcdStore({ farm, hosts: [etcd.url], clock: systemClock }));
    stores = [...stores, ...own];
    leases = await Promise.all(own.map((store) => store.grantLease(60)));
    return own.map(
      (store, k) =>
        new PortClaims({
          ...{ store, member: `fe${k}`, host: `fe${k}`, hostPorts: 10_000 },
          commit: (writes) => store.commit(writes(leases[k]!)),
        }),
    );
  };

  it('gives the same range to one of the members that want it at once', async () => {
    const claims = await join('same');
    const outcomes = await Promise.allSettled(claims.map((one) => one.claim(plan(10_000, 19_999))));
    const refused = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as Error] : []));
    assert.equal(refused.length, MEMBERS - 1);
    const [winner] = await listPortClaims(stores.at(-1)!);
    for (const error of refused)
      assert.match(error.message, new RegExp(`10000-19999 of ${winner?.member},.*20000-29999`));
    await leases[Number(winner!.member.slice(2))]!.revoke();
    assert.deepEqual(await listPortClaims(stores.at(-1)!), []);
  });

  it('gives each member its own range when all fit', async () => {
    const claims = await join('apart');
    const granted = await Promise.all(claims.map((one, k) => one.claim(plan(10_000 + 1000 * k, 10_999 + 1000 * k))));
    assert.deepEqual(granted, Array(MEMBERS).fill(true));
    assert.equal((await listPortClaims(stores.at(-1)!)).length, MEMBERS);
  });
});
