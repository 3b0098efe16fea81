// UDP listeners on real sockets of every implementation: the longest datagram, and the port of answers.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { nodeNetwork } from '../../../src/base/network.ts';
import { makeBench, message, udp } from '../../unit/transport/bench.ts';
import { networks } from '../batch/networks.ts';

interface Heard {
  readonly text: string;
  readonly from: string;
}

function resolvers<T>() {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

describe('UDP listeners', () => {
  for (const [name, network] of networks)
    for (const address of ['127.0.0.1', '::1'])
      test(`on sockets of ${name} at ${address} accept the largest datagram and answer by their port`, async (t) => {
        const bench = makeBench([udp('edge', address, 0)], {}, { network });
        t.after(() => bench.transport.stop());
        await bench.transport.start();
        const { local, advertise } = bench.transport.listeners[0]!;
        assert.ok(local.port > 0);
        assert.deepEqual(advertise, { host: local.address, port: local.port, transport: 'udp' });
        bench.onPacket = (packet) =>
          bench.transport.sendDatagram(0, Buffer.from('answer'), packet.address, packet.port);
        const { promise, resolve } = resolvers<Heard>();
        const alice = await nodeNetwork.bindUdp(
          { address, port: 0 },
          {
            onDatagram: (bytes, from, port) => resolve({ text: bytes.toString(), from: `${from} ${port}` }),
            onSendError: (error) => assert.fail(error),
          },
        );
        t.after(() => alice.close());
        const octets = Buffer.from(message('large', 'x'.repeat(65_000))).subarray(
          0,
          65_507 - (address === '::1' ? 20 : 0),
        );
        alice.send(octets, address, local.port);
        assert.deepEqual(await promise, { text: 'answer', from: `${address} ${local.port}` });
        assert.equal(bench.packets[0]?.text, octets.toString());
        assert.equal(bench.packets[0]?.from, `${address} ${alice.local.port}`);
      });
});
