// The transparent side of the relay link alone: its ports, the datagrams that it takes, and the packets that it sends.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { NO_GUARD } from '../../../src/base/guard.ts';
import { listenerCode } from '../../../src/base/listener-code.ts';
import { CellFamily } from '../../../src/metrics/counters.ts';
import { Packet } from '../../../src/packet/packet.ts';
import { IpPacket, makeTarget } from '../../../src/relay/ip-packet.ts';
import {
  TransparentLink,
  type TransparentListener,
  type TransparentOptions,
  targetsOf,
} from '../../../src/relay/transparent-link.ts';
import { FakeClock } from '../../fake/clock.ts';
import { FakeNetwork } from '../../fake/network.ts';

const VIP = { address: '198.51.100.1', port: 5060 };
const CLIENT = { address: '192.0.2.7', port: 5999 };
const OWNER = { address: '10.0.0.2', port: 5065 };
const TARGETS = targetsOf([{ listener: 'edge', at: OWNER }]);
const IGNORED = { onDatagram: () => {}, onSendError: () => {} };

let network: FakeNetwork;
let links: TransparentLink[];

beforeEach(() => {
  network = new FakeNetwork({ clock: new FakeClock() });
  links = [];
});

afterEach(async () => {
  await Promise.all(links.map((link) => link.stop()));
  assert.equal(network.rawOpen, 0);
});

function listener(change: Partial<TransparentListener> = {}): TransparentListener {
  return { listener: 3, name: 'edge', local: VIP, at: { address: '10.0.0.1', port: 5065 }, ...change };
}

/** A link of member 1 that is not started, with copies of the packets that it has taken. */
function made(options: Partial<TransparentOptions> = {}) {
  const packets: { readonly packet: Packet; readonly text: string }[] = [];
  const counts = new CellFamily({ name: 'transparent', help: '', labels: ['direction', 'outcome'] });
  const self = { number: 1, incarnation: 9, epoch: 4 };
  const link = new TransparentLink({
    network,
    listeners: [listener()],
    mtu: 1500,
    self: () => self,
    packets: counts,
    sendErrors: { n: 0 },
    onPacket: (packet) => {
      const text = packet.bytes.toString('latin1', packet.start, packet.end);
      packets.push({ packet: Object.assign(new Packet(), packet), text });
    },
    guard: NO_GUARD,
    ...options,
  });
  links.push(link);
  const count = (direction: 'in' | 'out', outcome: string): number => counts.cell({ direction, outcome }).n;
  return { link, packets, self, count };
}

async function started(options: Partial<TransparentOptions> = {}) {
  const all = made(options);
  await all.link.start();
  return all;
}

/** Sends a datagram of a client to the transparent port. An answer fails the test. */
async function knock(text: string, to = { address: '10.0.0.1', port: 5065 }): Promise<void> {
  const socket = await network.bindUdp(CLIENT, { ...IGNORED, onDatagram: () => assert.fail('answered') });
  socket.send(Buffer.from(text, 'latin1'), to.address, to.port);
  await network.settle();
  await socket.close();
}

/** Returns a packet of the client at listener 3. */
function packetOf(text: string, change: Partial<Packet> = {}): Packet {
  const bytes = Buffer.from(`..${text}..`);
  const packet = new Packet().begin(bytes, 2, bytes.length - 2).cameFrom(CLIENT.address, CLIENT.port, 0, false);
  return Object.assign(packet.cameTo(VIP.address, VIP.port, 3, 0).enteredAt(1, 9, 0), change);
}

describe('a datagram at a transparent port', () => {
  test('is a packet of its listener, relayed once, with the source of the client, that entered here', async () => {
    const { packets, count } = await started();
    await knock('\r\nINVITE');
    assert.deepEqual([packets.length, packets[0]?.text], [1, 'INVITE']);
    const { packet } = packets[0]!;
    assert.deepEqual([packet.address, packet.port, packet.connection], [CLIENT.address, CLIENT.port, 0]);
    assert.deepEqual([packet.localAddress, packet.localPort], [VIP.address, VIP.port]);
    assert.deepEqual([packet.listener, packet.listenerCode], [3, listenerCode('edge')]);
    assert.deepEqual([packet.ingress, packet.ingressIncarnation, packet.hops], [1, 9, 1]);
    assert.deepEqual([packet.fromBalancer, packet.secondChance], [false, 0]);
    assert.deepEqual([count('in', 'taken'), count('in', 'garbage')], [1, 0]);
  });

  for (const [what, octets] of [
    ['empty', ''],
    ['a keep-alive of line ends', '\r\n\r\n'],
    ['a single line end', '\r\n'],
    ['a keep-alive of NULs', '\0'],
    ['RTP', '\x80rtp'],
    ['STUN', '\0\x01\0\0\x21\x12\xa4\x42abcdefghijkl'],
  ] as const)
    test(`is garbage without an answer when it is ${what}`, async () => {
      const { packets, count } = await started();
      await knock(octets);
      assert.deepEqual([packets, count('in', 'garbage'), count('in', 'taken')], [[], 1, 0]);
    });

  test('is garbage when its source is port 0, which cannot be answered', async () => {
    const { packets, count } = await started();
    const target = makeTarget({ address: '10.0.0.1', port: 5065 });
    const [raw, ip, bytes] = [network.openRaw(false), new IpPacket(false, 1500, 1), Buffer.from('INVITE')];
    for (const port of [0, 1]) {
      assert.ok(ip.begin('192.0.2.9', port, target, bytes, 0, bytes.length));
      assert.ok(raw.send(ip.bytes, ip.next(), target.address));
    }
    await network.settle();
    raw.close();
    assert.deepEqual([count('in', 'garbage'), packets.map(({ packet }) => packet.port)], [1, [1]]);
  });

  test('is refused while this member has no number or no view', async () => {
    const { packets, self, count } = await started();
    for (const missing of ['number', 'epoch'] as const) {
      const before = self[missing];
      self[missing] = 0;
      await knock('INVITE');
      self[missing] = before;
    }
    assert.deepEqual([packets, count('in', 'garbage')], [[], 2]);
    await knock('INVITE');
    assert.equal(packets.length, 1);
  });

  test('whose handling throws ends at the guard with its octets', async () => {
    const caught: unknown[] = [];
    await started({
      onPacket: () => {
        throw new Error('fault');
      },
      guard: {
        caught: (entrance, error, bytes, start, end) =>
          caught.push([entrance, String(error), bytes?.toString('latin1', start, end)]),
      },
    });
    await knock('INVITE');
    assert.deepEqual(caught, [['relay', 'Error: fault', 'INVITE']]);
  });
});

describe('a packet that is sent', () => {
  let arrived: string[];

  beforeEach(async () => {
    arrived = [];
    await network.bindUdp(OWNER, {
      ...IGNORED,
      onDatagram: (bytes, address, port) => arrived.push(`${address}:${port} ${bytes.toString('latin1')}`),
    });
  });

  test('arrives at the transparent port of its listener, unchanged and from the client', async () => {
    const { link, count } = await started();
    assert.equal(link.send(TARGETS, packetOf('INVITE')), true);
    await network.settle();
    assert.deepEqual(arrived, ['192.0.2.7:5999 INVITE']);
    assert.deepEqual([count('out', 'sent'), count('out', 'refused')], [1, 0]);
  });

  test('is complete in fragments of the MTU', async () => {
    const { link } = await started({ mtu: 576 });
    const text = `INVITE ${'x'.repeat(5000)}`;
    assert.equal(link.send(TARGETS, packetOf(text)), true);
    await network.settle();
    assert.deepEqual([arrived, network.rawSent], [[`192.0.2.7:5999 ${text}`], 10]);
  });

  for (const [why, change] of [
    ['it came by a connection', { connection: 7 }],
    ['it has been relayed', { hops: 1 }],
    ['it is a second chance', { secondChance: 1 }],
    ['its listener is not transparent', { listener: 4 }],
    ['its source is of the other family', { address: '2001:db8::7' }],
    ['its source is a member', { address: '10.0.0.9' }],
  ] as const)
    test(`does not leave when ${why}, and the caller still has it`, async () => {
      const { link, count } = await started();
      link.setOwnAddresses(['10.0.0.1', '10.0.0.9']);
      assert.equal(link.send(TARGETS, packetOf('INVITE', change)), false);
      await network.settle();
      assert.deepEqual([arrived, network.rawSent, count('out', 'sent'), count('out', 'refused')], [[], 0, 0, 0]);
    });

  test('does not leave when its owner has no transparent port for the listener', async () => {
    const { link } = await started();
    for (const targets of [targetsOf([]), targetsOf([{ listener: 'other', at: OWNER }])])
      assert.equal(link.send(targets, packetOf('INVITE')), false);
    assert.equal(network.rawSent, 0);
  });

  test('leaves when its source is a member no more', async () => {
    const { link } = await started();
    link.setOwnAddresses([CLIENT.address]);
    assert.equal(link.send(TARGETS, packetOf('INVITE')), false);
    link.setOwnAddresses(['10.0.0.1']);
    assert.equal(link.send(TARGETS, packetOf('INVITE')), true);
    await network.settle();
    assert.deepEqual(arrived, ['192.0.2.7:5999 INVITE']);
  });

  test('is counted as refused when the system takes only a part of it', async () => {
    const { link, count } = await started({ mtu: 576 });
    let left = 3;
    network.takesRaw = () => left-- > 0;
    assert.equal(link.send(TARGETS, packetOf(`INVITE ${'x'.repeat(5000)}`)), false);
    await network.settle();
    assert.deepEqual([arrived, count('out', 'sent'), count('out', 'refused')], [[], 0, 1]);
  });

  test('does not leave before the start and after the stop', async () => {
    const { link, count } = made();
    assert.equal(link.send(TARGETS, packetOf('INVITE')), false);
    await link.start();
    await link.stop();
    assert.equal(link.send(TARGETS, packetOf('INVITE')), false);
    assert.deepEqual([network.rawSent, count('out', 'refused')], [0, 0]);
  });
});

test('the own addresses have any spelling', async () => {
  const at = { address: '2001:db8::1', port: 5065 };
  const { link } = await started({ listeners: [listener({ at, local: { address: '2001:db8:f::1', port: 5060 } })] });
  link.setOwnAddresses(['2001:0DB8:0:0::0002']);
  const targets = targetsOf([{ listener: 'edge', at: { address: '2001:db8::3', port: 5065 } }]);
  const sent = ['2001:db8::2', '2001:db8::4'].map((address) => link.send(targets, packetOf('INVITE', { address })));
  assert.deepEqual(sent, [false, true]);
});

describe('the transparent ports', () => {
  test('are reported once they are open, and closed with the link', async () => {
    const at = { address: '10.0.0.1', port: 0 };
    const { link } = made({ listeners: [listener({ at }), listener({ listener: 4, name: 'second', at })] });
    assert.equal(link.transparentPorts.length, 0);
    await link.start();
    const ports = link.transparentPorts;
    assert.deepEqual(
      ports.map(({ listener, at }) => [listener, at.address]),
      [
        ['edge', '10.0.0.1'],
        ['second', '10.0.0.1'],
      ],
    );
    for (const { at } of ports) await assert.rejects(network.bindUdp(at, IGNORED), { code: 'EADDRINUSE' });
    await link.stop();
    assert.equal(link.transparentPorts.length, 0);
    assert.equal(network.rawOpen, 0);
    for (const { at } of ports) await network.bindUdp(at, IGNORED);
  });

  test('belong to the listener of their packets', async () => {
    const second = listener({ listener: 4, name: 'second', at: { address: '10.0.0.1', port: 5066 } });
    const { packets } = await started({ listeners: [listener(), second] });
    for (const { at } of [second, listener()]) await knock('INVITE', at);
    assert.deepEqual(
      packets.map(({ packet }) => packet.listener),
      [4, 3],
    );
  });

  test('leave nothing open when one of them cannot be bound', async () => {
    const taken = { address: '10.0.0.1', port: 5066 };
    await network.bindUdp(taken, IGNORED);
    const { link } = made({ listeners: [listener(), listener({ listener: 4, name: 'second', at: taken })] });
    await assert.rejects(link.start(), { code: 'EADDRINUSE' });
    assert.deepEqual([network.rawOpen, link.transparentPorts], [0, []]);
    await network.bindUdp(listener().at, IGNORED);
  });

  test('of no listener need no raw socket', async () => {
    const { link } = await started({ listeners: [] });
    assert.deepEqual([network.rawOpen, link.send(TARGETS, packetOf('INVITE'))], [0, false]);
  });
});
