// Whole calls through a farm whose balancer sends each packet to another member.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { seededRandom } from '../../fake/network.ts';
import { parameterOf, request, respond } from '../../fake/sip.ts';
import { Call, serve, start, stopFarms } from './calls.ts';

afterEach(stopFarms);

const RELAY_PORT = 5064;

describe('calls sprayed over the members, packet by packet', () => {
  for (const members of [1, 3, 5]) {
    test(`with ${members} members each have INVITE, ACK and BYE at one owner`, async () => {
      const farm = await start({ members });
      const servers = serve(farm);
      const phone = await farm.phone('192.0.2.7');
      const calls = Array.from({ length: 60 }, () => new Call(farm, phone));
      for (const call of calls) call.invite();
      await farm.settle();
      assert.ok(calls.every(({ status }) => status === 200));
      for (const { callId } of calls) {
        const at = servers.filter(({ dialogs }) => dialogs.has(callId));
        assert.deepEqual(
          at.map(({ dialogs }) => dialogs.get(callId)?.state),
          ['confirmed'],
        );
        assert.equal(at[0]?.server, farm.ownerOf(callId).server);
      }
      const owned = farm.members.map(({ node }) => node.ownedCalls);
      assert.equal(
        owned.reduce((sum, count) => sum + count),
        60,
      );
      assert.ok(owned.every((count) => count > 0));
      for (const call of calls) call.bye();
      await farm.settle();
      assert.ok(calls.every(({ final }) => final.get('BYE') === 200));
      assert.ok(farm.members.every(({ node }) => node.ownedCalls === 0));
      assert.ok(servers.every(({ strayAcks }) => strayAcks.length === 0));
    });
  }

  test('are cancelled, and the ACK of the 487 reaches the owner', async () => {
    const farm = await start({ members: 4 });
    const servers = serve(farm, { rings: true });
    const phone = await farm.phone('192.0.2.7');
    const calls = Array.from({ length: 40 }, () => new Call(farm, phone));
    for (const call of calls) call.invite();
    await farm.settle();
    assert.ok(calls.every(({ ringing }) => ringing));
    for (const call of calls) call.cancel();
    await farm.settle();
    assert.ok(calls.every(({ status, final }) => status === 487 && final.get('CANCEL') === 200));
    for (const { callId } of calls)
      assert.ok(
        servers.some(({ dialogs }) => dialogs.get(callId)?.state === 'over'),
        `${callId} got its ACK`,
      );
    assert.ok(farm.members.every(({ node }) => node.ownedCalls === 0));
  });

  test('are ended by the callee', async () => {
    const farm = await start({ members: 3 });
    const servers = serve(farm);
    const phone = await farm.phone('192.0.2.7');
    const calls = Array.from({ length: 20 }, () => new Call(farm, phone));
    for (const call of calls) call.invite();
    await farm.settle();
    for (const { callId } of calls) servers.find(({ dialogs }) => dialogs.has(callId))?.inDialog(callId, 'BYE');
    await farm.settle();
    assert.equal(phone.got.filter(({ startLine }) => startLine.startsWith('BYE')).length, 20);
    for (const { server } of servers)
      for (const { status, method } of server.responses) assert.deepEqual([status, method], [200, 'BYE']);
    assert.equal(
      servers.reduce((sum, { server }) => sum + server.responses.length, 0),
      20,
    );
    assert.ok(farm.members.every(({ node }) => node.ownedCalls === 0));
  });

  test('by TCP have connections at one member and owners at others', async () => {
    const farm = await start({ members: 3 });
    const servers = serve(farm);
    const phones = [];
    for (let i = 0; i < 6; i++) phones.push(await farm.tcpPhone(`192.0.2.${10 + i}`));
    const calls = phones.flatMap((phone) => Array.from({ length: 4 }, () => new Call(farm, phone)));
    for (const call of calls) call.invite();
    await farm.until(() => calls.every(({ status }) => status === 200), 'all calls are up');
    for (const { callId } of calls.slice(0, 12))
      servers.find(({ dialogs }) => dialogs.has(callId))?.inDialog(callId, 'OPTIONS');
    await farm.until(() => servers.reduce((sum, { server }) => sum + server.responses.length, 0) === 12, 'asked back');
    for (const call of calls) call.bye();
    await farm.until(() => calls.every(({ final }) => final.get('BYE') === 200), 'all calls are over');
    assert.ok(farm.members.every(({ node }) => node.ownedCalls === 0));
  });

  test('by TCP get the answer of an owner elsewhere after the client has shut its sending half', async () => {
    const farm = await start({ members: 3 });
    const owner = farm.member(2);
    farm.choose = () => farm.member(1);
    const phone = await farm.tcpPhone('192.0.2.7');
    const via = `SIP/2.0/TCP 192.0.2.7:${phone.at.port};branch=z9hG4bKhalf`;
    phone.send(request({ method: 'OPTIONS', uri: 'sip:b@example.org', via, callId: farm.callIdOf(owner) }));
    phone.stream.end();
    await farm.until(() => owner.server.requests.length > 0, 'the owner has it');
    await farm.pass(20_000);
    owner.server.send(respond(owner.server.last, 200));
    await farm.until(() => phone.closed, 'the connection is closed behind the answer');
    assert.deepEqual(
      phone.got.map(({ status }) => status),
      [200],
    );
  });

  test('with a large INVITE use the connection between the members, and the INVITE arrives complete', async () => {
    const farm = await start({ members: 3 });
    const phone = await farm.phone('192.0.2.7');
    const owner = farm.member(2);
    farm.choose = () => farm.member(1);
    const body = 'x'.repeat(20_000);
    const via = 'Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKlarge';
    const callId = farm.callIdOf(owner);
    await farm.pass(500);
    phone.send(
      `INVITE sip:b@example.org SIP/2.0\r\n${via}\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:b@c>\r\nCall-ID: ${callId}\r\nCSeq: 1 INVITE\r\n\r\n${body}`,
    );
    await farm.until(() => owner.server.requests.length > 0);
    assert.equal(owner.server.last.body, body);
  });
});

describe('a relay link that loses and doubles packets', () => {
  for (const seed of [1, 2, 3]) {
    test(`lets every call complete by retransmissions at a rate of one in twenty (seed ${seed})`, async () => {
      const farm = await start({ members: 4, seed });
      serve(farm);
      const phone = await farm.phone('192.0.2.7');
      const random = seededRandom(seed);
      let lost = 0;
      farm.network.duplication = 0.05;
      farm.network.reaches = (_, { port }) => {
        if (port !== RELAY_PORT || random() >= 0.05) return true;
        lost++;
        return false;
      };
      const calls = Array.from({ length: 150 }, () => new Call(farm, phone));
      for (const call of calls) call.invite();
      await farm.until(() => calls.every(({ status }) => status !== 0), 'all are answered', 40_000);
      assert.deepEqual(new Set(calls.map(({ status }) => status)), new Set([200]));
      for (const call of calls) call.bye();
      await farm.until(() => calls.every(({ final }) => final.has('BYE')), 'all are over', 40_000);
      assert.deepEqual(new Set(calls.map(({ final }) => final.get('BYE'))), new Set([200]));
      assert.ok(lost > 10, `${lost} lost`);
      assert.ok(farm.members.every(({ node }) => node.ownedCalls === 0));
      assert.ok(farm.members.every(({ seats }) => seats === 'fe1 fe2 fe3 fe4'));
    });
  }
});

describe('answer: ingress', () => {
  test('all answers leave by the member that received the request', async () => {
    const farm = await start({ members: 4, answer: 'ingress' });
    serve(farm);
    const phone = await farm.phone('192.0.2.7');
    const calls = Array.from({ length: 40 }, () => new Call(farm, phone));
    for (const call of calls) call.invite();
    await farm.settle();
    for (const call of calls) call.bye();
    await farm.settle();
    assert.ok(calls.every(({ final }) => final.get('BYE') === 200));
    let answers = 0;
    for (const { entered, left } of farm.members) {
      const came = new Set(entered.map((message) => parameterOf(message.one('Via'), 'branch')));
      for (const { message } of left) assert.ok(came.has(message.branch), message.startLine);
      answers += left.length;
    }
    // 180, 200 and the 200 of the BYE.
    assert.equal(answers, 120);
  });

  test('errors that an owner answers itself and requests of the callee leave by the ingress member, too', async () => {
    const farm = await start({ members: 3, answer: 'ingress' });
    const servers = serve(farm);
    const phone = await farm.phone('192.0.2.7');
    const owner = farm.member(1);
    farm.choose = () => farm.member(3);
    const call = new Call(farm, phone, farm.callIdOf(owner));
    call.invite();
    await farm.settle();
    servers[0]?.inDialog(call.callId, 'BYE');
    await farm.settle();
    phone.send(
      phone.got[0]!.text.replace(/^SIP.*/, 'OPTIONS sip:x SIP/2.0\r\nMax-Forwards: 0').replace('INVITE', 'OPTIONS'),
    );
    await farm.settle();
    assert.deepEqual(
      farm.member(3).left.map(({ message }) => message.startLine.replace(/ sip:.*/, '')),
      ['SIP/2.0 180 Something', 'SIP/2.0 200 Something', 'BYE', 'SIP/2.0 483 Too Many Hops'],
    );
    assert.deepEqual([owner.left, farm.member(2).left], [[], []]);
    assert.equal(servers[0]?.server.responses[0]?.status, 200);
  });

  test('the owner answers itself when the ingress member is dead', async () => {
    const farm = await start({ members: 3, answer: 'ingress' });
    const servers = serve(farm, { rings: true });
    const phone = await farm.phone('192.0.2.7');
    farm.choose = () => farm.member(3);
    const call = new Call(farm, phone, farm.callIdOf(farm.member(1)));
    call.invite();
    await farm.settle();
    await farm.kill(farm.member(3));
    await farm.seated();
    farm.choose = () => farm.member(2);
    servers[0]?.answer(call.callId);
    await farm.settle();
    assert.equal(call.status, 200);
    assert.equal(servers[0]?.dialogs.get(call.callId)?.state, 'confirmed');
  });
});
