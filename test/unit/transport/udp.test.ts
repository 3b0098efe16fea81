// A UDP listener: received datagrams with their true source, and the source address of sent ones.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { NO_GUARD } from '../../../src/base/guard.ts';
import { Packet } from '../../../src/packet/packet.ts';
import { CLASS_NAMES } from '../../../src/transport/classify.ts';
import { DEFAULT_LIMITS } from '../../../src/transport/limits.ts';
import { UdpListener, type UdpListenerOptions } from '../../../src/transport/udp.ts';
import { FakeClock } from '../../fake/clock.ts';
import { FakeNetwork } from '../../fake/network.ts';
import { message, udpClient, VIP } from './bench.ts';

/** A bound and open listener with its counters. Its packets are copied, because the listener reuses one. */
async function listener(options: Partial<UdpListenerOptions> = {}, network = newNetwork()) {
  const packets: { readonly packet: Packet; readonly text: string }[] = [];
  const received = CLASS_NAMES.map(() => ({ n: 0 }));
  const [early, sendErrors] = [{ n: 0 }, { n: 0 }];
  const udp = new UdpListener({
    listener: 0,
    bind: { address: VIP, port: 5060 },
    sharing: {},
    self: { member: 7, incarnation: 3 },
    onPacket: (packet) => {
      const text = packet.bytes.toString('latin1', packet.start, packet.end);
      packets.push({ packet: Object.assign(new Packet(), packet), text });
    },
    guard: NO_GUARD,
    now: () => network.clock.now(),
    limits: DEFAULT_LIMITS,
    proxy: undefined,
    ...{ early, received, sendErrors },
    ...options,
  });
  await udp.bind(network);
  udp.open();
  /** Returns the number of received datagrams by class, without zeros. */
  const counts = (): Record<string, number> =>
    Object.fromEntries(CLASS_NAMES.map((name, kind) => [name, received[kind]!.n] as const).filter(([, n]) => n > 0));
  return { udp, network, packets, early, sendErrors, counts };
}

const newNetwork = (): FakeNetwork => new FakeNetwork({ clock: new FakeClock() });

describe('a datagram', () => {
  test('becomes a packet with source, local address, listener and ingress member', async () => {
    const network = newNetwork();
    const inner = await listener({ bind: { address: '10.0.0.11', port: 5060 } }, network);
    const edge = await listener({ listener: 1 }, network);
    (await udpClient(network, '192.0.2.9', 40_123)).send(message());
    await network.settle();
    assert.deepEqual([inner.counts(), edge.counts(), edge.packets.length], [{}, { sip: 1 }, 1]);
    const { packet, text } = edge.packets[0]!;
    assert.equal(text, message());
    assert.deepEqual([packet.address, packet.port, packet.fromBalancer], ['192.0.2.9', 40_123, false]);
    assert.deepEqual([packet.localAddress, packet.localPort, packet.listener], [VIP, 5060, 1]);
    assert.deepEqual([packet.connection, packet.ingress, packet.ingressIncarnation], [0, 7, 3]);
  });

  test('loses the line ends before its start line', async () => {
    const { network, packets } = await listener();
    (await udpClient(network, '192.0.2.9')).send(`\r\n\r\n${message()}`);
    await network.settle();
    assert.equal(packets[0]?.text, message());
  });

  test('leaves no field of the packet before', async () => {
    const seen: unknown[] = [];
    const { network } = await listener({
      onPacket: (packet) => {
        seen.push([packet.hops, packet.secondChance, packet.orphan]);
        packet.hops = 2;
        packet.secondChance = 1;
        packet.orphan = true;
      },
    });
    const alice = await udpClient(network, '192.0.2.9');
    alice.send(message('one'));
    alice.send(message('two'));
    await network.settle();
    assert.deepEqual(seen, [
      [0, 0, false],
      [0, 0, false],
    ]);
  });

  test('that is a keep-alive or garbage is only counted', async () => {
    const { network, packets, counts } = await listener();
    const alice = await udpClient(network, '192.0.2.9');
    for (const octets of ['\r\n\r\n', '', '\0\0', '\x80rtp', '\0\0\0\0\0']) alice.send(octets);
    await network.settle();
    assert.deepEqual(counts(), { keepalive: 3, garbage: 2 });
    assert.equal(packets.length, 0);
    assert.equal(alice.got.length, 0);
  });

  test('that is a STUN request is answered when the answer is no larger', async () => {
    const { network, counts } = await listener();
    const alice = await udpClient(network, '192.0.2.9');
    const bare = Buffer.from('000100002112a4420102030405060708090a0b0c', 'hex');
    const padded = Buffer.concat([bare, Buffer.from('8022000841414141414141410000', 'hex').subarray(0, 12)]);
    padded.writeUInt16BE(12, 2);
    alice.send(bare);
    alice.send(padded);
    await network.settle();
    assert.deepEqual(counts(), { stun: 2 });
    assert.equal(alice.got.length, 1);
    assert.deepEqual([alice.got[0]?.from, alice.got[0]?.text.length], [`${VIP} 5060`, 32]);
  });

  test('from port 0 is garbage, because it cannot be answered', async () => {
    const { udp, packets, counts } = await listener();
    udp.receive(Buffer.from(message()), '192.0.2.9', 0);
    assert.deepEqual([packets.length, counts()], [0, { garbage: 1 }]);
  });

  test('whose handling throws ends at the guard with its octets, and the next one is handled', async () => {
    const caught: unknown[] = [];
    const taken: string[] = [];
    const { udp } = await listener({
      onPacket: ({ bytes, start, end }) => {
        taken.push(bytes.toString('latin1', start, end));
        if (taken.length === 1) throw new Error('fault');
      },
      guard: {
        caught: (entrance, error, bytes, start, end) =>
          caught.push([entrance, String(error), bytes?.toString('latin1', start, end)]),
      },
    });
    for (const callId of ['one', 'two']) udp.receive(Buffer.from(message(callId)), '192.0.2.9', 5060);
    assert.deepEqual(taken, [message('one'), message('two')]);
    assert.deepEqual(caught, [['datagram', 'Error: fault', message('one')]]);
  });
});

describe('an answer', () => {
  test('leaves from the address and port of its listener, IPv4 and IPv6', async () => {
    const network = newNetwork();
    const [edge, other, six] = await Promise.all(
      [
        { address: VIP, port: 5060 },
        { address: '198.51.100.2', port: 5070 },
        { address: '2001:db8::1', port: 5060 },
      ].map((bind) => listener({ bind }, network)),
    );
    const alice = await udpClient(network, '192.0.2.9');
    const bob = await udpClient(network, '2001:db8::9');
    other!.udp.send(Buffer.from('one'), '192.0.2.9', 5060);
    edge!.udp.send(Buffer.from('two'), '192.0.2.9', 5060);
    six!.udp.send(Buffer.from('six'), '2001:db8::9', 5060);
    await network.settle();
    assert.deepEqual(alice.got, [
      { text: 'one', from: '198.51.100.2 5070' },
      { text: 'two', from: `${VIP} 5060` },
    ]);
    assert.deepEqual(bob.got, [{ text: 'six', from: '2001:db8::1 5060' }]);
  });

  for (const [what, address, port] of [
    ['a name', 'example.com', 5060],
    ['an invalid address', '1.2.3.999', 5060],
    ['no address', '', 5060],
    ['the other family', '2001:db8::9', 5060],
    ['port 0', '192.0.2.9', 0],
    ['a port above 65,535', '192.0.2.9', 65_536],
  ] as const)
    test(`to ${what} is counted as a send error, and nothing leaves`, async () => {
      const { udp, network, sendErrors } = await listener();
      udp.send(Buffer.from('x'), address, port);
      await network.settle();
      assert.deepEqual([sendErrors.n, network.sent], [1, 0]);
    });

  test('to the other family is counted by an IPv6 listener, too', async () => {
    const { udp, network, sendErrors } = await listener({ bind: { address: '2001:db8::1', port: 5060 } });
    udp.send(Buffer.from('x'), '192.0.2.9', 5060);
    await network.settle();
    assert.deepEqual([sendErrors.n, network.sent], [1, 0]);
  });

  test('is counted as a send error after the close', async () => {
    const { udp, network, sendErrors } = await listener();
    await udp.close();
    udp.send(Buffer.from('x'), '192.0.2.9', 5060);
    await network.settle();
    assert.deepEqual([sendErrors.n, network.sent], [1, 0]);
  });

  test('is counted when the system refuses it', async () => {
    const { udp, sendErrors } = await listener();
    udp.send(Buffer.alloc(65_508), '192.0.2.9', 5060);
    assert.equal(sendErrors.n, 1);
  });
});

describe('the socket', () => {
  const nothing = { onDatagram: () => {}, onSendError: () => {} };

  test('has its address until the close, and frees it', async () => {
    const { udp, network } = await listener();
    assert.deepEqual(udp.local, { address: VIP, port: 5060 });
    await udp.close();
    assert.equal(udp.local, undefined);
    await network.bindUdp({ address: VIP, port: 5060 }, nothing);
  });

  test('of another owner stays open at the close, and gives packets its own address', async () => {
    const network = newNetwork();
    const given = await network.bindUdp({ address: VIP, port: 5070 }, nothing);
    const { udp, packets } = await listener({}, network);
    await udp.close();
    udp.use(given);
    udp.receive(Buffer.from(message()), '192.0.2.9', 5060);
    assert.deepEqual([packets[0]?.packet.localAddress, packets[0]?.packet.localPort], [VIP, 5070]);
    await udp.close();
    const alice = await udpClient(network, '192.0.2.9');
    given.send(Buffer.from('still open'), '192.0.2.9', 5060);
    await network.settle();
    assert.deepEqual(alice.got, [{ text: 'still open', from: `${VIP} 5070` }]);
  });
});
