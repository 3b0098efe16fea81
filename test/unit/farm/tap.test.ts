// A tap shows the way of one call through two members.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import type { Tap, TapDetails } from '../../../src/packet/tap.ts';
import type { FakeFarm, FakeMember } from '../../fake/farm.ts';
import { request } from '../../fake/sip.ts';
import { serve, start, stopFarms } from './calls.ts';

afterEach(stopFarms);

/** Records `member point start-line detail` at every member of the farm. */
function taps(farm: FakeFarm, into: string[]): void {
  for (const number of [1, 2]) farm.member(number).node.tap = recorder(number, into);
}

function recorder(number: number, into: string[]): Tap {
  return {
    seen(point, message, detail) {
      const bytes = Buffer.isBuffer(message) ? message : message.bytes.subarray(message.start, message.end);
      const [first = ''] = bytes.toString('latin1').split('\r\n', 1);
      const [word = '', second = ''] = first.split(' ');
      const what = word.startsWith('SIP/') ? second : word;
      into.push([number, point, what, textOf(detail)].join(' ').trim());
    },
  };
}

function textOf(detail: TapDetails[keyof TapDetails]): string {
  if (detail === null || typeof detail !== 'object') return String(detail ?? '');
  return 'connection' in detail && detail.connection !== 0 ? 'stream' : `${detail.address}:${detail.port}`;
}

function inviteOf(farm: FakeFarm, owner: FakeMember, from: { address: string; port: number }, branch: string): string {
  const via = `SIP/2.0/UDP ${from.address}:${from.port};branch=z9hG4bK${branch}`;
  return request({ method: 'INVITE', uri: 'sip:bob@example.org', via, callId: farm.callIdOf(owner, branch) });
}

test('shows the points of one INVITE that member 1 receives and member 2 owns, and of its answers', async () => {
  const farm = await start({ members: 2 });
  farm.choose = ([first]) => first;
  const [, second] = serve(farm, { rings: true });
  const phone = await farm.phone('192.0.2.66', 6000);
  const seen: string[] = [];
  taps(farm, seen);
  phone.send(inviteOf(farm, farm.member(2), phone.at, 'tapped'));
  await farm.settle();
  const { address, port } = second!.server.at;
  assert.deepEqual(seen, [
    '1 received INVITE',
    '1 relayed INVITE 2',
    '2 from-peer INVITE',
    `2 to-server INVITE ${address}:${port}`,
    '2 to-client 180 192.0.2.66:6000',
  ]);
});

test('shows an answer that leaves by the connection of another member', async () => {
  const farm = await start({ members: 2 });
  farm.choose = ([first]) => first;
  serve(farm, { rings: true });
  const phone = await farm.tcpPhone('192.0.2.67');
  const seen: string[] = [];
  taps(farm, seen);
  phone.send(inviteOf(farm, farm.member(2), phone.at, 'stream').replace('/UDP', '/TCP'));
  await farm.settle();
  assert.deepEqual(seen.slice(-3), ['2 relayed 180 1', '1 from-peer 180', '1 to-client 180 stream']);
});

test('shows a dropped packet with its reason, and nothing once it is cleared', async () => {
  const farm = await start({ members: 2 });
  farm.choose = ([first]) => first;
  const phone = await farm.phone('192.0.2.66', 6000);
  const seen: string[] = [];
  taps(farm, seen);
  const stray = 'SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=a\r\n';
  phone.send(`${stray}To: <sip:c@d>;tag=b\r\nCall-ID: stray\r\nCSeq: 1 INVITE\r\n\r\n`);
  await farm.settle();
  assert.deepEqual(seen, ['1 received 200', '1 dropped 200 stray-response']);
  farm.member(1).node.tap = null;
  phone.send(`${stray}To: <sip:c@d>;tag=b\r\nCall-ID: stray\r\nCSeq: 1 INVITE\r\n\r\n`);
  await farm.settle();
  assert.equal(seen.length, 2);
});
