// Call records in whole farms: recovery of a member that restarts in front of its living server, and of one that had
// lost its seat.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { parseRecordKey } from '../../../src/calls/records/call-record.ts';
import type { FakeFarm, FakeMember } from '../../fake/farm.ts';
import { Call, type CallServer, serve, start, stopFarms } from './calls.ts';

afterEach(stopFarms);

const WRITTEN_MS = 100;

/** Returns `pending` or `dialog` for each record under the member's number. */
function kinds(farm: FakeFarm, number: number): string[] {
  const keys = farm.memory.readAll(`calls/${number}/`).map(({ key }) => key);
  return keys.filter((key) => parseRecordKey(key)).map((key) => key.split('/')[2]!);
}

interface Ringing {
  readonly farm: FakeFarm;
  readonly owner: FakeMember;
  readonly servers: readonly CallServer[];
  readonly call: Call;
}

/** Starts three members and a call that rings at the second one. */
async function ringing(): Promise<Ringing> {
  const farm = await start({ members: 3 });
  const servers = serve(farm, { rings: true });
  await farm.pass(2000, 50);
  const owner = farm.member(2);
  const call = new Call(farm, await farm.phone('192.0.2.7'), farm.callIdOf(owner));
  call.invite();
  await farm.pass(WRITTEN_MS);
  return { farm, owner, servers, call };
}

test('a record is stored under the owner alone, from the first ring to the end of the call', async () => {
  const { farm, owner, servers, call } = await ringing();
  assert.deepEqual(
    [1, 2, 3].map((index) => kinds(farm, farm.member(index).number)),
    [[], ['pending'], []],
  );
  servers[1]!.answer(call.callId);
  await farm.pass(WRITTEN_MS);
  assert.deepEqual(kinds(farm, owner.number), ['dialog']);
  call.bye();
  await farm.pass(WRITTEN_MS);
  assert.equal(call.final.get('BYE'), 200);
  assert.deepEqual(kinds(farm, owner.number), []);
});

test('any member returns the calls of all members and the record of a Call-ID; the owner returns its own', async () => {
  const { farm, owner, call } = await ringing();
  const other = farm.member(1);
  const ids = async (member: FakeMember, all: boolean): Promise<string[]> =>
    (await farm.drive(member.node.api.callList(10, all))).calls.map(({ callId }) => callId);
  assert.deepEqual(
    [await ids(owner, false), await ids(other, false), await ids(other, true)],
    [[call.callId], [], [call.callId]],
  );
  const told = (await farm.drive(other.node.api.recordOf(call.callId)))!;
  assert.deepEqual(
    [told.owner, told.incarnation, told.from],
    [{ number: owner.number, id: 'fe2' }, 1, 'sip:alice@example.org'],
  );
  assert.deepEqual(told.legs, [{ from: 'client', remote: '192.0.2.7:5060', answered: false }]);
  assert.equal((await farm.drive(owner.node.api.recordOf(call.callId)))?.state, 'early');
  assert.equal(await farm.drive(other.node.api.recordOf('unknown')), null);
});

describe('a member that restarts in front of its living server', () => {
  test('has its calls again: answered and ringing ones', async () => {
    const { farm, owner, servers, call } = await ringing();
    const up = new Call(farm, await farm.phone('192.0.2.8'), farm.callIdOf(owner, 'up'));
    up.invite();
    await farm.settle();
    servers[1]!.answer(up.callId);
    await farm.pass(WRITTEN_MS);
    assert.equal(owner.node.ownedCalls, 2);
    await farm.kill(owner, { serverLives: true });
    const again = await farm.add(2);
    await farm.until(() => again.node.ownedCalls === 2, 'it has read its records', 1000);
    servers[1]!.answer(call.callId);
    await farm.pass(WRITTEN_MS);
    assert.equal(call.status, 200);
    assert.deepEqual(kinds(farm, again.number), ['dialog', 'dialog']);
    for (const each of [call, up]) each.bye();
    await farm.pass(WRITTEN_MS);
    assert.deepEqual([again.node.ownedCalls, kinds(farm, again.number)], [0, []]);
  });

  test('had written its pending records before an orderly stop', async () => {
    const { farm, owner, servers, call } = await ringing();
    servers[1]!.answer(call.callId);
    await farm.settle();
    assert.equal(call.status, 200);
    assert.deepEqual(kinds(farm, owner.number), ['pending'], 'the answer is not written yet');
    await farm.drive(owner.node.stop());
    owner.alive = false;
    assert.deepEqual(kinds(farm, owner.number), ['dialog']);
  });
});

describe('a member that had lost its seat', () => {
  async function back(adopted: boolean): Promise<{ farm: FakeFarm; owner: FakeMember }> {
    const { farm, owner } = await ringing();
    farm.freeze(owner);
    await farm.pass(3000, 50);
    if (adopted) {
      const [record] = farm.memory.readAll(`calls/${owner.number}/pending/`);
      farm.memory.apply([{ key: record!.key, value: undefined, expect: record!.revision }]);
    }
    await farm.thaw(owner);
    await farm.seated();
    await farm.pass(1000, 50);
    assert.equal(owner.node.api.farm().incarnation, 2);
    return { farm, owner };
  }

  test('goes on with a call that no other member has adopted', async () => {
    const { farm, owner } = await back(false);
    assert.deepEqual([owner.node.ownedCalls, kinds(farm, owner.number)], [1, ['pending']]);
  });

  test('has given up a call of which it had written no record yet', async () => {
    const farm = await start({ members: 3 });
    serve(farm, { rings: true });
    await farm.pass(2000, 50);
    const owner = farm.member(2);
    const call = new Call(farm, await farm.phone('192.0.2.7'), farm.callIdOf(owner));
    call.invite();
    await farm.settle();
    assert.equal(owner.node.ownedCalls, 1);
    farm.freeze(owner);
    await farm.until(() => farm.member(1).seats === 'fe1 fe3', 'its seat is gone', 3000);
    await farm.thaw(owner);
    await farm.seated();
    await farm.pass(1000);
    assert.deepEqual([owner.node.ownedCalls, kinds(farm, owner.number)], [0, []]);
  });

  test('has given up a call that another member has adopted, and writes it never again', async () => {
    const { farm, owner } = await back(true);
    assert.deepEqual([owner.node.ownedCalls, kinds(farm, owner.number)], [0, []]);
    await farm.pass(60_000, 250);
    assert.deepEqual(kinds(farm, owner.number), []);
  });
});

test('calls go on while the store is down, and are recorded when it is back', async () => {
  const { farm, owner, servers, call } = await ringing();
  farm.memory.down();
  servers[1]!.answer(call.callId);
  await farm.pass(60_000, 100);
  assert.equal(call.status, 200);
  assert.deepEqual(kinds(farm, owner.number), ['pending']);
  farm.memory.up();
  await farm.until(() => kinds(farm, owner.number)[0] === 'dialog', 'the record is written', 5000);
});
