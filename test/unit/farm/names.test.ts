// Routes that name the farm by a member's own address or by a configured name end at the farm (RFC 3261 16.4),
// whichever member they name, reach, or belong to.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import type { FakeFarm, FakeMember } from '../../fake/farm.ts';
import { request, respond } from '../../fake/sip.ts';
import { start, stopFarms } from './calls.ts';

afterEach(stopFarms);

const PHONE = '192.0.2.7';
let branches = 0;

/** Starts three members whose listeners have their own addresses and advertise others. */
const farmOf = (config: Readonly<Record<string, unknown>> = {}): Promise<FakeFarm> =>
  start({
    members: 3,
    config: { balancer: { mode: 'none' }, ...config },
    listeners: (index) => [
      { name: 'own', transport: 'udp', bind: `10.0.0.${index}:5060`, advertise: `203.0.113.${index}:5065` },
    ],
  });

function text(callId: string, routes: readonly string[], uri = 'sip:bob@example.org'): string {
  const via = `SIP/2.0/UDP ${PHONE}:5060;branch=z9hG4bKnames${++branches};rport`;
  return request({ method: 'INVITE', uri, via, callId, headers: routes.map((route) => `Route: ${route}`) });
}

/** Sends an INVITE to `entry` for a call of `owner`. Returns the Route values that the owner's server receives. */
async function routesAt(farm: FakeFarm, owner: FakeMember, entry: FakeMember, ...routes: string[]): Promise<string[]> {
  const phone = await farm.phone(PHONE, 5060 + ++branches);
  const before = owner.server.requests.length;
  phone.send(text(farm.callIdOf(owner, `call-${branches}`), routes), { address: entry.address, port: 5060 });
  await farm.settle();
  assert.equal(owner.server.requests.length, before + 1, 'the server gets one request');
  assert.equal(owner.server.last.uri, 'sip:bob@example.org');
  return owner.server.last.all('Route');
}

test('a Route with a bound or advertised address of any member is removed by each owner of a call', async () => {
  const farm = await farmOf();
  const [entry] = farm.members;
  for (const owner of farm.members)
    for (const named of [1, 2, 3])
      for (const host of [`10.0.0.${named}`, `10.0.0.${named}:5060`, `203.0.113.${named}:5065`])
        assert.deepEqual(await routesAt(farm, owner, entry!, `<sip:${host};lr>`), [], `${host} at ${owner.id}`);
});

test('a Route to another port of a member or to a foreign host stays', async () => {
  const farm = await farmOf();
  for (const route of ['<sip:10.0.0.2:5070;lr>', '<sip:203.0.113.2;lr>', '<sip:sip.example.com;lr>'])
    assert.deepEqual(await routesAt(farm, farm.member(3), farm.member(1), route), [route]);
});

test('the address of a departed member no longer names the farm; that of a joining member does', async () => {
  const farm = await farmOf();
  const gone = farm.member(2);
  await farm.drive(gone.node.stop());
  gone.alive = false;
  await farm.seated();
  const route = '<sip:10.0.0.2;lr>';
  assert.deepEqual(await routesAt(farm, farm.member(3), farm.member(1), route), [route]);
  await farm.add(2);
  assert.deepEqual(await routesAt(farm, farm.member(3), farm.member(1), route), []);
});

test('a Route with a configured name is removed, but not behind a foreign value', async () => {
  const farm = await farmOf({ names: ['sip.example.com', 'Trunk.Example.com:5080'] });
  const at = (...routes: string[]) => routesAt(farm, farm.member(2), farm.member(1), ...routes);
  for (const value of [
    '<sip:sip.example.com;lr>',
    '"Proxy, one" <sip:SIP.EXAMPLE.COM:5060;lr>',
    '<sip:sip.example.com:5061;transport=tls;lr>',
    '<sip:sip.example.com:5065;lr>',
    '<sip:trunk.example.com:5080;lr>',
    '<sip:10.0.0.3;lr>, <sip:sip.example.com;lr>',
  ])
    assert.deepEqual(await at(value), [], value);
  for (const value of ['<sip:trunk.example.com;lr>', '<sip:sip.example.com:5080;lr>', '<sip:example.com;lr>'])
    assert.deepEqual(await at(value, '<sip:sip.example.com;lr>'), [value, '<sip:sip.example.com;lr>']);
});

test('a reload adds and removes names at once', async () => {
  const farm = await farmOf({ names: ['old.example.com'] });
  const owner = farm.member(2);
  const at = (host: string) => routesAt(farm, owner, farm.member(1), `<sip:${host};lr>`);
  owner.node.reload({ ...owner.config, names: [{ host: 'new.example.com', port: 0 }] });
  assert.deepEqual(await at('new.example.com'), []);
  assert.deepEqual(await at('old.example.com'), ['<sip:old.example.com;lr>']);
});

test('a Request-URI with a name or an address of the farm stays unchanged', async () => {
  const farm = await farmOf({ names: ['sip.example.com'] });
  const owner = farm.member(2);
  const phone = await farm.phone(PHONE);
  for (const uri of ['sip:bob@SIP.example.com:5060', 'sip:10.0.0.1:5060', 'sip:sip.example.com']) {
    phone.send(text(farm.callIdOf(owner, `uri-${uri}`), ['<sip:sip.example.com;lr>'], uri));
    await farm.settle();
    assert.deepEqual([owner.server.last.uri, owner.server.last.all('Route')], [uri, []]);
  }
});

test('a CANCEL with such a Route leaves with the branch of its INVITE', async () => {
  const farm = await farmOf();
  const owner = farm.member(3);
  const phone = await farm.phone(PHONE);
  const invite = text(farm.callIdOf(owner), ['<sip:10.0.0.1;lr>']);
  for (const message of [invite, invite.replaceAll('INVITE', 'CANCEL')]) phone.send(message);
  await farm.settle();
  const [first, second] = owner.server.requests;
  assert.deepEqual([first?.method, second?.method, second?.branch], ['INVITE', 'CANCEL', first?.branch]);
});

test('a request of a SIP server loses a Route to any member and goes to its Request-URI', async () => {
  const farm = await farmOf({ names: ['sip.example.com'] });
  const phone = await farm.phone(PHONE, 5077);
  const { server } = farm.member(1);
  const headers = ['Route: <sip:10.0.0.2;lr>, <sip:203.0.113.3:5065;lr>', 'Route: <sip:sip.example.com;lr>'];
  const via = `SIP/2.0/UDP ${server.at.address}:5070;branch=z9hG4bKout`;
  server.send(request({ method: 'MESSAGE', uri: `sip:alice@${PHONE}:5077`, via, callId: 'out', headers }));
  await farm.settle();
  assert.deepEqual(
    phone.got.map(({ method, headers: all }) => [method, all.filter(([name]) => name === 'Route')]),
    [['MESSAGE', []]],
  );
});

test('a relay node removes Routes to members, and members remove Routes to it and to a disabled node', async () => {
  const farm = await start({ members: 4, roles: { 3: 'relay', 4: 'disabled' } });
  const phone = await farm.phone(PHONE, 5077);
  const node = farm.member(3);
  const via = `SIP/2.0/UDP ${node.server.at.address}:5070;branch=z9hG4bKrelay`;
  const headers = ['Route: <sip:198.51.100.1;lr>', 'Route: <sip:10.0.0.4;lr>'];
  node.server.send(request({ method: 'MESSAGE', uri: `sip:alice@${PHONE}:5077`, via, callId: 'out', headers }));
  await farm.settle();
  assert.deepEqual([phone.got[0]?.method, phone.got[0]?.all('Route')], ['MESSAGE', []]);
  phone.send(respond(phone.got[0]!, 200));
  await farm.settle();
  assert.equal(node.server.responses[0]?.status, 200);

  const owner = farm.member(1);
  phone.send(text(farm.callIdOf(owner), ['<sip:10.0.0.4:5060;lr>']));
  await farm.settle();
  assert.deepEqual(owner.server.last.all('Route'), []);
});
