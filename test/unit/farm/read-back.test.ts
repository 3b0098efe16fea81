// A member reads its call records back before it has its seat again, and another member takes one of the calls
// meanwhile. The call has one owner all the time.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import type { FakeFarm, FakeMember } from '../../fake/farm.ts';
import { Call, serve, start, stopFarms } from './calls.ts';

afterEach(stopFarms);

const WRITTEN_MS = 200;

interface Situation {
  readonly farm: FakeFarm;
  /** The member that comes back. */
  readonly back: FakeMember;
  /** Calls that ring at `back`, in slots of one other member each while `back` has no seat. */
  readonly calls: readonly Call[];
}

/** Its calls ring. It is banned, and has joined anew without a seat. */
async function banned(): Promise<Situation> {
  const farm = await start({ members: 3, dialogs: 'shared', slotSeed: '5'.repeat(32) });
  serve(farm, { rings: true });
  await farm.pass(1000);
  const back = farm.member(3);
  const phone = await farm.phone('192.0.2.7');
  const calls = ['first', 'second'].map((prefix) => new Call(farm, phone, farm.callIdOf(back, prefix)));
  for (const call of calls) call.invite();
  await farm.pass(WRITTEN_MS);
  await farm.drive(farm.member(1).node.api.orders.give(back.id, { order: 'ban' }));
  await farm.until(() => back.node.api.farm().incarnation === 2, 'it has joined anew and waits');
  assert.equal(back.node.ownedCalls, 0);
  return { farm, back, calls };
}

/** Its ban has just been lifted. It has read its records and has no seat yet. */
async function lifted(): Promise<Situation> {
  const situation = await banned();
  const { farm, back, calls } = situation;
  await farm.drive(farm.member(1).node.api.orders.lift(back.id, ['ban']));
  await farm.until(() => back.node.ownedCalls === calls.length, 'it has read its records', 100);
  assert.equal(farm.member(1).seats, 'fe1 fe2', 'it has no seat yet');
  return situation;
}

/** Returns the members whose servers get this repeated INVITE, which enters at `ingress`. */
async function again(farm: FakeFarm, ingress: FakeMember, call: Call): Promise<string[]> {
  const before = farm.members.map(({ server }) => server.requests.length);
  farm.choose = () => ingress;
  call.inviteAgain();
  await farm.settle();
  return farm.members.filter(({ server }, i) => server.requests.length > before[i]!).map(({ id }) => id);
}

describe('a member that has read its records and has no seat yet', () => {
  test('leaves a repeated INVITE to the owner of its slot, which also keeps it once that member has its seat', async () => {
    const { farm, back, calls } = await lifted();
    const taken = calls[0]!;
    const successor = farm.ownerOf(taken.callId);
    assert.deepEqual(await again(farm, back, taken), [successor.id]);
    await farm.seated();
    for (const ingress of farm.members)
      assert.deepEqual(await again(farm, ingress, taken), [successor.id], `it enters at ${ingress.id}`);
    taken.cancel();
    await farm.settle();
    assert.equal(taken.final.get('CANCEL'), 200);
  });

  test('goes on with the calls that no other member has taken once it has its seat', async () => {
    const { farm, back, calls } = await lifted();
    await farm.seated();
    for (const call of calls)
      for (const ingress of farm.members)
        assert.deepEqual(await again(farm, ingress, call), [back.id], `it enters at ${ingress.id}`);
    for (const call of calls) call.cancel();
    await farm.settle();
    assert.deepEqual(
      calls.map(({ final }) => final.get('CANCEL')),
      [200, 200],
    );
  });
});

test('a member that gets its seat before it has read its records is offered its calls as soon as it has read them', async () => {
  const { farm, back, calls } = await banned();
  const read = Promise.withResolvers<void>();
  const page = back.store.page.bind(back.store);
  back.store.page = async (...of) => {
    await read.promise;
    return page(...of);
  };
  const { orders } = farm.member(1).node.api;
  await farm.drive(orders.lift(back.id, ['ban']));
  await farm.drive(orders.give(back.id, { order: 'pause' }));
  await farm.until(() => farm.member(1).seats.includes(back.id), 'it has a seat');
  await farm.pass(1000);
  for (const { callId } of calls) assert.notEqual(farm.ownerOf(callId), back, 'it has no slot');
  assert.equal(back.node.ownedCalls, 0);
  read.resolve();
  await farm.settle();
  assert.equal(back.node.ownedCalls, calls.length);
  for (const call of calls)
    for (const ingress of farm.members)
      assert.deepEqual(await again(farm, ingress, call), [back.id], `it enters at ${ingress.id}`);
});
