// Packets at a transparent port: their rights, and their hops between members whose views differ.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { HOP_LIMIT } from '../../../src/ownership/owner-lookup.ts';
import { buildOwnerTables } from '../../../src/ownership/owner-tables.ts';
import { callIdOf, request, seat, viewOf } from '../ownership/lookups.ts';
import { CLIENT, TRANSPARENT_PORT, type WayFarm, wayFarm } from './way-farm.ts';

const TWO = [seat(1), seat(2)];

/** Makes every member use tables in which the other one owns all slots. */
function confuse(farm: WayFarm): void {
  for (const member of farm.members) {
    const view = viewOf(TWO.map((one) => ({ ...one, weight: one.number === member.number ? 0 : 100 })));
    member.tables = buildOwnerTables(view, member.number, member.incarnation);
  }
}

/** Records the datagrams between the members in order: `transparent` (to a transparent port) or `frame`. */
function watch(farm: WayFarm): string[] {
  const ways: string[] = [];
  const before = farm.network.onSent;
  farm.network.onSent = (from, to, bytes) => {
    before(from, to, bytes);
    if (to.port === TRANSPARENT_PORT) ways.push('transparent');
    else if (bytes.includes('Call-ID')) ways.push('frame');
  };
  return ways;
}

describe('between two members that each have the other as owner', () => {
  test('a packet goes bare once, then in frames, and stays where it is at the hop limit', async (t) => {
    const farm = await wayFarm(t, { members: TWO, transparent: true });
    confuse(farm);
    const ways = watch(farm);
    await farm.datagram(1, request('INVITE'));
    assert.deepEqual(ways, ['transparent', ...Array(HOP_LIMIT - 1).fill('frame')]);
    assert.deepEqual(
      farm.member(1).handled.map(({ packet }) => [packet.hops, packet.address]),
      [[HOP_LIMIT, CLIENT.address]],
    );
    assert.deepEqual(farm.member(2).handled, []);
  });

  test("a stranger's packet at a transparent port goes no further than a client's packet", async (t) => {
    const farm = await wayFarm(t, { members: TWO, transparent: true });
    confuse(farm);
    const ways = watch(farm);
    const socket = await farm.network.bindUdp(CLIENT, { onDatagram: () => {}, onSendError: () => {} });
    socket.send(request('INVITE'), '10.0.0.1', TRANSPARENT_PORT);
    await farm.network.settle();
    assert.deepEqual(ways, ['transparent', ...Array(HOP_LIMIT - 1).fill('frame')]);
    assert.equal(farm.member(2).handled.length, 1);
  });
});

describe('a packet at a transparent port', () => {
  test('is decided again: a member that does not own it relays it', async (t) => {
    const farm = await wayFarm(t, { members: TWO, transparent: true });
    const callId = callIdOf(farm.member(1).tables, 2);
    const socket = await farm.network.bindUdp(CLIENT, { onDatagram: () => {}, onSendError: () => {} });
    socket.send(request('INVITE', { 'Call-ID': callId }), '10.0.0.1', TRANSPARENT_PORT);
    await farm.network.settle();
    assert.deepEqual(
      farm.member(2).handled.map(({ packet }) => packet.hops),
      [2],
    );
  });

  test('is never a probe', async (t) => {
    const farm = await wayFarm(t, { members: [seat(1)], transparent: true, probes: ['192.0.2.0/24'] });
    const socket = await farm.network.bindUdp(CLIENT, { onDatagram: () => {}, onSendError: () => {} });
    const probe = request('OPTIONS', {}, 'sip:10.0.0.1');
    socket.send(probe, '10.0.0.1', TRANSPARENT_PORT);
    await farm.network.settle();
    assert.deepEqual(farm.member(1).verdicts, { local: 1 });
    await farm.datagram(1, probe);
    assert.deepEqual(farm.member(1).verdicts, { local: 1, 'reply 200': 1 });
  });

  test('is answered from its listener, under the limits for clients', async (t) => {
    const farm = await wayFarm(t, { members: [seat(1)], transparent: true, errorsPerSecond: 1, burst: 3 });
    const socket = await farm.network.bindUdp(CLIENT, { onDatagram: () => {}, onSendError: () => {} });
    const broken = request('INVITE', { CSeq: '1 BYE', Subject: 'x'.repeat(99) });
    for (let i = 0; i < 10; i++) socket.send(Buffer.from(broken), '10.0.0.1', TRANSPARENT_PORT);
    // This one is too short for an answer.
    socket.send(request('INVITE', { CSeq: '1 BYE', Via: 'SIP/2.0/UDP 10.9.9.9' }), '10.0.0.1', TRANSPARENT_PORT);
    await farm.network.settle();
    assert.deepEqual(new Set(farm.out.map(({ from }) => from)), new Set(['10.0.0.1:5060']));
    assert.deepEqual(new Set(farm.out.map(({ to }) => to.split(':')[0])), new Set([CLIENT.address]));
    assert.equal(farm.out.length, 3);
  });
});
