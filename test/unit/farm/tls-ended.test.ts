// Clients by TLS that a proxy in front ends (PROXY v2). Via, Record-Route and Contact name the clients' transport, so
// that their packets return through the proxy. Packets to them use their connection, because the farm has no TLS
// itself.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import type { FakeFarm, FakeMember, TcpPhone } from '../../fake/farm.ts';
import { request, respond, uriOf, userOf } from '../../fake/sip.ts';
import { tokenIn } from '../service/upstream/rig.ts';
import { version2 } from '../transport/proxy-headers.ts';
import { Call, serve, start, stopFarms } from './calls.ts';

afterEach(stopFarms);

const NAME = 'sip.example.com';
const PROXY = '10.9.9.9';
const CLIENT = { address: '203.0.113.7', port: 40_001 };
const TLS_VIA = /^SIP\/2\.0\/TLS sip\.example\.com:5061;branch=z9hG4bK/;
const TLS_ROUTE = /^<sip:[0-9a-v]+@sip\.example\.com:5061;transport=tls;lr>$/;

/** Starts members whose last listener accepts the connections that the proxy made from TLS. */
const farmOf = (members: number, options: Parameters<typeof start>[0] = {}): Promise<FakeFarm> =>
  start({
    members,
    listeners: (index) => [
      {
        ...{ name: 'edge-tls', transport: 'tcp', bind: `10.0.0.${index}:5061` },
        ...{ advertise: `${NAME};transport=tls`, proxyProtocol: 'require' },
      },
    ],
    ...options,
    config: { balancer: { mode: 'nat', trusted: [PROXY] }, ...options.config },
  });

/** Connects a client by TLS, whose connection the proxy has given to `member`. */
async function tlsPhone(farm: FakeFarm, member: FakeMember, port = CLIENT.port): Promise<TcpPhone> {
  const phone = await farm.tcpPhone(PROXY, { address: member.address, port: 5061 }, 'TLS');
  phone.at = { ...CLIENT, port };
  phone.stream.write(version2('tcp', { client: CLIENT.address, clientPort: port, here: '192.0.2.1', herePort: 5061 }));
  return phone;
}

describe('a call of a client', () => {
  for (const [k, where] of [
    [1, 'the member that has its connection'],
    [2, 'another member'],
  ] as const)
    test(`owned by ${where} has a Record-Route by TLS, and its BYE reaches the owner`, async () => {
      const farm = await farmOf(2);
      const servers = serve(farm);
      const phone = await tlsPhone(farm, farm.member(1));
      const call = new Call(farm, phone, farm.callIdOf(farm.member(k)));
      call.invite();
      await farm.settle();
      assert.equal(call.status, 200);
      const [inner, outer] = phone.got.at(-1)!.all('Record-Route');
      assert.match(outer!, TLS_ROUTE);
      assert.match(inner!, new RegExp(`@10\\.0\\.0\\.${k}:5062;lr>$`));
      assert.equal(tokenIn(farm.member(k), userOf(outer!)).member, farm.member(k).number);
      call.bye();
      await farm.settle();
      assert.equal(call.final.get('BYE'), 200);
      assert.equal(servers[k - 1]?.dialogs.get(call.callId)?.state, 'over');
      const { last } = farm.member(k).server;
      assert.deepEqual([last.method, last.all('Route')], ['BYE', []]);
    });

  test('goes on and ends through a new connection to another member, where the Route leads to the owner', async () => {
    const farm = await farmOf(3);
    const servers = serve(farm);
    const phone = await tlsPhone(farm, farm.member(1));
    const call = new Call(farm, phone, farm.callIdOf(farm.member(2)));
    call.invite();
    await farm.settle();
    phone.close();
    const again = await tlsPhone(farm, farm.member(3), 40_002);
    call.moveTo(again);
    call.send('INFO');
    await farm.settle();
    assert.equal(call.final.get('INFO'), 200);
    call.bye();
    await farm.settle();
    assert.deepEqual([call.final.get('BYE'), servers[1]?.dialogs.get(call.callId)?.state], [200, 'over']);
  });

  test('is ended by the server: BYE uses the connection and has a Via with TLS', async () => {
    const farm = await farmOf(2);
    const servers = serve(farm);
    const phone = await tlsPhone(farm, farm.member(1));
    const call = new Call(farm, phone, farm.callIdOf(farm.member(2)));
    call.invite();
    await farm.settle();
    servers[1]?.inDialog(call.callId, 'BYE');
    await farm.settle();
    const bye = phone.got.at(-1)!;
    assert.deepEqual([bye.method, bye.all('Route')], ['BYE', []]);
    assert.match(bye.one('Via'), TLS_VIA);
    assert.deepEqual(
      servers[1]?.server.responses.map(({ status, method }) => [status, method]),
      [[200, 'BYE']],
    );
  });

  test('answers 430 to the server when the connection is gone: no member connects to the client by TCP', async () => {
    const farm = await farmOf(2);
    const servers = serve(farm);
    const phone = await tlsPhone(farm, farm.member(1));
    const call = new Call(farm, phone, farm.callIdOf(farm.member(1)));
    call.contactTransport = ';transport=tls';
    call.invite();
    await farm.settle();
    let dialled = 0;
    const server = await farm.network.listenTcp(CLIENT, (stream) => {
      dialled++;
      stream.destroy();
    });
    phone.close();
    await farm.settle();
    servers[0]?.inDialog(call.callId, 'BYE');
    await farm.settle();
    assert.deepEqual([servers[0]?.server.responses.at(-1)?.status, dialled], [430, 0]);
    await server.close();
  });
});

/** Registers the phone at `owner` and returns its Path. */
async function pathOf(farm: FakeFarm, phone: TcpPhone, owner: FakeMember): Promise<string> {
  const { address, port } = phone.at;
  const via = `SIP/2.0/TLS ${address}:${port};branch=z9hG4bKreg`;
  const headers = [`Contact: <sip:alice@${address}:${port};transport=tls>`, 'Supported: path'];
  phone.send(request({ method: 'REGISTER', uri: `sip:${NAME}`, via, callId: farm.callIdOf(owner), headers }));
  await farm.settle();
  return owner.server.last.one('Path');
}

for (const [k, role] of [
  [2, 'member'],
  [3, 'relay'],
] as const)
  test(`a call from the server of a ${role} node to a client has TLS; both can hang up`, async () => {
    const farm = await farmOf(3, { roles: { 3: 'relay' } });
    const phone = await tlsPhone(farm, farm.member(1));
    const path = await pathOf(farm, phone, farm.member(1));
    const { server } = farm.member(k);
    const { address, port } = server.at;
    const target = `sip:alice@${phone.at.address}:${phone.at.port};transport=tls`;
    const out = (method: string, routes: readonly string[], toTag?: string): string =>
      request({
        ...{ method, uri: target, callId: 'out', via: `SIP/2.0/UDP ${address}:${port};branch=z9hG4bKout${method}` },
        headers: routes.map((route) => `Route: ${route}`),
        ...(toTag !== undefined && { toTag }),
      });
    server.send(out('INVITE', [path]));
    await farm.settle();
    const invite = phone.got.at(-1)!;
    assert.equal(invite.method, 'INVITE');
    assert.match(invite.one('Via'), TLS_VIA);
    const [outer, inner] = invite.all('Record-Route');
    assert.match(outer!, TLS_ROUTE);
    assert.equal(tokenIn(farm.member(k), userOf(outer!)).member, farm.member(k).number);
    phone.send(respond(invite, 200, { toTag: 'alice', headers: [`Contact: <${target}>`] }));
    await farm.settle();
    const ok = server.responses.at(-1)!;
    assert.deepEqual([ok.status, uriOf(ok.one('Contact'))], [200, target]);

    server.send(out('INFO', [inner!, outer!], 'alice'));
    await farm.settle();
    assert.deepEqual([phone.got.at(-1)?.method, phone.got.at(-1)?.all('Route')], ['INFO', []]);

    const via = `SIP/2.0/TLS ${CLIENT.address}:${CLIENT.port};branch=z9hG4bKbye`;
    const headers = invite.all('Record-Route').map((route) => `Route: ${route}`);
    phone.send(request({ method: 'BYE', uri: `sip:x@${address}`, via, callId: 'out', toTag: 'from', headers }));
    await farm.settle();
    assert.deepEqual([server.last.method, server.last.all('Route')], ['BYE', []]);
  });

describe('an INVITE of a server', () => {
  const EDGE = { name: 'edge', transport: 'udp', bind: '198.51.100.1:5060' };
  const TLS = { name: 'edge-tls', transport: 'tcp', bind: '10.0.0.1:5061', advertise: `${NAME};transport=tls` };
  const PLAIN = { name: 'edge-tcp', transport: 'tcp', bind: '198.51.100.1:5060', advertise: 'trunk.example.com:5065' };

  /** Returns the statuses that the server received, and top Via and top Record-Route at 192.0.2.80, without token. */
  async function invite(
    listeners: readonly object[],
    uri: string,
  ): Promise<{ statuses: number[]; lines: (string | undefined)[] }> {
    const farm = await start({ config: { listeners, balancer: { mode: 'nat' } } });
    const { server } = farm.member(1);
    const got: string[] = [];
    const target = await farm.network.listenTcp({ address: '192.0.2.80', port: 5060 }, (stream) => {
      stream.on('data', (chunk: Buffer) => got.push(chunk.toString('latin1')));
      stream.on('error', () => {});
    });
    const phone = await farm.phone('192.0.2.80');
    const via = `SIP/2.0/UDP ${server.at.address}:5070;branch=z9hG4bKself`;
    server.send(request({ method: 'INVITE', uri, via, callId: 'self' }));
    await farm.settle();
    await target.close();
    for (const message of phone.got) got.push(message.text);
    const lines = got.flatMap((text) => [
      /^Via: (\S+ \S+?);/m.exec(text)?.[1],
      /^Record-Route: <sip:\w+(.*)>/m.exec(text)?.[1],
    ]);
    return { lines, statuses: server.responses.map(({ status }) => status) };
  }
  test('to a TCP target leaves by a listener whose clients use TCP, although a TLS listener is before it', async () => {
    const { lines } = await invite([EDGE, TLS, PLAIN], 'sip:bob@192.0.2.80;transport=tcp');
    assert.deepEqual(lines, ['SIP/2.0/TCP trunk.example.com:5065', '@trunk.example.com:5065;transport=tcp;lr']);
  });

  test('to a TCP target is answered 503 when all TCP listeners have TLS: its Via would be wrong', async () => {
    const { statuses, lines } = await invite([EDGE, TLS], 'sip:bob@192.0.2.80;transport=tcp');
    assert.deepEqual([statuses, lines], [[503], []]);
  });

  test('by UDP has the domain that the listener advertises', async () => {
    const { lines } = await invite([TLS, { ...EDGE, advertise: 'Trunk.Example.com' }], 'sip:bob@192.0.2.80');
    assert.deepEqual(lines, ['SIP/2.0/UDP trunk.example.com:5060', '@trunk.example.com:5060;lr']);
  });
});

test('a Route with the advertised name is removed, with a token of the farm or without', async () => {
  const farm = await farmOf(2);
  const owner = farm.member(2);
  const phone = await tlsPhone(farm, farm.member(1));
  for (const [i, route] of [`${NAME};transport=tls;lr`, `${NAME}:5061;lr`, 'SIP.example.com:5061'].entries()) {
    const via = `SIP/2.0/TLS ${CLIENT.address}:${CLIENT.port};branch=z9hG4bKroute${i}`;
    const callId = farm.callIdOf(owner, `route-${i}`);
    phone.send(request({ method: 'INVITE', uri: 'sip:bob@x', via, callId, headers: [`Route: <sip:${route}>`] }));
    await farm.settle();
    assert.deepEqual([owner.server.last.callId, owner.server.last.all('Route')], [callId, []]);
  }
});
