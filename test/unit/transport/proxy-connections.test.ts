// Connections through a proxy: their client, trusted headers, headers in pieces, and the time limit of a header.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { AddressList } from '../../../src/base/address-list.ts';
import { nodeNetwork } from '../../../src/base/network.ts';
import type { TransportLimits } from '../../../src/transport/limits.ts';
import { until } from '../../fake/until.ts';
import { type Bench, makeBench, message, tcp, VIP } from './bench.ts';
import { ENDS, ENDS6, local, SIGNATURE, simple, tlv, unspecified, version1, version2 } from './proxy-headers.ts';

const SERVER = { address: VIP, port: 5060 };
const PROXY = '10.0.0.254';
const STRANGER = '192.0.2.66';

async function started(
  proxyProtocol: 'off' | 'accept' | 'require',
  limits: Partial<TransportLimits> = {},
): Promise<Bench> {
  const bench = makeBench([{ ...tcp('edge'), proxyProtocol }], limits);
  bench.trusted = new AddressList(['10.0.0.0/24', '!10.0.0.13']);
  await bench.transport.start();
  return bench;
}

async function dialled(bench: Bench, address = PROXY) {
  const stream = bench.network.connectTcp(SERVER, { address });
  let text = '';
  let closed = false;
  stream.on('error', () => {});
  stream.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
  });
  stream.on('close', () => {
    closed = true;
  });
  await bench.network.settle();
  return {
    stream,
    text: () => text,
    closed: () => closed,
    real: `${address} ${stream.localPort}`,
    async write(...parts: (Buffer | string)[]): Promise<void> {
      stream.write(Buffer.concat(parts.map((part) => Buffer.from(part as string, 'latin1'))));
      await bench.network.settle();
    },
  };
}

/** Checks at the end of each test that no resource and no timer is left. */
async function finished(bench: Bench): Promise<void> {
  await bench.transport.stop();
  await bench.network.settle();
  assert.equal(bench.transport.connections(), 0);
  assert.equal(bench.transport.bufferedBytes(), 0);
  assert.equal(bench.clock.timers, 0);
}

const seen = (bench: Bench) => bench.packets.map(({ from, to, text }) => [from, to, text]);
const THEIRS = [`${ENDS.client} ${ENDS.clientPort}`, `${ENDS.here} ${ENDS.herePort}`];

describe('a connection with a header from a trusted proxy', () => {
  for (const mode of ['accept', 'require'] as const)
    for (const [title, header, ends] of [
      ['version 1', version1(), ENDS],
      ['version 1, IPv6', version1(ENDS6), ENDS6],
      ['version 2', version2('tcp'), ENDS],
      ['version 2, IPv6', version2('tcp', ENDS6), ENDS6],
      ['version 2 with TLVs', version2('tcp', ENDS, { tlvs: tlv(0xe0, Buffer.alloc(900)) }), ENDS],
    ] as const)
      test(`has the client's address with ${mode}: ${title}`, async () => {
        const bench = await started(mode);
        const proxy = await dialled(bench);
        await proxy.write(header, message('one'));
        await proxy.write(message('two'));
        const theirs = [`${ends.client} ${ends.clientPort}`, `${ends.here} ${ends.herePort}`];
        assert.deepEqual(seen(bench), [
          [...theirs, message('one')],
          [...theirs, message('two')],
        ]);
        assert.deepEqual(bench.proxied('edge'), { proxied: 1 });
        await finished(bench);
      });

  test('carries answers', async () => {
    const bench = await started('require');
    const proxy = await dialled(bench);
    await proxy.write(version2('tcp'), message());
    const { connection } = bench.packets[0]!;
    assert.ok(bench.transport.sendStream(connection, Buffer.from('answer')));
    await bench.network.settle();
    assert.equal(proxy.text(), 'answer');
    await finished(bench);
  });

  test('is not found by the address of the proxy or before its header', async () => {
    const bench = await started('require');
    const proxy = await dialled(bench);
    const byProxy = { address: PROXY, port: proxy.stream.localPort };
    const other = bench.transport.connectStream(0, byProxy);
    await proxy.write(version2('tcp'), message());
    assert.notEqual(bench.packets[0]?.connection, other);
    await finished(bench);
  });

  test('uses no memory once its header is complete', async () => {
    const bench = await started('require');
    const proxy = await dialled(bench);
    await proxy.write(version2('tcp').subarray(0, 20));
    assert.equal(bench.transport.bufferedBytes(), 20);
    await proxy.write(version2('tcp').subarray(20));
    assert.equal(bench.transport.bufferedBytes(), 0);
    await finished(bench);
  });

  test('handles pings after the header separately', async () => {
    const bench = await started('require');
    const proxy = await dialled(bench);
    await proxy.write(version2('tcp'), '\r\n\r\n');
    await proxy.write(message());
    assert.equal(proxy.text(), '\r\n');
    assert.deepEqual(seen(bench), [[...THEIRS, message()]]);
    await finished(bench);
  });

  test('gives the same messages at every cut', async () => {
    const bench = await started('require', { connectionsPerSource: 1000 });
    for (const header of [version1(), version2('tcp'), version2('tcp', ENDS, { tlvs: tlv(4, Buffer.alloc(4)) })]) {
      const whole = Buffer.concat([Buffer.from(header), Buffer.from(message())]);
      for (let cut = 1; cut < whole.length; cut += cut < 60 ? 1 : 37) {
        const proxy = await dialled(bench);
        await proxy.write(whole.subarray(0, cut));
        await proxy.write(whole.subarray(cut));
        assert.deepEqual(seen(bench), [[...THEIRS, message()]], `cut at ${cut}`);
        bench.packets.length = 0;
      }
      const proxy = await dialled(bench);
      for (const octet of whole) await proxy.write(Buffer.of(octet));
      assert.deepEqual(seen(bench), [[...THEIRS, message()]], 'octet by octet');
      bench.packets.length = 0;
    }
    assert.deepEqual(Object.keys(bench.proxied('edge')), ['proxied']);
    await finished(bench);
  });

  test('without a client has its real addresses; LOCAL means the proxy itself', async () => {
    const bench = await started('require');
    const own: boolean[] = [];
    bench.onPacket = (packet) => own.push(packet.fromBalancer);
    const [probe, hidden, line] = [await dialled(bench), await dialled(bench), await dialled(bench)];
    await probe.write(local(Buffer.alloc(12)), message('one'));
    await hidden.write(unspecified(), message('two'));
    await line.write('PROXY UNKNOWN\r\n', message('three'));
    assert.deepEqual(seen(bench), [
      [probe.real, `${VIP} 5060`, message('one')],
      [hidden.real, `${VIP} 5060`, message('two')],
      [line.real, `${VIP} 5060`, message('three')],
    ]);
    assert.deepEqual(own, [true, false, false]);
    assert.deepEqual(bench.proxied('edge'), { local: 1, unknown: 2 });
    await finished(bench);
  });
});

describe('a connection is closed and counted', () => {
  async function assertRefused(
    mode: 'accept' | 'require',
    address: string,
    octets: Buffer | string,
    outcome: string,
  ): Promise<void> {
    const bench = await started(mode);
    const peer = await dialled(bench, address);
    await peer.write(octets);
    assert.deepEqual([peer.closed(), peer.text()], [true, ''], `${outcome}, ${mode}`);
    assert.deepEqual(bench.packets, []);
    assert.deepEqual(bench.faults, []);
    assert.deepEqual(bench.proxied('edge'), { [outcome]: 1 });
    assert.deepEqual([bench.closedBy('proxy-header'), bench.received('edge', 'garbage')], [1, 1]);
    await finished(bench);
  }

  test('when its header comes from an untrusted address', async () => {
    for (const mode of ['accept', 'require'] as const)
      for (const address of [STRANGER, '10.0.0.13'])
        for (const header of [version1(), version2('tcp'), local(), unspecified()])
          await assertRefused(
            mode,
            address,
            Buffer.concat([Buffer.from(header as string), Buffer.from(message())]),
            'untrusted',
          );
  });

  test('when it lacks the required header, from any address', async () => {
    for (const address of [STRANGER, PROXY])
      for (const text of [message(), '\r\n\r\nX', '\r\nA', 'PROXIE', '\0'])
        await assertRefused('require', address, text, 'missing');
  });

  test('when its header is malformed, too long, or followed by another', async () => {
    const behind = Buffer.from(message());
    for (const mode of ['accept', 'require'] as const) {
      await assertRefused(mode, PROXY, version2('udp'), 'malformed');
      await assertRefused(mode, PROXY, version2('tcp', ENDS, { family: 0x31 }), 'malformed');
      await assertRefused(mode, PROXY, 'PROXY TCP4 1.2.3.4\r\n', 'malformed');
      await assertRefused(mode, PROXY, `PROXY ${'A'.repeat(200)}`, 'too-long');
      await assertRefused(mode, PROXY, version2('tcp', ENDS, { length: 4081 }), 'too-long');
    }
    for (const second of [version2('tcp', ENDS6), Buffer.from(version1(ENDS6)), local()]) {
      const bench = await started('require');
      const proxy = await dialled(bench);
      await proxy.write(version2('tcp'), second, behind);
      assert.equal(proxy.closed(), true);
      assert.deepEqual(bench.packets, []);
      assert.deepEqual(bench.proxied('edge'), { proxied: 1, nested: 1 });
      await finished(bench);
    }
  });

  test('when a second header follows in pieces', async () => {
    for (const second of [version2('tcp', ENDS6), Buffer.from(version1(ENDS6))]) {
      const bench = await started('require');
      const proxy = await dialled(bench);
      for (const octet of Buffer.concat([version2('tcp'), second])) await proxy.write(Buffer.of(octet));
      await proxy.write(message());
      assert.equal(proxy.closed(), true);
      assert.deepEqual(bench.packets, []);
      assert.deepEqual(bench.proxied('edge'), { proxied: 1, nested: 1 });
      await finished(bench);
    }
  });

  test('when the other side closes in the middle of its header; closing before any octet is no fault', async () => {
    const bench = await started('require');
    const [half, check] = [await dialled(bench), await dialled(bench)];
    await half.write(version2('tcp').subarray(0, 20));
    half.stream.end();
    check.stream.end();
    await bench.network.settle();
    assert.deepEqual(bench.proxied('edge'), { cut: 1 });
    assert.equal(bench.closedBy('peer'), 2);
    await finished(bench);
  });

  test('when headers are off, because they are garbage and no address is trusted', async () => {
    const bench = await started('off');
    const [binary, line] = [await dialled(bench), await dialled(bench)];
    await binary.write(version2('tcp'), message());
    assert.equal(binary.closed(), true);
    assert.equal(bench.closedBy('framing'), 1);
    // A line of version 1 counts as a start line, which the scanner refuses.
    await line.write(version1(), message());
    assert.deepEqual(seen(bench), [[line.real, `${VIP} 5060`, version1() + message()]]);
    assert.deepEqual(bench.proxied('edge'), {});
    await finished(bench);
  });
});

describe('the time limit of a header', () => {
  const WAIT = { proxyHeaderMs: 5000, silentMs: 60_000 };

  test('ends a connection without a complete header where the header is required', async () => {
    const bench = await started('require', WAIT);
    const peers = [await dialled(bench), await dialled(bench), await dialled(bench), await dialled(bench, STRANGER)];
    await peers[1]!.write('\r\n\r\n');
    await peers[2]!.write(version2('tcp').subarray(0, 27));
    bench.clock.advance(4000);
    await bench.network.settle();
    assert.deepEqual(
      peers.map((peer) => peer.closed()),
      [false, false, false, false],
    );
    assert.equal(bench.transport.bufferedBytes(), 31);
    bench.clock.advance(2000);
    await bench.network.settle();
    assert.deepEqual(
      peers.map((peer) => peer.closed()),
      [true, true, true, true],
    );
    assert.deepEqual(bench.proxied('edge'), { timeout: 4 });
    await finished(bench);
  });

  test('ends a connection with a partial optional header; line ends become a ping, silence may last', async () => {
    const bench = await started('accept', WAIT);
    const [silent, ping, half] = [await dialled(bench), await dialled(bench), await dialled(bench)];
    await ping.write('\r\n\r\n');
    await half.write('PROX');
    assert.equal(ping.text(), '');
    bench.clock.advance(6000);
    await bench.network.settle();
    assert.equal(ping.text(), '\r\n');
    assert.deepEqual([silent.closed(), ping.closed(), half.closed()], [false, false, true]);
    await silent.write(version2('tcp'), message('late'));
    await ping.write(message('ping'));
    assert.deepEqual(
      bench.packets.map(({ from }) => from),
      [THEIRS[0], ping.real],
    );
    assert.deepEqual(bench.proxied('edge'), { timeout: 1, none: 1, proxied: 1 });
    await finished(bench);
  });

  test('is independent of the time limit for silence after the header', async () => {
    const bench = await started('require', WAIT);
    const proxy = await dialled(bench);
    await proxy.write(version2('tcp'));
    bench.clock.advance(59_000);
    assert.equal(proxy.closed(), false);
    bench.clock.advance(2000);
    await bench.network.settle();
    assert.equal(proxy.closed(), true);
    assert.equal(bench.closedBy('silent'), 1);
    await finished(bench);
  });
});

test('the real source counts without a header where that is optional, also for a proxy', async () => {
  const bench = await started('accept');
  const [stranger, proxy] = [await dialled(bench, STRANGER), await dialled(bench)];
  await stranger.write(message());
  await proxy.write(`\r\n\r\n${message()}`);
  assert.deepEqual(
    bench.packets.map(({ from }) => from),
    [stranger.real, proxy.real],
  );
  assert.equal(proxy.text(), '\r\n');
  assert.deepEqual(bench.proxied('edge'), { none: 2 });
  await finished(bench);
});

describe('the limit of connections per source', () => {
  test('counts clients and not their proxy', async () => {
    const bench = await started('require', { connectionsPerSource: 2 });
    const open = async (client: string) => {
      const proxy = await dialled(bench);
      await proxy.write(version2('tcp', { ...ENDS, client }));
      return proxy;
    };
    const peers = [
      await open('203.0.113.1'),
      await open('203.0.113.1'),
      await open('203.0.113.2'),
      await open('203.0.113.1'),
    ];
    assert.deepEqual(
      peers.map((peer) => peer.closed()),
      [false, false, false, true],
    );
    assert.equal(bench.closedBy('source-limit'), 1);
    peers[0]!.stream.destroy();
    peers[1]!.stream.destroy();
    await bench.network.settle();
    assert.equal((await open('203.0.113.1')).closed(), false);
    await finished(bench);
  });

  test('counts a proxy without a client, and strangers from the start', async () => {
    const bench = await started('accept', { connectionsPerSource: 1 });
    const first = await dialled(bench);
    const second = await dialled(bench);
    await first.write(local());
    await second.write(unspecified());
    assert.deepEqual([first.closed(), second.closed()], [false, true]);
    await dialled(bench, STRANGER);
    assert.equal((await dialled(bench, STRANGER)).closed(), true);
    assert.equal(bench.closedBy('source-limit'), 2);
    await finished(bench);
  });

  test('does not replace the limit of all connections for proxies', async () => {
    const bench = await started('require', { connections: 2 });
    const peers = [await dialled(bench), await dialled(bench), await dialled(bench)];
    assert.deepEqual(
      peers.map((peer) => peer.closed()),
      [false, false, true],
    );
    assert.equal(bench.closedBy('connection-limit'), 1);
    await finished(bench);
  });
});

test('octets of partial headers count with those of partial messages', async () => {
  const bench = await started('require', { bufferedBytes: 8000 });
  const header = version2('tcp', ENDS, { tlvs: tlv(4, Buffer.alloc(4000)) });
  for (let n = 0; n < 5; n++) await (await dialled(bench)).write(header.subarray(0, 4000));
  assert.ok(bench.transport.bufferedBytes() <= 8000);
  assert.ok(bench.closedBy('buffered-bytes') > 0);
  assert.deepEqual(bench.proxied('edge'), {}, 'it was not the other side that cut them');
  await finished(bench);
});

test('any octets in any pieces leave no state, and give no packet an address that no header names', async () => {
  const headers = [
    version2('tcp'),
    version2('tcp', ENDS6),
    local(),
    Buffer.from(version1()),
    SIGNATURE,
    simple(),
    Buffer.from(message()),
  ];
  const whole = fc.constantFrom(...headers);
  const bent = fc.tuple(whole, fc.nat(60), fc.nat(255)).map(([header, place, octet]) => {
    const copy = Buffer.from(header);
    copy[place % copy.length] = octet;
    return copy;
  });
  const cut = fc.tuple(whole, fc.nat(60)).map(([header, length]) => header.subarray(0, length));
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.oneof(whole, bent, cut), { maxLength: 4 }),
      fc.constantFrom('accept' as const, 'require' as const),
      fc.boolean(),
      async (parts, mode, trusted) => {
        const bench = await started(mode);
        const peer = await dialled(bench, trusted ? PROXY : STRANGER);
        for (const part of parts) if (part.length > 0 && !peer.closed()) await peer.write(part);
        for (const { from } of bench.packets) assert.ok(trusted || from === peer.real, from);
        if (mode === 'require' && !trusted) assert.deepEqual(bench.packets, []);
        const outcomes = bench.proxied('edge');
        const decided = Object.entries(outcomes).reduce((sum, [name, n]) => sum + (name === 'nested' ? 0 : n), 0);
        assert.ok(decided <= 1, JSON.stringify(outcomes));
        await finished(bench);
      },
    ),
    { numRuns: 150 },
  );
});

describe('on sockets of this host', () => {
  async function open(trusted: readonly string[]): Promise<{ readonly bench: Bench; readonly port: number }> {
    const bench = makeBench(
      [{ ...tcp('edge', '127.0.0.1', 0), proxyProtocol: 'require' }],
      {},
      { network: nodeNetwork },
    );
    bench.trusted = new AddressList(trusted);
    await bench.transport.start();
    return { bench, port: bench.transport.listeners[0]!.local.port };
  }

  test('a message of a client behind a proxy arrives and is answered', async () => {
    const { bench, port } = await open(['127.0.0.0/8']);
    const proxy = net.connect(port, '127.0.0.1');
    try {
      const heard = new Promise<void>((resolve) => {
        bench.onPacket = (packet) => {
          bench.transport.sendStream(packet.connection, Buffer.from('answer'));
          resolve();
        };
      });
      proxy.write(version2('tcp', ENDS6, { tlvs: tlv(4, Buffer.alloc(100)) }));
      proxy.write(message());
      await heard;
      const [answer] = (await once(proxy, 'data')) as [Buffer];
      assert.equal(String(answer), 'answer');
      assert.equal(bench.packets[0]?.from, `${ENDS6.client} ${ENDS6.clientPort}`);
    } finally {
      proxy.destroy();
      await bench.transport.stop();
    }
  });

  test('a health check that connects, sends LOCAL and resets is counted as such, and leaves no state', async () => {
    const { bench, port } = await open(['127.0.0.0/8']);
    const proxy = net.connect(port, '127.0.0.1');
    try {
      proxy.write(local());
      await until(() => bench.proxied('edge').local === 1);
      proxy.resetAndDestroy();
      await until(() => bench.transport.connections() === 0);
      assert.deepEqual(bench.packets, []);
      assert.deepEqual(bench.faults, []);
      assert.equal(bench.received('edge', 'garbage'), 0);
      assert.equal(bench.closedBy('proxy-header'), 0);
    } finally {
      proxy.destroy();
      await bench.transport.stop();
    }
  });

  test('a header from an address outside the list closes the connection', async () => {
    const { bench, port } = await open(['127.0.0.0/8', '!127.0.0.1']);
    const proxy = net.connect(port, '127.0.0.1');
    try {
      proxy.on('error', () => {});
      proxy.write(Buffer.concat([version2('tcp'), Buffer.from(message())]));
      await new Promise((resolve) => proxy.once('close', resolve));
      assert.deepEqual(bench.proxied('edge'), { untrusted: 1 });
      assert.deepEqual(bench.packets, []);
    } finally {
      proxy.destroy();
      await bench.transport.stop();
    }
  });
});
