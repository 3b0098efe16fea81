// A member whose SIP server is down: it keeps its seat, takes no new calls, and takes them again when the server is
// back.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeFarm } from '../../fake/farm.ts';
import { serve } from './calls.ts';

test('a member whose SIP server is down takes no new calls until it is back', async (t) => {
  const farm = await FakeFarm.start({ members: 3, health: 'options' });
  t.after(() => farm.stop());
  serve(farm);
  const weights = (): string => (farm.member(1).node.api.view()?.seats ?? []).map(({ weight }) => weight).join();
  await farm.until(() => weights() === '100,100,100', 'all servers answer');
  farm.member(2).server.healthy = false;
  await farm.until(() => weights() === '100,0,100', 'the view knows that the server is down');
  for (let i = 0; i < 50; i++) assert.notEqual(farm.ownerOf(`new-${i}`), farm.member(2));
  farm.member(2).server.healthy = true;
  await farm.until(() => weights() === '100,100,100', 'the view knows that it is back');
});
