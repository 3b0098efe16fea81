// Removal of Route values that name the farm (RFC 3261 16.4). All other values stay and decide the destination of a
// request of the server.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { keyring } from '../../../../src/ownership/keyring.ts';
import { mintToken, TokenKind } from '../../../../src/ownership/token.ts';
import type { FakeMember } from '../../../fake/farm.ts';
import { SECRET } from '../../../fake/farm.ts';
import { answered, cleanUp, from, fromServer, inward, outward, rig } from '../upstream/rig.ts';

cleanUp();

const KEYS = keyring([SECRET]);

/** Returns a Route value that names the owner, as in the client's route set. */
function dialogRoute({ number }: FakeMember, host = '198.51.100.1:5060'): string {
  return `<sip:${mintToken(KEYS, TokenKind.dialog, number, 0)}@${host};lr>`;
}

test("a request of a dead member's dialog loses both farm values; later ones get this member's address", async () => {
  const edge = await rig({ dialogs: 'shared' });
  const phone = await edge.farm.phone('192.0.2.7');
  const dead = mintToken(KEYS, TokenKind.dialog, 9, 0);
  const [outside, inside] = [`<sip:${dead}@198.51.100.1:5060;lr>`, `<sip:${dead}@10.0.0.9:5062;lr>`];
  const readdressed = `<sip:${dead}@10.0.0.1:5062;lr>`;
  for (const between of [[], ['<sip:10.0.0.9:5070;lr>']])
    for (const separator of ['\r\nRoute: ', ', ']) {
      const headers = [`Route: ${[outside, inside, ...between, inside, outside].join(separator)}`];
      const got = await inward(edge, phone, from(phone, { method: 'BYE', toTag: 'b', headers }));
      assert.deepEqual(got.all('Route'), [...between, readdressed, outside]);
    }
});

describe('where each member has an address of its own, a request in the dialog of a dead one', () => {
  const dead = mintToken(KEYS, TokenKind.dialog, 9, 0);
  const [outside, inside] = [`<sip:${dead}@10.0.9.9:5060;lr>`, `<sip:${dead}@10.0.0.9:5062;lr>`];
  const [ownOutside, ownInside] = [`<sip:${dead}@198.51.100.1:5060;lr>`, `<sip:${dead}@10.0.0.1:5062;lr>`];

  for (const [name, rest, left] of [
    [
      'leads out, and in and out once more, by way of this member',
      [outside, outside, inside, inside, outside],
      [ownInside, ownOutside, ownOutside, ownInside, ownInside, ownOutside],
    ],
    [
      'leads so by TCP',
      [`<sip:${dead}@10.0.9.9:5060;transport=tcp;lr>`],
      [ownInside, `<sip:${dead}@198.51.100.1:5060;transport=tcp;lr>`],
    ],
    [
      'keeps a value of a member that lives',
      [`<sip:${mintToken(KEYS, TokenKind.dialog, 7, 0)}@10.0.9.7:5060;lr>`],
      [ownInside, `<sip:${mintToken(KEYS, TokenKind.dialog, 7, 0)}@10.0.9.7:5060;lr>`],
    ],
    [
      'keeps what no listener of this member is for',
      [`<sip:${dead}@10.0.9.9:5061;transport=tls;lr>`],
      [ownInside, `<sip:${dead}@10.0.9.9:5061;transport=tls;lr>`],
    ],
  ] as const)
    test(name, async () => {
      const edge = await rig({ dialogs: 'shared' });
      const phone = await edge.farm.phone('192.0.2.7');
      const headers = [`Route: ${[outside, inside, inside, ...rest].join(', ')}`];
      const got = await inward(edge, phone, from(phone, { method: 'BYE', toTag: 'b', headers }));
      assert.deepEqual(got.all('Route'), left);
    });

  test('goes on by the flow that stands in its Route', async () => {
    const edge = await rig({ dialogs: 'shared' });
    const [caller, phone] = [await edge.farm.phone('203.0.113.9', 33333), await edge.farm.phone('192.0.2.7')];
    const via = 'SIP/2.0/UDP 10.9.9.9;rport;branch=z9hG4bKr';
    const register = await inward(
      edge,
      caller,
      from(caller, { method: 'REGISTER', via, headers: ['Supported: path'] }),
    );
    const headers = [`Route: ${[outside, inside, register.one('Path'), outside].join(', ')}`];
    const bye = await inward(edge, phone, from(phone, { method: 'BYE', toTag: 'b', headers }));
    const routes = bye.all('Route').map((route) => `Route: ${route}`);
    await outward(edge, caller, fromServer(edge, { method: 'BYE', uri: 'sip:alice@10.9.9.9', headers: routes }));
  });
});

describe('a request of a client loses', () => {
  for (const [name, lines, left] of [
    ['loses a token of this farm', ['Route: OURS'], []],
    ['loses two tokens in two lines', ['Route: OURS', 'Route: OURS'], []],
    ['loses two tokens in one line', ['Route: OURS, OURS'], []],
    [
      'loses two tokens in a line without a blank and in a folded line',
      ['Route: OURS,OURS', 'Route: OURS,\r\n OURS'],
      [],
    ],
    [
      'loses a value of the farm before a foreign one in the same line',
      ['Route: OURS, <sip:p.example;lr>'],
      ['<sip:p.example;lr>'],
    ],
    [
      'loses a value of the farm before a foreign one in the next line',
      ['Route: OURS', 'Route: <sip:p.example;lr>'],
      ['<sip:p.example;lr>'],
    ],
    [
      'keeps values of the farm behind a foreign one',
      ['Route: <sip:p.example;lr>, <sip:198.51.100.1;lr>'],
      ['<sip:p.example;lr>', '<sip:198.51.100.1;lr>'],
    ],
    [
      'loses the first value of the farm and keeps the one behind a foreign value',
      ['Route: OURS', 'Route: <sip:p;lr>', 'Route: <sip:198.51.100.1;lr>'],
      ['<sip:p;lr>', '<sip:198.51.100.1;lr>'],
    ],
    ['loses the VIP without a token', ['Route: <sip:198.51.100.1:5060;lr>'], []],
    ['loses the VIP without a port, which means 5060', ['Route: <sip:198.51.100.1;lr>'], []],
    ['loses the service address', ['Route: <sip:10.0.0.1:5062;transport=udp;lr>'], []],
    [
      'loses a value of the farm with display name and parameters',
      ['Route: "Farm, the \\" one" <sip:198.51.100.1;lr;x=1>;y=2'],
      [],
    ],
    [
      'keeps an address of the farm with another port',
      ['Route: <sip:198.51.100.1:5099;lr>'],
      ['<sip:198.51.100.1:5099;lr>'],
    ],
    ['keeps a value that cannot be parsed', ['Route: <sip:198.51.100.1;lr'], ['<sip:198.51.100.1;lr']],
  ] as const) {
    test(name, async () => {
      const edge = await rig();
      const phone = await edge.farm.phone('192.0.2.7');
      const headers = lines.map((line) => line.replaceAll('OURS', dialogRoute(edge.member)));
      const got = await inward(
        edge,
        phone,
        from(phone, { method: 'BYE', toTag: 'b', headers: [...headers, 'X-End: 1'] }),
      );
      assert.deepEqual(got.all('Route'), left);
      assert.equal(got.one('X-End'), '1');
      assert.equal(got.uri, 'sip:bob@example.org');
    });
  }

  test('loses a token in upper case, because some elements change the case of the user part', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const token = mintToken(KEYS, TokenKind.dialog, 1, 0).toUpperCase();
    const headers = [`Route: <SIP:${token}@elsewhere.example;lr>`];
    assert.deepEqual((await inward(edge, phone, from(phone, { method: 'BYE', toTag: 'b', headers }))).all('Route'), []);
  });

  test('keeps a token of another farm', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const route = `<sip:${mintToken(keyring(['cd'.repeat(32)]), TokenKind.dialog, 1, 0)}@other.example;lr>`;
    const got = await inward(edge, phone, from(phone, { method: 'BYE', toTag: 'b', headers: [`Route: ${route}`] }));
    assert.deepEqual(got.all('Route'), [route]);
  });
});

describe('a request of the server goes', () => {
  test('by the first Route value that does not name the farm, and this value stays', async () => {
    const edge = await rig();
    const proxy = await edge.farm.phone('192.0.2.80', 5080);
    const headers = ['Route: <sip:10.0.0.1:5062;lr>, <sip:192.0.2.80:5080;lr>', 'Route: <sip:192.0.2.99;lr>'];
    const got = await outward(edge, proxy, fromServer(edge, { method: 'INVITE', uri: 'sip:bob@example.org', headers }));
    assert.deepEqual(got.all('Route'), ['<sip:192.0.2.80:5080;lr>', '<sip:192.0.2.99;lr>']);
    assert.equal(got.uri, 'sip:bob@example.org');
  });

  test('by its Request-URI when all Route values named the farm', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7', 5077);
    const headers = [`Route: ${dialogRoute(edge.member, '10.0.0.1:5062')}`, `Route: ${dialogRoute(edge.member)}`];
    const got = await outward(edge, phone, fromServer(edge, { method: 'BYE', uri: 'sip:bob@192.0.2.7:5077', headers }));
    assert.deepEqual(got.all('Route'), []);
  });

  test("by the flow in the farm's Route values, whatever the Request-URI names", async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('203.0.113.9', 33333);
    const register = await inward(
      edge,
      phone,
      from(phone, {
        method: 'REGISTER',
        via: 'SIP/2.0/UDP 10.9.9.9;rport;branch=z9hG4bKr',
        headers: ['Supported: path'],
      }),
    );
    const headers = [`Route: ${register.one('Path')}, <sip:198.51.100.1;lr>`];
    const got = await outward(edge, phone, fromServer(edge, { method: 'MESSAGE', uri: 'sip:bob@10.9.9.9', headers }));
    assert.deepEqual(got.all('Route'), []);
  });

  test('by the flow although a foreign Route follows, when only the flow leads to a client behind a NAT', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const more = { via: 'SIP/2.0/UDP 10.9.9.9;branch=z9hG4bKr', headers: ['Supported: path'] };
    const register = await inward(edge, phone, from(phone, { method: 'REGISTER', ...more }));
    const headers = [`Route: ${register.one('Path')}`, 'Route: <sip:192.0.2.99;lr>'];
    const got = await outward(edge, phone, fromServer(edge, { method: 'MESSAGE', uri: 'sip:bob@10.9.9.9', headers }));
    assert.deepEqual(got.all('Route'), ['<sip:192.0.2.99;lr>']);
  });

  test('by the foreign Route behind a Path, because a proxy in front added itself (RFC 3327 5.4)', async () => {
    const edge = await rig();
    const sends = await edge.farm.phone('192.0.2.80', 40_001);
    const listens = await edge.farm.phone('192.0.2.80', 5060);
    const via = 'SIP/2.0/UDP 192.0.2.80;rport;branch=z9hG4bKp, SIP/2.0/UDP 203.0.113.9;branch=z9hG4bKr';
    const more = { via, headers: ['Supported: path', 'Path: <sip:192.0.2.80;lr>'] };
    const register = await inward(edge, sends, from(sends, { method: 'REGISTER', ...more }));
    const headers = [`Route: ${register.all('Path').join(', ')}`];
    await outward(edge, listens, fromServer(edge, { method: 'MESSAGE', uri: 'sip:bob@203.0.113.9', headers }));
  });

  test('by its Request-URI when the last removed crossing has no flow, even if an earlier one had a flow', async () => {
    const edge = await rig();
    const [phone, other] = [await edge.farm.phone('192.0.2.7', 5077), await edge.farm.phone('203.0.113.9', 33333)];
    const via = 'SIP/2.0/UDP 10.9.9.9;branch=z9hG4bKr';
    const register = await inward(edge, other, from(other, { method: 'REGISTER', via, headers: ['Supported: path'] }));
    const inside = dialogRoute(edge.member, '10.0.0.1:5062');
    const outside = dialogRoute(edge.member);
    const headers = [`Route: ${register.one('Path')}, ${outside}, ${inside}, ${outside}`];
    const got = await outward(edge, phone, fromServer(edge, { method: 'BYE', uri: 'sip:bob@192.0.2.7:5077', headers }));
    assert.deepEqual(got.all('Route'), []);
  });

  for (const route of ['<sip:192.0.2.7;lr', '<>', 'nonsense', '<http://192.0.2.7>'])
    test(`nowhere and is answered 400 when its Route cannot be parsed: ${route}`, async () => {
      const edge = await rig();
      const headers = ['Route: <sip:10.0.0.1:5062;lr>', `Route: ${route}`];
      const reply = await answered(edge, fromServer(edge, { method: 'MESSAGE', uri: 'sip:bob@192.0.2.7', headers }));
      assert.equal(reply.status, 400);
    });
});
