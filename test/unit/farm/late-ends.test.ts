// Dialogs whose messages arrive while no member holds them: their member has just lost its seat or got it back, or
// still reads its records. No member may count such a call after its end, or a drain would wait for it.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { GRACE_MS } from '../../../src/calls/adoption/adoption.ts';
import { parseRecordKey } from '../../../src/calls/records/call-record.ts';
import type { MemoryStore } from '../../../src/store/memory-store.ts';
import type { FakeFarm, FakeMember, FakeServer } from '../../fake/farm.ts';
import { Call, start, stopFarms } from './calls.ts';
import { Callee, proxies } from './proxies.ts';

afterEach(stopFarms);

const WRITTEN_MS = 200;

interface Scene {
  readonly farm: FakeFarm;
  readonly callee: Callee;
  readonly call: Call;
  readonly owner: FakeMember;
}

/** A call through the proxy of member 2, which is answered, and stands in the store. */
async function talking(): Promise<Scene> {
  const farm = await start({ members: 3, dialogs: 'shared' });
  const callee = new Callee(farm, await farm.phone('192.0.2.9'));
  proxies(farm, [callee.uri]);
  const owner = farm.member(2);
  const call = new Call(farm, await farm.phone('192.0.2.7'), farm.callIdOf(owner));
  call.invite();
  await farm.pass(WRITTEN_MS);
  callee.answer();
  await farm.pass(WRITTEN_MS);
  return { farm, callee, call, owner };
}

/** Lets the server repeat its last re-INVITE, as after an answer that did not reach it (RFC 3261 17.1.1.2). */
function repeats(server: FakeServer): () => void {
  let last = '';
  const send = server.send.bind(server);
  server.send = (text, to) => {
    if (text.startsWith('INVITE') && /^To:.*;tag=/m.test(text)) last = text;
    send(text, to);
  };
  return () => {
    assert.notEqual(last, '', 'it has sent a re-INVITE');
    send(last);
  };
}

function counted(farm: FakeFarm): number[] {
  return farm.live.map(({ node }) => node.ownedCalls);
}

function records(farm: FakeFarm): string[] {
  const keys = farm.memory.readAll('calls/').map(({ key }) => key);
  return keys.flatMap((key) => (parseRecordKey(key) ? [key.split('/').slice(1, 3).join(' ')] : []));
}

async function hangUp({ farm, call, callee }: Scene): Promise<void> {
  call.bye();
  await farm.until(() => call.final.has('BYE'), 'an answer to the BYE', 5000);
  await farm.pass(WRITTEN_MS);
  assert.deepEqual([call.final.get('BYE'), callee.state], [200, 'over']);
}

/** Holds the reads of the member's records until the returned function is called. */
function holdRecords(store: MemoryStore, number: number): () => void {
  const gate = Promise.withResolvers<void>();
  const page = store.page.bind(store);
  store.page = async (prefix, after, most) => {
    if (prefix === `calls/${number}/`) await gate.promise;
    return page(prefix, after, most);
  };
  return gate.resolve;
}

/** The member stands still until the others have taken its seat; it then has joined anew, and has no seat yet. */
async function joinedWithoutSeat({ farm, owner }: Scene): Promise<void> {
  farm.freeze(owner);
  await farm.until(() => farm.member(1).seats === 'fe1 fe3', 'its seat is gone', 3000);
  await farm.thaw(owner);
  await farm.until(() => owner.node.api.farm().incarnation === 2, 'it has joined anew', 5000);
  assert.equal(owner.seats, 'fe1 fe3');
}

describe('a member that has lost its seat', () => {
  for (const when of ['before', 'when'] as const)
    test(`and whose server repeats a re-INVITE ${when} the seat is back: the call ends with its BYE`, async () => {
      const scene = await talking();
      const { farm, owner, call, callee } = scene;
      const repeat = repeats(owner.server);
      call.reinvite();
      await farm.settle();
      const read = holdRecords(owner.store, owner.number);
      await joinedWithoutSeat(scene);
      if (when === 'when') await farm.seated();
      assert.deepEqual(counted(farm), [0, 0, 0]);
      // The answer goes past this member, as one does that comes to another while it has no seat.
      const hears = callee.phone.onMessage;
      callee.phone.onMessage = () => {};
      repeat();
      await farm.settle();
      callee.phone.onMessage = hears;
      read();
      await farm.seated();
      await farm.pass(WRITTEN_MS);
      assert.deepEqual([owner.node.ownedCalls > 0, records(farm)], [true, [`${owner.number} dialog`]]);
      await hangUp(scene);
      assert.deepEqual([counted(farm), records(farm)], [[0, 0, 0], []]);
      repeat();
      await farm.pass(GRACE_MS * 2, 100);
      assert.deepEqual([counted(farm), records(farm)], [[0, 0, 0], []]);
    });

  test('and whose call ends elsewhere meanwhile: a repeated re-INVITE of its server restores nothing', async () => {
    const scene = await talking();
    const { farm, owner, call } = scene;
    const repeat = repeats(owner.server);
    call.reinvite();
    await farm.settle();
    farm.freeze(owner);
    await farm.until(() => farm.member(1).seats === 'fe1 fe3', 'its seat is gone', 3000);
    await hangUp(scene);
    await farm.thaw(owner);
    await farm.seated();
    await farm.pass(WRITTEN_MS);
    assert.deepEqual([counted(farm), records(farm)], [[0, 0, 0], []]);
    repeat();
    await farm.pass(WRITTEN_MS);
    assert.deepEqual([counted(farm), records(farm)], [[0, 0, 0], []]);
  });
});

describe('a member whose records are not read yet', () => {
  /** Its sipfarm starts again; what it reads of its records comes with `read`. */
  async function reading({ farm, owner }: Scene): Promise<{ back: FakeMember; read: () => void }> {
    let read = (): void => {};
    const open = farm.memory.open.bind(farm.memory);
    farm.memory.open = () => {
      const store = open();
      read = holdRecords(store, owner.number);
      return store;
    };
    await farm.kill(owner, { serverLives: true });
    const back = await farm.add(2);
    assert.equal(back.node.ownedCalls, 0);
    return { back, read };
  }

  test('and whose call gets a re-INVITE: the record keeps both legs, and the call ends with its BYE', async () => {
    const scene = await talking();
    const { farm, call } = scene;
    const { back, read } = await reading(scene);
    call.reinvite();
    await farm.pass(WRITTEN_MS);
    assert.deepEqual([call.status, back.node.ownedCalls], [200, 1]);
    read();
    await farm.pass(WRITTEN_MS);
    const record = await farm.drive(back.node.api.recordOf(call.callId));
    assert.deepEqual([record?.state, record?.legs.map(({ from }) => from)], ['confirmed', ['client', 'server']]);
    assert.equal(back.node.ownedCalls, 1);
    await hangUp(scene);
    assert.deepEqual([counted(farm), records(farm)], [[0, 0, 0], []]);
  });

  test('and whose call ends: its record, once read, does not bring it back', async () => {
    const scene = await talking();
    const { farm, call } = scene;
    const { read } = await reading(scene);
    await hangUp(scene);
    call.ackAgain();
    assert.equal(records(farm).length, 1);
    read();
    await farm.pass(GRACE_MS * 2, 100);
    assert.deepEqual([counted(farm), records(farm)], [[0, 0, 0], []]);
  });

  test('and a stranger sends BYE: the call is there once its record is read', async () => {
    const scene = await talking();
    const { farm, call } = scene;
    const { back, read } = await reading(scene);
    call.byeAs('stranger');
    await farm.settle();
    read();
    await farm.pass(WRITTEN_MS);
    assert.equal(back.node.ownedCalls, 1);
  });
});

describe('a successor that has given a dialog back', () => {
  test('no longer counts it when its server repeats an earlier re-INVITE', async () => {
    const scene = await talking();
    const { farm, owner, call } = scene;
    const heirs = farm.members.filter((member) => member !== owner);
    const servers = new Map(heirs.map((member) => [member, repeats(member.server)]));
    await farm.kill(owner, { serverLives: true });
    await farm.seated();
    const heir = farm.ownerOf(call.callId);
    call.reinvite();
    await farm.settle();
    await farm.add(2);
    await farm.pass(WRITTEN_MS);
    servers.get(heir)!();
    await farm.settle();
    await hangUp(scene);
    await farm.pass(GRACE_MS * 2, 100);
    assert.deepEqual([counted(farm), records(farm)], [[0, 0, 0], []]);
  });

  test('which it held by a re-INVITE alone, long after the death, no longer counts it', async () => {
    const scene = await talking();
    const { farm, owner, call } = scene;
    for (const { key } of farm.memory.readAll(`calls/${owner.number}/`)) farm.memory.apply([{ key, value: undefined }]);
    await farm.kill(owner, { serverLives: true });
    await farm.seated();
    const heir = farm.ownerOf(call.callId);
    await farm.pass(GRACE_MS * 10, 100);
    call.reinvite();
    await farm.pass(WRITTEN_MS);
    assert.equal(heir.node.ownedCalls, 1);
    await farm.add(2);
    await farm.pass(WRITTEN_MS);
    assert.equal(heir.node.ownedCalls, 0);
    await hangUp(scene);
    assert.deepEqual(counted(farm), [0, 0, 0]);
  });
});
