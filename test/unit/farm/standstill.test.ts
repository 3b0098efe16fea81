// A member's process stands still, as by SIGSTOP or on a paused machine, and goes on; and the time until a dead member
// loses its seat.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import type { FakeFarm, FakeMember } from '../../fake/farm.ts';
import { Call, type CallServer, invited, serve, start, stopFarms } from './calls.ts';

afterEach(stopFarms);

/** Longest time from a death to the view without the dead member at every survivor. */
const DEATH_MS = 2000;
const LEASE_MS = 10_000;

/** Advances the clock while `member` stands still. */
async function standStill(farm: FakeFarm, member: FakeMember, ms: number): Promise<void> {
  farm.freeze(member);
  await farm.pass(ms, 50);
}

/** Starts a farm with an answered call at member 2; the balancer sends all later packets to member 2. */
async function withCall(members = 3): Promise<{ farm: FakeFarm; sleeper: FakeMember; server: CallServer; call: Call }> {
  // Without records, because the member would restore its unadopted calls from them: records.test.ts.
  const farm = await start({ members, config: { ownership: { records: 'none' } } });
  const servers = serve(farm);
  await farm.pass(2000, 50);
  const sleeper = farm.member(2);
  const call = new Call(farm, await farm.phone('192.0.2.7'), farm.callIdOf(sleeper));
  call.invite();
  await farm.settle();
  assert.equal(call.status, 200);
  assert.equal(sleeper.node.ownedCalls, 1);
  farm.choose = () => sleeper;
  return { farm, sleeper, server: servers[1]!, call };
}

describe('a member that stood still for longer than its lease', () => {
  test('drops all packets that waited for it, gives up its calls, and joins again', async () => {
    const { farm, sleeper, server, call } = await withCall();
    farm.freeze(sleeper);
    const { length } = sleeper.server.requests;
    const left = sleeper.left.length;
    call.bye();
    await farm.settle();
    await farm.pass(2 * LEASE_MS, 50);
    // The other side sends, too: a request of the SIP server, early enough to be first in the queue.
    server.inDialog(call.callId, 'OPTIONS');
    await farm.settle();
    await farm.thaw(sleeper);
    assert.ok(sleeper.drops('fenced') >= 2, `${sleeper.drops('fenced')} dropped`);
    assert.equal(sleeper.server.requests.length, length, 'its server has got nothing');
    assert.equal(sleeper.left.length, left, 'no client has got anything');
    assert.equal(sleeper.node.api.ready().ready, false);
    assert.equal(sleeper.node.ownedCalls, 0);
    await farm.seated();
    assert.equal(sleeper.node.api.farm().incarnation, 2);
    assert.equal(sleeper.node.api.ready().ready, true);
    const fresh = await invited(farm, await farm.phone('192.0.2.8'), 30);
    await farm.until(() => fresh.every(({ status }) => status === 200), 'new calls are answered', 5000);
    assert.ok(sleeper.node.ownedCalls > 0);
  });

  test('joins at once with a new incarnation, although its lease has expired', async () => {
    const { farm, sleeper } = await withCall(2);
    // With two members neither can outvote the other, so only the lease has ended the seat.
    await standStill(farm, sleeper, 2 * LEASE_MS);
    await farm.thaw(sleeper);
    await farm.seated();
    assert.deepEqual([sleeper.node.api.farm().incarnation, sleeper.node.ownedCalls], [2, 0]);
  });
});

describe('a member that stood still and still has its seat', () => {
  test('is fenced until the store confirms the seat, and keeps its calls', async () => {
    const { farm, sleeper, call } = await withCall();
    await standStill(farm, sleeper, 800);
    call.bye();
    await farm.settle();
    await farm.thaw(sleeper);
    assert.equal(sleeper.drops('fenced'), 1);
    assert.equal(sleeper.node.api.ready().ready, true);
    assert.equal(sleeper.node.ownedCalls, 1);
    await farm.until(() => call.final.get('BYE') === 200, 'the client asks again', 2000);
    assert.equal(sleeper.node.api.farm().incarnation, 1);
  });

  test('accepts a majority of the others when the store does not answer', async () => {
    const { farm, sleeper } = await withCall();
    farm.memory.down();
    await standStill(farm, sleeper, 3000);
    await farm.thaw(sleeper);
    assert.equal(sleeper.node.api.ready().ready, false);
    await farm.until(() => sleeper.node.api.ready().ready, 'the others have answered', 2000);
    assert.equal(sleeper.node.ownedCalls, 1);
  });

  test('does not accept half of the members as a majority', async () => {
    const { farm, sleeper } = await withCall(4);
    farm.memory.down();
    const heard = [sleeper, farm.member(1)].map(({ address }) => address);
    farm.network.reaches = (from, to) =>
      (from.port !== 5064 && to.port !== 5064) ||
      from.address === to.address ||
      (heard.includes(from.address) && heard.includes(to.address));
    await standStill(farm, sleeper, 3000);
    await farm.thaw(sleeper);
    await farm.pass(4000, 50);
    assert.equal(sleeper.node.api.ready().ready, false);
    farm.network.reaches = () => true;
    await farm.until(() => sleeper.node.api.ready().ready, 'a third member has answered', 800);
  });

  test('goes on with its last view when neither store nor members answer', async () => {
    const { farm, sleeper } = await withCall();
    farm.memory.down();
    farm.network.reaches = (from, to) => from.address === to.address || (from.port !== 5064 && to.port !== 5064);
    await standStill(farm, sleeper, 3000);
    await farm.thaw(sleeper);
    await farm.pass(4000, 50);
    assert.equal(sleeper.node.api.ready().ready, false);
    await farm.pass(2000, 50);
    assert.equal(sleeper.node.api.ready().ready, true);
    assert.equal(sleeper.node.ownedCalls, 1);
  });
});

test('a member without a seat that cannot read the store stays fenced while others have a newer view', async () => {
  const { farm, sleeper } = await withCall();
  farm.freeze(sleeper);
  // The store is cut from the beginning, because notifications of a watch would wait in its queue.
  sleeper.store.cut();
  await farm.pass(3000, 50);
  await farm.thaw(sleeper);
  await farm.pass(8000, 50);
  assert.match(sleeper.node.api.ready().reasons.join(), /stood still/);
  sleeper.store.heal();
  await farm.seated();
  assert.deepEqual([sleeper.node.api.farm().incarnation, sleeper.node.ownedCalls], [2, 0]);
});

describe('a killed member loses its seat at every survivor within two seconds', () => {
  for (const members of [3, 5])
    test(`with ${members} members and any phase of their probes`, async () => {
      const farm = await start({ members });
      farm.network.delay = { min: 1, max: 5 };
      let worst = 0;
      for (let phase = 0; phase < 250; phase += 25) {
        await farm.pass(3000 + phase, 25);
        const victim = farm.member(1 + (phase % members));
        const died = farm.clock.now();
        await farm.kill(victim);
        await farm.seated();
        worst = Math.max(worst, farm.clock.now() - died);
        await farm.add(victim.index);
      }
      assert.ok(worst <= DEATH_MS, `${worst} ms`);
      // The store may take this much: some round trips, each below 100 ms.
      assert.ok(worst <= DEATH_MS - 400, `${worst} ms`);
    });
});
