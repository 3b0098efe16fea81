// The store on a real etcd fulfils the contract of every store.
import { systemClock } from '../../../src/base/clock.ts';
import { EtcdStore } from '../../../src/store/etcd-store.ts';
import { FakeEtcd, withoutEtcd } from '../../fake/etcd.ts';
import { storeContract } from '../../unit/store/store-contract.ts';

let etcd: FakeEtcd;

storeContract({
  name: 'etcd',
  skip: withoutEtcd(),
  start: async () => {
    etcd = await FakeEtcd.start();
  },
  open: (farm) => new EtcdStore({ farm, hosts: [etcd.url], clock: systemClock, pageKeys: 50 }),
  stop: () => etcd.close(),
});
