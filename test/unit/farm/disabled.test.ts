// A node of role disabled is outside the farm. Its SIP server handles what it receives, except packets whose token
// names another node.
import assert from 'node:assert/strict';
import { afterEach, describe, it } from 'node:test';
import { FakeFarm, type FakeMember, type UdpPhone } from '../../fake/farm.ts';
import { type Message, request, respond } from '../../fake/sip.ts';

const DISABLED = 3;

describe('a node of role disabled', () => {
  let farm: FakeFarm;
  let phone: UdpPhone;
  afterEach(() => farm?.stop());

  const start = async (): Promise<FakeMember> => {
    farm = await FakeFarm.start({ members: 3, roles: { [DISABLED]: 'disabled' } });
    phone = await farm.phone('192.0.2.7');
    for (const { server } of farm.members)
      server.script = (message) => server.send(respond(message, 200, { toTag: 'bob' }));
    return farm.member(DISABLED);
  };
  let branches = 0;
  const text = (callId: string, method: string, more: { toTag?: string; headers?: readonly string[] } = {}): string => {
    const via = `SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKdis${++branches}`;
    return request({ method, uri: 'sip:bob@example.org', via, callId, ...more });
  };
  const routesOf = (answer: Message): string[] => answer.all('Record-Route').map((value) => `Route: ${value}`);
  const to = (node: FakeMember) => ({ address: node.address, port: 5060 });
  const got = ({ server }: FakeMember): string[] => server.requests.map(({ method, callId }) => `${method} ${callId}`);

  /** Returns the roles by number, with the share where it should be zero. */
  const shares = ({ node }: FakeMember): string[] =>
    node.api.members().map(({ role, share }) => (role === 'member' && share > 0 ? role : `${role} ${share}`));

  it('has a seat without weight and owns no slot', async () => {
    const node = await start();
    const seen = farm
      .member(1)
      .node.api.members()
      .find(({ id }) => id === node.id);
    assert.deepEqual([seen?.role, seen?.weight, seen?.share], ['disabled', 0, 0]);
    assert.equal(node.node.api.ready().ready, true);
  });

  it('gives its packets to its own SIP server, whichever member owns the slot', async () => {
    const node = await start();
    const callId = farm.callIdOf(farm.member(1));
    phone.send(text(callId, 'INVITE'), to(node));
    await farm.settle();
    assert.deepEqual(got(node), [`INVITE ${callId}`]);
    assert.deepEqual(phone.from, [to(node)]);
  });

  it('relays a BYE to the member that it names', async () => {
    const node = await start();
    const member = farm.member(1);
    const callId = farm.callIdOf(member);
    phone.send(text(callId, 'INVITE'));
    await farm.settle();
    phone.send(text(callId, 'BYE', { toTag: 'bob', headers: routesOf(phone.got[0]!) }), to(node));
    await farm.settle();
    assert.deepEqual(got(member), [`INVITE ${callId}`, `BYE ${callId}`]);
    assert.deepEqual(got(node), []);
    assert.equal(phone.got.at(-1)?.status, 200);
    assert.deepEqual(phone.from.at(-1), to(node), 'the answer leaves where the client sent to');
  });

  it('gets the BYE that names it from any member, and the answer leaves by that member', async () => {
    const node = await start();
    const callId = farm.callIdOf(farm.member(1));
    phone.send(text(callId, 'INVITE'), to(node));
    await farm.settle();
    const headers = routesOf(phone.got[0]!);
    for (const via of [1, 2]) {
      farm.choose = () => farm.member(via);
      phone.send(text(callId, 'BYE', { toTag: 'bob', headers }));
      await farm.settle();
      assert.equal(farm.member(via).left.length, 1, `the answer leaves by fe${via}`);
    }
    assert.deepEqual(got(node), [`INVITE ${callId}`, `BYE ${callId}`, `BYE ${callId}`]);
  });

  for (const end of ['stops', 'dies'] as const)
    it(`takes its configured role at each start, even if it had another role and ${end} in between`, async () => {
      const roles: Record<number, 'disabled'> = {};
      farm = await FakeFarm.start({ members: 3, roles, dialogs: 'own' });
      phone = await farm.phone('192.0.2.7');
      for (const { server } of farm.members)
        server.script = (message) => server.send(respond(message, 200, { toTag: 'bob' }));
      const again = async (): Promise<FakeMember> => {
        const before = farm.member(DISABLED);
        if (end === 'dies') await farm.kill(before, { serverLives: true });
        else await farm.drive(before.node.stop());
        before.alive = false;
        return farm.add(DISABLED);
      };
      const callId = farm.callIdOf(farm.member(DISABLED));
      phone.send(text(callId, 'INVITE'));
      await farm.settle();
      const headers = routesOf(phone.got[0]!);

      roles[DISABLED] = 'disabled';
      const outsideFarm = await again();
      assert.notEqual(outsideFarm.node.api.owner(callId).previous?.id, outsideFarm.id);
      assert.deepEqual(shares(outsideFarm), ['member', 'member', 'disabled 0']);
      // The dialog is followed to its server; a new call of the same slot goes to a member.
      phone.send(text(callId, 'BYE', { toTag: 'bob', headers }));
      phone.send(text(callId, 'OPTIONS'));
      await farm.settle();
      assert.deepEqual(got(outsideFarm), [`INVITE ${callId}`, `BYE ${callId}`]);

      delete roles[DISABLED];
      const back = await again();
      assert.deepEqual(shares(back), ['member', 'member', 'member']);
      phone.send(text(farm.callIdOf(back, 'new'), 'OPTIONS'));
      await farm.settle();
      assert.equal(back.server.last.method, 'OPTIONS');
    });

  it('gets no new call, even when all members are gone', async () => {
    const node = await start();
    for (const k of [1, 2]) await farm.kill(farm.member(k));
    await farm.until(() => node.seats === node.id, 'the seats of the dead end');
    const callId = 'after';
    assert.equal(node.node.api.owner(callId).owner, null);
    assert.equal(node.node.api.members()[0]?.share, 0);
  });
});
