// The short part of the fault suite, which `npm test` also runs: a host dies and a member stands still while calls run
// through proxies.
import { after, before, describe, it } from 'node:test';
import { LAB_TOOLS, without } from '../lab/missing.ts';
import { assertDeath, assertStandstill, type Both, dieAndStandStill } from './deaths.ts';
import { FAULT_TOOLS, Rig, SHORT } from './rig.ts';

describe('a farm of three with proxies and three servers of etcd', {
  skip: without(...LAB_TOOLS, ...FAULT_TOOLS),
}, () => {
  let rig: Rig;
  let both: Both;
  before(
    async () => {
      rig = await Rig.start();
      both = await dieAndStandStill(rig, { rate: 50, kinds: SHORT });
    },
    { timeout: 240_000 },
  );
  after(() => rig?.close());

  it('loses no ringing and no established call when a host dies, and answers all other calls', (t) =>
    assertDeath(t, rig, both.death, both.before));
  it('loses no call when a member stands still and continues, and no call is handled by two members', (t) =>
    assertStandstill(t, rig, both.still, both.later));
});
