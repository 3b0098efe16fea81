// Orders of operators, given through any member for any member, in a farm with calls.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import type { OrderKind } from '../../../src/membership/order.ts';
import type { FakeFarm, FakeMember } from '../../fake/farm.ts';
import { request } from '../../fake/sip.ts';
import { type Call, invited, serve, start, stopFarms } from './calls.ts';

afterEach(stopFarms);

/** Gives an order through the member `asked`; null lifts every order. */
async function order(
  farm: FakeFarm,
  asked: FakeMember,
  target: FakeMember,
  kind: OrderKind | null,
  deadlineSeconds?: number,
): Promise<void> {
  const { orders } = asked.node.api;
  await farm.drive<unknown>(
    kind ? orders.give(target.id, { order: kind, deadlineSeconds }) : orders.lift(target.id, ['drain', 'pause', 'ban']),
  );
}

function share(farm: FakeFarm, member: FakeMember, asked = farm.live[0]!): number {
  return asked.node.api.members().find(({ id }) => id === member.id)?.share ?? -1;
}

/** Returns twenty answered calls of one phone. */
async function calls(farm: FakeFarm): Promise<readonly Call[]> {
  const made = await invited(farm, await farm.phone('192.0.2.7'), 20);
  await farm.until(() => made.every(({ status }) => status === 200), 'the calls are up');
  return made;
}

function probe(farm: FakeFarm, member: FakeMember): Promise<number> {
  return (async () => {
    const balancer = await farm.phone('198.51.100.254');
    farm.choose = () => member;
    const via = 'SIP/2.0/UDP 198.51.100.254:5060;branch=z9hG4bKprobe';
    balancer.send(request({ method: 'OPTIONS', uri: 'sip:probe', via, callId: `probe-${farm.clock.now()}` }));
    await farm.until(() => balancer.got.length > 0, 'the probe is answered');
    balancer.close();
    return balancer.got[0]!.status;
  })();
}

describe('drain', () => {
  test('stops new calls at another member, lets its calls end, and lasts until resume', async () => {
    const farm = await start({ members: 3 });
    serve(farm);
    const up = await calls(farm);
    const [fe1, fe2] = [farm.member(1), farm.member(2)];
    const owned = fe2.node.ownedCalls;
    assert.ok(owned > 0);
    await order(farm, fe1, fe2, 'drain');
    await farm.until(() => fe1.seats === 'fe1 fe2* fe3', 'the view says it');
    assert.equal(share(farm, fe2), 0);
    assert.equal(fe2.node.state, 'draining');
    assert.match(fe2.node.api.ready().reasons.join(), /draining/);
    await farm.pass(5000, 50);
    const { progress } = await farm.drive(fe1.node.api.orders.status('fe2'));
    assert.deepEqual([progress?.state, progress?.calls], ['draining', owned]);
    assert.ok(progress!.oldestSeconds >= 4 && progress!.leftSeconds <= 55);
    for (const call of up) call.bye();
    await farm.until(() => fe2.node.state === 'drained', 'drained', 10_000);
    assert.ok(up.every(({ final }) => final.get('BYE') === 200));
    await farm.pass(1100, 50);
    assert.equal((await farm.drive(fe1.node.api.orders.status('fe2'))).progress?.state, 'drained');
    assert.equal(fe2.node.api.ready().ready, false);
    assert.equal(fe1.seats, 'fe1 fe2* fe3');
    await order(farm, farm.member(3), fe2, null);
    await farm.until(() => share(farm, fe2) > 0.3, 'it takes part again');
    assert.equal(fe2.node.api.ready().ready, true);
    assert.equal(fe2.node.api.farm().incarnation, 1);
    assert.equal((await farm.drive(fe1.node.api.orders.status('fe2'))).progress, null);
  });

  test('changes the probe answers of the receiving member at once, before the store has answered', async () => {
    const farm = await start({ members: 2 });
    serve(farm);
    const fe1 = farm.member(1);
    await farm.pass(1000);
    assert.equal(await probe(farm, fe1), 200);
    const given = fe1.node.api.orders.give('fe1', { order: 'drain' });
    // Only microtasks run here: the memory store answers in one, but the view needs the clock.
    await given;
    assert.equal(fe1.node.api.ready().ready, false);
    assert.equal(await probe(farm, fe1), 503);
  });

  test('is taken back when the store does not accept it', async () => {
    const farm = await start({ members: 2 });
    const fe1 = farm.member(1);
    fe1.store.cut();
    await assert.rejects(farm.drive(fe1.node.api.orders.give('fe1', { order: 'drain' })), {
      code: 'SF_STORE_UNREACHABLE',
    });
    assert.equal(fe1.node.api.ready().ready, true);
    fe1.store.heal();
  });

  test('hands the calls over at its deadline, gives up the seat, and has a new incarnation after resume', async () => {
    const farm = await start({ members: 3 });
    serve(farm, { shared: true });
    const up = await calls(farm);
    const [fe1, fe2] = [farm.member(1), farm.member(2)];
    const owned = fe2.node.ownedCalls;
    await order(farm, fe1, fe2, 'drain', 10);
    await farm.until(() => fe1.seats === 'fe1 fe3', 'its seat is gone', 12_000);
    await farm.pass(3000, 50);
    const status = await farm.drive(fe1.node.api.orders.status('fe2'));
    assert.deepEqual([status.progress?.state, status.progress?.calls, status.alive], ['handed-over', owned, true]);
    assert.equal(fe2.node.ownedCalls, 0);
    assert.equal(fe2.node.state, 'drained');
    assert.deepEqual(fe1.node.api.absent(), [{ id: 'fe2', number: fe2.number, state: 'drained', order: 'drain' }]);
    await farm.pass(20_000, 50);
    assert.equal(fe1.seats, 'fe1 fe3');
    await order(farm, fe1, fe2, null);
    await farm.seated();
    assert.equal(fe2.node.api.ready().ready, true);
    assert.equal(fe2.node.api.farm().incarnation, 2);
    assert.ok(up.length > 0);
  });

  test('hands nothing over at the deadline when all members drain: calls go on to their end', async () => {
    const farm = await start({ members: 2 });
    serve(farm);
    const up = await calls(farm);
    const members = [farm.member(1), farm.member(2)] as const;
    await order(farm, members[0], members[0], 'drain', 10);
    await order(farm, members[0], members[1], 'drain', 0);
    await farm.pass(20_000, 50);
    assert.equal(members[0].seats, 'fe1* fe2*');
    assert.ok(members.every(({ node }) => node.state === 'draining'));
    for (const call of up) call.bye();
    await farm.until(() => members.every(({ node }) => node.state === 'drained'), 'drained', 5000);
    assert.ok(up.every(({ final }) => final.get('BYE') === 200));
  });

  test('applies to a member that receives nothing, and to its next start', async () => {
    const farm = await start({ members: 3 });
    const fe3 = farm.member(3);
    farm.freeze(fe3);
    await order(farm, farm.member(1), fe3, 'drain');
    await farm.until(() => share(farm, fe3) === 0, 'the others draw the slots without it', 900);
    await farm.kill(fe3);
    await farm.seated();
    const again = await farm.add(3);
    assert.equal(farm.member(1).seats, 'fe1 fe2 fe3*');
    assert.equal(again.node.api.ready().ready, false);
    await order(farm, again, again, null);
    await farm.until(() => farm.member(1).seats === 'fe1 fe2 fe3', 'resumed by itself');
    assert.equal(again.node.api.ready().ready, true);
  });

  test('does not end a stop: the member stops although the order is lifted', async () => {
    const farm = await start({ members: 2 });
    const [fe1, fe2] = [farm.member(1), farm.member(2)];
    await order(farm, fe1, fe2, 'drain');
    await farm.pass(1000);
    const drained = fe2.node.drain();
    await order(farm, fe1, fe2, null);
    await farm.pass(1000);
    assert.equal(fe1.seats, 'fe1 fe2*');
    assert.equal(fe2.node.state, 'draining');
    assert.equal(await farm.drive(drained), true);
  });

  test("brings a stopping member that has handed over no seat, nor its calls at the order's end", async () => {
    const farm = await start({ members: 3 });
    serve(farm, { shared: true });
    await calls(farm);
    const [fe1, fe2] = [farm.member(1), farm.member(2)];
    await order(farm, fe1, fe2, 'drain', 0);
    await farm.until(() => fe1.seats === 'fe1 fe3', 'its seat is gone', 3000);
    // It has joined anew by then, and stays outside.
    await farm.until(() => fe2.node.api.farm().incarnation === 2, 'joined anew', 3000);
    const drained = fe2.node.drain();
    await farm.pass(1000);
    assert.equal(fe1.seats, 'fe1 fe3');
    await order(farm, fe1, fe2, null);
    await farm.pass(1000);
    assert.deepEqual([fe1.seats, fe2.node.ownedCalls], ['fe1 fe3', 0]);
    assert.equal(await farm.drive(drained), true);
  });
});

describe('a REGISTER by TCP at a draining member', () => {
  const register = (callId: string, cseq = 1): string =>
    request({
      method: 'REGISTER',
      uri: 'sip:example.org',
      via: `SIP/2.0/TCP 192.0.2.7:5060;branch=z9hG4bK${callId}-${cseq}`,
      callId,
      cseq,
    });

  test('is answered 503 with Retry-After, and then the connection is closed', async () => {
    const farm = await start({ members: 2 });
    serve(farm);
    const fe2 = farm.member(2);
    farm.choose = () => fe2;
    const phone = await farm.tcpPhone('192.0.2.7');
    phone.send(register('before'));
    await farm.until(() => phone.got.length === 1, 'it is answered');
    assert.notEqual(phone.got[0]!.status, 503);
    await order(farm, farm.member(1), fe2, 'drain');
    phone.send(register('while', 2));
    await farm.until(() => phone.closed, 'closed', 5000);
    const { status } = phone.got[1]!;
    assert.deepEqual([status, phone.got[1]!.all('Retry-After').length], [503, 1]);
    const { metrics } = fe2;
    assert.equal(metrics.closedConnections.cell({ reason: 'moved-on' }).n, 1);
  });

  test('does not close a connection that calls use', async () => {
    const farm = await start({ members: 2 });
    serve(farm);
    const fe2 = farm.member(2);
    farm.choose = () => fe2;
    const phone = await farm.tcpPhone('192.0.2.7');
    const [call] = await invited(farm, phone, 1);
    await farm.until(() => call!.status === 200, 'the call is up');
    await order(farm, farm.member(1), fe2, 'drain');
    const before = phone.got.length;
    phone.send(register('while'));
    await farm.until(() => phone.got.length > before, 'it is answered');
    assert.equal(phone.got.at(-1)!.status, 503);
    await farm.pass(1000);
    assert.equal(phone.closed, false);
    call!.bye();
    await farm.until(() => call!.final.get('BYE') === 200, 'the call has its end');
  });
});

describe('pause', () => {
  test('takes only new calls away, until resume', async () => {
    const farm = await start({ members: 3 });
    serve(farm);
    const up = await calls(farm);
    const [fe1, fe2] = [farm.member(1), farm.member(2)];
    const owned = fe2.node.ownedCalls;
    await order(farm, fe1, fe2, 'pause');
    await farm.until(() => share(farm, fe2) === 0, 'no share');
    assert.equal(fe1.seats, 'fe1 fe2 fe3');
    assert.equal(fe2.node.api.ready().ready, true);
    await farm.pass(30_000, 100);
    assert.equal(fe2.node.ownedCalls, owned);
    assert.equal(fe1.node.api.members().find(({ id }) => id === 'fe2')?.order, 'pause');
    for (const call of up) call.bye();
    await farm.settle();
    assert.ok(up.every(({ final }) => final.get('BYE') === 200));
    await order(farm, fe1, fe2, null);
    await farm.until(() => share(farm, fe2) > 0.3, 'its share is back');
  });
});

describe('ban', () => {
  test('takes the seat and keeps it away, also from a new process, until unban', async () => {
    const farm = await start({ members: 3 });
    const [fe1, fe2, fe3] = [farm.member(1), farm.member(2), farm.member(3)];
    await order(farm, fe1, fe2, 'ban');
    await farm.until(() => fe1.seats === 'fe1 fe3', 'no seat');
    assert.match(fe2.node.api.ready().reasons.join(), /banned/);
    await farm.pass(60_000, 100);
    assert.equal(fe1.seats, 'fe1 fe3');
    assert.equal(fe2.node.state, 'banned');
    await farm.kill(fe2);
    // The start waits and reports the ban; the member gets no seat.
    const starting = farm.add(2);
    await farm.pass(20_000, 100);
    assert.equal(fe3.seats, 'fe1 fe3');
    assert.deepEqual(
      fe1.node.api.absent().map(({ id, state }) => `${id} ${state}`),
      ['fe2 banned'],
    );
    await order(farm, fe3, fe2, null);
    const again = await starting;
    await farm.seated();
    assert.equal(again.node.api.ready().ready, true);
  });

  test('loses no call of others: packets at the banned member reach their owner', async () => {
    const farm = await start({ members: 3 });
    serve(farm);
    const [fe1, fe2] = [farm.member(1), farm.member(2)];
    await order(farm, fe1, fe2, 'ban');
    await farm.until(() => fe1.seats === 'fe1 fe3', 'no seat');
    await farm.pass(1000, 50);
    farm.choose = () => fe2;
    const made = await calls(farm);
    for (const call of made) call.bye();
    await farm.until(() => made.every(({ final }) => final.get('BYE') === 200), 'each has its end', 5000);
    assert.equal(fe2.server.requests.length, 0);
  });

  test('on all living members prevents new calls: callers get 503 from each member', async () => {
    const farm = await start({ members: 3 });
    serve(farm);
    const [fe1, fe2, fe3] = [farm.member(1), farm.member(2), farm.member(3)];
    await order(farm, fe3, fe1, 'ban');
    await order(farm, fe3, fe2, 'ban');
    await farm.until(() => fe3.seats === 'fe3', 'no seat');
    await farm.kill(fe3);
    await farm.until(() => fe1.seats === '' && fe2.seats === '', 'nobody has a seat', 15_000);
    const made = await invited(farm, await farm.phone('192.0.2.7'), 2);
    await farm.settle();
    assert.deepEqual(
      made.map(({ status }) => status),
      [503, 503],
    );
    assert.equal(fe1.server.requests.length + fe2.server.requests.length, 0);
  });

  test('leaves a running member running: after unban it takes part with a new incarnation', async () => {
    const farm = await start({ members: 3 });
    const [fe1, fe2] = [farm.member(1), farm.member(2)];
    await order(farm, fe1, fe2, 'ban');
    await farm.until(() => fe1.seats === 'fe1 fe3', 'no seat');
    await farm.pass(5000, 50);
    await order(farm, fe2, fe2, null);
    await farm.seated();
    assert.deepEqual([fe2.node.api.ready().ready, fe2.node.api.farm().incarnation], [true, 2]);
  });

  test('is neither replaced by a drain nor lifted by resume', async () => {
    const farm = await start({ members: 2 });
    const { orders } = farm.member(1).node.api;
    await farm.drive(orders.give('fe2', { order: 'ban' }));
    await assert.rejects(farm.drive(orders.give('fe2', { order: 'drain' })), { code: 'SF_ORDER_REFUSED' });
    await assert.rejects(farm.drive(orders.lift('fe2', ['drain', 'pause'])), { code: 'SF_ORDER_REFUSED' });
    assert.equal((await farm.drive(orders.lift('fe2', ['ban']))).lifted, 'ban');
    assert.equal((await farm.drive(orders.lift('fe2', ['ban']))).lifted, null);
  });
});

describe('remove', () => {
  test('deletes order and number of a departed member; the next member with its name gets another number', async () => {
    const farm = await start({ members: 3 });
    const [fe1, fe3] = [farm.member(1), farm.member(3)];
    const { orders } = fe1.node.api;
    await farm.drive(orders.give('fe3', { order: 'pause' }));
    await assert.rejects(farm.drive(orders.remove('fe3', false)), { code: 'SF_ORDER_REFUSED' });
    await farm.kill(fe3);
    await farm.seated();
    await farm.pass(15_000, 100);
    await farm.drive(orders.remove('fe3', false));
    await assert.rejects(farm.drive(orders.status('fe3')), { code: 'SF_MEMBER_UNKNOWN' });
    assert.deepEqual(orders.all(), []);
    const again = await farm.add(3);
    assert.equal(again.number, 4);
  });

  test('with force evicts a living member, which joins again with another number', async () => {
    const farm = await start({ members: 3 });
    await farm.drive(farm.member(1).node.api.orders.remove('fe3', true));
    await farm.until(() => farm.member(3).number === 4 && farm.member(1).seats.includes('fe3'), 'back', 20_000);
  });

  test('is refused for a missing member with a list of the members, like any order for it', async () => {
    const farm = await start({ members: 2 });
    const { orders } = farm.member(1).node.api;
    const unknown = { code: 'SF_MEMBER_UNKNOWN', message: 'there is no member "fe7"; the members are: fe1, fe2' };
    await assert.rejects(farm.drive(orders.remove('fe7', true)), unknown);
    await assert.rejects(farm.drive(orders.give('fe7', { order: 'ban' })), unknown);
    await assert.rejects(farm.drive(orders.lift('fe7', ['ban'])), unknown);
    await assert.rejects(farm.drive(orders.status('../view')), { code: 'SF_MEMBER_UNKNOWN' });
  });
});
