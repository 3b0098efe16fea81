// Faults of etcd while calls run, one after the other in one farm: `npm run test:faults`.
import { after, before, describe, it } from 'node:test';
import { LAB_TOOLS, without } from '../lab/missing.ts';
import { ETCD_FAULTS } from './etcd-faults.ts';
import { FAULT_TOOLS, Rig } from './rig.ts';

const LIMIT = { timeout: 200_000 };

describe('etcd', { skip: without(...LAB_TOOLS, ...FAULT_TOOLS), timeout: 900_000 }, () => {
  let rig: Rig;
  before(async () => {
    rig = await Rig.start();
  }, LIMIT);
  after(() => rig?.close());

  for (const { fault, holds, run } of ETCD_FAULTS) it(`${fault}: ${holds}`, LIMIT, (t) => run(t, rig));
});
