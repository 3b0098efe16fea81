// Reserved addresses: until `start` nothing comes in by them, and nothing is answered.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { DatagramSocket } from '../../../src/base/network.ts';
import type { FakeNetwork } from '../../fake/network.ts';
import { makeBench, message, tcp, udp, VIP } from './bench.ts';

const AT = { address: VIP, port: 5060 };
const nothing = { onDatagram: () => {}, onSendError: () => {} };

async function client(network: FakeNetwork): Promise<{ heard: string[]; socket: DatagramSocket }> {
  const heard: string[] = [];
  const onDatagram = (bytes: Buffer): void => void heard.push(bytes.toString('latin1'));
  const socket = await network.bindUdp({ address: '192.0.2.9', port: 5060 }, { ...nothing, onDatagram });
  return { heard, socket };
}

/** Returns the end of a connection to the VIP: `connect`, or the code of the error. */
function dial(network: FakeNetwork): Promise<string> {
  const stream = network.connectTcp(AT, { address: '192.0.2.9' });
  return new Promise((resolve) => {
    stream.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
    stream.on('connect', () => resolve('connect'));
  });
}

describe('between reserve and start', () => {
  test('datagrams are dropped and counted, including keep-alives; afterwards they are delivered', async () => {
    const { network, transport, packets, early } = makeBench([udp('edge')]);
    await transport.reserve();
    const { heard, socket } = await client(network);
    const STUN = Buffer.from('0001000c2112a442000102030405060708090a0b802200087369706661726d20', 'hex');
    for (const bytes of [Buffer.from(message()), Buffer.from('\r\n\r\n'), STUN]) socket.send(bytes, VIP, 5060);
    await network.settle();
    assert.deepEqual([heard, packets, early.n], [[], [], 3]);
    await assert.rejects(network.bindUdp(AT, nothing), { code: 'EADDRINUSE' });
    await transport.start();
    for (const bytes of [Buffer.from(message()), STUN]) socket.send(bytes, VIP, 5060);
    await network.settle();
    assert.deepEqual([heard.length, packets.length, early.n], [1, 1, 3]);
    await transport.stop();
  });

  test('a TCP port accepts no connection, so that a check of the balancer fails', async () => {
    const { network, transport } = makeBench([tcp('edge-tcp')]);
    await transport.reserve();
    assert.equal(await dial(network), 'ECONNREFUSED');
    await transport.start();
    assert.equal(await dial(network), 'connect');
    await transport.stop();
  });

  test('a listener of port 0 has its port, which its first record in the store needs', async () => {
    const { transport } = makeBench([udp('edge', VIP, 0), tcp('edge-tcp', VIP, 0)]);
    await transport.reserve();
    const ports = (): number[] => transport.listeners.flatMap(({ local, advertise }) => [local.port, advertise.port]);
    const [ofUdp = 0, , ofTcp = 0] = ports();
    assert.ok(ofUdp > 0 && ofTcp > 0);
    await transport.start();
    assert.deepEqual(ports(), [ofUdp, ofUdp, ofTcp, ofTcp]);
    await transport.stop();
  });

  test('a shared listener has no socket that could consume packets of other processes', async () => {
    const { network, transport, early } = makeBench([{ ...udp('edge'), shared: true }]);
    await transport.reserve();
    const other = await network.bindUdp(AT, nothing);
    const { socket } = await client(network);
    socket.send(Buffer.from(message()), VIP, 5060);
    await network.settle();
    assert.deepEqual([network.delivered, early.n], [1, 0]);
    await other.close();
    await transport.start();
    await assert.rejects(network.bindUdp(AT, nothing), { code: 'EADDRINUSE' });
    await transport.stop();
  });

  test('packets and connections from the owner of the sockets are refused, too', async () => {
    const sent: string[] = [];
    const given = { local: AT, send: (bytes: Uint8Array) => void sent.push(String(bytes)), close: async () => {} };
    const bench = makeBench(
      [udp('edge'), { ...tcp('edge-tcp'), listen: false }],
      {},
      { sockets: new Map([['edge', given]]) },
    );
    const { network, transport, packets, early, closedBy } = bench;
    await transport.reserve();
    transport.inject(0, Buffer.from(message()), '192.0.2.9', 5060);
    transport.inject(0, Buffer.from('\r\n\r\n'), '192.0.2.9', 5060);
    await network.listenTcp({ address: '192.0.2.1', port: 5060 }, (stream) => transport.accept(1, stream));
    network.connectTcp({ address: '192.0.2.1', port: 5060 }, { address: '192.0.2.9' });
    await network.settle();
    assert.deepEqual([sent, packets, early.n, closedBy('before-seat'), transport.connections()], [[], [], 2, 1, 0]);
    await transport.start();
    transport.inject(0, Buffer.from(message()), '192.0.2.9', 5060);
    assert.equal(packets.length, 1);
    await transport.stop();
  });
});

describe('reserve', () => {
  for (const bad of [
    udp('vip', '203.0.113.1'),
    tcp('vip', '203.0.113.1'),
    { ...udp('vip', '203.0.113.1'), shared: true },
    { ...tcp('vip', '203.0.113.1'), shared: true },
  ])
    test(`names a ${bad.shared ? 'shared ' : ''}${bad.transport} listener with a foreign address`, async () => {
      const { network, transport } = makeBench([udp('edge'), bad]);
      network.hasAddress = (address) => address !== '203.0.113.1';
      await assert.rejects(transport.reserve(), {
        code: 'SF_BIND_FAILED',
        message: `listener vip: cannot bind ${bad.transport} 203.0.113.1:5060: EADDRNOTAVAIL`,
      });
      await (await network.bindUdp(AT, nothing)).close();
    });

  test('leaves no socket open when the transport is stopped meanwhile', async () => {
    const { network, transport } = makeBench([udp('edge'), udp('second', '198.51.100.2')]);
    const reserved = transport.reserve();
    await transport.stop();
    await reserved;
    await (await network.bindUdp(AT, nothing)).close();
    await (await network.bindUdp({ address: '198.51.100.2', port: 5060 }, nothing)).close();
  });
});
