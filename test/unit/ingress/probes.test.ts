// Probes of a balancer: the member that receives one answers it itself with its true state, whichever member owns the
// Call-ID.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TokenKind } from '../../../src/ownership/token.ts';
import { callIdOf, request, seat, token } from '../ownership/lookups.ts';
import { EDGE, EDGE6, type WayFarm, wayFarm } from './way-farm.ts';

const BALANCER = { address: '198.51.100.254', port: 40_001 };
const PROBES = ['198.51.100.254/32', '203.0.113.0/24', '!203.0.113.7', '2001:db8:b::/64'];

/** Returns a Call-ID that belongs to the other of two members. */
function elsewhere(farm: WayFarm): { 'Call-ID': string } {
  return { 'Call-ID': callIdOf(farm.member(1).tables, 2) };
}

function statusOf(text: string | undefined): string | undefined {
  return text?.slice(0, text.indexOf('\r\n'));
}

describe('a probe from an address of the balancer', () => {
  test('is answered 200 while the member takes calls, else 503, although its slot is elsewhere', async (t) => {
    const farm = await wayFarm(t, { members: 2, probes: PROBES });
    const probe = request('OPTIONS', elsewhere(farm), 'sip:health@198.51.100.1');
    await farm.datagram(1, probe, EDGE, BALANCER);
    farm.member(1).ready = false;
    await farm.datagram(1, probe, EDGE, BALANCER);
    assert.deepEqual(
      farm.out.map(({ text }) => statusOf(text)),
      ['SIP/2.0 200 OK', 'SIP/2.0 503 Service Unavailable'],
    );
    assert.match(farm.out[1]!.text, /\r\nRetry-After: 5\r\n/);
    assert.deepEqual(
      new Set(farm.out.map(({ from, to }) => `${from} ${to}`)),
      new Set(['10.0.0.1:5060 198.51.100.254:40001']),
    );
    assert.deepEqual(farm.member(1).verdicts, { 'reply 200': 1, 'reply 503': 1 });
    assert.deepEqual(
      farm.members.map(({ handled }) => handled.length),
      [0, 0],
    );
  });

  test('is only an OPTIONS: other requests may be calls when the balancer hides their sources', async (t) => {
    const farm = await wayFarm(t, { members: 2, probes: PROBES });
    for (const method of ['INVITE', 'REGISTER', 'BYE', 'ACK'])
      await farm.datagram(1, request(method, elsewhere(farm)), EDGE, BALANCER);
    assert.deepEqual(farm.member(1).answered, {});
    assert.deepEqual(
      farm.members.map(({ handled }) => handled.length),
      [0, 4],
    );
  });

  test('gets 400 when it is broken', async (t) => {
    const farm = await wayFarm(t, { probes: PROBES });
    await farm.datagram(1, request('OPTIONS', { CSeq: '1 INVITE' }), EDGE, BALANCER);
    assert.deepEqual(farm.member(1).answered, { 400: 1 });
  });

  test('is never a response', async (t) => {
    const farm = await wayFarm(t, { probes: PROBES });
    const bytes = Buffer.from(
      request('OPTIONS')
        .toString('latin1')
        .replace(/^.*?\r\n/, 'SIP/2.0 200 OK\r\n'),
      'latin1',
    );
    await farm.datagram(1, bytes, EDGE, BALANCER);
    assert.deepEqual(farm.member(1).verdicts, { 'drop stray-response': 1 });
  });

  for (const [address, probe] of [
    ['203.0.113.6', true],
    ['203.0.113.7', false],
    ['203.0.114.6', false],
    ['::ffff:203.0.113.6', true],
    ['2001:db8:b::99', true],
    ['2001:db8:c::99', false],
  ] as const) {
    test(`with the address ${address} ${probe ? 'is accepted' : 'is not accepted'} as one`, async (t) => {
      const farm = await wayFarm(t, { probes: PROBES });
      await farm.datagram(1, request('OPTIONS'), address.includes('::') ? EDGE6 : EDGE, { address, port: 5060 });
      assert.deepEqual(farm.member(1).verdicts, probe ? { 'reply 200': 1 } : { local: 1 });
    });
  }

  test('is accepted by the current address list', async (t) => {
    const farm = await wayFarm(t);
    const member = farm.member(1);
    await farm.datagram(1, request('OPTIONS'), EDGE, BALANCER);
    member.probes = (await wayFarm(t, { probes: PROBES })).member(1).probes;
    await farm.datagram(1, request('OPTIONS'), EDGE, BALANCER);
    assert.deepEqual(member.verdicts, { local: 1, 'reply 200': 1 });
  });
});

describe('an OPTIONS to the member’s own address', () => {
  const own = [
    'sip:10.0.0.1',
    'SIP:10.0.0.1',
    'sip:10.0.0.1:5060',
    'sip:10.0.0.1:9',
    'sip:10.0.0.1;transport=udp',
    'sip:10.0.0.1:5060;transport=udp;lr',
    'sip:[2001:db8::1]',
    'sip:[2001:DB8::1]:5060;transport=udp',
  ];
  for (const uri of own) {
    test(`is a probe with ${uri}`, async (t) => {
      const farm = await wayFarm(t, { members: 2 });
      await farm.datagram(1, request('OPTIONS', elsewhere(farm), uri));
      farm.member(1).ready = false;
      await farm.datagram(1, request('OPTIONS', elsewhere(farm), uri));
      assert.deepEqual(farm.member(1).answered, { 200: 1, 503: 1 });
      assert.deepEqual(
        farm.members.map(({ handled }) => handled.length),
        [0, 0],
      );
    });
  }

  const others = [
    'sip:198.51.100.1',
    'sip:10.0.0.2',
    'sip:10.0.0.11',
    'sip:10.0.0.1.example.com',
    'sip:10.0.0',
    'sip:health@10.0.0.1',
    'sip:10.0.0.1@example.com',
    'sip:10.0.0.1:secret@example.com',
    'sip:10.0.0.1;day=tue@example.com',
    'sips:10.0.0.1',
    'tel:10.0.0.1',
    'sip:2001:db8::1',
    'sip:[2001:db8::2]',
    'sip:',
  ];
  for (const uri of others) {
    test(`is no probe with ${uri}`, async (t) => {
      const farm = await wayFarm(t, { members: 2 });
      await farm.datagram(1, request('OPTIONS', elsewhere(farm), uri));
      assert.deepEqual(farm.member(1).verdicts, { relay: 1 });
      assert.equal(farm.member(2).handled.length, 1);
      assert.deepEqual(farm.out, []);
    });
  }

  test('is a probe only with this method', async (t) => {
    const farm = await wayFarm(t, { members: 2 });
    for (const method of ['INVITE', 'REGISTER', 'MESSAGE'])
      await farm.datagram(1, request(method, elsewhere(farm), 'sip:10.0.0.1'));
    assert.equal(farm.member(2).handled.length, 3);
  });

  test('is no probe in a dialog, because it may be for the server on this host', async (t) => {
    const farm = await wayFarm(t, { members: 2 });
    const inDialog = {
      To: '<sip:bob@example.com>;tag=theirs',
      Route: `<sip:${token(TokenKind.dialog, 2)}@198.51.100.1;lr>`,
    };
    await farm.datagram(1, request('OPTIONS', inDialog, 'sip:10.0.0.1:5070'));
    assert.equal(farm.member(2).handled.length, 1);
    assert.deepEqual(farm.out, []);
  });

  test('gets its answer on IPv6, too', async (t) => {
    const farm = await wayFarm(t);
    const via = { Via: 'SIP/2.0/UDP [2001:db8:c::7]:5066;branch=z9hG4bKprobe' };
    await farm.datagram(1, request('OPTIONS', via, 'sip:[2001:db8::1]'), EDGE6, {
      address: '2001:db8:c::7',
      port: 40_002,
    });
    assert.deepEqual(
      farm.out.map(({ from, to }) => [from, to]),
      [['[2001:db8::1]:5060', '[2001:db8:c::7]:5066']],
    );
  });

  test('gets its answer over its own connection', async (t) => {
    const farm = await wayFarm(t);
    const client = farm.connect(1);
    client.stream.write(request('OPTIONS', {}, 'sip:10.0.0.1'));
    await farm.network.settle();
    assert.equal(statusOf(client.text()), 'SIP/2.0 200 OK');
    assert.deepEqual(farm.out, []);
  });

  test('is answered here also by the only member without a seat', async (t) => {
    const farm = await wayFarm(t, { members: 2 });
    farm.seats([seat(2, { incarnation: 12 })]);
    await farm.datagram(1, request('OPTIONS', {}, 'sip:10.0.0.1'));
    assert.deepEqual(farm.member(1).answered, { 200: 1 });
  });
});

test('a relayed probe is not answered by its receiver and is handled like any other packet', async (t) => {
  const farm = await wayFarm(t, { members: 2, probes: PROBES });
  // For member 1 it is a call of member 2; for member 2 it would be a probe of its own.
  await farm.datagram(1, request('OPTIONS', elsewhere(farm), 'sip:10.0.0.2'));
  assert.equal(farm.member(2).handled.length, 1);
  assert.deepEqual(farm.member(2).answered, {});
});
