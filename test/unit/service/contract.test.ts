// The contract of a service (src/service/service.ts), for every kind of `service.kind`: calls through sprayed members
// work, are counted, and end.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { emptyWay } from '../../../src/packet/flow.ts';
import type { SERVICES } from '../../../src/service/kinds/kinds.ts';
import type { Service } from '../../../src/service/service.ts';
import type { FakeFarm, FarmOptions, TcpPhone, UdpPhone } from '../../fake/farm.ts';
import { request } from '../../fake/sip.ts';
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
      const service: Service = member.node.service;
      service.flowClosed(7);
      service.returned(Buffer.from('no SIP'), emptyWay());
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

    test('names its kind, whether it serves, and how many calls it has answered itself', async () => {
      const farm = await farmOf();
      const phone = await udpPhone(farm);
      const calls = Array.from({ length: 3 }, () => new Call(farm, phone));
      for (const call of calls) call.invite();
      await farm.settle();
      const all = farm.live.map(({ node }) => node.service.status);
      for (const { kind: named, up, trouble } of all) assert.deepEqual([named, up, trouble], [kind, true, undefined]);
      const answered = all.reduce((sum, status) => sum + status.answered, 0);
      assert.equal(answered, kind === 'answer' ? calls.length : 0);
    });

    test('resolves its first verdict without delay once it serves', async () => {
      const farm = await farmOf();
      const service: Service = farm.member(1).node.service;
      let resolved = false;
      void service.firstVerdict(60_000).then(() => {
        resolved = true;
      });
      await farm.settle();
      assert.equal(resolved, true);
    });
  });
