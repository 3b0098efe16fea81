// Record-Route (RFC 3261 16.6 item 4, double: RFC 5658) and Path (RFC 3327, RFC 5626), which lead later requests back
// to the farm.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parameterOf, userOf } from '../../../fake/sip.ts';
import { cleanUp, from, fromServer, inward, outward, rig, tokenIn, viaOf } from './rig.ts';

cleanUp();

const SERVER_SIDE = /^<sip:sf[0-9a-v]+@10\.0\.0\.1:5062;lr>$/;
const CLIENT_SIDE_UDP = /^<sip:sf[0-9a-v]+@198\.51\.100\.1:5060;lr>$/;
const CLIENT_SIDE_TCP = /^<sip:sf[0-9a-v]+@198\.51\.100\.1:5060;transport=tcp;lr>$/;
const OWNER = { kind: 'dialog', member: 1, incarnation: 0 };

describe('an INVITE from a client gets two Record-Route values, the server side on top,', () => {
  test('that both name the owner when it comes by UDP from an open address', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const invite = await inward(edge, phone, from(phone, { method: 'INVITE' }));
    const [top = '', second = '', ...rest] = invite.all('Record-Route');
    assert.deepEqual(rest, []);
    assert.match(top, SERVER_SIDE);
    assert.match(second, CLIENT_SIDE_UDP);
    assert.deepEqual(tokenIn(edge.member, top), OWNER);
    assert.deepEqual(tokenIn(edge.member, second), OWNER);
  });

  test('above the existing ones', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const text = from(phone, { method: 'INVITE', headers: ['Record-Route: <sip:p2;lr>', 'Record-Route: <sip:p1;lr>'] });
    const routes = (await inward(edge, phone, text)).all('Record-Route');
    assert.equal(routes.length, 4);
    assert.deepEqual(routes.slice(2), ['<sip:p2;lr>', '<sip:p1;lr>']);
  });

  test('with the connection on the server side and its transport on the client side when it comes by TCP', async () => {
    const edge = await rig();
    const phone = await edge.farm.tcpPhone('192.0.2.7');
    const invite = await inward(edge, phone, from(phone, { method: 'INVITE' }));
    const [top = '', second = ''] = invite.all('Record-Route');
    assert.match(top, SERVER_SIDE);
    assert.match(second, CLIENT_SIDE_TCP);
    const { kind, incarnation, connection = 0 } = tokenIn(edge.member, top);
    assert.deepEqual([kind, incarnation], ['streamFlow', 1]);
    assert.ok(connection > 0);
    assert.deepEqual(tokenIn(edge.member, second), OWNER);
  });

  test('with the public address on the server side when it comes by UDP behind a NAT and has rport', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('203.0.113.9', 33333);
    const via = 'SIP/2.0/UDP 192.168.1.5:5060;branch=z9hG4bKnat;rport';
    const [top = '', second = ''] = (await inward(edge, phone, from(phone, { method: 'INVITE', via }))).all(
      'Record-Route',
    );
    const { kind, flow } = tokenIn(edge.member, top);
    assert.deepEqual([kind, flow], ['datagramFlow', '203.0.113.9:33333']);
    assert.deepEqual(tokenIn(edge.member, second), OWNER);
  });

  test('with the flow when the source port differs from that of the Via, which shows a NAT', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7', 40001);
    const via = 'SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKnat;rport';
    const [top = ''] = (await inward(edge, phone, from(phone, { method: 'INVITE', via }))).all('Record-Route');
    assert.equal(tokenIn(edge.member, top).flow, '192.0.2.7:40001');
  });

  test('without a flow when it has rport and the address in the Via is true', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const text = from(phone, { method: 'INVITE', via: viaOf(phone, 'rport;branch=z9hG4bKtrue') });
    const [top = ''] = (await inward(edge, phone, text)).all('Record-Route');
    assert.deepEqual(tokenIn(edge.member, top), OWNER);
  });

  test("with the flow on the server side for two equal listeners: the BYE leaves by the client's", async () => {
    const listeners = [
      { name: 'edge', transport: 'udp', bind: '198.51.100.1:5060' },
      { name: 'edge-b', transport: 'udp', bind: '198.51.100.2:5060' },
    ];
    const edge = await rig({ config: { listeners } });
    const phone = await edge.farm.phone('192.0.2.7');
    const invite = await inward(edge, phone, from(phone, { method: 'INVITE' }));
    assert.equal(tokenIn(edge.member, invite.all('Record-Route')[0] ?? '').kind, 'datagramFlow');
  });

  test("with the ingress member's flow on the server side with answer: ingress, also if open", async () => {
    const edge = await rig({ members: 3, answer: 'ingress' });
    const { farm } = edge;
    const phone = await farm.phone('192.0.2.7');
    farm.choose = () => farm.member(2);
    const invite = await inward(edge, phone, from(phone, { method: 'INVITE', callId: farm.callIdOf(farm.member(1)) }));
    const [top = '', second = ''] = invite.all('Record-Route');
    assert.deepEqual(tokenIn(edge.member, top), {
      kind: 'datagramFlow',
      member: 2,
      incarnation: 1,
      flow: '192.0.2.7:5060',
    });
    assert.deepEqual(tokenIn(edge.member, second), OWNER);
  });
});

describe('Record-Route', () => {
  test('is in a NOTIFY outside and inside a dialog: the first makes the dialog (RFC 6665 4.3)', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    for (const toTag of ['', 'bob']) {
      const parts = { method: 'NOTIFY', ...(toTag && { toTag }) };
      assert.equal((await inward(edge, phone, from(phone, parts))).all('Record-Route').length, 2);
      const out = fromServer(edge, { ...parts, uri: 'sip:alice@192.0.2.7' });
      assert.equal((await outward(edge, phone, out)).all('Record-Route').length, 2);
    }
  });

  for (const method of ['INVITE', 'SUBSCRIBE', 'REFER']) {
    test(`is in ${method} outside of a dialog and not inside`, async () => {
      const edge = await rig();
      const phone = await edge.farm.phone('192.0.2.7');
      assert.equal((await inward(edge, phone, from(phone, { method }))).all('Record-Route').length, 2);
      const inside = await inward(edge, phone, from(phone, { method, toTag: 'bob' }));
      assert.equal(inside.all('Record-Route').length, 0);
      assert.equal(inside.all('Path').length, 0);
    });
  }

  for (const method of ['OPTIONS', 'MESSAGE', 'PUBLISH', 'CANCEL', 'INFO', 'X-NEW']) {
    test(`is not in ${method}`, async () => {
      const edge = await rig();
      const phone = await edge.farm.phone('192.0.2.7');
      const request = await inward(edge, phone, from(phone, { method }));
      assert.deepEqual([...request.all('Record-Route'), ...request.all('Path')], []);
    });
  }
});

describe('REGISTER gets one Path with the flow to the client and no Record-Route', () => {
  test('by UDP', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7', 5062);
    const register = await inward(
      edge,
      phone,
      from(phone, { method: 'REGISTER', headers: ['k: path', 'Path: <sip:proxy;lr>'] }),
    );
    const [path = '', ...rest] = register.all('Path');
    assert.match(path, SERVER_SIDE);
    assert.equal(tokenIn(edge.member, path).flow, '192.0.2.7:5062');
    assert.deepEqual(rest, ['<sip:proxy;lr>']);
    assert.deepEqual(register.all('Record-Route'), []);
  });

  test('by TCP, with the member that has the connection, whichever member owns the registration', async () => {
    const edge = await rig({ members: 3 });
    const { farm } = edge;
    farm.choose = () => farm.member(3);
    const phone = await farm.tcpPhone('192.0.2.7');
    const headers = ['Supported: gruu', 'Supported: 100rel, path'];
    phone.send(from(phone, { method: 'REGISTER', callId: farm.callIdOf(farm.member(1)), headers }));
    await farm.until(() => edge.server.requests.length > 0);
    const { kind, member, connection = 0 } = tokenIn(edge.member, edge.server.last.one('Path'));
    assert.deepEqual([kind, member], ['streamFlow', 3]);
    assert.ok(connection > 0);
  });
});

describe('an INVITE from the server gets two Record-Route values, the client side on top,', () => {
  test('that both name the owner when it goes to an address', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const invite = await outward(edge, phone, fromServer(edge, { method: 'INVITE', uri: 'sip:bob@192.0.2.7' }));
    const [top = '', second = '', ...rest] = invite.all('Record-Route');
    assert.deepEqual(rest, []);
    assert.match(top, CLIENT_SIDE_UDP);
    assert.match(second, SERVER_SIDE);
    assert.deepEqual([tokenIn(edge.member, top), tokenIn(edge.member, second)], [OWNER, OWNER]);
  });

  test('with the flow on the server side when it follows the Path of a registration', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7', 40001);
    const { address } = phone.at;
    const register = await inward(
      edge,
      phone,
      from(phone, { method: 'REGISTER', via: viaOf(phone, 'rport'), headers: ['Supported: path'] }),
    );
    const invite = await outward(
      edge,
      phone,
      fromServer(edge, {
        method: 'INVITE',
        uri: 'sip:bob@192.168.1.5',
        headers: [`Route: ${register.one('Path')}`],
      }),
    );
    const [top = '', second = ''] = invite.all('Record-Route');
    assert.deepEqual(tokenIn(edge.member, top), OWNER);
    assert.equal(tokenIn(edge.member, second).flow, `${address}:40001`);
    assert.deepEqual(invite.all('Route'), []);
    assert.equal(invite.uri, 'sip:bob@192.168.1.5');
  });

  test('with tcp on the client side and the connection on the server side for a TCP connection', async () => {
    const edge = await rig();
    const phone = await edge.farm.tcpPhone('192.0.2.7');
    const register = await inward(edge, phone, from(phone, { method: 'REGISTER', headers: ['Supported: path'] }));
    const route = `Route: ${register.one('Path')}`;
    const invite = await outward(
      edge,
      phone,
      fromServer(edge, { method: 'INVITE', uri: 'sip:bob@192.0.2.7', headers: [route] }),
    );
    const [top = '', second = ''] = invite.all('Record-Route');
    assert.match(top, CLIENT_SIDE_TCP);
    assert.equal(tokenIn(edge.member, second).kind, 'streamFlow');
    assert.match(invite.one('Via'), /^SIP\/2\.0\/TCP 198\.51\.100\.1:5060;branch=z9hG4bKsf/);
  });

  test('and a REGISTER from the server gets neither Record-Route nor Path', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const register = await outward(edge, phone, fromServer(edge, { method: 'REGISTER', uri: 'sip:192.0.2.7' }));
    assert.deepEqual([...register.all('Record-Route'), ...register.all('Path')], []);
  });
});

describe('the route set of a dialog leads both parties through the farm (RFC 3261 12.1)', () => {
  for (const by of ['UDP', 'TCP'] as const) {
    test(`in a call from a client by ${by}`, async () => {
      const edge = await rig();
      const { farm, server } = edge;
      const phone = by === 'UDP' ? await farm.phone('192.0.2.7') : await farm.tcpPhone('192.0.2.7');
      const invite = await inward(edge, phone, from(phone, { method: 'INVITE', callId: 'dialog' }));
      const routes = invite.all('Record-Route');
      const ofCaller = [...routes].reverse().map((route) => `Route: ${route}`);
      const ofCallee = routes.map((route) => `Route: ${route}`);
      const bye = await inward(
        edge,
        phone,
        from(phone, { method: 'BYE', callId: 'dialog', toTag: 'b', uri: 'sip:bob@10.0.0.1:5070', headers: ofCaller }),
      );
      assert.deepEqual(bye.all('Route'), []);
      assert.equal(bye.uri, 'sip:bob@10.0.0.1:5070');
      const uri = `sip:alice@${phone.at.address}:${phone.at.port}`;
      const more = { callId: 'dialog', toTag: 'from', fromTag: 'b', headers: ofCallee };
      const reinvite = await outward(edge, phone, fromServer(edge, { method: 'INVITE', uri, ...more }));
      assert.deepEqual(reinvite.all('Route'), []);
      assert.equal(reinvite.uri, uri);
      assert.equal(parameterOf(reinvite.one('Via'), 'branch').startsWith('z9hG4bKsf'), true);
      assert.notEqual(userOf(routes[0]!), '');
      assert.equal(server.responses.length, 0);
    });
  }
});
