// relay.mode transparent: a packet goes to its owner as it came, with the client's own source. A packet that cannot do
// so goes in a frame.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { HOP_LIMIT } from '../../../src/ownership/owner-lookup.ts';
import type { Packet } from '../../../src/packet/packet.ts';
import { FakeClock } from '../../fake/clock.ts';
import { FakeNetwork } from '../../fake/network.ts';
import { farm, introduce, Member, type MemberOptions } from './relay-farm.ts';

const UDP = 0;
const OTHER = 1;

let clock: FakeClock;
let network: FakeNetwork;
let members: Member[];

function member(number: number, options: MemberOptions = {}): Member {
  const address = `10.0.0.${number}`;
  const listeners = ['udp', 'other'];
  const made = new Member(number, { network, clock, address, listeners, transparent: [UDP], ...options });
  members.push(made);
  return made;
}

beforeEach(() => {
  clock = new FakeClock();
  network = new FakeNetwork({ clock });
  members = [];
});

afterEach(async () => {
  await Promise.all(members.map(({ link }) => link.stop()));
});

/** Lets `a` relay a packet to member 2 and waits for it. Returns whether it went bare or in a frame. */
async function relay(a: Member, text = 'INVITE', change: Partial<Packet> = {}): Promise<'bare' | 'framed'> {
  const before = { bare: a.transparent('out', 'sent'), framed: a.relayed('out', 'm2') };
  assert.ok(a.link.relay(2, a.packet(text, change)));
  await network.settle();
  const bare = a.transparent('out', 'sent') - before.bare;
  assert.equal(bare + a.relayed('out', 'm2') - before.framed, 1);
  return bare === 1 ? 'bare' : 'framed';
}

/** Sends a datagram that is no frame to the transparent port of `to`. */
async function knock(to: Member, bytes: string, from = { address: '192.0.2.9', port: 5060 }): Promise<void> {
  const socket = await network.bindUdp(from, { onDatagram: () => assert.fail('answered'), onSendError: assert.fail });
  const [target] = to.link.transparentPorts;
  socket.send(Buffer.from(bytes, 'latin1'), target!.at.address, target!.at.port);
  await network.settle();
  await socket.close();
}

describe('a bare packet', () => {
  test('arrives with its true source at its listener, as relayed once, without the ingress member', async () => {
    const [a, b] = [member(1), member(2, { listeners: ['other', 'udp'], transparent: [1] })];
    await farm(a, b);
    const sent: string[] = [];
    network.onSent = (_from, _to, bytes) => sent.push(bytes.toString('latin1'));
    assert.equal(await relay(a, 'INVITE', { port: 5999 }), 'bare');
    assert.deepEqual(sent, ['INVITE']);
    const [taken] = b.packets;
    assert.ok(taken);
    assert.equal(taken.text, 'INVITE');
    const { address, port, listener, hops, secondChance, connection, ingress, ingressIncarnation } = taken.packet;
    assert.deepEqual(
      { address, port, listener, hops, secondChance, connection, ingress, ingressIncarnation },
      {
        address: '192.0.2.7',
        port: 5999,
        listener: 1,
        hops: 1,
        secondChance: 0,
        connection: 0,
        ingress: 2,
        ingressIncarnation: 1,
      },
    );
    const { localAddress, localPort } = taken.packet;
    assert.deepEqual([localAddress, localPort], ['198.51.100.1', 5060]);
    assert.equal(b.transparent('in', 'taken'), 1);
  });

  test('arrives complete when it is longer than the MTU', async () => {
    const [a, b] = [member(1, { mtu: 576 }), member(2)];
    await farm(a, b);
    const text = `INVITE ${'x'.repeat(5000)}`;
    assert.equal(await relay(a, text), 'bare');
    assert.equal(network.rawSent, 10);
    assert.equal(b.packets[0]?.text, text);
  });

  test('goes over IPv6 between members whose relay link uses IPv6', async () => {
    const six = (number: number): MemberOptions => ({ address: `2001:db8::${number}` });
    const [a, b] = [member(1, six(1)), member(2, six(2))];
    await farm(a, b);
    assert.equal(await relay(a, 'INVITE', { address: '2001:db8:c::7' }), 'bare');
    assert.equal(b.packets[0]?.packet.address, '2001:db8:c::7');
    assert.equal(await relay(a, 'INVITE', { address: '192.0.2.7' }), 'framed');
  });
});

describe('a packet goes in a frame', () => {
  const cases: readonly (readonly [why: string, change: Partial<Packet>])[] = [
    ['it came by a connection', { connection: 7 }],
    ['it has been relayed before', { hops: 1 }],
    ['it is offered as a second chance', { secondChance: 1 }],
    ['it comes back from a second chance', { secondChance: 2 }],
    ['its listener is not transparent', { listener: OTHER }],
    ['its source is of the other family', { address: '2001:db8:c::7' }],
    ['its source is a loopback address', { address: '127.0.0.1' }],
    ['its source is unknown', { address: '' }],
    ['its source is the owner itself', { address: '10.0.0.2' }],
    ['its source is this member', { address: '10.0.0.1' }],
    ['its source is the shared address', { address: '198.51.100.1' }],
  ];
  for (const [why, change] of cases)
    test(`because ${why}`, async () => {
      const [a, b] = [member(1), member(2)];
      await farm(a, b);
      assert.equal(await relay(a, 'INVITE', change), 'framed');
      await b.taken(1);
      const { address, connection, hops, secondChance } = b.packets[0]!.packet;
      const expected = { address: '192.0.2.7', connection: 0, hops: 0, secondChance: 0, ...change };
      assert.deepEqual(
        { address: expected.address === '' ? '0.0.0.0' : expected.address, connection, hops, secondChance },
        { address, connection: expected.connection, hops: expected.hops + 1, secondChance: expected.secondChance },
      );
    });

  test('because its source is a member, in any spelling of the address in the record', async () => {
    const [a, b] = [member(1, { address: '2001:db8::1' }), member(2, { address: '2001:db8::2' })];
    await farm(a, b);
    a.link.setPeers([a.record, { ...b.record, addresses: ['2001:0DB8:0:0::0002'] }]);
    assert.equal(await relay(a, 'INVITE', { address: '2001:db8::2' }), 'framed');
    assert.equal(await relay(a, 'INVITE', { address: '2001:db8::3' }), 'bare');
  });

  test('because the owner is in mode envelope, and its own packets are never bare', async () => {
    const [a, b] = [member(1), member(2, { transparent: [] })];
    await farm(a, b);
    assert.equal(await relay(a), 'framed');
    assert.ok(b.link.relay(1, b.packet('BYE')));
    await network.settle();
    assert.equal(a.packets[0]?.text, 'BYE');
    assert.equal(network.rawSent, 0);
  });

  test('because the system refuses it, and it is not lost', async () => {
    const [a, b] = [member(1, { mtu: 576 }), member(2)];
    await farm(a, b);
    let left = 3;
    network.takesRaw = () => left-- > 0;
    const text = `INVITE ${'x'.repeat(5000)}`;
    assert.equal(await relay(a, text), 'framed');
    await b.taken(1);
    assert.deepEqual(
      b.packets.map((taken) => taken.text),
      [text],
    );
    assert.equal(a.transparent('out', 'refused'), 1);
    network.takesRaw = () => true;
    assert.equal(await relay(a, text), 'bare');
  });

  test("after the owner's record has lost its transparent port", async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    assert.equal(await relay(a), 'bare');
    a.link.setPeers([a.record, { ...b.record, transparentPorts: [] }]);
    assert.equal(await relay(a), 'framed');
  });
});

describe('a datagram at a transparent port', () => {
  test('cannot claim more hops, an ingress member or a receiver, because it has only the message', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    // A valid, fresh frame of member 1 for member 2 at the wrong port.
    let frame = '';
    network.onSent = (_from, _to, bytes) => {
      frame = bytes.toString('latin1');
    };
    network.reaches = (_from, to) => to.port !== b.endpoint.port;
    assert.ok(a.link.relay(2, a.packet('INVITE', { hops: 1, ingress: 1 })));
    await network.settle();
    network.reaches = () => true;
    network.onSent = () => {};
    await knock(b, frame);
    assert.equal(b.transparent('in', 'garbage'), 1);
    assert.deepEqual(b.packets, []);
  });

  test('reaches the hop limit as a frame does: relayed again, it goes in frames and counts from one', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    await knock(b, 'INVITE');
    let hops = 0;
    for (let [at, to] = [b, a] as [Member, Member]; ; [at, to] = [to, at]) {
      const { packet } = at.packets.at(-1)!;
      assert.equal(packet.hops, ++hops);
      if (hops === HOP_LIMIT) break;
      assert.ok(at.link.relay(to.number, packet));
      await network.settle();
    }
    assert.equal(network.rawSent, 0);
  });
});

describe('the transparent ports', () => {
  const holds = { onDatagram: () => {}, onSendError: () => {} };

  test('make the start fail when one cannot be bound, and leave no other open', async () => {
    const taken = { address: '10.0.0.2', port: 40_000 };
    const holder = await network.bindUdp(taken, holds);
    const b = new Member(2, { network, clock, address: '10.0.0.2', transparent: [0, 1], transparentPort: taken.port });
    await assert.rejects(b.start(), { code: 'SF_BIND_FAILED', message: /transparent port/ });
    const first = await network.bindUdp({ ...taken, port: taken.port - 1 }, holds);
    await first.close();
    await holder.close();
    assert.equal(network.rawOpen, 0);
    members.push(b);
  });

  test('are closed again when the relay link cannot be bound', async () => {
    const holder = await network.bindUdp({ address: '10.0.0.2', port: 5064 }, holds);
    const b = new Member(2, {
      network,
      clock,
      address: '10.0.0.2',
      port: 5064,
      transparent: [0],
      transparentPort: 40_001,
    });
    await assert.rejects(b.start(), { code: 'SF_BIND_FAILED', message: /10\.0\.0\.2:5064/ });
    const target = await network.bindUdp({ address: '10.0.0.2', port: 40_000 }, holds);
    await target.close();
    await holder.close();
    assert.deepEqual([network.rawOpen, b.link.transparentPorts], [0, []]);
  });

  test('make the start fail with an error when the host has no raw socket', async () => {
    const { SipfarmError } = await import('../../../src/base/errors.ts');
    network.openRaw = () => {
      throw new SipfarmError('SF_TRANSPARENT_UNAVAILABLE', 'no module');
    };
    const b = member(2);
    await assert.rejects(b.start(), { code: 'SF_TRANSPARENT_UNAVAILABLE' });
  });

  test('are used at once when their member has moved', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    const moved = new Member(2, {
      network,
      clock,
      address: '10.0.0.9',
      incarnation: 2,
      listeners: ['udp'],
      transparent: [0],
    });
    members.push(moved);
    await moved.start();
    introduce([a, moved]);
    assert.equal(await relay(a), 'bare');
    assert.equal(moved.packets.length, 1);
    assert.equal(b.packets.length, 0);
  });
});
