// A farm behind a proxy that names its clients: calls work with owners elsewhere, and every datagram returns through
// its member and its proxy session.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { FakeFarm, UdpPhone, VIP } from '../../fake/farm.ts';
import { request } from '../../fake/sip.ts';
import { Call, serve } from '../farm/calls.ts';
import { ENDS, ENDS6, type Ends, local, simple, version2 } from './proxy-headers.ts';

const PROXY = { address: '10.9.9.9', port: 20_001 };
const farms: FakeFarm[] = [];

afterEach(async () => {
  for (const farm of farms.splice(0)) await farm.stop();
});

/** Starts a farm whose packets all come to fe1. */
async function start(mode: 'accept' | 'require'): Promise<FakeFarm> {
  const bind = '198.51.100.1:5060';
  const farm = await FakeFarm.start({
    members: 2,
    config: {
      listeners: [
        { name: 'edge', transport: 'udp', bind, proxyProtocol: mode },
        { name: 'edge-tcp', transport: 'tcp', bind, proxyProtocol: mode },
      ],
      balancer: { mode: 'none', trusted: [PROXY.address] },
    },
  });
  farms.push(farm);
  farm.choose = () => farm.member(1);
  return farm;
}

/** A phone behind the proxy: its datagrams come from the proxy's session, with a header in front. */
class ProxiedPhone extends UdpPhone {
  readonly #header: Buffer;

  constructor(header: Buffer) {
    super();
    this.#header = header;
  }

  /** Gives its Via port 5060, which is not its source port. */
  async behind(farm: FakeFarm, ends: Ends, port = PROXY.port): Promise<this> {
    await this.open(farm.network, { address: PROXY.address, port });
    this.at = { address: ends.client.includes(':') ? `[${ends.client}]` : ends.client, port: 5060 };
    return this;
  }

  override send(text: string, to = VIP): void {
    super.send(this.#header.toString('latin1') + text, to);
  }
}

for (const [title, ends, header] of [
  ['version 2', ENDS, version2('udp')],
  ['the simple header', ENDS, simple()],
  ['an IPv6 client behind an IPv4 proxy', ENDS6, version2('udp', ENDS6)],
] as const)
  test(`a call by datagrams with its owner elsewhere works with ${title}`, async () => {
    const farm = await start('require');
    const servers = serve(farm);
    const phone = await new ProxiedPhone(header).behind(farm, ends);
    try {
      const call = new Call(farm, phone, farm.callIdOf(farm.member(2)));
      call.invite();
      await farm.settle();
      assert.equal(call.status, 200);
      assert.equal(servers[1]?.dialogs.get(call.callId)?.state, 'confirmed');
      assert.equal(servers[0]?.dialogs.size, 0);
      const top = phone.got[0]?.one('Via') ?? '';
      if (ends === ENDS) assert.ok(top.startsWith(`SIP/2.0/UDP ${ends.client}:5060`), top);

      // A request of the server reaches the client by its flow: through fe1 and the session at the proxy.
      const before = phone.got.length;
      servers[1]?.inDialog(call.callId, 'INFO');
      await farm.settle();
      assert.equal(phone.got[before]?.method, 'INFO');
      assert.deepEqual(
        servers[1]?.server.responses.map(({ status }) => status),
        [200],
      );

      call.bye();
      await farm.settle();
      assert.equal(call.final.get('BYE'), 200);
      assert.deepEqual(
        new Set(farm.member(1).left.map(({ to }) => `${to.address} ${to.port}`)),
        new Set(['10.9.9.9 20001']),
      );
      assert.deepEqual(farm.member(2).left, [], 'fe2 does not know the way through the proxy');
    } finally {
      phone.close();
    }
  });

test('two clients of one proxy get their own answers, and so does a client without a proxy', async () => {
  const farm = await start('accept');
  serve(farm);
  const other = { ...ENDS, clientPort: 40_002 };
  const phones = [
    await new ProxiedPhone(version2('udp')).behind(farm, ENDS),
    await new ProxiedPhone(version2('udp', other)).behind(farm, other, 20_002),
    await farm.phone('192.0.2.7'),
  ];
  try {
    const calls: readonly Call[] = phones.map(
      (phone, i) => new Call(farm, phone, farm.callIdOf(farm.member(1 + (i % 2)), `of-${i}`)),
    );
    for (const call of calls) call.invite();
    await farm.settle();
    assert.deepEqual(
      calls.map(({ status }) => status),
      [200, 200, 200],
    );
    for (const [i, phone] of phones.entries())
      assert.deepEqual([...new Set(phone.got.map(({ callId }) => callId))], [calls[i]?.callId]);
  } finally {
    for (const phone of phones) phone.close();
  }
});

test('a call on a connection through a proxy works with its owner elsewhere', async () => {
  const farm = await start('require');
  const servers = serve(farm);
  const phone = await farm.tcpPhone(PROXY.address);
  phone.stream.write(version2('tcp'));
  const call = new Call(farm, phone, farm.callIdOf(farm.member(2)));
  call.invite();
  await farm.settle();
  call.bye();
  await farm.settle();
  assert.deepEqual([call.status, call.final.get('BYE')], [200, 200]);
  assert.equal(servers[1]?.dialogs.get(call.callId)?.state, 'over');
});

test('the receiving member answers a probe of the proxy, but an OPTIONS of a client behind it is none', async () => {
  const farm = await start('require');
  serve(farm);
  const options = (callId: string): string =>
    request({
      method: 'OPTIONS',
      uri: 'sip:example.org',
      via: 'SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKprobe;rport',
      callId,
    });
  const relayed = (): number => farm.sum(({ verdicts }) => verdicts, { verdict: 'relay', reason: '' });
  const callId = farm.callIdOf(farm.member(2));

  const check = await new ProxiedPhone(local()).behind(farm, ENDS);
  const client = await new ProxiedPhone(version2('udp')).behind(farm, ENDS, 20_002);
  const tcp = await farm.tcpPhone(PROXY.address);
  try {
    check.send(options(callId));
    tcp.stream.write(local());
    tcp.send(options(callId));
    await farm.settle();
    assert.deepEqual([check.got[0]?.status, tcp.got[0]?.status, relayed()], [200, 200, 0]);
    client.send(options(callId));
    await farm.settle();
    assert.equal(relayed(), 1);
  } finally {
    check.close();
    client.close();
  }
});
