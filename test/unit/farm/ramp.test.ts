// A member that joins a working farm gets its share in steps.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import type { FakeFarm } from '../../fake/farm.ts';
import { type Call, invited, serve, start, stopFarms } from './calls.ts';

afterEach(stopFarms);

const RAMP = { rampSeconds: 10 };

/** Returns the weights in the view, in order of numbers. */
function weights(farm: FakeFarm): string {
  return farm
    .member(1)
    .node.api.members()
    .map(({ weight }) => weight)
    .join(' ');
}

describe('the ramp', () => {
  test('gives a joining member a quarter, half and all of its weight, in three views', async () => {
    const farm = await start({ members: 2, config: RAMP });
    await farm.pass(20_000, 100);
    assert.equal(weights(farm), '100 100');
    const { epoch } = farm.member(1).node.api.farm();
    await farm.add(3);
    assert.equal(weights(farm), '100 100 25');
    await farm.pass(4000, 50);
    assert.equal(weights(farm), '100 100 25');
    await farm.pass(2000, 50);
    assert.equal(weights(farm), '100 100 50');
    await farm.pass(5000, 50);
    assert.equal(weights(farm), '100 100 100');
    assert.equal(farm.member(1).node.api.farm().epoch, epoch + 3);
    await farm.pass(30_000, 100);
    assert.equal(farm.member(1).node.api.farm().epoch, epoch + 3);
  });

  test('lets ringing calls be cancelled at their owner while two members restart', async () => {
    const farm = await start({ members: 4, config: RAMP });
    serve(farm, { rings: true });
    await farm.pass(20_000, 100);
    const ringing: Call[] = [];
    const phone = await farm.phone('192.0.2.7');
    const more = async (): Promise<void> => {
      ringing.push(...(await invited(farm, phone, 15)));
    };
    await more();
    for (const index of [3, 4]) {
      const member = farm.member(index);
      member.alive = false;
      await farm.drive(member.node.stop());
      await farm.seated();
      await more();
      await farm.add(index);
      for (let step = 0; step < 3; step++) {
        await more();
        await farm.pass(5500, 50);
      }
    }
    // Calls at restarted members are gone with them; all others are found wherever their slots have moved.
    const stayed = ringing.filter(({ callId }) =>
      [1, 2].some((index) => farm.member(index).node.api.owner(callId).heldHere),
    );
    assert.ok(stayed.length > 20, `${stayed.length} calls`);
    for (const call of stayed) call.cancel();
    await farm.until(() => stayed.every(({ status }) => status !== 0), 'each has its end', 40_000);
    assert.deepEqual(new Set(stayed.map(({ status }) => status)), new Set([487]));
  });

  test('begins after resume at a member that restarts during a drain', async () => {
    const farm = await start({ members: 2, config: RAMP });
    const { orders } = farm.member(1).node.api;
    await farm.drive(orders.give('fe2', { order: 'drain' }));
    await farm.kill(farm.member(2));
    await farm.pass(12_000, 100);
    await farm.add(2);
    await farm.pass(30_000, 100);
    await farm.drive(orders.lift('fe2', ['drain']));
    await farm.pass(1000, 50);
    assert.equal(weights(farm), '100 25');
    await farm.pass(11_000, 50);
    assert.equal(weights(farm), '100 100');
  });

  test('is off when rampSeconds is 0 and when the rest of the farm has died', async () => {
    const farm = await start({ members: 2, config: { rampSeconds: 0 } });
    await farm.add(3);
    assert.equal(weights(farm), '100 100 100');
    const other = await start({ members: 2, config: RAMP });
    for (const member of other.members) await other.kill(member);
    await other.pass(20_000, 100);
    await other.add(1);
    assert.equal(weights(other), '100');
  });
});
