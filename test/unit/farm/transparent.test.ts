// Whole calls in a farm with relay.mode transparent, and with both modes.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { type FakeFarm, type FakeMember, VIP } from '../../fake/farm.ts';
import { request } from '../../fake/sip.ts';
import { invited, serve, start, stopFarms } from './calls.ts';

afterEach(stopFarms);

const transparent = (): { mode: string } => ({ mode: 'transparent' });
/** Transparent port of the first and only UDP listener: the port after that of the relay link. */
const TRANSPARENT_PORT = 5065;

function bare({ metrics }: FakeMember, direction: 'in' | 'out'): number {
  return metrics.transparent.cell({ direction, outcome: direction === 'out' ? 'sent' : 'taken' }).n;
}

const framed = (farm: FakeFarm): number =>
  farm.members.reduce((sum, { metrics }) => {
    for (const { labels, value } of metrics.relayed.entries()) sum += labels.direction === 'out' ? value : 0;
    return sum;
  }, 0);

describe('calls in transparent mode', () => {
  test('are made and ended at one owner each, and no frame has a packet of theirs', async () => {
    const farm = await start({ members: 3, relay: transparent });
    const servers = serve(farm);
    // All members have reported that they hold no calls of earlier views: no packet gets a second chance.
    await farm.pass(500);
    const phone = await farm.phone('192.0.2.7');
    const calls = await invited(farm, phone, 60);
    for (const call of calls) void call.bye();
    await farm.settle();
    assert.ok(calls.every(({ final }) => final.get('BYE') === 200));
    for (const { callId } of calls) {
      const at = servers.filter(({ dialogs }) => dialogs.has(callId));
      assert.deepEqual(
        at.map(({ server }) => server),
        [farm.ownerOf(callId).server],
      );
    }
    assert.ok(servers.every(({ strayAcks }) => strayAcks.length === 0));
    const sum = (direction: 'in' | 'out'): number => farm.members.reduce((all, one) => all + bare(one, direction), 0);
    assert.ok(sum('out') > 60, `${sum('out')} packets went bare`);
    assert.equal(sum('in'), sum('out'));
    assert.equal(framed(farm), 0);
  });

  test('reach the owner with CANCEL and with the ACK of the 487', async () => {
    const farm = await start({ members: 4, relay: transparent });
    const servers = serve(farm, { rings: true });
    const phone = await farm.phone('192.0.2.7');
    const calls = await invited(farm, phone, 40);
    for (const call of calls) void call.cancel();
    await farm.settle();
    assert.deepEqual(new Set(calls.map(({ status }) => status)), new Set([487]));
    assert.ok(servers.every(({ strayAcks }) => strayAcks.length === 0));
  });

  test("reach the phone with requests of the server, and the server with the phone's answers", async () => {
    const farm = await start({ members: 3, relay: transparent });
    const servers = serve(farm);
    const phone = await farm.phone('192.0.2.7');
    const calls = await invited(farm, phone, 20);
    for (const { callId } of calls) servers.find(({ dialogs }) => dialogs.has(callId))!.inDialog(callId, 'INFO');
    await farm.settle();
    const answered = servers.flatMap(({ server }) => server.responses.filter(({ method }) => method === 'INFO'));
    assert.equal(phone.got.filter(({ startLine }) => startLine.startsWith('INFO')).length, 20);
    assert.deepEqual(
      answered.map(({ status }) => status),
      Array(20).fill(200),
    );
  });

  test('go on between members of both modes, each packet in a way that both support', async () => {
    const farm = await start({ members: 4, relay: (index) => (index <= 2 ? { mode: 'transparent' } : {}) });
    serve(farm);
    const phone = await farm.phone('192.0.2.7');
    const calls = await invited(farm, phone, 60);
    for (const call of calls) void call.bye();
    await farm.settle();
    assert.ok(calls.every(({ final }) => final.get('BYE') === 200));
    assert.deepEqual(
      farm.members.map((member) => bare(member, 'out') > 0),
      [true, true, false, false],
    );
    assert.ok(framed(farm) > 0);
  });

  test('that ring while a member joins get their second chance at the old owner', async () => {
    const farm = await start({ members: 3, relay: transparent });
    const servers = serve(farm, { rings: true });
    const phone = await farm.phone('192.0.2.7');
    const calls = await invited(farm, phone, 60);
    const newcomer = await farm.add();
    const moved = calls.filter(({ callId }) => farm.ownerOf(callId) === newcomer);
    assert.ok(moved.length > 3);
    for (const call of calls) void call.cancel();
    await farm.settle();
    assert.deepEqual(new Set(calls.map(({ status }) => status)), new Set([487]));
    assert.deepEqual(new Set(calls.map(({ final }) => final.get('CANCEL'))), new Set([200]));
    assert.ok(servers.every(({ strayAcks }) => strayAcks.length === 0));
  });
});

describe('a stranger that sends to a transparent port', () => {
  test('is treated like a client: no probe answer, no answer larger than the request, limited errors', async () => {
    const farm = await start({ members: 1, relay: transparent });
    const [member] = farm.members as [FakeMember];
    const target = { address: member.address, port: TRANSPARENT_PORT };
    const stranger = await farm.phone('192.0.2.66');
    const options = (callId: string, uri: string): string =>
      request({ method: 'OPTIONS', uri, via: 'SIP/2.0/UDP 192.0.2.66:5060;branch=z9hG4bKx', callId, fromTag: 'a' });
    // At the listener this would be a probe that the member answers.
    stranger.send(options('probe-1', `sip:${member.address}`), target);
    await farm.settle();
    assert.equal(member.server.last.callId, 'probe-1');
    for (let i = 0; i < 200; i++)
      stranger.send(`BROKEN\r\nVia: SIP/2.0/UDP 192.0.2.66;branch=z9hG4bK${i}\r\n\r\n`, target);
    await farm.settle();
    assert.ok(stranger.got.length <= 50, `${stranger.got.length} error answers`);
    assert.ok(stranger.from.every(({ address }) => address === VIP.address));
  });

  test("cannot make the SIP server's requests go there", async () => {
    const farm = await start({ members: 1, relay: transparent });
    const [member] = farm.members as [FakeMember];
    member.server.send(
      request({
        method: 'OPTIONS',
        uri: `sip:${member.address}:${TRANSPARENT_PORT}`,
        via: `SIP/2.0/UDP ${member.address}:5070;branch=z9hG4bKy`,
        callId: 'out-1',
        fromTag: 'a',
      }),
    );
    await farm.settle();
    assert.equal(bare(member, 'in'), 0);
    assert.equal(member.server.responses.length, 1);
    assert.ok(member.server.responses[0]!.status >= 400);
  });
});
