// A call of one member's SIP server whose Call-ID is in another member's slot. In-dialog requests that name no owner
// still reach it.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import type { FakeFarm, FakeMember, UdpPhone } from '../../fake/farm.ts';
import { request, respond } from '../../fake/sip.ts';
import { start, stopFarms } from './calls.ts';

afterEach(stopFarms);

let branches = 0;

/**
 * Lets the server of member 1 call a phone with a Call-ID in a slot of member 2. Packets go to member `at` afterwards.
 */
async function made(at: number): Promise<{ farm: FakeFarm; maker: FakeMember; phone: UdpPhone; callId: string }> {
  const farm = await start({ members: 3 });
  const maker = farm.member(1);
  const phone = await farm.phone('192.0.2.7');
  const callId = farm.callIdOf(farm.member(2));
  const via = 'SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKmade';
  maker.server.send(request({ method: 'INVITE', uri: 'sip:bob@192.0.2.7', via, callId, fromTag: 'server' }));
  await farm.settle();
  phone.send(respond(phone.got[0]!, 200, { toTag: 'bob' }));
  await farm.settle();
  farm.choose = () => farm.member(at);
  return { farm, maker, phone, callId };
}

/** Returns a request of the phone without the farm's Route. */
function bare(
  phone: UdpPhone,
  method: string,
  callId: string,
  headers: readonly string[] = [],
  toTag = 'server',
): void {
  const via = `SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKbare${++branches}`;
  const tags = { fromTag: 'bob', ...(toTag && { toTag }) };
  phone.send(request({ method, uri: 'sip:server@10.0.0.1:5070', via, callId, ...tags, headers }));
}

describe('a request without a token', () => {
  for (const at of [1, 2, 3]) {
    test(`that is a BYE at member ${at} reaches the server that made the call`, async () => {
      const { farm, maker, phone, callId } = await made(at);
      bare(phone, 'BYE', callId);
      await farm.settle();
      assert.deepEqual(
        farm.members.map(({ server }) => server.requests.map(({ method }) => method)),
        farm.members.map((member) => (member === maker ? ['BYE'] : [])),
      );
    });

    test(`that is an INVITE at member ${at} and replaces the call reaches that server with its CANCEL`, async () => {
      const { farm, maker, phone, callId } = await made(at);
      const other = farm.callIdOf(farm.member(3), 'replacing');
      bare(phone, 'INVITE', other, [`Replaces: ${callId};to-tag=server;from-tag=bob`], '');
      await farm.settle();
      bare(phone, 'CANCEL', other, [], '');
      await farm.settle();
      assert.deepEqual(
        maker.server.requests.map(({ method }) => method),
        ['INVITE', 'CANCEL'],
      );
    });
  }

  test('that is an INVITE for a new call with that Call-ID goes to the owner of the slot', async () => {
    const { farm, phone, callId } = await made(3);
    bare(phone, 'INVITE', callId, [], '');
    await farm.settle();
    assert.deepEqual(
      farm.members.map(({ server }) => server.requests.length),
      [0, 1, 0],
    );
  });
});
