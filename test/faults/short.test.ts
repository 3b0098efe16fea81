// The short part of the fault suite: a host dies, and a member stands still, while calls run through proxies.
import { after, before, describe, it } from 'node:test';
import { LAB_TOOLS, without } from '../lab/missing.ts';
import { hostDeath, standstill } from './deaths.ts';
import { FAULT_TOOLS, Rig, SHORT } from './rig.ts';

const LIMIT = { timeout: 90_000 };
const LOAD = { rate: 60, seconds: 5, kinds: SHORT };

describe('a farm of three with proxies and three servers of etcd', {
  skip: without(...LAB_TOOLS, ...FAULT_TOOLS),
}, () => {
  let rig: Rig;
  before(async () => {
    rig = await Rig.start();
  }, LIMIT);
  after(() => rig?.close());

  it('loses no ringing and no established call when a host dies, and answers all else', LIMIT, (t) =>
    hostDeath(t, rig, LOAD),
  );
  it('has no call handled by two members when one stands still and goes on', LIMIT, (t) =>
    standstill(t, rig, { ...LOAD, still: 4 }),
  );
});
