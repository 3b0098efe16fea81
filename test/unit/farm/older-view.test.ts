// A member is cut off from the store, keeps its seat, and misses views. A call that began by a newer view stays at its
// one owner, also when its slot is this member's by one of the two views.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import type { FakeFarm, FakeMember, UdpPhone } from '../../fake/farm.ts';
import { Call, serve, start, stopFarms } from './calls.ts';

afterEach(stopFarms);

/** Longest time until a change has made a view, and all members with the store have it. */
const VIEW_MS = 600;

interface Situation {
  readonly farm: FakeFarm;
  readonly phone: UdpPhone;
  /** The member that misses views. */
  readonly cut: FakeMember;
  readonly before: number;
}

async function withCutMember(): Promise<Situation> {
  const farm = await start({ members: 3, dialogs: 'shared', slotSeed: '5'.repeat(32) });
  await farm.pass(1000);
  const cut = farm.member(2);
  const { epoch } = cut.node.api.farm();
  cut.store.cut();
  return { farm, phone: await farm.phone('192.0.2.7'), cut, before: epoch };
}

/** The cut member refuses frames of a newcomer, which it does not know. After this time they do not count on it. */
const UNREACHABLE_MS = 1500;

/** Waits until the change has made a view; the cut member still has its seat and its own view. */
async function changed({ farm, cut, before }: Situation): Promise<void> {
  await farm.pass(VIEW_MS);
  const { api } = farm.member(1).node;
  assert.ok(api.farm().epoch > before, 'there is a newer view');
  assert.ok(
    api.view()?.seats.some(({ id }) => id === cut.id),
    'the cut member has its seat',
  );
  assert.equal(cut.node.api.farm().epoch, before, 'the cut member has its old view');
}

/** Returns the owner of the Call-ID by the view of `member`. */
function ownerBy(member: FakeMember, callId: string): string | undefined {
  return member.node.api.owner(callId).owner?.id;
}

function find(what: (callId: string) => boolean): string {
  for (let i = 0; ; i++) if (what(`call-${i}`)) return `call-${i}`;
}

/** Returns the members whose servers have an INVITE of the call, once each. */
function holders(farm: FakeFarm, callId: string): string[] {
  const has = ({ server }: FakeMember): boolean => server.requests.some((message) => message.callId === callId);
  return farm.members.filter(has).map(({ id }) => id);
}

describe('a repeated INVITE of a call that began by a newer view', () => {
  test('goes to the owner of the call when it enters at a member whose older view gives it the slot', async () => {
    const situation = await withCutMember();
    const { farm, phone, cut } = situation;
    const newcomer = await farm.enter();
    serve(farm, { rings: true });
    await changed(situation);
    await farm.pass(UNREACHABLE_MS);
    const one = farm.member(1);
    const callId = find((id) => ownerBy(one, id) === newcomer.id && ownerBy(cut, id) === cut.id);
    const call = new Call(farm, phone, callId);
    farm.choose = () => one;
    call.invite();
    await farm.settle();
    assert.deepEqual(holders(farm, callId), [newcomer.id]);
    farm.choose = () => cut;
    call.inviteAgain();
    await farm.settle();
    assert.deepEqual(holders(farm, callId), [newcomer.id]);
    assert.equal(newcomer.server.requests.length, 2, 'the owner has got it again');
    call.cancel();
    await farm.settle();
    assert.equal(call.final.get('CANCEL'), 200, 'its CANCEL goes the same way');
  });

  test('goes to an owner between the two views when the newest view gives its slot to the member without it', async () => {
    const situation = await withCutMember();
    const { farm, phone, cut } = situation;
    const [one, , three] = farm.members as [FakeMember, FakeMember, FakeMember];
    serve(farm, { rings: true });
    const { orders } = one.node.api;
    await orders.give(three.id, { order: 'drain' });
    await changed(situation);
    const callId = find((id) => ownerBy(one, id) === one.id && ownerBy(cut, id) === three.id);
    const call = new Call(farm, phone, callId);
    farm.choose = () => one;
    call.invite();
    await farm.settle();
    await orders.give(one.id, { order: 'pause' });
    await changed(situation);
    assert.equal(ownerBy(one, callId), cut.id);
    for (const ingress of [three, cut, one]) {
      farm.choose = () => ingress;
      call.inviteAgain();
      await farm.settle();
      assert.deepEqual(holders(farm, callId), [one.id], `it enters at ${ingress.id}`);
    }
  });
});

describe('a new call, while a member has an older view', () => {
  test('begins once, at the owner by the newer view, wherever its INVITE enters', async () => {
    const situation = await withCutMember();
    const { farm, phone, cut } = situation;
    const newcomer = await farm.enter();
    serve(farm, { rings: true });
    await changed(situation);
    await farm.pass(UNREACHABLE_MS);
    const [one, , three] = farm.members as [FakeMember, FakeMember, FakeMember];
    for (const owner of [cut, newcomer, one])
      for (const ingress of [cut, one, three]) {
        const callId = find((id) => ownerBy(one, id) === owner.id && holders(farm, id).length === 0);
        const call = new Call(farm, phone, callId);
        farm.choose = () => ingress;
        call.invite();
        await farm.settle();
        assert.deepEqual(holders(farm, callId), [owner.id], `from ${ingress.id}`);
        assert.ok(call.ringing);
      }
  });

  test('begins at that member by its own view once no member with the newer view answers it', async () => {
    const situation = await withCutMember();
    const { farm, phone, cut } = situation;
    await farm.enter();
    serve(farm, { rings: true });
    await changed(situation);
    farm.network.reaches = (from, to) =>
      from.address === to.address || ![from, to].some(({ address, port }) => address === cut.address && port === 5064);
    await farm.pass(UNREACHABLE_MS);
    const callId = find((id) => ownerBy(cut, id) === cut.id);
    farm.choose = () => cut;
    const call = new Call(farm, phone, callId);
    call.invite();
    await farm.settle();
    assert.deepEqual(holders(farm, callId), [cut.id]);
  });
});
