// Fates of packets whose owner is gone: the table "When the owner is gone" of docs/ownership.md, row by row. Calls with
// a record are tested in adoption.test.ts.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { afterEach, describe, test } from 'node:test';
import { GRACE_MS } from '../../../src/calls/adoption/adoption.ts';
import type { FakeFarm, FakeMember, Phone, TcpPhone } from '../../fake/farm.ts';
import { type Message, request, respond } from '../../fake/sip.ts';
import { Call, type CallServer, serve, start, stopFarms } from './calls.ts';
import { Callee, proxies } from './proxies.ts';

afterEach(stopFarms);

/** Kills the member and waits until the others have the view without it. */
async function lose(farm: FakeFarm, member: FakeMember): Promise<void> {
  await farm.kill(member);
  await farm.seated();
}

/** Kills the member and waits until its grace is over. */
async function loseForGood(farm: FakeFarm, member: FakeMember): Promise<void> {
  await lose(farm, member);
  await farm.pass(GRACE_MS + 1000, 100);
}

/** Sets up an answered call of member 2 and kills that member for good. */
async function orphaned(
  dialogs: 'own' | 'shared',
): Promise<{ farm: FakeFarm; servers: CallServer[]; call: Call; takeover: FakeMember }> {
  const farm = await start({ members: 3, dialogs });
  const servers = serve(farm, { shared: dialogs === 'shared' });
  const phone = await farm.phone('192.0.2.7');
  const call = new Call(farm, phone, farm.callIdOf(farm.member(2)));
  call.invite();
  await farm.settle();
  assert.equal(call.status, 200);
  await loseForGood(farm, farm.member(2));
  const takeover = farm.ownerOf(call.callId);
  takeover.server.requests.length = 0;
  return { farm, servers, call, takeover };
}

/**
 * Lets the server of `member` call the phone by `uri`. Returns the INVITE that the phone receives; the phone does not
 * answer yet.
 */
async function callOut(farm: FakeFarm, member: FakeMember, phone: Phone, callId: string, route = ''): Promise<Message> {
  const { address, port } = member.server.at;
  const before = phone.got.length;
  member.server.send(
    request({
      method: 'INVITE',
      uri: `sip:bob@${phone.at.address}:${phone.at.port}`,
      via: `SIP/2.0/UDP ${address}:${port};branch=z9hG4bKout-${callId}`,
      callId,
      headers: route === '' ? [] : [`Route: ${route}`],
    }),
  );
  await farm.until(() => phone.got.length > before, 'the call comes out');
  return phone.got.at(-1)!;
}

/** Registers a TCP phone, connected to `holder`, with the server of `registrar`. Returns the phone and its Path. */
async function registered(
  farm: FakeFarm,
  holder: FakeMember,
  registrar: FakeMember,
): Promise<{ phone: TcpPhone; path: string }> {
  const { choose } = farm;
  farm.choose = () => holder;
  const phone = await farm.tcpPhone('192.0.2.7');
  farm.choose = choose;
  const callId = farm.callIdOf(registrar, 'register');
  const via = `SIP/2.0/TCP 192.0.2.7:${phone.at.port};branch=z9hG4bKregister`;
  const headers = ['Supported: path', 'Contact: <sip:bob@192.168.1.7:5060;transport=tcp>'];
  phone.send(request({ method: 'REGISTER', uri: 'sip:example.org', via, callId, headers }));
  await farm.until(() => registrar.server.requests.some(({ method }) => method === 'REGISTER'), 'registered');
  return { phone, path: registrar.server.requests.find(({ method }) => method === 'REGISTER')!.one('Path') };
}

test('the table in the documentation has the rows that are tested here', () => {
  const text = readFileSync(new URL('../../../docs/takeover.md', import.meta.url), 'utf8');
  const [, table = ''] = /## When the owner is gone\n([\s\S]*?)\n### /.exec(text) ?? [];
  const rows = table.split('\n').filter((line) => line.startsWith('| ') && !line.startsWith('| packet'));
  assert.deepEqual(
    rows.map((row) => row.split('|')[1]?.trim()),
    [
      'response, `dialogs: shared`, to a request that came through the farm',
      'response else',
      'in-dialog request, `dialogs: shared`',
      'in-dialog request, `dialogs: own`',
      'its ACK',
      'CANCEL, call with a record',
      'CANCEL, call without a record',
      'INVITE again, call with a record',
      'INVITE again, call without a record',
      'request to a client on a connection that is gone',
      'response to such a client',
    ],
  );
});

describe('when the owner is gone,', () => {
  test("a response goes to the slot's owner, which removes the farm's Via and gives it to its own server", async () => {
    const farm = await start({ members: 3 });
    const phone = await farm.phone('192.0.2.7');
    const lost = farm.member(2);
    const invite = await callOut(farm, lost, phone, 'call-out');
    await loseForGood(farm, lost);
    const takeover = farm.ownerOf('call-out');
    for (let packet = 0; packet < 2; packet++) phone.send(respond(invite, 200, { toTag: 'b', body: 'answer' }));
    await farm.settle();
    assert.deepEqual(
      takeover.server.responses.map(({ status, body, branch }) => [status, body, branch]),
      [
        [200, 'answer', 'z9hG4bKout-call-out'],
        [200, 'answer', 'z9hG4bKout-call-out'],
      ],
    );
    const other = farm.live.find((member) => member !== takeover);
    assert.deepEqual(other?.server.responses, []);
  });

  for (const answer of ['direct', 'ingress'] as const)
    test(`a response to a request through the farm reaches the caller, not the dead server (${answer})`, async () => {
      const farm = await start({ members: 3, dialogs: 'shared', answer });
      const callee = new Callee(farm, await farm.phone('192.0.2.9'));
      const servers = proxies(farm, [callee.uri]);
      callee.tells = false;
      const call = new Call(farm, await farm.phone('192.0.2.7'), farm.callIdOf(farm.member(2)));
      call.invite();
      await farm.settle();
      assert.equal(callee.state, 'ringing');
      await lose(farm, farm.member(2));
      callee.ring();
      await farm.settle();
      assert.equal(call.ringing, true);
      callee.answer();
      await farm.settle();
      assert.deepEqual([call.status, callee.state], [200, 'confirmed']);
      call.send('INFO');
      callee.send('UPDATE');
      await farm.settle();
      assert.deepEqual([call.final.get('INFO'), callee.final('UPDATE')], [200, 200]);
      call.bye();
      await farm.settle();
      assert.deepEqual([call.final.get('BYE'), callee.state], [200, 'over']);
      assert.deepEqual(callee.seen, ['INVITE', 'ACK', 'INFO', 'BYE']);
      assert.deepEqual(
        servers.flatMap(({ strays }) => strays),
        [],
      );
    });

  test("a response to a request from another port of the server goes to the successor's own server", async () => {
    const farm = await start({ members: 3 });
    const phone = await farm.phone('192.0.2.7');
    const lost = farm.member(2);
    const worker = await farm.phone('10.0.0.2', 5071);
    const via = 'SIP/2.0/UDP 10.0.0.2:5071;branch=z9hG4bKworker';
    worker.send(request({ method: 'INVITE', uri: 'sip:bob@192.0.2.7', via, callId: 'worker' }), lost.server.edge);
    await farm.settle();
    await loseForGood(farm, lost);
    phone.send(respond(phone.got[0]!, 200, { toTag: 'b' }));
    await farm.settle();
    assert.deepEqual([worker.got.length, farm.ownerOf('worker').server.responses.length], [0, 1]);
  });

  test("an in-dialog request goes to the slot's owner, whose server continues the dialog (shared)", async () => {
    const { farm, call, takeover } = await orphaned('shared');
    call.send('INFO');
    await farm.settle();
    call.bye();
    await farm.settle();
    assert.deepEqual([call.final.get('INFO'), call.final.get('BYE')], [200, 200]);
    assert.deepEqual(
      takeover.server.requests.map(({ method }) => method),
      ['INFO', 'BYE'],
    );
    assert.deepEqual(takeover.server.last.all('Route'), []);
  });

  test('an in-dialog request is answered 481 and reaches no server (dialogs: own)', async () => {
    const { farm, servers, call } = await orphaned('own');
    const heard = servers.map(({ server }) => server.requests.length);
    call.send('INFO');
    await farm.settle();
    call.bye();
    await farm.settle();
    assert.deepEqual([call.final.get('INFO'), call.final.get('BYE')], [481, 481]);
    assert.deepEqual(
      servers.map(({ server }) => server.requests.length),
      heard,
    );
  });

  for (const dialogs of ['own', 'shared'] as const)
    test(`an in-dialog ACK ${dialogs === 'own' ? 'is dropped' : 'goes to the slot owner'} (${dialogs})`, async () => {
      const { farm, servers, call, takeover } = await orphaned(dialogs);
      const lost = servers[1]!;
      // The caller repeats the ACK, as after a second 200 of the callee.
      call.ackAgain();
      await farm.settle();
      const dropped = farm.live.reduce((sum, member) => sum + member.drops('owner-gone'), 0);
      const acks = takeover.server.requests.filter(({ method }) => method === 'ACK').length;
      assert.deepEqual([dropped, acks], dialogs === 'own' ? [1, 0] : [0, 1]);
      assert.equal(lost.strayAcks.length, 0);
    });

  test("a CANCEL of a call without a record goes to the slot's new owner, whose server answers 481", async () => {
    const farm = await start({ members: 3 });
    serve(farm, { rings: true });
    const phone = await farm.phone('192.0.2.7');
    const call = new Call(farm, phone, farm.callIdOf(farm.member(2)));
    call.invite();
    await farm.settle();
    assert.equal(call.ringing, true);
    await lose(farm, farm.member(2));
    call.cancel();
    await farm.settle();
    assert.equal(call.final.get('CANCEL'), 481);
    const takeover = farm.ownerOf(call.callId);
    assert.deepEqual(
      takeover.server.requests.map(({ method }) => method),
      ['CANCEL'],
    );
  });

  test('a repeated INVITE of a call without a record starts a new call at the new owner', async () => {
    const farm = await start({ members: 3 });
    const servers = serve(farm, { rings: true });
    const phone = await farm.phone('192.0.2.7');
    const call = new Call(farm, phone, farm.callIdOf(farm.member(2)));
    call.invite();
    await farm.settle();
    await lose(farm, farm.member(2));
    call.inviteAgain();
    await farm.settle();
    const takeover = servers.find(({ server }) => server === farm.ownerOf(call.callId).server);
    takeover?.answer(call.callId);
    await farm.settle();
    assert.equal(call.status, 200);
    assert.equal(takeover?.dialogs.get(call.callId)?.state, 'confirmed');
  });

  test('a request to a client on a lost connection is answered 430 to the server', async () => {
    const farm = await start({ members: 3 });
    const { path } = await registered(farm, farm.member(1), farm.member(2));
    await lose(farm, farm.member(1));
    for (const index of [2, 3]) {
      const { server } = farm.member(index);
      const via = `SIP/2.0/UDP ${server.at.address}:5070;branch=z9hG4bK430`;
      const headers = [`Route: ${path}`];
      server.send(request({ method: 'INVITE', uri: 'sip:bob@192.0.2.7', via, callId: `gone-${index}`, headers }));
      await farm.settle();
      assert.deepEqual(
        server.responses.map(({ status }) => status),
        [430],
      );
    }
  });

  test('a response to a client on a lost connection is dropped and counted as flow-lost', async () => {
    const farm = await start({ members: 3 });
    await registered(farm, farm.member(1), farm.member(2));
    await lose(farm, farm.member(1));
    const { server } = farm.member(2);
    const before = farm.network.sent;
    server.send(respond(server.requests[0]!, 200));
    await farm.settle();
    assert.equal(farm.member(2).drops('flow-lost'), 1);
    assert.equal(farm.network.sent, before + 1);
  });

  for (const answer of ['direct', 'ingress'] as const)
    test(`a request to a UDP client that registered there leaves by the present member (${answer})`, async () => {
      const farm = await start({ members: 3, answer });
      const phone = await farm.phone('203.0.113.9', 33333);
      const lost = farm.member(2);
      farm.choose = () => lost;
      const via = 'SIP/2.0/UDP 192.168.1.5:5060;branch=z9hG4bKudp;rport';
      phone.send(
        request({
          method: 'REGISTER',
          uri: 'sip:example.org',
          via,
          callId: farm.callIdOf(lost),
          headers: ['Supported: path'],
        }),
      );
      await farm.settle();
      const path = lost.server.last.one('Path');
      await lose(farm, lost);
      farm.choose = () => farm.member(1);
      const invite = await callOut(farm, farm.member(3), phone, 'by-udp', path);
      assert.equal(farm.member(3).left.length, 1);
      phone.send(respond(invite, 180, { toTag: 'b' }));
      await farm.settle();
      assert.equal(farm.member(3).server.responses.length, 1);
    });

  test('an in-dialog request before the new view is lost; its retransmission waits for the grace', async () => {
    const farm = await start({ members: 3, dialogs: 'own' });
    serve(farm);
    const phone = await farm.phone('192.0.2.7');
    const call = new Call(farm, phone, farm.callIdOf(farm.member(2)));
    call.invite();
    await farm.settle();
    await farm.kill(farm.member(2));
    call.bye();
    await farm.settle();
    assert.equal(call.final.has('BYE'), false);
    await farm.until(() => call.final.has('BYE'), 'an answer', 10_000);
    assert.equal(call.final.get('BYE'), 481);
  });
});

describe('a member that is back in front of its living server', () => {
  test('keeps the dialogs of that server', async () => {
    const farm = await start({ members: 3, dialogs: 'own' });
    const servers = serve(farm);
    const phone = await farm.phone('192.0.2.7');
    const calls = [1, 2, 3].flatMap((index) =>
      Array.from({ length: 4 }, (_, i) => new Call(farm, phone, farm.callIdOf(farm.member(index), `keep-${i}`))),
    );
    for (const call of calls) call.invite();
    await farm.settle();
    await farm.kill(farm.member(2), { serverLives: true });
    await farm.add(2);
    assert.equal(farm.member(2).node.api.farm().incarnation, 2);
    for (const { callId } of calls) servers.find(({ dialogs }) => dialogs.has(callId))?.inDialog(callId, 'OPTIONS');
    await farm.settle();
    for (const { server } of servers)
      assert.deepEqual(
        server.responses.map(({ status }) => status),
        [200, 200, 200, 200],
      );
    for (const call of calls) call.bye();
    await farm.settle();
    assert.deepEqual(new Set(calls.map(({ final }) => final.get('BYE'))), new Set([200]));
  });

  test('delivers the response to a request of its earlier incarnation', async () => {
    const farm = await start({ members: 2 });
    const phone = await farm.phone('192.0.2.7');
    const invite = await callOut(farm, farm.member(2), phone, 'before');
    await farm.kill(farm.member(2), { serverLives: true });
    await farm.add(2);
    farm.choose = () => farm.member(1);
    phone.send(respond(invite, 200, { toTag: 'b' }));
    await farm.settle();
    assert.deepEqual(
      farm.member(2).server.responses.map(({ status }) => status),
      [200],
    );
  });

  test('still cancels and answers ringing calls', async () => {
    const farm = await start({ members: 3 });
    const servers = serve(farm, { rings: true });
    const phone = await farm.phone('192.0.2.7');
    const [cancelled, taken] = [0, 1].map((i) => new Call(farm, phone, farm.callIdOf(farm.member(2), `ring-${i}`)));
    for (const call of [cancelled!, taken!]) call.invite();
    await farm.settle();
    await farm.kill(farm.member(2), { serverLives: true });
    await farm.add(2);
    cancelled!.cancel();
    servers[1]!.answer(taken!.callId);
    await farm.settle();
    assert.deepEqual([cancelled!.status, taken!.status], [487, 200]);
  });
});

describe('a client by TCP at one member', () => {
  test('can be called by the server of another member after a third one registered it', async () => {
    const farm = await start({ members: 3 });
    const [holder, registrar, caller] = [farm.member(1), farm.member(2), farm.member(3)];
    const { phone, path } = await registered(farm, holder, registrar);
    const invite = await callOut(farm, caller, phone, 'through-three', path);
    phone.send(respond(invite, 180, { toTag: 'b' }));
    phone.send(
      respond(invite, 200, { toTag: 'b', headers: [`Contact: <sip:bob@192.0.2.7:${phone.at.port};transport=tcp>`] }),
    );
    await farm.until(() => caller.server.responses.length === 2, 'ringing and answer');
    const [, ok] = caller.server.responses;
    const routes = ok!.all('Record-Route');
    const same = { callId: 'through-three', toTag: 'b', uri: `sip:bob@192.0.2.7:${phone.at.port};transport=tcp` };
    const headers = [...routes].reverse().map((route) => `Route: ${route}`);
    caller.server.send(
      request({ ...same, method: 'ACK', via: 'SIP/2.0/UDP 10.0.0.3:5070;branch=z9hG4bKack', headers }),
    );
    await farm.until(() => phone.got.at(-1)?.method === 'ACK', 'the ACK');
    const hangUp = request({
      ...same,
      method: 'BYE',
      uri: 'sip:caller@10.0.0.3:5070',
      via: `SIP/2.0/TCP 192.0.2.7:${phone.at.port};branch=z9hG4bKbye`,
      fromTag: 'b',
      toTag: 'from',
      headers: routes.map((route) => `Route: ${route}`),
    });
    phone.send(hangUp);
    await farm.until(() => caller.server.requests.length === 1, 'the BYE');
    assert.deepEqual([caller.server.last.method, caller.server.last.all('Route')], ['BYE', []]);
    caller.server.send(respond(caller.server.last, 200));
    await farm.until(() => phone.got.at(-1)?.status === 200, 'the end');
    assert.deepEqual(
      phone.got.map(({ startLine }) => startLine.split(' ')[0]),
      ['INVITE', 'ACK', 'SIP/2.0'],
    );
    assert.ok(farm.members.every(({ node }) => node.ownedCalls === 0));
  });
});
