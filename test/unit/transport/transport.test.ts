// The listeners of a member: their addresses, sockets of another owner, and real sockets.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { describe, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { nodeNetwork } from '../../../src/base/network.ts';
import type { ListenerConfig } from '../../../src/transport/transport.ts';
import { FakeClock } from '../../fake/clock.ts';
import { FakeNetwork, type FakeStream } from '../../fake/network.ts';
import { type Bench, makeBench, message, tcp, udp, udpClient, VIP } from './bench.ts';

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

describe('listeners', () => {
  test('by TCP take a connection from outside, and others refuse it', async () => {
    const bench = makeBench([{ ...tcp('edge'), listen: false }, udp('edge-udp')]);
    await bench.transport.start();
    const dial = async (listener: number): Promise<FakeStream> => {
      const server = await bench.network.listenTcp({ address: VIP, port: 5060 }, (stream) =>
        bench.transport.accept(listener, stream),
      );
      const stream = bench.network.connectTcp(server.local, { address: '192.0.2.9' });
      stream.on('error', () => {}).resume();
      stream.write(message());
      await bench.network.settle();
      await server.close();
      return stream;
    };
    assert.equal((await dial(0)).destroyed, false);
    for (const listener of [1, 4]) assert.ok((await dial(listener)).destroyed, `${listener}`);
    assert.deepEqual([bench.packets.length, bench.transport.connections()], [1, 1]);
    await bench.transport.stop();
  });

  test('open no connection to a name, to port 0, to the other family, or by UDP', async () => {
    const bench = await started([tcp('edge'), udp('edge-udp')]);
    for (const [listener, address, port] of [
      [0, 'example.com', 5060],
      [0, '192.0.2.50', 0],
      [0, '192.0.2.50', 70_000],
      [0, '2001:db8::5', 5060],
      [1, '192.0.2.50', 5060],
      [4, '192.0.2.50', 5060],
    ] as const)
      assert.equal(bench.transport.connectStream(listener, { address, port }), 0, `${listener} ${address} ${port}`);
    assert.equal(bench.transport.connections(), 0);
    await bench.transport.stop();
  });

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
    const alice = await udpClient(network, '192.0.2.9');
    bench.onPacket = () => bench.transport.sendDatagram(0, Buffer.from('answer'), '192.0.2.9', 5060);
    bench.transport.inject(0, Buffer.from(message()), '192.0.2.9', 5060);
    await bench.transport.stop();
    shared.send(Buffer.from('still open'), '192.0.2.9', 5060);
    await network.settle();
    assert.deepEqual(
      alice.got.map(({ text, from }) => `${from} ${text}`),
      [`${VIP} 5060 answer`, `${VIP} 5060 still open`],
    );
    assert.deepEqual([bench.packets[0]?.from, bench.packets[0]?.to], ['192.0.2.9 5060', `${VIP} 5060`]);
  });

  test('that are not UDP or do not exist send no datagram, which is counted', async () => {
    const bench = await started([udp('edge'), tcp('edge-tcp')]);
    for (const listener of [1, 9]) bench.transport.sendDatagram(listener, Buffer.from('x'), '192.0.2.9', 5060);
    await bench.network.settle();
    assert.deepEqual([bench.sendErrors('none'), bench.sendErrors('edge'), bench.network.sent], [2, 0, 0]);
    await bench.transport.stop();
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
