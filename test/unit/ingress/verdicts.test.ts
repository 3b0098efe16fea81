// From datagram or connection to verdict: broken messages, the RFC 4475 messages, and relaying to the owner. Packets
// in, packets out.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { MAGIC_COOKIE, TokenKind } from '../../../src/ownership/token.ts';
import { Packet } from '../../../src/packet/packet.ts';
import { callIdOf, FOREIGN_KEYS, request, response, seat, token } from '../ownership/lookups.ts';
import { mutated, TORTURE_FOLDER, torture } from '../sip/messages.ts';
import { CLIENT, EDGE6, NAT, TCP, wayFarm } from './way-farm.ts';

/** Member 1 takes no calls, so member 2 owns all slots. */
const TWO = [seat(1, { state: 'draining' }), seat(2)];

/** Fate of each RFC 4475 message that member 1 receives as a datagram. */
const FATES: Record<string, 'relay' | 'reply 400' | 'reply 501' | 'reply 505' | `drop ${string}`> = {
  wsinv: 'relay',
  intmeth: 'relay',
  esc01: 'relay',
  escnull: 'relay',
  esc02: 'relay',
  lwsdisp: 'relay',
  longreq: 'relay',
  dblreq: 'relay',
  semiuri: 'relay',
  transports: 'relay',
  mpart01: 'relay',
  unreason: 'drop stray-response',
  noreason: 'drop stray-response',
  badinv01: 'reply 400',
  clerr: 'reply 400',
  ncl: 'reply 400',
  scalar02: 'reply 400',
  scalarlg: 'drop bad-response',
  quotbal: 'relay',
  ltgtruri: 'reply 400',
  lwsruri: 'reply 400',
  lwsstart: 'reply 400',
  trws: 'reply 400',
  escruri: 'relay',
  baddate: 'relay',
  regbadct: 'relay',
  badaspec: 'relay',
  baddn: 'relay',
  badvers: 'reply 505',
  mismatch01: 'reply 400',
  mismatch02: 'reply 501',
  bigcode: 'drop bad-response',
  badbranch: 'relay',
  insuf: 'reply 400',
  unkscm: 'relay',
  novelsc: 'relay',
  unksm2: 'relay',
  bext01: 'relay',
  invut: 'relay',
  regaut01: 'relay',
  multi01: 'reply 400',
  mcl01: 'reply 400',
  bcast: 'drop stray-response',
  zeromf: 'relay',
  cparam01: 'relay',
  cparam02: 'relay',
  regescrt: 'relay',
  sdp01: 'relay',
  inv2543: 'relay',
  test: 'drop no-via',
};

/** Start of the octets behind Content-Length, which are cut off before relaying. */
const CUT: Record<string, string> = { dblreq: 'INVITE sip:joe@example.com' };

describe('an RFC 4475 message in a datagram', () => {
  test('has an entry in this table', () => {
    const files = fs.readdirSync(TORTURE_FOLDER).map((file) => file.replace('.dat', ''));
    assert.deepEqual(files.sort(), Object.keys(FATES).sort());
  });

  for (const [name, fate] of Object.entries(FATES)) {
    test(`${name} ends with ${fate}`, async (t) => {
      const farm = await wayFarm(t, { members: TWO });
      const bytes = torture(name);
      await farm.datagram(1, bytes);
      assert.deepEqual(farm.member(1).verdicts, { [fate]: 1 });
      const { handled } = farm.member(2);
      if (fate === 'relay') {
        const noise = CUT[name] === undefined ? -1 : bytes.indexOf(CUT[name]);
        const message = bytes.subarray(0, noise < 0 ? undefined : noise).toString('latin1');
        assert.equal(handled.length, 1);
        assert.equal(
          noise < 0 ? handled[0]!.text : handled[0]!.text.trimEnd(),
          noise < 0 ? message : message.trimEnd(),
        );
        assert.deepEqual(farm.out, []);
        return;
      }
      assert.equal(handled.length, 0);
      const status = /^reply (\d+)$/.exec(fate)?.[1];
      assert.equal(farm.out.length, status ? 1 : 0);
      if (!status) return;
      assert.ok(farm.out[0]!.text.startsWith(`SIP/2.0 ${status} `));
      assert.ok(farm.out[0]!.text.length <= bytes.length);
    });
  }

  test('is relayed as a response when a Via of the farm is on top', async (t) => {
    for (const name of ['unreason', 'noreason', 'bcast']) {
      const farm = await wayFarm(t, { members: TWO });
      const via = `Via: SIP/2.0/UDP 198.51.100.1:5060;branch=${MAGIC_COOKIE}${token(TokenKind.outward, 2, 0, 8)}\r\n`;
      const bytes = torture(name);
      const behind = bytes.indexOf('\r\n') + 2;
      const ours = Buffer.concat([bytes.subarray(0, behind), Buffer.from(via), bytes.subarray(behind)]);
      await farm.datagram(1, ours);
      assert.equal(farm.member(2).handled[0]?.text, ours.toString('latin1'), name);
    }
  });
});

describe('an RFC 4475 message on a connection', () => {
  for (const [name, status, open] of [
    ['ncl', 400, false],
    ['mcl01', 400, false],
    ['inv2543', 400, false],
    ['trws', 400, true],
    ['badvers', 505, true],
    ['mismatch02', 501, true],
    ['multi01', 400, true],
  ] as const) {
    test(`${name} is answered ${status} and the connection ${open ? 'stays' : 'is closed'}`, async (t) => {
      const farm = await wayFarm(t);
      const client = farm.connect(1);
      client.stream.write(torture(name));
      await farm.network.settle();
      assert.ok(client.text().startsWith(`SIP/2.0 ${status} `), client.text());
      assert.equal(client.stream.readableEnded, !open);
      assert.equal(farm.member(1).handled.length, 0);
    });
  }

  test('clerr, which is never complete, gets no answer', async (t) => {
    const farm = await wayFarm(t);
    const client = farm.connect(1);
    client.stream.write(torture('clerr'));
    await farm.network.settle();
    assert.equal(client.text(), '');
    assert.deepEqual(farm.member(1).verdicts, {});
  });
});

describe('a connection that loses its framing', () => {
  const noLength = { 'Content-Length': undefined };
  const faulted: readonly (readonly [string, Buffer, Record<string, number>, RegExp])[] = [
    ['a request without Content-Length', request('INVITE', noLength), { 'reply 400': 1 }, /^SIP\/2\.0 400 /],
    ['an ACK without Content-Length', request('ACK', noLength), { 'drop bad-ack': 1 }, /^$/],
    ['a response without Content-Length', response('z9hG4bKx', noLength), { 'drop bad-response': 1 }, /^$/],
    ['a request without Via', request('INVITE', { ...noLength, Via: undefined }), { 'drop no-via': 1 }, /^$/],
    ['no SIP at all', Buffer.from('\x16\x03\x01\x02\0'), { 'drop no-via': 1 }, /^$/],
    [
      'a request with a bare line end behind its Via',
      Buffer.from(request('INVITE', { 'X-Y': 'a\nb' })),
      { 'reply 400': 1 },
      /^SIP\/2\.0 400 /,
    ],
    [
      'a request whose length is above the limit',
      request('MESSAGE', { 'Content-Length': '70000' }),
      { 'reply 400': 1 },
      /^SIP\/2\.0 400 /,
    ],
    [
      'a request whose headers are above the limit',
      request('INVITE', { Subject: 'x'.repeat(2000) }),
      { 'reply 400': 1 },
      /^SIP\/2\.0 400 /,
    ],
  ];
  for (const [what, bytes, verdicts, answer] of faulted) {
    test(`because of ${what} is closed after ${Object.keys(verdicts)[0]}`, async (t) => {
      const farm = await wayFarm(t, { limits: { headerBytes: 2000 } });
      const client = farm.connect(1);
      client.stream.write(bytes);
      await farm.network.settle();
      assert.deepEqual(farm.member(1).verdicts, verdicts);
      assert.match(client.text(), answer);
      assert.ok(client.stream.readableEnded);
      assert.equal(farm.member(1).handled.length, 0);
    });
  }
});

describe('a packet of another member’s call', () => {
  test('reaches that member with its bytes and its true source, listener and local address', async (t) => {
    const farm = await wayFarm(t, { members: TWO });
    const invite = request('INVITE', { Subject: 'Gr\xfc\xdfe' });
    await farm.datagram(1, Buffer.concat([Buffer.from('\r\n'), invite, Buffer.from('noise')]), NAT);
    const [{ packet, text } = { packet: undefined, text: '' }] = farm.member(2).handled;
    assert.equal(text, invite.toString('latin1'));
    assert.deepEqual(
      [packet?.address, packet?.port, packet?.localAddress, packet?.localPort, packet?.listener, packet?.hops],
      [CLIENT.address, CLIENT.port, '10.0.0.1', 5080, NAT, 1],
    );
    assert.deepEqual([packet?.ingress, packet?.ingressIncarnation, packet?.connection], [1, 1, 0]);
    assert.deepEqual(farm.member(1).verdicts, { relay: 1 });
    assert.deepEqual(farm.member(2).verdicts, { local: 1 });
  });

  test('arrives also from IPv6', async (t) => {
    const farm = await wayFarm(t, { members: TWO });
    await farm.datagram(1, request('INVITE'), EDGE6, { address: '2001:db8:c::7', port: 5066 });
    const { packet } = farm.member(2).handled[0]!;
    assert.deepEqual([packet.address, packet.port, packet.listener], ['2001:db8:c::7', 5066, EDGE6]);
  });

  test('arrives from a connection with the number of that connection', async (t) => {
    const farm = await wayFarm(t, { members: TWO });
    farm.connect(1).stream.write(request('INVITE'));
    await farm.until(() => farm.member(2).handled.length === 1);
    const { packet, text } = farm.member(2).handled[0]!;
    assert.equal(text, request('INVITE').toString('latin1'));
    assert.deepEqual([packet.listener, packet.ingress], [TCP, 1]);
    assert.notEqual(packet.connection, 0);
  });

  test('takes all hops of a second chance: owner, previous owner, and back to the owner', async (t) => {
    const before = [seat(1), seat(2), seat(3)];
    const farm = await wayFarm(t, { members: before });
    farm.seats([seat(1), seat(2, { state: 'draining' }), seat(3)]);
    const { tables } = farm.member(1);
    const callId = callIdOf(tables, 1, 2);
    farm.member(1).told.set(2, 1);
    await farm.datagram(3, request('CANCEL', { 'Call-ID': callId }));
    assert.equal(farm.member(1).handled[0]?.packet.hops, 3);
    assert.deepEqual(
      farm.members.map(({ verdicts }) => verdicts),
      [{ relay: 1, local: 1 }, { relay: 1 }, { relay: 1 }],
    );
  });

  test('is scanned again there: no member trusts the bytes of another', async (t) => {
    const farm = await wayFarm(t, { members: TWO });
    const broken = request('INVITE', { CSeq: '1 BYE', Subject: 'x'.repeat(99) });
    const came = { bytes: broken, end: broken.length, ...CLIENT, ingress: 2, ingressIncarnation: 1 };
    assert.ok(farm.member(1).link.relay(2, Object.assign(new Packet(), came)));
    await farm.network.settle();
    assert.deepEqual(farm.member(2).verdicts, { 'reply 400': 1 });
    assert.deepEqual(
      farm.out.map(({ from }) => from),
      ['10.0.0.2:5060'],
    );
  });

  test('loses the octets behind its Content-Length at the member that handles it', async (t) => {
    const farm = await wayFarm(t, { members: TWO });
    const [message, noise] = [request('INVITE'), Buffer.from('noise')];
    const bytes = Buffer.concat([message, noise]);
    await farm.datagram(2, bytes);
    // A peer that does not cut them off.
    const came = { bytes, end: bytes.length, ...CLIENT, ingress: 1, ingressIncarnation: 1 };
    assert.ok(farm.member(1).link.relay(2, Object.assign(new Packet(), came)));
    await farm.network.settle();
    for (const { text } of farm.member(2).handled) assert.equal(text, message.toString('latin1'));
    assert.equal(farm.member(2).handled.length, 2);
  });

  test('is dropped and counted when the relay link does not have that member', async (t) => {
    const farm = await wayFarm(t, { members: TWO });
    farm.member(1).link.setSeats([]);
    farm.member(1).link.setPeers([]);
    await farm.datagram(1, request('INVITE'));
    assert.deepEqual(farm.member(1).verdicts, { 'drop owner-gone': 1 });
    assert.deepEqual(farm.member(2).handled, []);
  });

  test("is handled as an orphan by the slot's owner when that member is gone", async (t) => {
    const farm = await wayFarm(t, { members: [seat(1), seat(2), seat(3)] });
    farm.seats([seat(1), seat(2)]);
    const callId = callIdOf(farm.member(1).tables, 2);
    const gone = token(TokenKind.dialog, 3);
    await farm.datagram(1, request('BYE', { 'Call-ID': callId, Route: `<sip:${gone}@198.51.100.1;lr>` }));
    const lost = response(MAGIC_COOKIE + token(TokenKind.outward, 3, 0, 8), { 'Call-ID': callId });
    await farm.datagram(1, lost);
    assert.deepEqual(
      farm.member(2).handled.map(({ packet }) => packet.orphan),
      [true, true],
    );
  });
});

describe('a forged token', () => {
  test('ends a response when in its branch; in a request it is counted, and the Call-ID decides', async (t) => {
    const farm = await wayFarm(t, { members: TWO });
    const forged = token(TokenKind.dialog, 1, 0, 0, FOREIGN_KEYS);
    await farm.datagram(1, response(MAGIC_COOKIE + token(TokenKind.outward, 1, 0, 8, FOREIGN_KEYS)));
    await farm.datagram(1, request('BYE', { Route: `<sip:${forged}@198.51.100.1;lr>` }));
    assert.deepEqual(farm.member(1).verdicts, { 'drop forged-token': 1, relay: 1 });
    assert.deepEqual(farm.member(1).forged, { branch: 1, route: 1 });
    assert.equal(farm.member(2).handled.length, 1);
  });
});

test('every packet has one fate and at most one answer, no larger than the packet and to its source', async (t) => {
  const farm = await wayFarm(t, { members: TWO });
  const fates = (): number => Object.values(farm.member(1).verdicts).reduce((sum, n) => sum + n, 0);
  await fc.assert(
    fc.asyncProperty(mutated, async (bytes) => {
      const before = { fates: fates(), out: farm.out.length };
      const copy = Buffer.from(bytes);
      await farm.datagram(1, copy);
      const received =
        bytes[0] !== undefined && /^[A-Za-z0-9\-.!%*_+`'~]/.test(bytes.toString('latin1').replace(/^[\r\n]+/, ''));
      // A refused answer counts as reply and as drop.
      const refused = farm.member(1).verdicts['drop amplification'] ?? 0;
      assert.ok(fates() - before.fates >= (received ? 1 : 0));
      assert.ok(fates() - before.fates <= 1 + refused);
      const answers = farm.out.slice(before.out);
      assert.ok(answers.length <= 1);
      for (const { text, to } of answers) {
        assert.ok(text.length <= bytes.length);
        assert.ok(to.startsWith(`${CLIENT.address}:`));
      }
    }),
    { numRuns: 300 },
  );
});
