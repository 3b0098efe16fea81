// The contract of every `service.kind`: calls through sprayed members work, are counted, and end.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import type { SERVICES } from '../../../src/service/kinds/kinds.ts';
import type { FakeFarm, FarmOptions, TcpPhone, UdpPhone } from '../../fake/farm.ts';
import { type Message, request, respond } from '../../fake/sip.ts';
import { Call, serve, start, stopFarms } from '../farm/calls.ts';

afterEach(stopFarms);

/** A farm of three members that serve by `kind`. */
type Kinds = Readonly<Record<keyof typeof SERVICES, (options?: FarmOptions) => Promise<FakeFarm>>>;

const KINDS: Kinds = {
  upstream: async (options) => {
    const farm = await start({ members: 3, ...options });
    serve(farm);
    return farm;
  },
  answer: (options) => start({ members: 3, config: { service: { kind: 'answer' } }, ...options }),
};

const owned = (farm: FakeFarm): number => farm.live.reduce((sum, { node }) => sum + node.ownedCalls, 0);
const PHONE = '192.0.2.66';
const udpPhone = (farm: FakeFarm): Promise<UdpPhone> => farm.phone(PHONE);
const phoneBy = async (farm: FakeFarm, transport: string): Promise<UdpPhone | TcpPhone> =>
  transport === 'udp' ? udpPhone(farm) : farm.tcpPhone(PHONE);

for (const [kind, farmOf] of Object.entries(KINDS))
  describe(`the service ${kind}`, () => {
    for (const transport of ['udp', 'tcp'])
      test(`answers calls by ${transport}, whichever member each message comes to`, async () => {
        const farm = await farmOf();
        const phone = await phoneBy(farm, transport);
        const calls = Array.from({ length: 12 }, () => new Call(farm, phone));
        for (const call of calls) call.invite();
        await farm.settle();
        assert.deepEqual(
          calls.map(({ status }) => status),
          calls.map(() => 200),
        );
        assert.equal(owned(farm), calls.length);
        for (const call of calls) call.bye();
        await farm.settle();
        assert.deepEqual(
          calls.map(({ final }) => final.get('BYE')),
          calls.map(() => 200),
        );
        assert.equal(owned(farm), 0);
        assert.ok(farm.members.every(({ faults }) => faults.length === 0));
      });

    test('gives a repeated INVITE the answer that it has given', async () => {
      const farm = await farmOf();
      const phone = await udpPhone(farm);
      const call = new Call(farm, phone);
      call.invite();
      await farm.settle();
      const { toTag } = call;
      call.inviteAgain();
      await farm.settle();
      assert.deepEqual([call.toTag, owned(farm)], [toTag, 1]);
    });

    test('takes a new INVITE of a dialog, and counts no second call', async () => {
      const farm = await farmOf();
      const call = new Call(farm, await udpPhone(farm));
      call.invite();
      await farm.settle();
      call.reinvite();
      await farm.settle();
      assert.deepEqual([call.status, owned(farm)], [200, 1]);
    });

    test('answers a BYE of no dialog with 481', async () => {
      const farm = await farmOf();
      const phone = await udpPhone(farm);
      const at = `${phone.at.address}:${phone.at.port}`;
      const via = `SIP/2.0/UDP ${at};branch=z9hG4bKstray`;
      phone.send(request({ method: 'BYE', uri: 'sip:bob@example.org', via, callId: 'stray', toTag: 'none' }));
      await farm.settle();
      assert.equal(phone.got.at(-1)?.status, 481);
    });

    test('lets a drain end when its last call has ended', async () => {
      const farm = await farmOf();
      const call = new Call(farm, await udpPhone(farm));
      call.invite();
      await farm.settle();
      const owner = farm.live.find(({ node }) => node.ownedCalls === 1)!;
      let drained: boolean | undefined;
      void owner.node.drain().then((all) => {
        drained = all;
      });
      await farm.pass(10_000);
      assert.equal(drained, undefined);
      call.bye();
      await farm.settle();
      await farm.pass(10_000);
      assert.deepEqual([call.final.get('BYE'), drained], [200, true]);
    });

    test('survives records, settings, closed flows and lost requests that mean nothing to it', async () => {
      const farm = await farmOf();
      const member = farm.member(1);
      const { service } = member.node;
      service.flowClosed(7);
      service.setRecords([]);
      service.apply(member.config);
      service.succession.seated(9);
      service.succession.decided(9);
      service.succession.clear();
      const call = new Call(farm, await udpPhone(farm));
      call.invite();
      await farm.settle();
      assert.equal(call.status, 200);
    });

    test('names its kind, and whether it serves', async () => {
      const farm = await farmOf();
      const { status } = farm.member(1).node.service;
      assert.deepEqual([status.kind, status.up, status.trouble], [kind, true, undefined]);
    });
  });

describe('the service answer', () => {
  test('hangs up after the time that it holds a call', async () => {
    const farm = await KINDS.answer({ config: { service: { kind: 'answer', holdSeconds: 30 } } });
    const phone = await udpPhone(farm);
    const call = new Call(farm, phone);
    const byes: Message[] = [];
    call.invite();
    await farm.settle();
    const before = phone.onMessage;
    phone.onMessage = (message) => {
      if (message.method === 'BYE' && message.status === 0) byes.push(message);
      else before(message);
    };
    await farm.pass(29_000);
    assert.equal(byes.length, 0);
    await farm.pass(1500);
    assert.ok(byes.length >= 1);
    assert.deepEqual([byes[0]!.callId, byes[0]!.toTag], [call.callId, call.fromTag]);
    assert.equal(owned(farm), 0);
    phone.send(respond(byes[0]!, 200));
    await farm.settle();
    const seen = byes.length;
    await farm.pass(32_000);
    assert.equal(byes.length, seen, 'an answered BYE is not repeated');
  });

  test('repeats its 200 until the ACK comes (RFC 3261 13.3.1.4)', async () => {
    const farm = await KINDS.answer();
    const phone = await udpPhone(farm);
    const { address, port } = phone.at;
    const via = `SIP/2.0/UDP ${address}:${port};branch=z9hG4bKsilent`;
    const headers = [`Contact: <sip:alice@${address}:${port}>`];
    phone.send(request({ method: 'INVITE', uri: 'sip:bob@example.org', via, callId: 'silent', headers }));
    await farm.pass(8000);
    const oks = phone.got.filter(({ status }) => status === 200);
    assert.ok(oks.length >= 4, `${oks.length} answers`);
  });

  test('takes no new call while it drains, and ends those that it has', async () => {
    const farm = await KINDS.answer({ members: 1 });
    const phone = await udpPhone(farm);
    const [held, refused] = [new Call(farm, phone), new Call(farm, phone)];
    held.invite();
    await farm.settle();
    void farm.member(1).node.drain();
    refused.invite();
    await farm.settle();
    assert.deepEqual([held.status, refused.status], [200, 503]);
    held.bye();
    await farm.settle();
    assert.equal(held.final.get('BYE'), 200);
  });
});
