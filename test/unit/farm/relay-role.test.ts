// A node of role relay has no listeners. Requests of its SIP server leave through a member, and all their responses and
// later requests reach it from any member.
import assert from 'node:assert/strict';
import { afterEach, describe, it } from 'node:test';
import { listenerCode } from '../../../src/base/listener-code.ts';
import type { ByteStream } from '../../../src/base/network.ts';
import { writeWayToken } from '../../../src/ownership/flow-token.ts';
import { keyring } from '../../../src/ownership/keyring.ts';
import { FakeFarm, type FakeMember, SECRET, type UdpPhone, VIP } from '../../fake/farm.ts';
import { Message, request, respond, uriOf, userOf } from '../../fake/sip.ts';
import { tokenIn } from '../service/upstream/rig.ts';

const RELAY = 4;
const PHONE = '192.0.2.7';

describe('a node of role relay', () => {
  let farm: FakeFarm;
  let phone: UdpPhone;
  let node: FakeMember;
  let branches = 0;
  afterEach(() => farm?.stop());

  const start = async (options: Parameters<typeof FakeFarm.start>[0] = {}): Promise<void> => {
    farm = await FakeFarm.start({ members: 4, roles: { [RELAY]: 'relay' }, ...options });
    phone = await farm.phone(PHONE);
    node = farm.member(RELAY);
  };
  /** Returns a request of the relay node's server. */
  const text = (callId: string, method: string, parts: Partial<Parameters<typeof request>[0]> = {}): string =>
    request({
      method,
      uri: `sip:alice@${PHONE}`,
      via: `SIP/2.0/UDP ${node.server.at.address}:${node.server.at.port};branch=z9hG4bKout${++branches}`,
      callId,
      ...parts,
    });
  const send = async (message: string): Promise<void> => {
    node.server.send(message);
    await farm.settle();
  };
  /** Returns the members by which a packet has left for the phone. */
  const ways = (): number[] => farm.members.filter(({ left }) => left.length > 0).map(({ index }) => index);
  const statuses = (): number[] => node.server.responses.map(({ status }) => status);
  /** Makes all packets of phones go to member `k`. */
  const through = (k: number): void => {
    farm.choose = () => farm.member(k);
  };

  it('has a seat, owns no slot, and is ready while a member takes calls', async () => {
    await start();
    const { api } = node.node;
    assert.deepEqual(
      api.members().map(({ id, role, share }) => [id, role, share > 0]),
      [
        ['fe1', 'member', true],
        ['fe2', 'member', true],
        ['fe3', 'member', true],
        ['fe4', 'relay', false],
      ],
    );
    assert.equal(api.ready().ready, true);
    for (const k of [1, 2, 3]) await farm.kill(farm.member(k));
    await farm.until(() => !api.ready().ready, 'the relay node notices');
    assert.match(api.ready().reasons.join(), /no member takes new calls/);
  });

  it('sends an INVITE through a member, whose address is in its Via and Record-Route', async () => {
    await start();
    await send(text('one', 'INVITE'));
    assert.equal(ways().length, 1);
    const invite = phone.got[0]!;
    assert.deepEqual(phone.from, [VIP]);
    assert.match(invite.one('Via'), /^SIP\/2\.0\/UDP 198\.51\.100\.1:5060;/);
    const { member, kind } = tokenIn(node, invite.branch);
    assert.deepEqual([member, kind], [node.number, 'outward']);
    const [outer] = invite.all('Record-Route');
    assert.match(outer!, /@198\.51\.100\.1:5060;lr/);
    assert.equal(tokenIn(node, userOf(outer!)).member, node.number);
  });

  it('gets the answers, the BYE and the CANCEL of its calls from any member', async () => {
    await start();
    node.server.script = (message, server) => server.send(respond(message, 200));
    for (const k of [1, 2, 3]) {
      const callId = `call-${k}`;
      phone.got.length = 0;
      through(k);
      await send(text(callId, 'INVITE'));
      const invite = phone.got[0]!;
      phone.send(respond(invite, 180, { toTag: 'alice' }));
      phone.send(respond(invite, 200, { toTag: 'alice', headers: [`Contact: <sip:alice@${PHONE}>`] }));
      await farm.settle();
      assert.deepEqual(statuses().slice(-2), [180, 200]);
      const ok = node.server.responses.at(-1)!;
      const headers = ok
        .all('Record-Route')
        .reverse()
        .map((route) => `Route: ${route}`);
      await send(text(callId, 'ACK', { uri: uriOf(ok.one('Contact')), toTag: 'alice', headers }));
      assert.equal(phone.got.at(-1)?.method, 'ACK');

      const routes = invite.all('Record-Route').map((route) => `Route: ${route}`);
      const via = `SIP/2.0/UDP ${PHONE}:5060;branch=z9hG4bKbye${k}`;
      phone.send(request({ method: 'BYE', uri: 'sip:x@y', via, callId, toTag: 'from', headers: routes }));
      await farm.settle();
      assert.deepEqual([node.server.last.method, node.server.last.callId], ['BYE', callId]);
      assert.deepEqual([phone.got.at(-1)?.status, phone.got.at(-1)?.method], [200, 'BYE']);
    }
    assert.equal(node.server.requests.length, 3);
    for (const k of [1, 2, 3]) assert.deepEqual(farm.member(k).server.requests, []);
  });

  it('sends CANCEL, error ACK and retransmissions through the member and with the branch of the INVITE', async () => {
    await start();
    for (let i = 0; i < 20; i++) {
      for (const { left } of farm.members) left.length = 0;
      phone.got.length = 0;
      const callId = `cancel-${i}`;
      const via = `SIP/2.0/UDP ${node.server.at.address}:5070;branch=z9hG4bKsame${i}`;
      for (const method of ['INVITE', 'INVITE', 'CANCEL']) await send(text(callId, method, { via }));
      await send(text(callId, 'ACK', { via, toTag: 'busy' }));
      assert.equal(ways().length, 1, `one way for ${callId}`);
      assert.deepEqual(
        phone.got.map(({ method }) => method),
        ['INVITE', 'INVITE', 'CANCEL', 'ACK'],
      );
      assert.equal(new Set(phone.got.map(({ branch }) => branch)).size, 1);
    }
  });

  it('spreads its calls over the members by weight, and gives none to a member without weight', async () => {
    await start();
    await farm.drive(Promise.resolve(farm.member(2).node.reload(weighing(farm.member(2), 0))));
    await farm.until(() => node.node.api.view()!.seats[1]!.weight === 0);
    for (let i = 0; i < 60; i++) await send(text(`spread-${i}`, 'OPTIONS'));
    const [one, two, three] = [1, 2, 3].map((k) => farm.member(k).left.length);
    assert.equal(two, 0);
    assert.ok(one! > 15 && three! > 15, `${one}, ${two}, ${three}`);
  });

  it('uses the next member when the chosen one is gone, and answers 503 when none is left', async () => {
    await start();
    await send(text('again', 'INVITE'));
    const tried: number[] = [];
    for (let left = 3; left > 0; left--) {
      const [chosen] = ways().filter((k) => !tried.includes(k));
      tried.push(chosen!);
      await farm.kill(farm.member(chosen!));
      await farm.pass(1500, 50);
      await send(text('again', 'INVITE'));
    }
    assert.equal(phone.got.length, 3);
    assert.deepEqual(statuses(), [503]);
    await farm.until(() => node.seats === node.id, 'the seats of the dead end');
    await send(text('later', 'INVITE'));
    assert.deepEqual(statuses(), [503, 503]);
    assert.equal(node.node.api.owner('later').owner, null);
  });

  it('goes on with a call through a draining member, but begins none there', async () => {
    await start({ members: 4, roles: { 2: 'disabled', 3: 'disabled', [RELAY]: 'relay' } });
    await send(text('old', 'INVITE'));
    await send(text('rings', 'INVITE'));
    void farm.member(1).node.drain();
    await farm.until(() => node.node.api.members()[0]?.state === 'draining');
    await send(text('old', 'BYE', { toTag: 'alice' }));
    await send(text('rings', 'CANCEL'));
    await send(text('new', 'INVITE'));
    assert.deepEqual(
      phone.got.map(({ method, callId }) => `${method} ${callId}`),
      ['INVITE old', 'INVITE rings', 'BYE old', 'CANCEL rings'],
    );
    assert.deepEqual(statuses(), [503]);
  });

  it('lets a member open the TCP connection to a next hop, and gets the answer from it', async () => {
    await start();
    const streams: ByteStream[] = [];
    const got: Message[] = [];
    const server = await farm.network.listenTcp({ address: PHONE, port: 5080 }, (stream) => {
      streams.push(stream);
      stream.on('data', (chunk: Buffer) => {
        const message = new Message(chunk.toString('latin1'));
        got.push(message);
        stream.write(Buffer.from(respond(message, 200, { toTag: 'alice' }), 'latin1'));
      });
    });
    const uri = `sip:alice@${PHONE}:5080;transport=tcp`;
    await send(text('tcp', 'INVITE', { uri }));
    await send(text('tcp', 'BYE', { uri, toTag: 'alice' }));
    assert.deepEqual(
      got.map(({ method }) => method),
      ['INVITE', 'BYE'],
    );
    assert.match(got[0]!.one('Via'), /^SIP\/2\.0\/TCP 198\.51\.100\.1:5060;/);
    assert.match(got[0]!.one('Record-Route'), /transport=tcp/);
    assert.equal(streams.length, 1, 'one connection for both');
    assert.deepEqual(statuses(), [200, 200]);
    for (const stream of streams) stream.destroy();
    await server.close();
  });

  it('answers 503 when the member cannot open that connection', async () => {
    await start();
    await send(text('refused', 'INVITE', { uri: `sip:alice@${PHONE}:5081;transport=tcp` }));
    assert.deepEqual(statuses(), [503]);
  });

  it('cannot reach a port of the sending member itself', async () => {
    await start();
    const chosen = farm.member(1);
    for (const k of [2, 3]) await farm.kill(farm.member(k));
    await farm.pass(1500, 50);
    await send(text('door', 'INVITE', { uri: `sip:x@${chosen.address}:5064` }));
    await send(text('near', 'INVITE', { uri: 'sip:x@127.0.0.1' }));
    assert.deepEqual(statuses(), [503, 503]);
    assert.equal(chosen.left.length, 0);
  });

  it('cannot reach its own ports through a member, nor the store', async () => {
    await start();
    await send(text('door', 'INVITE', { uri: `sip:x@${node.address}:5064` }));
    await send(text('store', 'INVITE', { uri: 'sip:x@10.0.0.254:2379;transport=tcp' }));
    assert.deepEqual(statuses(), [503, 503]);
    assert.deepEqual(
      farm.members.map(({ metrics }) => metrics.relayed.cell({ direction: 'in', peer: node.id }).n),
      [0, 0, 0, 0],
    );
  });

  it('calls a phone that is registered at a member by the flow in its Path', async () => {
    await start({ answer: 'ingress' });
    through(1);
    const member = farm.member(1);
    phone.send(
      request({
        method: 'REGISTER',
        uri: 'sip:example.org',
        via: `SIP/2.0/UDP ${PHONE}:5060;branch=z9hG4bKreg;rport`,
        callId: farm.callIdOf(member, 'reg'),
        headers: ['Supported: path'],
      }),
    );
    await farm.settle();
    const path = member.server.last.one('Path');
    await send(text('by-flow', 'INVITE', { headers: [`Route: ${path}`] }));
    assert.equal(phone.got.at(-1)?.method, 'INVITE');
    assert.deepEqual(ways(), [1]);
    through(2);
    phone.send(respond(phone.got.at(-1)!, 200, { toTag: 'alice' }));
    await farm.settle();
    assert.deepEqual(statuses(), [200]);
  });

  it('forbids only requests: a request from inside a host is answered through its member', async () => {
    await start({ answer: 'ingress' });
    const inside = await farm.phone('127.0.0.9');
    const callId = farm.callIdOf(farm.member(2));
    farm.member(2).server.script = (message, server) => server.send(respond(message, 200, { toTag: 'bob' }));
    through(1);
    inside.send(
      request({ method: 'OPTIONS', uri: 'sip:x@y', via: 'SIP/2.0/UDP 127.0.0.9:5060;branch=z9hG4bKin', callId }),
    );
    await farm.settle();
    assert.deepEqual(
      inside.got.map(({ status }) => status),
      [200],
    );
    assert.deepEqual(ways(), [1]);
  });

  for (const [flow, listener, connection, status] of [
    ['connection', 'edge-tcp', 7, 430],
    ['session', 'edge', 0, 503],
  ] as const)
    it(`ends requests for a client's ${flow} from its time as a member with ${status}`, async () => {
      const roles: Record<number, 'relay'> = {};
      farm = await FakeFarm.start({ members: 3, roles, answer: 'ingress' });
      const { server, address } = farm.member(1);
      const before = farm.member(3);
      await farm.drive(before.node.stop());
      before.alive = false;
      roles[3] = 'relay';
      const { number } = await farm.add(3);
      const target = connection === 0 ? { address: PHONE, port: 5060 } : { address: '', port: 0 };
      const bytes = Buffer.alloc(128);
      const party = { target: 0, nat: true };
      const held = {
        member: number,
        incarnation: 1,
        listener: listenerCode(listener),
        connection,
        ...target,
        ...party,
      };
      const token = bytes.toString('latin1', 0, writeWayToken(keyring([SECRET]), held, bytes, 0));
      const via = `SIP/2.0/UDP ${address}:5070;branch=z9hG4bKlost`;
      const headers = [`Route: <sip:${token}@${address}:5062;lr>`];
      server.send(request({ method: 'INVITE', uri: `sip:alice@${PHONE}`, via, callId: 'lost', headers }));
      await farm.settle();
      assert.deepEqual(
        server.responses.map((answer) => answer.status),
        [status],
      );
    });
});

/** Returns the member's configuration with another weight. */
function weighing(member: FakeMember, weight: number) {
  return { ...member.config, weight };
}
