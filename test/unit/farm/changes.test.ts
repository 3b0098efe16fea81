// Members join, drain, die and lose the store while calls ring. Every call that can survive survives.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { FakeFarm, type FakeMember } from '../../fake/farm.ts';
import { Call, type CallServer, serve, start, stopFarms } from './calls.ts';

afterEach(stopFarms);

async function ringing(farm: FakeFarm, count: number): Promise<{ servers: CallServer[]; calls: Call[] }> {
  const servers = serve(farm, { rings: true });
  const phone = await farm.phone('192.0.2.7');
  const calls = Array.from({ length: count }, () => new Call(farm, phone));
  for (const call of calls) call.invite();
  await farm.settle();
  assert.ok(calls.every((call) => call.ringing));
  return { servers, calls };
}

function serverOf(servers: readonly CallServer[], { callId }: Call): CallServer {
  const found = servers.filter(({ dialogs }) => dialogs.has(callId));
  assert.equal(found.length, 1, `${callId} is at one server`);
  return found[0]!;
}

/** Returns how many packets this member has relayed to others. */
function relayed({ metrics }: FakeMember): number {
  let sum = 0;
  for (const { labels, value } of metrics.relayed.entries()) if (labels.direction === 'out') sum += value;
  return sum;
}

/** Nothing passes between the two, in either direction. */
function cutLink({ network }: FakeFarm, { address }: FakeMember, other: FakeMember): void {
  network.reaches = (from, to) => {
    const pair = [from.address, to.address];
    return !(pair.includes(address) && pair.includes(other.address));
  };
}

describe('a member joins while calls ring', () => {
  test('gives CANCEL and ACK of calls in moved slots a second chance at the old owner', async () => {
    const farm = await start({ members: 3 });
    const { servers, calls } = await ringing(farm, 60);
    const newcomer = await farm.add();
    const stranger = serve(farm, { rings: true })[3]!;
    // serve() has replaced the scripts of all servers: restore the old ones.
    for (const old of servers) old.takeOver();
    const moved = calls.filter(({ callId }) => farm.ownerOf(callId) === newcomer);
    assert.ok(moved.length > 3, `${moved.length} have moved`);
    for (const call of calls) call.cancel();
    await farm.settle();
    assert.deepEqual(new Set(calls.map(({ status }) => status)), new Set([487]));
    assert.deepEqual(new Set(calls.map(({ final }) => final.get('CANCEL'))), new Set([200]));
    for (const call of calls) assert.equal(serverOf(servers, call).dialogs.get(call.callId)?.state, 'over');
    assert.deepEqual(stranger.server.requests, []);
    assert.ok(servers.every(({ strayAcks }) => strayAcks.length === 0));
  });

  test('gives a retransmitted INVITE a second chance, too, and no second call results', async () => {
    const farm = await start({ members: 3 });
    const { servers, calls } = await ringing(farm, 60);
    const newcomer = await farm.add();
    const moved = calls.filter(({ callId }) => farm.ownerOf(callId) === newcomer);
    const before = servers.map(({ server }) => server.requests.length);
    for (const call of moved) call.inviteAgain();
    await farm.settle();
    assert.equal(newcomer.server.requests.length, 0);
    const after = servers.map(({ server }) => server.requests.length);
    assert.equal(
      after.reduce((sum, count, i) => sum + count - before[i]!, 0),
      moved.length,
    );
  });

  test('gets the new calls of moved slots through the old owner, which does not have them', async () => {
    const farm = await start({ members: 3 });
    const { calls } = await ringing(farm, 30);
    assert.equal(calls.length, 30);
    const newcomer = await farm.add();
    await farm.pass(1000);
    const callIds = Array.from({ length: 10 }, (_, i) => farm.callIdOf(newcomer, `new-${i}`));
    const phone = await farm.phone('192.0.2.8');
    for (const callId of callIds) new Call(farm, phone, callId).invite();
    await farm.settle();
    assert.deepEqual(newcomer.server.requests.map(({ callId }) => callId).sort(), callIds.sort());
  });

  test('gets its packets directly once the old calls are over', async () => {
    const farm = await start({ members: 3 });
    const { servers, calls } = await ringing(farm, 30);
    const newcomer = await farm.add();
    for (const call of calls) serverOf(servers, call).answer(call.callId);
    await farm.settle();
    for (const call of calls) call.bye();
    await farm.settle();
    assert.ok(calls.every(({ final }) => final.get('BYE') === 200));
    // The old owners report this in their next probes.
    await farm.pass(40_000, 50);
    farm.choose = () => newcomer;
    const before = relayed(newcomer);
    const phone = await farm.phone('192.0.2.8');
    for (let i = 0; i < 10; i++) new Call(farm, phone, farm.callIdOf(newcomer, `late-${i}`)).invite();
    await farm.settle();
    assert.equal(newcomer.server.requests.length, 10);
    assert.equal(relayed(newcomer), before);
  });

  test('leaves answered calls where they are, because their requests name the owner', async () => {
    const farm = await start({ members: 3 });
    const { servers, calls } = await ringing(farm, 30);
    for (const call of calls) serverOf(servers, call).answer(call.callId);
    await farm.settle();
    await farm.add();
    await farm.add();
    for (const call of calls) call.bye();
    await farm.settle();
    assert.ok(calls.every(({ final }) => final.get('BYE') === 200));
  });
});

describe('a member drains while calls ring', () => {
  test('has its ringing calls cancelled there, gets no new calls, and then ends its drain', async () => {
    const farm = await start({ members: 3 });
    const { servers, calls } = await ringing(farm, 60);
    const leaver = farm.member(2);
    const its = calls.filter((call) => serverOf(servers, call) === servers[1]);
    assert.ok(its.length > 3);
    const drained = leaver.node.drain();
    await farm.until(() => farm.live.every(({ seats }) => seats === 'fe1 fe2* fe3'), 'the view says so');
    assert.equal(leaver.node.api.ready().ready, false);
    assert.ok(its.every(({ callId }) => farm.ownerOf(callId) !== leaver));

    const phone = await farm.phone('192.0.2.8');
    const before = leaver.server.requests.length;
    const fresh = Array.from({ length: 30 }, () => new Call(farm, phone));
    for (const call of fresh) call.invite();
    await farm.settle();
    assert.equal(leaver.server.requests.length, before);

    for (const call of its) call.cancel();
    await farm.settle();
    assert.deepEqual(new Set(its.map(({ status }) => status)), new Set([487]));
    for (const { callId } of its) assert.equal(servers[1]?.dialogs.get(callId)?.state, 'over');
    assert.equal(leaver.node.ownedCalls, 0);
    assert.equal(await farm.drive(drained), true);
  });

  test('keeps answered calls to their end', async () => {
    const farm = await start({ members: 3 });
    const { servers, calls } = await ringing(farm, 30);
    for (const call of calls) serverOf(servers, call).answer(call.callId);
    await farm.settle();
    const leaver = farm.member(2);
    const drained = leaver.node.drain();
    await farm.until(() => farm.live.every(({ seats }) => seats === 'fe1 fe2* fe3'));
    for (const call of calls) call.bye();
    await farm.settle();
    assert.ok(calls.every(({ final }) => final.get('BYE') === 200));
    assert.equal(await farm.drive(drained), true);
  });
});

describe('the view', () => {
  test('is the same at every member after joins, a leave and a death', async () => {
    const farm = await start({ members: 3 });
    const same = (): void => {
      const views = farm.live.map(({ node }) => JSON.stringify(node.api.view()));
      assert.equal(new Set(views).size, 1);
    };
    same();
    await farm.add();
    await farm.add();
    same();
    await farm.kill(farm.member(2));
    await farm.seated();
    same();
    assert.equal(farm.member(1).seats, 'fe1 fe3 fe4 fe5');
    await farm.add(2);
    same();
    assert.equal(farm.member(1).seats, 'fe1 fe2 fe3 fe4 fe5');
    assert.equal(farm.member(2).node.api.farm().incarnation, 2);
  });

  test('loses a dead member before its lease ends, because the others cannot reach it', async () => {
    const farm = await start({ members: 4 });
    await farm.pass(1000);
    const died = farm.clock.now();
    await farm.kill(farm.member(3));
    await farm.seated();
    assert.ok(farm.clock.now() - died < 3500, `${farm.clock.now() - died} ms`);
  });

  test('keeps a member that only one other member cannot reach', async () => {
    const farm = await start({ members: 4 });
    cutLink(farm, farm.member(1), farm.member(2));
    await farm.pass(8000, 50);
    assert.ok(farm.members.every(({ seats }) => seats === 'fe1 fe2 fe3 fe4'));
  });
});

describe('a link between two members is cut while a call rings, and its slot has moved across', () => {
  test('a CANCEL that cannot reach the call does not hide it once the link is back', async () => {
    const farm = await start({ members: 3 });
    const { servers, calls } = await ringing(farm, 60);
    const newcomer = await farm.add();
    const stranger = serve(farm, { rings: true })[3]!;
    for (const old of servers) old.takeOver();
    const call = calls.find(({ callId }) => farm.ownerOf(callId) === newcomer)!;
    const its = serverOf(servers, call);
    const old = farm.members.find(({ server }) => server === its.server)!;
    farm.choose = () => newcomer;
    cutLink(farm, newcomer, old);
    const reached = (): boolean => newcomer.node.api.members().some(({ id, reachable }) => id === old.id && reachable);
    await farm.until(() => !reached(), 'the newcomer does not reach the old owner');
    call.cancel();
    await farm.settle();
    assert.equal(call.final.get('CANCEL'), 481);
    assert.equal(stranger.server.requests.length, 1);

    farm.network.reaches = () => true;
    await farm.until(reached, 'the link is back');
    const before = its.server.requests.length;
    call.inviteAgain();
    await farm.settle();
    assert.equal(stranger.server.requests.length, 1, 'it does not begin a second time');
    assert.equal(its.server.requests.length, before + 1);
    call.final.delete('CANCEL');
    call.cancel();
    await farm.settle();
    assert.deepEqual([call.final.get('CANCEL'), call.status], [200, 487]);
  });
});

describe('the store is down', () => {
  test('for all members: ringing, answered and new calls go on, members stay ready, and it can come back', async () => {
    const farm = await start({ members: 3 });
    const { servers, calls } = await ringing(farm, 30);
    farm.memory.down();
    await farm.pass(12_000, 50);
    assert.ok(farm.members.every(({ node }) => node.state === 'isolated' && node.api.ready().ready));
    assert.ok(farm.members.every(({ node }) => !node.api.farm().store.up));
    for (const call of calls.slice(0, 15)) serverOf(servers, call).answer(call.callId);
    for (const call of calls.slice(15)) call.cancel();
    await farm.settle();
    for (const call of calls.slice(0, 15)) call.bye();
    for (const { rings } of servers) assert.equal(rings, true);
    for (const server of servers) server.rings = false;
    const phone = await farm.phone('192.0.2.8');
    const fresh = Array.from({ length: 30 }, () => new Call(farm, phone));
    for (const call of fresh) call.invite();
    await farm.settle();
    assert.ok(calls.slice(0, 15).every(({ final }) => final.get('BYE') === 200));
    assert.ok(calls.slice(15).every(({ status }) => status === 487));
    assert.ok(fresh.every(({ status }) => status === 200));

    const epoch = farm.member(1).node.api.farm().epoch;
    farm.memory.up();
    await farm.until(() => farm.members.every(({ node }) => node.state === 'active'), 'back', 10_000);
    await farm.pass(3000, 50);
    assert.equal(farm.member(1).node.api.farm().epoch, epoch, 'nobody has lost a seat');
    for (const call of fresh) call.bye();
    await farm.settle();
    assert.ok(fresh.every(({ final }) => final.get('BYE') === 200));
  });

  test('for one member: its calls go on, and the member recovers', async () => {
    const farm = await start({ members: 3 });
    const { servers, calls } = await ringing(farm, 30);
    farm.member(2).store.cut();
    await farm.until(() => farm.member(2).node.state === 'isolated', 'isolated', 10_000);
    for (const call of calls) serverOf(servers, call).answer(call.callId);
    await farm.settle();
    assert.ok(calls.every(({ status }) => status === 200));
    farm.member(2).store.heal();
    await farm.until(() => farm.member(2).node.state === 'active', 'back', 30_000);
    await farm.seated();
    for (const call of calls) call.bye();
    await farm.settle();
    assert.ok(calls.every(({ final }) => final.get('BYE') === 200));
  });

  test('one member alone loses it and its seat: after its new join it offers packets to all others again', async () => {
    const farm = await start({ members: 3 });
    await farm.pass(2000, 50);
    const fe2 = farm.member(2);
    const reached = (): number =>
      fe2.node.api.members().filter(({ id, reachable }) => id !== 'fe2' && reachable).length;
    fe2.store.cut();
    await farm.until(() => reached() === 0, 'nobody answers a member without a place', 10_000);
    fe2.store.heal();
    await farm.until(() => fe2.node.api.farm().incarnation === 2, 'it has joined anew', 10_000);
    assert.equal(reached(), 2);
  });

  const losses = {
    'one member alone loses it until its seat is gone': async () => {},
    'one member loses it in the moment in which it has handed over': async (farm: FakeFarm) => {
      new Call(farm, await farm.phone('192.0.2.8'), farm.callIdOf(farm.member(2), 'handed-over')).invite();
      await farm.settle();
      const { orders } = farm.member(1).node.api;
      await farm.drive(orders.give('fe2', { order: 'drain', deadlineSeconds: 0 }));
      await farm.settle();
    },
  };
  for (const [what, before] of Object.entries(losses)) {
    test(`${what}: it begins no call that is another's now, and is not ready`, async () => {
      const farm = await start({ members: 3 });
      serve(farm, { rings: true });
      await farm.pass(2000, 50);
      const fe2 = farm.member(2);
      const call = new Call(farm, await farm.phone('192.0.2.7'), farm.callIdOf(fe2));
      await before(farm);
      fe2.store.cut();
      await farm.until(() => farm.member(1).seats === 'fe1 fe3', 'its seat is gone', 10_000);
      const begun = fe2.server.requests.length;
      // Its next probe, and the word that comes of it.
      await farm.pass(300);
      farm.choose = () => fe2;
      call.invite();
      await farm.settle();
      assert.deepEqual([fe2.drops('fenced'), fe2.server.requests.length], [1, begun]);
      assert.match(fe2.node.api.ready().reasons.join(), /seat|drained/);
      farm.choose = () => farm.member(1);
      await farm.until(() => call.ringing, 'the caller asks again', 1000);
      const got = farm.members.flatMap(({ server }) => server.requests).filter(({ callId }) => callId === call.callId);
      assert.equal(got.length, 1);
      fe2.store.heal();
      await farm.until(() => fe2.node.api.farm().incarnation === 2, 'it joins anew', 10_000);
      assert.equal(fe2.node.ownedCalls, 0);
    });
  }
});

describe('after stop', () => {
  test('all addresses are free, no timer is left, and no resource of the process is in use', async () => {
    const before = process.getActiveResourcesInfo().length;
    const farm = await FakeFarm.start({ members: 3, health: 'options' });
    const phone = await farm.tcpPhone('192.0.2.7');
    serve(farm);
    const call = new Call(farm, phone);
    call.invite();
    await farm.until(() => call.status === 200);
    // The server's own timer for its 200 expires.
    await farm.pass(1000);
    await farm.stop();
    assert.equal(farm.clock.timers, 0);
    assert.equal(phone.closed, true);
    const nothing = { onDatagram: () => {}, onSendError: () => {} };
    for (let index = 1; index <= 3; index++) {
      const address = `10.0.0.${index}`;
      for (const port of [5062, 5064]) await (await farm.network.bindUdp({ address, port }, nothing)).close();
      await (await farm.network.listenTcp({ address, port: 5064 }, () => {})).close();
    }
    assert.equal(process.getActiveResourcesInfo().length, before);
  });

  test('no reference to the nodes is left, so that the garbage collector frees them', async () => {
    const { setFlagsFromString } = await import('node:v8');
    const { runInNewContext } = await import('node:vm');
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const nodes: WeakRef<object>[] = [];
    const run = async (): Promise<void> => {
      const farm = await FakeFarm.start({ members: 2 });
      const phone = await farm.tcpPhone('192.0.2.7');
      serve(farm);
      const call = new Call(farm, phone);
      call.invite();
      await farm.until(() => call.status === 200);
      for (const { node } of farm.members) nodes.push(new WeakRef(node));
      await farm.stop();
    };
    await run();
    for (let tries = 0; tries < 20 && nodes.some((node) => node.deref()); tries++) {
      await new Promise((resolve) => setImmediate(resolve));
      collect();
    }
    assert.deepEqual(
      nodes.map((node) => node.deref() === undefined),
      [true, true],
    );
  });
});
