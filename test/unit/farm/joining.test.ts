// A member proves its addresses, its keys and its SIP server before it takes a seat.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import type { FakeFarm, FarmOptions } from '../../fake/farm.ts';
import { request } from '../../fake/sip.ts';
import { Call, serve, start, stopFarms } from './calls.ts';

afterEach(stopFarms);

const MISSING = '203.0.113.1';

/** Makes calls while `what` runs. Resolves to their final statuses after they have ended. */
async function callsDuring(farm: FakeFarm, what: () => Promise<void>): Promise<Set<number>> {
  const phone = await farm.phone('192.0.2.7');
  const calls: Call[] = [];
  const timer = farm.clock.every(100, () => {
    const call = new Call(farm, phone);
    calls.push(call);
    call.invite();
  });
  await what();
  await farm.pass(3000, 50);
  timer.cancel();
  await farm.pass(2000, 50);
  for (const call of calls) call.bye();
  await farm.pass(2000, 50);
  assert.ok(calls.length > 20, `${calls.length} calls`);
  return new Set(calls.flatMap(({ status, final }) => [status, final.get('BYE') ?? 0]));
}

describe('the view does not change and no call is lost because of a member', () => {
  const cases: readonly (readonly [string, number, Partial<FarmOptions>, object])[] = [
    [
      'with another farm key',
      1,
      { keys: (index) => [(index === 4 ? 'cd' : 'ab').repeat(32)] },
      { code: 'SF_KEY_MISMATCH', message: /^fe4 .* in common with the living members: fe1 .*, fe2 .*, fe3 / },
    ],
    ...(['udp', 'tcp'] as const).map((transport) => {
      const lacking = { name: 'vip', transport, bind: `${MISSING}:5060` };
      const message = `listener vip: cannot bind ${transport} ${MISSING}:5060: EADDRNOTAVAIL`;
      const listeners = (index: number) => (index === 4 ? [lacking] : []);
      return [
        `that starts six times with a ${transport} address the host lacks`,
        6,
        { listeners },
        { code: 'SF_BIND_FAILED', message },
      ] as const;
    }),
  ];
  for (const [what, starts, options, error] of cases)
    test(what, async () => {
      const farm = await start({ members: 3, ...options });
      farm.network.hasAddress = (address) => address !== MISSING;
      serve(farm);
      await farm.pass(1000, 50);
      const reader = farm.memory.open();
      const stored = async (): Promise<string> =>
        JSON.stringify(
          [await reader.list('members/'), await reader.list('numbers/'), await reader.get('view')],
          (_, value) => (typeof value === 'bigint' ? String(value) : value),
        );
      const before = await stored();
      const statuses = await callsDuring(farm, async () => {
        for (let i = 0; i < starts; i++) await assert.rejects(farm.enter(4), error);
      });
      assert.deepEqual(statuses, new Set([200]));
      assert.equal(await stored(), before);
      await reader.close();
      // The failed starts leave nothing behind: with the missing address the member joins.
      if (options.listeners) {
        farm.network.hasAddress = () => true;
        await farm.add(4);
        assert.equal(farm.member(1).seats, 'fe1 fe2 fe3 fe4');
      }
    });
});

test('a packet before the seat is dropped and counted, and a TCP connection is refused', async () => {
  const own = (transport: string) => ({ name: `own-${transport}`, transport, bind: '10.0.0.1:5060' });
  const farm = await start({ members: 0, listeners: () => [own('udp'), own('tcp')] });
  const OWN = { address: '10.0.0.1', port: 5060 };
  const phone = await farm.phone('192.0.2.7');
  const probe = await farm.phone('198.51.100.254');
  const ends: string[] = [];
  let branch = 0;
  const message = (method: string, uri: string, from: string): string =>
    request({ method, uri, via: `SIP/2.0/UDP ${from}:5060;branch=z9hG4bK${++branch}`, callId: `${method}-${from}` });
  const dial = (): void => {
    const stream = farm.network.connectTcp(OWN, { address: '192.0.2.7' });
    stream.on('error', (error: NodeJS.ErrnoException) => ends.push(error.code ?? ''));
    stream.on('connect', () => ends.push('connected') && stream.destroy());
  };
  const send = (): void => {
    phone.send(message('INVITE', 'sip:bob@example.org', '192.0.2.7'), OWN);
    probe.send(message('OPTIONS', 'sip:10.0.0.1', '198.51.100.254'), OWN);
    dial();
  };
  farm.memory.down();
  farm.clock.after(2000, send);
  farm.clock.after(4000, () => farm.memory.up());
  const member = await farm.enter(1);
  assert.deepEqual([phone.got.length, probe.got.length, ends], [0, 0, ['ECONNREFUSED']]);
  assert.equal(member.drops('before-seat'), 2);
  await farm.seated();
  send();
  await farm.settle();
  assert.deepEqual([probe.got.at(-1)?.status, ends], [200, ['ECONNREFUSED', 'connected']]);
  assert.equal(member.server.requests.length, 1);
  assert.equal(member.drops('before-seat'), 2);
});

describe('a joining member waits for the first answer of its SIP server', () => {
  test('so that its first record has its weight and the farm changes its view once', async () => {
    const farm = await start({ members: 2, health: 'options' });
    await farm.pass(5000, 50);
    const epoch = (): number => farm.member(1).node.api.view()!.epoch;
    const before = epoch();
    await farm.add(3);
    await farm.pass(5000, 50);
    assert.equal(epoch(), before + 1);
    const weights = farm
      .member(1)
      .node.api.view()!
      .seats.map(({ weight }) => weight);
    assert.deepEqual(weights, [100, 100, 100]);
  });

  test('for three seconds at most; with a server that is down it joins with weight 0', async () => {
    const farm = await start({ members: 3, health: 'options' });
    await farm.until(() =>
      farm
        .member(1)
        .node.api.view()!
        .seats.every(({ weight }) => weight === 100),
    );
    await farm.kill(farm.member(3));
    await farm.until(() => farm.member(1).seats === 'fe1 fe2');
    const from = farm.clock.now();
    await farm.add(3);
    const took = farm.clock.now() - from;
    assert.ok(took >= 3000 && took < 5000, `${took} ms`);
    const weights = farm
      .member(1)
      .node.api.view()!
      .seats.map(({ weight }) => weight);
    assert.deepEqual(weights, [100, 100, 0]);
  });
});

test('a member that was killed is unreachable until its lease ends, and then no longer listed', async () => {
  const farm = await start({ members: 3 });
  await farm.kill(farm.member(2));
  const absent = (): string[] =>
    farm
      .member(1)
      .node.api.absent()
      .map(({ id, state }) => `${id} ${state}`);
  await farm.until(() => absent().length > 0, 'its seat is gone', 3000);
  assert.deepEqual(absent(), ['fe2 unreachable']);
  await farm.until(() => absent().length === 0, 'its lease has ended', 10_000);
});
