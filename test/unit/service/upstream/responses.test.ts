// Responses in both directions: they follow only the values that the farm itself has written.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { keyring } from '../../../../src/ownership/keyring.ts';
import { mintToken, TokenKind } from '../../../../src/ownership/token.ts';
import type { FakeMember } from '../../../fake/farm.ts';
import { SECRET } from '../../../fake/farm.ts';
import { Message, respond } from '../../../fake/sip.ts';
import { answer, answered, changed, cleanUp, from, fromServer, inward, outward, type Rig, rig, viaOf } from './rig.ts';

cleanUp();

const KEYS = keyring([SECRET]);
const BRANCH = /z9hG4bKsf[0-9a-v]+/;
const FLOW = /;sf=(sf[0-9a-v]+)/;

describe('a response of the server', () => {
  test("loses the farm's Via and goes to the source port when the client's Via has rport", async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('203.0.113.9', 33333);
    const via = 'SIP/2.0/UDP 192.168.1.5:5060;branch=z9hG4bKb;rport';
    const invite = await inward(edge, phone, from(phone, { method: 'INVITE', via }));
    const ringing = await answer(edge, phone, invite, 180);
    assert.deepEqual(ringing.all('Via'), [
      'SIP/2.0/UDP 192.168.1.5:5060;branch=z9hG4bKb;received=203.0.113.9;rport=33333',
    ]);
  });

  test('goes to the port of the Via when that has no rport (RFC 3261 18.2.2)', async () => {
    const edge = await rig();
    const sender = await edge.farm.phone('192.0.2.7', 40001);
    const listener = await edge.farm.phone('192.0.2.7', 5060);
    await inward(edge, sender, from(sender, { method: 'INVITE', via: 'SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKb' }));
    await answer(edge, listener, edge.server.last, 180);
    assert.equal(sender.got.length, 0);
  });

  test("ignores maddr, received and a foreign host in the client's Via", async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7', 5060);
    const victim = await edge.farm.phone('192.0.2.99', 5060);
    for (const via of [
      'SIP/2.0/UDP 192.0.2.7;maddr=192.0.2.99;branch=z9hG4bK1',
      'SIP/2.0/UDP 192.0.2.7;received=192.0.2.99;branch=z9hG4bK2',
      'SIP/2.0/UDP 192.0.2.99;branch=z9hG4bK3',
      'SIP/2.0/UDP 192.0.2.99:5060;rport;branch=z9hG4bK4',
    ])
      await answer(edge, phone, await inward(edge, phone, from(phone, { method: 'OPTIONS', via })), 200);
    assert.equal(victim.got.length, 0);
  });

  test('passes as 100, 180, 200, 404 and 699, each with its body', async () => {
    // A 100 waits for the record of its call.
    const edge = await rig({ config: { ownership: { records: 'none' } } });
    const phone = await edge.farm.phone('192.0.2.7');
    const invite = await inward(edge, phone, from(phone, { method: 'INVITE' }));
    for (const status of [100, 180, 200, 404, 699]) {
      const body = `body of ${status}\r\n\r\n`;
      const got = await outward(edge, phone, respond(invite, status, { toTag: 'b', body }));
      assert.deepEqual([got.status, got.body, got.all('Via').length], [status, body, 1]);
    }
  });

  test('reaches the client although the server joins all Via values in one line', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const invite = await inward(edge, phone, from(phone, { method: 'OPTIONS' }));
    const joined = changed(new Message(respond(invite, 200)), (text) =>
      text.replace(/\r\nVia: (?=SIP\/2.0\/UDP 192)/, ', '),
    );
    assert.deepEqual((await outward(edge, phone, joined.text)).all('Via'), invite.all('Via').slice(1));
  });

  test('goes by the connection of the request', async () => {
    const edge = await rig();
    const [one, two] = [await edge.farm.tcpPhone('192.0.2.7'), await edge.farm.tcpPhone('192.0.2.7')];
    const of1 = await inward(edge, one, from(one, { method: 'OPTIONS', callId: 'one' }));
    const of2 = await inward(edge, two, from(two, { method: 'OPTIONS', callId: 'two' }));
    assert.equal((await answer(edge, two, of2, 200)).callId, 'two');
    assert.equal((await answer(edge, one, of1, 200)).callId, 'one');
  });

  test('is dropped as flow-lost when the connection has closed', async () => {
    const edge = await rig();
    const phone = await edge.farm.tcpPhone('192.0.2.7');
    const request = await inward(edge, phone, from(phone, { method: 'INVITE' }));
    phone.close();
    await edge.farm.settle();
    // Before the first write, a closed connection looks like a connection whose client has shut its sending half.
    for (const [status, drops] of [
      [180, 0],
      [200, 1],
    ] as const) {
      edge.server.send(respond(request, status));
      await edge.farm.settle();
      assert.equal(edge.member.drops('flow-lost'), drops, `${status}`);
    }
  });

  test('reaches a client that has shut its sending half, but a request does not and is answered 430', async () => {
    const edge = await rig();
    const phone = await edge.farm.tcpPhone('192.0.2.7');
    const behindNat = ['Supported: path', 'Contact: <sip:alice@192.168.1.7:5060;transport=tcp>'];
    const register = await inward(edge, phone, from(phone, { method: 'REGISTER', headers: behindNat }));
    phone.stream.end();
    await edge.farm.settle();
    const uri = `sip:alice@192.0.2.7:${phone.at.port};transport=tcp`;
    const headers = [`Route: ${register.one('Path')}`];
    assert.equal((await answered(edge, fromServer(edge, { method: 'OPTIONS', uri, headers }))).status, 430);
    assert.equal((await answer(edge, phone, register, 200)).status, 200);
    assert.equal(phone.closed, true);
  });

  const otherFarm = keyring(['cd'.repeat(32)]);
  for (const [name, reason, change] of [
    ['without sf', 'stray-response', (text: string) => text.replace(FLOW, '')],
    [
      'with a changed sf',
      'stray-response',
      (text: string) =>
        text.replace(FLOW, (_, token: string) => `;sf=${token.slice(0, -1)}${token.endsWith('0') ? '1' : '0'}`),
    ],
    ['with a cut sf', 'stray-response', (text: string) => text.replace(FLOW, ';sf=sf28')],
    [
      'with a token in sf that is no flow',
      'stray-response',
      (text: string) => text.replace(FLOW, `;sf=${mintToken(KEYS, TokenKind.dialog, 1, 0)}`),
    ],
    ['with another branch', 'stray-response', (text: string) => text.replace(BRANCH, 'z9hG4bKother')],
    [
      'with a branch of another farm',
      'forged-token',
      (text: string) =>
        text.replace(BRANCH, `z9hG4bK${mintToken(otherFarm, TokenKind.outward, 1, 0, new Uint8Array(8))}`),
    ],
    ['without a branch', 'stray-response', (text: string) => text.replace(/;branch=z9hG4bKsf[0-9a-v]+/, '')],
  ] as const) {
    test(`is dropped ${name}`, async () => {
      const edge = await rig();
      const phone = await edge.farm.phone('192.0.2.7');
      const request = await inward(edge, phone, from(phone, { method: 'OPTIONS' }));
      edge.server.send(changed(new Message(respond(request, 200)), change).text);
      await edge.farm.settle();
      assert.equal(phone.got.length, 0);
      assert.equal(edge.member.drops(reason), 1);
    });
  }

  for (const [name, spell] of [
    ['in upper case', (via: string) => via.replace(';sf=', ';SF=').replace(';branch=', ';BRANCH=')],
    ['with blanks behind the semicolons', (via: string) => via.replaceAll(';', '; ')],
    ['with blanks around the signs', (via: string) => via.replaceAll(';', ' ;\t').replaceAll('=', ' = ')],
    ['folded', (via: string) => via.replaceAll(';', '\r\n ; ').replaceAll('=', '=\r\n ')],
    ['in another order', (via: string) => via.replace(/(;branch=[^;]+)(;sf=[^;]+)/, '$2$1')],
    [
      'with other parameters between them',
      (via: string) => via.replace(';branch', ';x=";sf=no";sfx=1;branch').replace(';sf', ';y;sf'),
    ],
    ['with a semicolon behind the last one', (via: string) => `${via};`],
    [
      'with blanks in the protocol and before the port',
      (via: string) => via.replace('SIP/2.0/UDP', 'SIP / 2.0 / udp').replace(':5062', ' : 5062'),
    ],
  ] as const) {
    test(`reaches the client when the parameters of the farm's Via are ${name} (RFC 3261 7.3.1, 25.1)`, async () => {
      const edge = await rig();
      const phone = await edge.farm.phone('192.0.2.7');
      const request = await inward(edge, phone, from(phone, { method: 'OPTIONS' }));
      const ours = request.all('Via')[0]!;
      assert.match(ours, FLOW);
      assert.notEqual(spell(ours), ours);
      const got = await outward(
        edge,
        phone,
        respond(request, 200).replace(ours, () => spell(ours)),
      );
      assert.deepEqual(got.all('Via'), request.all('Via').slice(1));
    });
  }

  test('may carry the tokens in upper case', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const request = await inward(edge, phone, from(phone, { method: 'OPTIONS' }));
    const upper = respond(request, 200).replace(FLOW, (whole) => whole.toUpperCase().replace(';SF=', ';sf='));
    await outward(
      edge,
      phone,
      upper.replace(BRANCH, (whole) => whole.toUpperCase()),
    );
  });
});

describe('the service port', () => {
  /** Sends `text` from `phone` to the service port of the member. */
  async function atService({ farm, member }: Rig, address: string, text: string): Promise<FakeMember> {
    const stranger = await farm.phone(address, 5099);
    stranger.send(text, { address: '10.0.0.1', port: 5062 });
    await farm.settle();
    return member;
  }

  test('accepts neither requests nor responses of a stranger', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const request = await inward(edge, phone, from(phone, { method: 'OPTIONS' }));
    const member = await atService(edge, '192.0.2.66', fromServer(edge, { method: 'OPTIONS', uri: 'sip:x@192.0.2.7' }));
    assert.equal(member.drops('from-stranger'), 1);
    const other = await edge.farm.phone('192.0.2.67');
    other.send(respond(request, 200), { address: '10.0.0.1', port: 5062 });
    await edge.farm.settle();
    assert.equal(member.drops('from-stranger'), 2);
    assert.deepEqual([phone.got.length, other.got.length], [0, 0]);
  });

  test('accepts only the sources in service.allow, if it is set', async () => {
    const edge = await rig({ service: { allow: ['10.1.0.0/16'] } });
    const phone = await edge.farm.phone('192.0.2.7');
    const text = fromServer(edge, { method: 'OPTIONS', uri: 'sip:x@192.0.2.7' });
    await atService(edge, '10.1.2.3', text);
    assert.equal(phone.got.length, 1);
    edge.server.send(text);
    await edge.farm.settle();
    assert.deepEqual([phone.got.length, edge.member.drops('from-stranger')], [1, 1]);
  });

  test('answers 400 to a broken request of the server, and counts a broken response', async () => {
    const edge = await rig();
    const text = fromServer(edge, { method: 'OPTIONS', uri: 'sip:x@192.0.2.7' });
    edge.server.send(text.replace('CSeq: 1 OPTIONS', 'CSeq: x OPTIONS'));
    await edge.farm.settle();
    assert.deepEqual(
      edge.server.responses.map(({ status }) => status),
      [400],
    );
    const request = new Message(text);
    edge.server.send(respond(request, 200).replace('SIP/2.0 200', 'SIP/2.0 999'));
    await edge.farm.settle();
    assert.equal(edge.member.drops('bad-response'), 1);
  });

  test('accepts keep-alives without an answer', async () => {
    const edge = await rig();
    edge.server.send('\r\n\r\n');
    edge.server.send('');
    await edge.farm.settle();
    assert.equal(edge.member.drops('bad-response'), 0);
    assert.equal(edge.server.responses.length, 0);
  });
});

describe('a response of a client', () => {
  test("loses the farm's Via and goes to the server with all other octets unchanged", async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const request = await outward(edge, phone, fromServer(edge, { method: 'INVITE', uri: 'sip:b@192.0.2.7' }));
    const text = respond(request, 200, { toTag: 'b', headers: ['X-Odd:   a  b '], body: '\0\xff\r\n\r\n' });
    phone.send(text);
    await edge.farm.settle();
    const line = `Via: ${request.one('Via')}\r\n`;
    assert.equal(edge.server.responses.at(-1)?.text, text.replace(line, ''));
  });

  test("goes to the server's source port when the server's Via has rport", async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const worker = await edge.farm.phone('10.0.0.1', 5071);
    const via = 'SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKworker;rport';
    worker.send(fromServer(edge, { method: 'OPTIONS', uri: 'sip:b@192.0.2.7', via }), edge.server.edge);
    await edge.farm.settle();
    phone.send(respond(phone.got[0]!, 200));
    await edge.farm.settle();
    assert.deepEqual([worker.got.length, edge.server.responses.length], [1, 0]);
    assert.equal(
      worker.got[0]?.one('Via'),
      'SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKworker;received=10.0.0.1;rport=5071',
    );
  });

  test("goes to the port of the server's Via when that has no rport (RFC 3261 18.2.2)", async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const worker = await edge.farm.phone('10.0.0.1', 5071);
    const other = await edge.farm.phone('10.0.0.1', 5072);
    for (const port of [5070, 5072]) {
      const via = `SIP/2.0/UDP 10.0.0.1:${port};branch=z9hG4bKworker${port}`;
      worker.send(fromServer(edge, { method: 'OPTIONS', uri: 'sip:b@192.0.2.7', via }), edge.server.edge);
      await edge.farm.settle();
      phone.send(respond(phone.got.at(-1)!, 200));
      await edge.farm.settle();
    }
    assert.deepEqual([worker.got.length, edge.server.responses.length, other.got.length], [0, 1, 1]);
  });

  for (const [name, reason, change] of [
    [
      'when its branch belongs to no request of the farm',
      'stray-response',
      (text: string) => text.replace(BRANCH, 'z9hG4bKother'),
    ],
    [
      'with a forged branch',
      'forged-token',
      (text: string) => text.replace(BRANCH, (branch) => branch.slice(0, -1) + (branch.endsWith('0') ? '1' : '0')),
    ],
    [
      'with a dialog token as branch',
      'forged-token',
      (text: string) => text.replace(BRANCH, `z9hG4bK${mintToken(KEYS, TokenKind.dialog, 1, 0)}`),
    ],
    [
      'to a probe of an earlier incarnation',
      'stale-token',
      (text: string) =>
        text.replace(BRANCH, `z9hG4bK${mintToken(KEYS, TokenKind.transaction, 1, 9, new Uint8Array(8))}`),
    ],
  ] as const) {
    test(`is dropped ${name}`, async () => {
      const edge = await rig();
      const phone = await edge.farm.phone('192.0.2.7');
      const request = await outward(edge, phone, fromServer(edge, { method: 'OPTIONS', uri: 'sip:b@192.0.2.7' }));
      phone.send(changed(new Message(respond(request, 200)), change).text);
      await edge.farm.settle();
      assert.deepEqual([edge.server.responses.length, edge.member.drops(reason)], [0, 1]);
    });
  }

  test('reaches the server through any member', async () => {
    const edge = await rig({ members: 3 });
    const { farm, server } = edge;
    const phone = await farm.phone('192.0.2.7');
    const request = await outward(edge, phone, fromServer(edge, { method: 'OPTIONS', uri: 'sip:b@192.0.2.7' }));
    for (const index of [1, 2, 3]) {
      farm.choose = () => farm.member(index);
      phone.send(respond(request, 200));
      await farm.settle();
      assert.equal(server.responses.length, index);
    }
  });
});

test('a phone can match its responses by the branch that it chose', async () => {
  const edge = await rig();
  const phone = await edge.farm.phone('192.0.2.7');
  const first = await inward(edge, phone, from(phone, { method: 'OPTIONS', via: viaOf(phone, 'branch=z9hG4bKA') }));
  const second = await inward(edge, phone, from(phone, { method: 'OPTIONS', via: viaOf(phone, 'branch=z9hG4bKB') }));
  assert.equal((await answer(edge, phone, second, 200)).branch, 'z9hG4bKB');
  assert.equal((await answer(edge, phone, first, 200)).branch, 'z9hG4bKA');
});
