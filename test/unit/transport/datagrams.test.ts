// UDP listeners: received datagrams with their true source, and the source address of sent ones.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { describe, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { nodeNetwork } from '../../../src/base/network.ts';
import type { ListenerConfig } from '../../../src/transport/transport.ts';
import { FakeClock } from '../../fake/clock.ts';
import { FakeNetwork } from '../../fake/network.ts';
import { type Bench, makeBench, message, tcp, udp, VIP } from './bench.ts';

interface Heard {
  readonly text: string;
  readonly from: string;
}

/** A client at `address` that sends datagrams and records received ones. */
async function client(network: FakeNetwork, address: string, port = 5060) {
  const heard: Heard[] = [];
  const socket = await network.bindUdp(
    { address, port },
    {
      onDatagram: (bytes, from, fromPort) =>
        heard.push({ text: bytes.toString('latin1'), from: `${from} ${fromPort}` }),
      onSendError: (error) => assert.fail(error),
    },
  );
  const send = (text: string | Buffer, to = VIP): void => socket.send(Buffer.from(text as string, 'latin1'), to, 5060);
  return { heard, send };
}

function resolvers<T>() {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

async function started(listeners: readonly ListenerConfig[]): Promise<Bench> {
  const bench = makeBench(listeners);
  await bench.transport.start();
  return bench;
}

describe('a datagram', () => {
  test('becomes a packet with source, local address, listener and ingress member', async () => {
    const bench = await started([udp('inner', '10.0.0.11'), udp('edge')]);
    (await client(bench.network, '192.0.2.9', 40_123)).send(message());
    await bench.network.settle();
    assert.deepEqual(bench.packets, [
      { text: message(), from: '192.0.2.9 40123', to: `${VIP} 5060`, listener: 1, connection: 0, member: 7 },
    ]);
    assert.equal(bench.received('edge', 'sip'), 1);
    assert.equal(bench.received('inner', 'sip'), 0);
    await bench.transport.stop();
  });

  test('loses the line ends before its start line', async () => {
    const bench = await started([udp('edge')]);
    (await client(bench.network, '192.0.2.9')).send(`\r\n\r\n${message()}`);
    await bench.network.settle();
    assert.equal(bench.packets[0]?.text, message());
    await bench.transport.stop();
  });

  test('leaves no field of the packet before', async () => {
    const bench = await started([udp('edge')]);
    bench.onPacket = (packet) => {
      assert.deepEqual([packet.hops, packet.secondChance, packet.orphan], [0, 0, false]);
      packet.hops = 2;
      packet.secondChance = 1;
      packet.orphan = true;
    };
    const alice = await client(bench.network, '192.0.2.9');
    alice.send(message('one'));
    alice.send(message('two'));
    await bench.network.settle();
    assert.equal(bench.packets.length, 2);
    await bench.transport.stop();
  });

  test('that is a keep-alive or garbage is only counted', async () => {
    const bench = await started([udp('edge')]);
    const alice = await client(bench.network, '192.0.2.9');
    for (const octets of ['\r\n\r\n', '', '\0\0', '\x80rtp', '\0\0\0\0\0']) alice.send(octets);
    await bench.network.settle();
    assert.equal(bench.received('edge', 'keepalive'), 3);
    assert.equal(bench.received('edge', 'garbage'), 2);
    assert.equal(bench.packets.length, 0);
    assert.equal(alice.heard.length, 0);
    await bench.transport.stop();
  });

  test('that is a STUN request is answered when the answer is no larger', async () => {
    const bench = await started([udp('edge')]);
    const alice = await client(bench.network, '192.0.2.9');
    const bare = Buffer.from('000100002112a4420102030405060708090a0b0c', 'hex');
    const padded = Buffer.concat([bare, Buffer.from('8022000841414141414141410000', 'hex').subarray(0, 12)]);
    padded.writeUInt16BE(12, 2);
    alice.send(bare);
    alice.send(padded);
    await bench.network.settle();
    assert.equal(bench.received('edge', 'stun'), 2);
    assert.equal(alice.heard.length, 1);
    assert.deepEqual([alice.heard[0]?.from, alice.heard[0]?.text.length], [`${VIP} 5060`, 32]);
    await bench.transport.stop();
  });

  test('from port 0 is garbage, because it cannot be answered', async () => {
    const bench = await started([udp('edge')]);
    bench.transport.inject(0, Buffer.from(message()), '192.0.2.9', 0);
    assert.equal(bench.packets.length, 0);
    assert.equal(bench.received('edge', 'garbage'), 1);
    await bench.transport.stop();
  });
});

describe('an answer', () => {
  test('leaves from the address and port of its listener, IPv4 and IPv6', async () => {
    const bench = await started([udp('edge'), udp('other', '198.51.100.2', 5070), udp('six', '2001:db8::1')]);
    const alice = await client(bench.network, '192.0.2.9');
    const bob = await client(bench.network, '2001:db8::9');
    bench.transport.sendDatagram(1, Buffer.from('one'), '192.0.2.9', 5060);
    bench.transport.sendDatagram(0, Buffer.from('two'), '192.0.2.9', 5060);
    bench.transport.sendDatagram(2, Buffer.from('six'), '2001:db8::9', 5060);
    await bench.network.settle();
    assert.deepEqual(alice.heard, [
      { text: 'one', from: '198.51.100.2 5070' },
      { text: 'two', from: `${VIP} 5060` },
    ]);
    assert.deepEqual(bob.heard, [{ text: 'six', from: '2001:db8::1 5060' }]);
    await bench.transport.stop();
  });

  test('is counted as a send error for a name, port 0, the other family, or after the stop', async () => {
    const bench = await started([udp('edge'), udp('six', '2001:db8::1'), tcp('edge-tcp')]);
    const bytes = Buffer.from('x');
    for (const listener of [2, 9]) bench.transport.sendDatagram(listener, bytes, '192.0.2.9', 5060);
    assert.equal(bench.sendErrors('none'), 2);
    for (const address of ['example.com', '1.2.3.999', '', '2001:db8::9']) {
      bench.transport.sendDatagram(0, bytes, address, 5060);
    }
    bench.transport.sendDatagram(0, bytes, '192.0.2.9', 0);
    bench.transport.sendDatagram(0, bytes, '192.0.2.9', 65_536);
    bench.transport.sendDatagram(1, bytes, '192.0.2.9', 5060);
    assert.deepEqual([bench.sendErrors('edge'), bench.sendErrors('six')], [6, 1]);
    await bench.transport.stop();
    bench.transport.sendDatagram(0, bytes, '192.0.2.9', 5060);
    assert.equal(bench.sendErrors('edge'), 7);
    assert.equal(bench.network.sent, 0);
  });

  test('is counted when the system refuses it', async () => {
    const bench = await started([udp('edge')]);
    bench.transport.sendDatagram(0, Buffer.alloc(65_508), '192.0.2.9', 5060);
    assert.equal(bench.sendErrors('edge'), 1);
    await bench.transport.stop();
  });
});

describe('listeners', () => {
  test('that cannot be bound are named in the error, and none stays bound', async () => {
    const bench = makeBench([udp('edge'), tcp('edge-tcp'), udp('taken', '198.51.100.2')]);
    const handlers = { onDatagram() {}, onSendError() {} };
    await bench.network.bindUdp({ address: '198.51.100.2', port: 5060 }, handlers);
    await assert.rejects(bench.transport.start(), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'SF_BIND_FAILED');
      assert.match(error.message, /taken.*udp 198\.51\.100\.2:5060.*EADDRINUSE/);
      return true;
    });
    await bench.network.bindUdp({ address: VIP, port: 5060 }, handlers);
    await bench.network.listenTcp({ address: VIP, port: 5060 }, () => {});
    assert.equal(bench.clock.timers, 0);
  });

  test('may use a socket of another owner, which stays open', async () => {
    const network = new FakeNetwork({ clock: new FakeClock() });
    const shared = await network.bindUdp({ address: VIP, port: 5060 }, { onDatagram() {}, onSendError() {} });
    const bench = makeBench([udp('edge')], {}, { network, sockets: new Map([['edge', shared]]) });
    await bench.transport.start();
    const alice = await client(network, '192.0.2.9');
    bench.onPacket = () => bench.transport.sendDatagram(0, Buffer.from('answer'), '192.0.2.9', 5060);
    bench.transport.inject(0, Buffer.from(message()), '192.0.2.9', 5060);
    await bench.transport.stop();
    shared.send(Buffer.from('still open'), '192.0.2.9', 5060);
    await network.settle();
    assert.deepEqual(
      alice.heard.map(({ text, from }) => `${from} ${text}`),
      [`${VIP} 5060 answer`, `${VIP} 5060 still open`],
    );
    assert.deepEqual([bench.packets[0]?.from, bench.packets[0]?.to], ['192.0.2.9 5060', `${VIP} 5060`]);
  });

  for (const address of ['127.0.0.1', '::1']) {
    test(`on real sockets at ${address} frame a stream, answer pings and open connections`, async (t) => {
      const bench = makeBench([tcp('edge', address, 0)], {}, { network: nodeNetwork });
      t.after(() => bench.transport.stop());
      await bench.transport.start();
      const port = bench.transport.listeners[0]!.local.port;
      const text = message('tcp', 'body');
      bench.onPacket = (packet) => bench.transport.sendStream(packet.connection, Buffer.from('answer'));
      const alice = nodeNetwork.connectTcp({ address, port });
      t.after(() => alice.destroy());
      alice.write(`\r\n\r\n${text.slice(0, 60)}`);
      assert.equal(String((await once(alice, 'data'))[0]), '\r\n');
      alice.write(text.slice(60));
      assert.equal(String((await once(alice, 'data'))[0]), 'answer');
      assert.deepEqual(
        [bench.packets[0]?.text, bench.packets[0]?.from, bench.packets[0]?.to],
        [text, `${address} ${alice.localPort}`, `${address} ${port}`],
      );

      const arrived = resolvers<string>();
      const server = await nodeNetwork.listenTcp({ address, port: 0 }, (stream) => {
        stream.once('data', (chunk: Buffer) => {
          arrived.resolve(String(chunk));
          stream.write(message('back'));
        });
      });
      t.after(() => server.close());
      const back = new Promise<void>((resolve) => {
        bench.onPacket = () => resolve();
      });
      const connection = bench.transport.connectStream(0, server.local);
      assert.ok(bench.transport.sendStream(connection, Buffer.from('early')));
      assert.equal(await arrived.promise, 'early');
      await back;
      assert.equal(bench.packets.at(-1)?.connection, connection);
    });

    test(`on real sockets at ${address} answer a client that has shut its sending half`, async (t) => {
      const bench = makeBench([tcp('edge', address, 0)], {}, { network: nodeNetwork });
      t.after(() => bench.transport.stop());
      await bench.transport.start();
      const { promise: asked, resolve } = resolvers<number>();
      bench.onPacket = (packet) => resolve(packet.connection);
      const alice = net.connect({ host: address, port: bench.transport.listeners[0]!.local.port, allowHalfOpen: true });
      t.after(() => alice.destroy());
      alice.end(message('half', '', 'OPTIONS'));
      const connection = await asked;
      // The end of the stream has arrived, too, once the connection accepts no request.
      while (bench.transport.holdsStream(connection)) await turn();
      assert.ok(bench.transport.sendStream(connection, Buffer.from('SIP/2.0 200 OK')));
      assert.equal(String((await once(alice, 'data'))[0]), 'SIP/2.0 200 OK');
      await once(alice, 'end');
      assert.deepEqual(bench.closed, [{ connection, reason: 'half-closed' }]);
    });
  }
});
