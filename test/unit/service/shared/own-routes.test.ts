// Route values that name the farm are taken off (RFC 3261 16.4); all others stay, and decide where a request of the server goes.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { keyring } from '../../../../src/ownership/keyring.ts';
import { mintToken, TokenKind } from '../../../../src/ownership/token.ts';
import type { FakeMember } from '../../../fake/farm.ts';
import { SECRET } from '../../../fake/farm.ts';
import { answered, cleanUp, from, fromServer, inward, outward, rig } from '../upstream/rig.ts';

cleanUp();

const KEYS = keyring([SECRET]);

/** A Route to the owner, as the client's route set holds it. */
function dialogRoute({ number }: FakeMember, host = '198.51.100.1:5060'): string {
  return `<sip:${mintToken(KEYS, TokenKind.dialog, number, 0)}@${host};lr>`;
}

test('a request in the dialog of a dead member loses the two values that lead in; those that lead out again get the address of this member', async () => {
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
    ['a token of ours', ['Route: OURS'], []],
    ['two of them in two lines', ['Route: OURS', 'Route: OURS'], []],
    ['two of them in one line', ['Route: OURS, OURS'], []],
    ['two of them in one line without a blank, and in a folded one', ['Route: OURS,OURS', 'Route: OURS,\r\n OURS'], []],
    ['ours before a foreign one in the same line', ['Route: OURS, <sip:p.example;lr>'], ['<sip:p.example;lr>']],
    [
      'ours before a foreign one in the next line',
      ['Route: OURS', 'Route: <sip:p.example;lr>'],
      ['<sip:p.example;lr>'],
    ],
    [
      'none behind a foreign one',
      ['Route: <sip:p.example;lr>, <sip:198.51.100.1;lr>'],
      ['<sip:p.example;lr>', '<sip:198.51.100.1;lr>'],
    ],
    [
      'ours, not ours behind a foreign one',
      ['Route: OURS', 'Route: <sip:p;lr>', 'Route: <sip:198.51.100.1;lr>'],
      ['<sip:p;lr>', '<sip:198.51.100.1;lr>'],
    ],
    ['the VIP without a token', ['Route: <sip:198.51.100.1:5060;lr>'], []],
    ['the VIP without a port, which means 5060', ['Route: <sip:198.51.100.1;lr>'], []],
    ['the service address', ['Route: <sip:10.0.0.1:5062;transport=udp;lr>'], []],
    ['ours with display name and parameters', ['Route: "Farm, the \\" one" <sip:198.51.100.1;lr;x=1>;y=2'], []],
    ['not an address of ours with another port', ['Route: <sip:198.51.100.1:5099;lr>'], ['<sip:198.51.100.1:5099;lr>']],
    ['not what cannot be read', ['Route: <sip:198.51.100.1;lr'], ['<sip:198.51.100.1;lr']],
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

  test('a token in upper case: some change the case of the user part', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const token = mintToken(KEYS, TokenKind.dialog, 1, 0).toUpperCase();
    const headers = [`Route: <SIP:${token}@elsewhere.example;lr>`];
    assert.deepEqual((await inward(edge, phone, from(phone, { method: 'BYE', toTag: 'b', headers }))).all('Route'), []);
  });

  test('no token of another farm', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const route = `<sip:${mintToken(keyring(['cd'.repeat(32)]), TokenKind.dialog, 1, 0)}@other.example;lr>`;
    const got = await inward(edge, phone, from(phone, { method: 'BYE', toTag: 'b', headers: [`Route: ${route}`] }));
    assert.deepEqual(got.all('Route'), [route]);
  });
});

describe('a request of the server goes', () => {
  test('by the first Route that is not ours, which stays', async () => {
    const edge = await rig();
    const proxy = await edge.farm.phone('192.0.2.80', 5080);
    const headers = ['Route: <sip:10.0.0.1:5062;lr>, <sip:192.0.2.80:5080;lr>', 'Route: <sip:192.0.2.99;lr>'];
    const got = await outward(edge, proxy, fromServer(edge, { method: 'INVITE', uri: 'sip:bob@example.org', headers }));
    assert.deepEqual(got.all('Route'), ['<sip:192.0.2.80:5080;lr>', '<sip:192.0.2.99;lr>']);
    assert.equal(got.uri, 'sip:bob@example.org');
  });

  test('by its Request-URI when all Route values were ours', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7', 5077);
    const headers = [`Route: ${dialogRoute(edge.member, '10.0.0.1:5062')}`, `Route: ${dialogRoute(edge.member)}`];
    const got = await outward(edge, phone, fromServer(edge, { method: 'BYE', uri: 'sip:bob@192.0.2.7:5077', headers }));
    assert.deepEqual(got.all('Route'), []);
  });

  test('by the flow among its own Route values, whatever the Request-URI says', async () => {
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

  test('by the flow although a foreign Route follows, when the client is behind a NAT: nothing else leads to it', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const more = { via: 'SIP/2.0/UDP 10.9.9.9;branch=z9hG4bKr', headers: ['Supported: path'] };
    const register = await inward(edge, phone, from(phone, { method: 'REGISTER', ...more }));
    const headers = [`Route: ${register.one('Path')}`, 'Route: <sip:192.0.2.99;lr>'];
    const got = await outward(edge, phone, fromServer(edge, { method: 'MESSAGE', uri: 'sip:bob@10.9.9.9', headers }));
    assert.deepEqual(got.all('Route'), ['<sip:192.0.2.99;lr>']);
  });

  test('by the foreign Route behind a Path: a proxy in front of the farm has put itself in the way (RFC 3327 5.4)', async () => {
    const edge = await rig();
    const sends = await edge.farm.phone('192.0.2.80', 40_001);
    const listens = await edge.farm.phone('192.0.2.80', 5060);
    const via = 'SIP/2.0/UDP 192.0.2.80;rport;branch=z9hG4bKp, SIP/2.0/UDP 203.0.113.9;branch=z9hG4bKr';
    const more = { via, headers: ['Supported: path', 'Path: <sip:192.0.2.80;lr>'] };
    const register = await inward(edge, sends, from(sends, { method: 'REGISTER', ...more }));
    const headers = [`Route: ${register.all('Path').join(', ')}`];
    await outward(edge, listens, fromServer(edge, { method: 'MESSAGE', uri: 'sip:bob@203.0.113.9', headers }));
  });

  test('by its Request-URI when the last pass that it takes back had no flow, whatever the one before it had', async () => {
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
    test(`nowhere when its Route cannot be read: 400 for ${route}`, async () => {
      const edge = await rig();
      const headers = ['Route: <sip:10.0.0.1:5062;lr>', `Route: ${route}`];
      const reply = await answered(edge, fromServer(edge, { method: 'MESSAGE', uri: 'sip:bob@192.0.2.7', headers }));
      assert.equal(reply.status, 400);
    });
});
