// Metrics of departed members.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeFarm } from '../../fake/farm.ts';

test('the series of a peer end five minutes after its record and its seat are gone', async (t) => {
  const farm = await FakeFarm.start({ members: 3 });
  t.after(() => farm.stop());
  const [one, , three] = farm.members;
  const peers = (): string =>
    [...new Set([...one!.metrics.relayed.entries()].map(({ labels }) => labels.peer))]
      .filter((id) => id !== one!.id)
      .sort()
      .join(' ');
  assert.equal(peers(), 'fe2 fe3');
  await farm.kill(three!);
  await farm.until(() => one!.seats === 'fe1 fe2', 'the dead member has lost its seat');
  await farm.until(() => one!.node.api.peers().length === 1, 'its record is gone');
  await farm.pass(240_000, 250);
  assert.equal(peers(), 'fe2 fe3');
  await farm.pass(65_000, 250);
  assert.equal(peers(), 'fe2');
  await farm.add(3);
  assert.equal(peers(), 'fe2 fe3');
  await farm.pass(310_000, 250);
  assert.equal(peers(), 'fe2 fe3');
});
