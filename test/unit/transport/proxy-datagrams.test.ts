// Datagrams through a proxy: their client, trusted headers, and the way back of answers.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { AddressList } from '../../../src/base/address-list.ts';
import type { TransportLimits } from '../../../src/transport/limits.ts';
import { ProxyPeers } from '../../../src/transport/proxy-peers.ts';
import { FakeClock } from '../../fake/clock.ts';
import { type Bench, makeBench, message, udp, VIP } from './bench.ts';
import {
  ENDS,
  ENDS6,
  type Ends,
  local,
  SIGNATURE,
  simple,
  tlv,
  unspecified,
  version1,
  version2,
} from './proxy-headers.ts';

const PROXY = '10.0.0.254';
const STRANGER = '192.0.2.66';

async function started(
  proxyProtocol: 'off' | 'accept' | 'require',
  limits: Partial<TransportLimits> = {},
  address = VIP,
): Promise<Bench> {
  const bench = makeBench([{ ...udp('edge', address), proxyProtocol }], limits);
  bench.trusted = new AddressList(['10.0.0.0/24', '2001:db8:ffff::/64', '!10.0.0.13']);
  await bench.transport.start();
  return bench;
}

/** One session of a proxy: a socket that records received datagrams and sends. */
async function session(bench: Bench, address = PROXY, port = 20_001, to = VIP) {
  const heard: Buffer[] = [];
  const socket = await bench.network.bindUdp(
    { address, port },
    { onDatagram: (bytes) => heard.push(bytes), onSendError: (error) => assert.fail(error) },
  );
  const send = async (...parts: (Buffer | string)[]): Promise<void> => {
    socket.send(Buffer.concat(parts.map((part) => Buffer.from(part as string, 'latin1'))), to, 5060);
    await bench.network.settle();
  };
  return { heard, send };
}

const at = (ends: Ends) => [`${ends.client} ${ends.clientPort}`, `${ends.here} ${ends.herePort}`];
const seen = (bench: Bench) => bench.packets.map(({ from, to, text }) => [from, to, text]);

describe('a datagram with a header from a trusted proxy', () => {
  for (const mode of ['accept', 'require'] as const)
    for (const [title, ends, header] of [
      ['version 2', ENDS, version2('udp')],
      ['version 2, an IPv6 client on an IPv4 listener', ENDS6, version2('udp', ENDS6)],
      ['version 2 with TLVs', ENDS, version2('udp', ENDS, { tlvs: tlv(4, Buffer.alloc(500)) })],
      ['the simple header', ENDS, simple()],
    ] as const)
      test(`has the client's address with ${mode}: ${title}`, async () => {
        const bench = await started(mode);
        await (await session(bench)).send(header, message());
        assert.deepEqual(seen(bench), [[...at(ends), message()]]);
        assert.deepEqual(bench.proxied('edge'), { proxied: 1 });
        assert.equal(bench.received('edge', 'sip'), 1);
        await bench.transport.stop();
      });

  test('may contain a keep-alive, or nothing', async () => {
    const bench = await started('require');
    const proxy = await session(bench);
    for (const payload of ['\r\n\r\n', '', '\0\0']) await proxy.send(version2('udp'), payload);
    assert.equal(bench.received('edge', 'keepalive'), 3);
    assert.deepEqual(bench.proxied('edge'), { proxied: 3 });
    assert.deepEqual(bench.packets, []);
    await bench.transport.stop();
  });

  test('may be a STUN request, which is answered through the proxy with the address that the proxy sees', async () => {
    const bench = await started('require');
    const proxy = await session(bench);
    const binding = Buffer.alloc(20 + 16);
    binding.set([0, 1, 0, 16, 0x21, 0x12, 0xa4, 0x42]);
    binding.set([0x80, 0x22, 0, 12], 20);
    await proxy.send(version2('udp'), binding);
    assert.equal(proxy.heard.length, 1);
    const answer = proxy.heard[0]!;
    assert.equal(answer.readUInt16BE(26) ^ 0x2112, ENDS.clientPort);
    assert.deepEqual(
      [...answer.subarray(28, 32)].map((octet, i) => octet ^ [0x21, 0x12, 0xa4, 0x42][i]!),
      [203, 0, 113, 7],
    );
    await bench.transport.stop();
  });

  test('without a client has its real addresses; LOCAL means the proxy itself', async () => {
    const bench = await started('require');
    const own: boolean[] = [];
    bench.onPacket = (packet) => own.push(packet.fromBalancer);
    const proxy = await session(bench);
    await proxy.send(local(), message('one'));
    await proxy.send(unspecified(), message('two'));
    await proxy.send(version2('udp'), message('three'));
    const real = [`${PROXY} 20001`, `${VIP} 5060`];
    assert.deepEqual(seen(bench), [
      [...real, message('one')],
      [...real, message('two')],
      [...at(ENDS), message('three')],
    ]);
    assert.deepEqual(own, [true, false, false]);
    assert.deepEqual(bench.proxied('edge'), { local: 1, unknown: 1, proxied: 1 });
    await bench.transport.stop();
  });
});

describe('a datagram is dropped and counted', () => {
  const headers = [version2('udp'), version2('udp', ENDS6), simple(), local(), unspecified()];

  for (const mode of ['accept', 'require'] as const)
    test(`when its header comes from an untrusted address, with ${mode}`, async () => {
      const bench = await started(mode);
      for (const address of [STRANGER, '10.0.0.13', '10.0.1.1']) {
        const stranger = await session(bench, address);
        for (const header of headers) await stranger.send(header, message());
        // The faults of these headers are not examined.
        await stranger.send(version2('udp', ENDS, { versionCommand: 0x11 }), message());
        await stranger.send(version2('udp').subarray(0, 20));
      }
      assert.deepEqual(bench.packets, []);
      assert.deepEqual(bench.proxied('edge'), { untrusted: 21 });
      assert.equal(bench.received('edge', 'garbage'), 21);
      await bench.transport.stop();
    });

  test('when it lacks the required header, from any address', async () => {
    const bench = await started('require');
    for (const address of [STRANGER, PROXY]) {
      const sender = await session(bench, address);
      for (const text of [message(), '\r\n\r\n', version1() + message()]) await sender.send(text);
    }
    assert.deepEqual(bench.packets, []);
    assert.deepEqual(bench.proxied('edge'), { missing: 6 });
    await bench.transport.stop();
  });

  test('when its header is cut at any octet', async () => {
    const bench = await started('require');
    const proxy = await session(bench);
    let cuts = 0;
    for (const header of [version2('udp'), simple(), local(Buffer.alloc(3))])
      for (let cut = header[0] === 0x0d ? 5 : 2; cut < header.length; cut++, cuts++)
        await proxy.send(header.subarray(0, cut));
    assert.deepEqual(bench.packets, []);
    assert.deepEqual(bench.proxied('edge'), { cut: cuts });
    await bench.transport.stop();
  });

  test('when its header is malformed, too long, or followed by another', async () => {
    const bench = await started('accept');
    const proxy = await session(bench);
    await proxy.send(version2('tcp'), message());
    await proxy.send(version2('udp', ENDS, { family: 0x32 }), message());
    await proxy.send(version2('udp', ENDS, { tlvs: tlv(4, Buffer.alloc(4096)) }), message());
    await proxy.send(version2('udp'), version2('udp', { ...ENDS, client: '203.0.113.99' }), message());
    await proxy.send(simple(), simple(), message());
    assert.deepEqual(bench.packets, []);
    assert.deepEqual(bench.proxied('edge'), { malformed: 2, 'too-long': 1, nested: 2 });
    await bench.transport.stop();
  });

  test('when it comes from port 0, which cannot be answered', async () => {
    const bench = await started('require');
    bench.transport.inject(0, Buffer.concat([version2('udp'), Buffer.from(message())]), PROXY, 0);
    assert.deepEqual(bench.packets, []);
    assert.equal(bench.received('edge', 'garbage'), 1);
    await bench.transport.stop();
  });

  test('when headers are off, because the signature is garbage and no address is trusted', async () => {
    const bench = await started('off');
    await (await session(bench)).send(version2('udp'), message());
    assert.deepEqual(bench.packets, []);
    assert.equal(bench.received('edge', 'garbage'), 1);
    assert.deepEqual(bench.proxied('edge'), {});
    await bench.transport.stop();
  });
});

test('the real source counts without a header where that is optional, also for a proxy', async () => {
  const bench = await started('accept');
  await (await session(bench, STRANGER, 5060)).send(message());
  await (await session(bench, PROXY, 5060)).send(`\r\n\r\n${message()}`);
  assert.deepEqual(
    bench.packets.map(({ from }) => from),
    [`${STRANGER} 5060`, `${PROXY} 5060`],
  );
  assert.deepEqual(bench.proxied('edge'), { none: 2 });
  await bench.transport.stop();
});

test('the trusted addresses may change while the listener is open', async () => {
  const bench = await started('require');
  const proxy = await session(bench);
  bench.trusted = new AddressList(['10.1.0.0/24']);
  await proxy.send(version2('udp'), message());
  assert.deepEqual(bench.packets, []);
  bench.trusted = new AddressList([PROXY]);
  await proxy.send(version2('udp'), message());
  assert.equal(bench.packets.length, 1);
  await bench.transport.stop();
});

describe('an answer to a client behind a proxy', () => {
  const send = async (bench: Bench, ends: Ends, text: string): Promise<void> => {
    bench.transport.sendDatagram(0, Buffer.from(text), ends.client, ends.clientPort);
    await bench.network.settle();
  };

  test("goes to the proxy's address and port that sent the client's last datagram", async () => {
    const bench = await started('accept');
    const [first, second, direct] = [
      await session(bench),
      await session(bench, PROXY, 20_002),
      await session(bench, STRANGER, 5060),
    ];
    const other = { ...ENDS, clientPort: 40_002 };
    await first.send(version2('udp'), message());
    await second.send(version2('udp', other), message());
    await send(bench, ENDS, 'to the first');
    await send(bench, other, 'to the second');
    await second.send(version2('udp'), message());
    await send(bench, ENDS, 'to the first, who came anew');
    bench.transport.sendDatagram(0, Buffer.from('past the proxy'), STRANGER, 5060);
    await bench.network.settle();
    assert.deepEqual(first.heard.map(String), ['to the first']);
    assert.deepEqual(second.heard.map(String), ['to the second', 'to the first, who came anew']);
    assert.deepEqual(direct.heard.map(String), ['past the proxy']);
    await bench.transport.stop();
  });

  test('may go to a client of the other address family', async () => {
    const bench = await started('require');
    const proxy = await session(bench);
    await proxy.send(version2('udp', ENDS6), message());
    await send(bench, ENDS6, 'answer');
    assert.deepEqual(proxy.heard.map(String), ['answer']);
    assert.equal(bench.sendErrors('edge'), 0);
    await bench.transport.stop();
  });

  test('goes by an IPv6 listener, too', async () => {
    const bench = await started('require', {}, '2001:db8:1::1');
    const proxy = await session(bench, '2001:db8:ffff::9', 20_001, '2001:db8:1::1');
    await proxy.send(version2('udp', ENDS), message());
    await send(bench, ENDS, 'answer');
    assert.deepEqual(seen(bench), [[...at(ENDS), message()]]);
    assert.deepEqual(proxy.heard.map(String), ['answer']);
    await bench.transport.stop();
  });

  test("has the simple header only where that is set and the client's datagram had it", async () => {
    const bench = await started('require');
    const [plain, marked] = [await session(bench), await session(bench, PROXY, 20_002)];
    await plain.send(version2('udp', { ...ENDS, clientPort: 1 }), message());
    await marked.send(simple(ENDS6), message());
    await send(bench, ENDS6, 'bare');
    bench.answerHeader = 'simple';
    await send(bench, ENDS6, 'headed');
    await send(bench, { ...ENDS, clientPort: 1 }, 'bare');
    assert.deepEqual(plain.heard.map(String), ['bare']);
    assert.deepEqual(marked.heard, [Buffer.from('bare'), Buffer.concat([simple(ENDS6), Buffer.from('headed')])]);
    await bench.transport.stop();
  });

  test('is not diverted by an untrusted header', async () => {
    const bench = await started('accept');
    const [proxy, stranger] = [await session(bench), await session(bench, STRANGER)];
    await proxy.send(version2('udp'), message());
    await stranger.send(version2('udp'), message());
    await proxy.send(version2('udp', { ...ENDS, client: '203.0.113.8' }), simple({ ...ENDS }), message());
    await send(bench, ENDS, 'answer');
    assert.deepEqual(proxy.heard.map(String), ['answer']);
    assert.deepEqual(stranger.heard, []);
    await bench.transport.stop();
  });

  test('goes directly to a client that is no longer stored', async () => {
    const bench = await started('require', { proxyPeers: 4, proxyPeerMs: 1000 });
    const proxy = await session(bench);
    const straight = await session(bench, ENDS.client, ENDS.clientPort);
    await proxy.send(version2('udp'), message());
    for (let port = 1; port <= 4; port++) await proxy.send(version2('udp', { ...ENDS, clientPort: port }), message());
    await send(bench, ENDS, 'answer');
    assert.deepEqual([proxy.heard.length, straight.heard.map(String)], [0, ['answer']]);
    await bench.transport.stop();
  });
});

describe('the stored clients', () => {
  function peersOf(clock: FakeClock, most: number, keepMs = 7_200_000): ProxyPeers {
    return new ProxyPeers({ now: () => clock.now(), most: () => most, keepMs: () => keepMs });
  }
  const remember = (peers: ProxyPeers, client: string, port = 1): void =>
    peers.remember(client, port, PROXY, 20_000, VIP, 5060, false);

  test('are never more than the limit, and include the client of the last datagram', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 20 }),
        fc.array(fc.nat(40), { minLength: 1, maxLength: 200 }),
        (most, spoken) => {
          const peers = peersOf(new FakeClock(), most);
          for (const number of spoken) {
            remember(peers, `192.0.2.${number}`);
            assert.ok(peers.size <= most, `${peers.size} of ${most}`);
            assert.equal(peers.find(`192.0.2.${number}`, 1)?.address, PROXY);
          }
        },
      ),
    );
  });

  test('expire some time after their last datagram, and are deleted soon after', () => {
    const clock = new FakeClock();
    const peers = peersOf(clock, 100, 1000);
    remember(peers, '192.0.2.1');
    clock.advance(600);
    remember(peers, '192.0.2.1');
    clock.advance(999);
    remember(peers, '192.0.2.2');
    assert.ok(peers.find('192.0.2.1', 1), '999 ms after it spoke');
    clock.advance(1000);
    remember(peers, '192.0.2.2');
    clock.advance(1000);
    remember(peers, '192.0.2.2');
    assert.equal(peers.find('192.0.2.1', 1), undefined);
    assert.ok(peers.find('192.0.2.2', 1));
  });

  test('differ by address and port', () => {
    const peers = peersOf(new FakeClock(), 10);
    remember(peers, '192.0.2.1', 11);
    assert.equal(peers.find('192.0.2.1', 1), undefined);
    assert.equal(peers.find('192.0.2.11', 1), undefined);
    assert.ok(peers.find('192.0.2.1', 11));
  });
});

test('datagrams with broken and repeated headers give a packet only addresses of a complete header', async () => {
  const bench = await started('require');
  const headers = [version2('udp'), simple(ENDS6), local(), Buffer.from(version1()), SIGNATURE, Buffer.from(message())];
  const whole = fc.constantFrom(...headers);
  const bent = fc.tuple(whole, fc.nat(60), fc.nat(255)).map(([header, place, octet]) => {
    const copy = Buffer.from(header);
    copy[place % copy.length] = octet;
    return copy;
  });
  const cut = fc.tuple(whole, fc.nat(60)).map(([header, length]) => header.subarray(0, length));
  let count = 0;
  fc.assert(
    fc.property(fc.array(fc.oneof(whole, bent, cut), { maxLength: 4 }), (parts) => {
      const before = bench.packets.length;
      bench.transport.inject(0, Buffer.concat(parts), PROXY, 20_001);
      bench.transport.inject(0, Buffer.concat(parts), STRANGER, 20_001);
      count += 2;
      assert.ok(bench.packets.length <= before + 1);
      const outcomes = Object.values(bench.proxied('edge')).reduce((sum, n) => sum + n, 0);
      assert.equal(outcomes, count, 'each datagram is counted once');
    }),
    { numRuns: 2000 },
  );
  for (const { from } of bench.packets) assert.doesNotMatch(from, new RegExp(STRANGER));
  await bench.transport.stop();
});
