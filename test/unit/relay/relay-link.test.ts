// Frames between members: sending, and the checks of a received frame.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { keyring } from '../../../src/ownership/keyring.ts';
import { HOP_LIMIT } from '../../../src/ownership/owner-lookup.ts';
import { encodeFrame, Frame, FrameKind, headOctets } from '../../../src/relay/envelope.ts';
import { FakeClock } from '../../fake/clock.ts';
import { FakeNetwork } from '../../fake/network.ts';
import { farm, introduce, KEYS, Member } from './relay-farm.ts';

let clock: FakeClock;
let network: FakeNetwork;
let members: Member[];

function member(number: number, listeners = ['udp', 'tcp'], incarnation = 1): Member {
  const made = new Member(number, { network, clock, address: `10.0.0.${number}`, listeners, incarnation });
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

/** Sends a frame from member 1 to member 2, with changes, from a stranger's socket. */
async function inject(to: Member, change: Partial<Frame>, keys = KEYS, body = 'hello'): Promise<void> {
  const frame = Object.assign(new Frame(), {
    kind: FrameKind.packet,
    hops: 1,
    sender: 1,
    senderIncarnation: 1,
    receiver: to.number,
    bound: to.self.incarnation,
    ingress: 1,
    ingressIncarnation: 1,
    epoch: 1,
    sequence: 1_000_000,
    address: '192.0.2.7',
    localAddress: '198.51.100.1',
    ...change,
  });
  const message = Buffer.from(body);
  const bytes = Buffer.alloc(headOctets(frame) + message.length);
  encodeFrame(keys, frame, message, 0, message.length, bytes, 0);
  await send(to, bytes);
}

async function send(to: Member, bytes: Buffer): Promise<void> {
  const socket = await network.bindUdp(
    { address: '10.9.9.9', port: 0 },
    { onDatagram: () => {}, onSendError: assert.fail },
  );
  socket.send(bytes, to.endpoint.address, to.endpoint.port);
  await network.settle();
  await socket.close();
}

describe('a relayed packet', () => {
  test('arrives with its true source, its ingress, one hop more and the second chance', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    assert.ok(a.link.relay(2, a.packet('INVITE', { listener: 0, secondChance: 1, port: 5999 })));
    await network.settle();
    const [taken] = b.packets;
    assert.ok(taken);
    assert.equal(taken.text, 'INVITE');
    const { address, port, localAddress, localPort, ingress, ingressIncarnation, hops, secondChance, connection } =
      taken.packet;
    assert.deepEqual(
      { address, port, localAddress, localPort, ingress, ingressIncarnation, hops, secondChance, connection },
      {
        address: '192.0.2.7',
        port: 5999,
        localAddress: '198.51.100.1',
        localPort: 5060,
        ingress: 1,
        ingressIncarnation: 1,
        hops: 1,
        secondChance: 1,
        connection: 0,
      },
    );
    assert.equal(a.relayed('out', 'm2'), 1);
    assert.equal(b.relayed('in', 'm1'), 1);
  });

  test('can have IPv6 addresses', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    a.link.relay(2, a.packet('x', { address: '2001:db8::7', localAddress: '2001:db8::1' }));
    await network.settle();
    assert.deepEqual([b.packets[0]?.packet.address, b.packets[0]?.packet.localAddress], ['2001:db8::7', '2001:db8::1']);
  });

  test('names the listener of the same name at each member, over two hops', async () => {
    const a = member(1, ['tls', 'edge', 'tcp']);
    const b = member(2, ['edge', 'tcp', 'tls']);
    const c = member(3, ['tcp', 'tls', 'x', 'edge']);
    await farm(a, b, c);
    a.link.relay(2, a.packet('one', { listener: 1 }));
    await network.settle();
    assert.equal(b.packets[0]?.packet.listener, 0);
    b.link.relay(3, b.packet('two', { ...b.packets[0].packet, bytes: Buffer.from('two'), start: 0, end: 3 }));
    await network.settle();
    const packet = c.packets[0]?.packet;
    assert.deepEqual([packet?.listener, packet?.ingress, packet?.hops], [3, 1, 2]);
  });

  test('for a listener that the owner does not have is dropped there and counted', async () => {
    const [a, b] = [member(1, ['edge', 'extra']), member(2, ['edge'])];
    await farm(a, b);
    a.link.relay(2, a.packet('x', { listener: 1 }));
    await network.settle();
    assert.equal(b.packets.length, 0);
    assert.equal(b.refused('listener'), 1);
  });

  test('stays at its member when the peer has no record, or when this member has no number', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    assert.equal(a.link.relay(9, a.packet('x')), false);
    assert.equal(a.link.relay(1, a.packet('x')), false);
    a.self.number = 0;
    assert.equal(a.link.relay(2, a.packet('x')), false);
  });

  test('is dropped and counted at the hop limit', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    a.link.relay(2, a.packet('x', { hops: HOP_LIMIT - 1 }));
    a.link.relay(2, a.packet('x', { hops: HOP_LIMIT }));
    await network.settle();
    assert.equal(b.packets.length, 1);
    assert.equal(b.refused('hops'), 1);
  });

  test('goes by datagram up to the path MTU, and by connection above it', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    a.link.relay(2, a.packet('connects the members', { connection: 1 }));
    await b.taken(1);
    const sizes: number[] = [];
    network.onSent = (_from, _to, bytes) => sizes.push(bytes.length);
    a.link.relay(2, a.packet('x'.repeat(1500 - 28 - 71)));
    a.link.relay(2, a.packet('x'.repeat(1500 - 28 - 71 + 1)));
    await b.taken(3);
    assert.deepEqual(sizes, [1472]);
  });

  test('too long for one datagram goes in fragments while the connection is not open', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    assert.ok(a.link.relay(2, a.packet('x'.repeat(40_000))));
    await network.settle();
    assert.equal(b.packets[0]?.text.length, 40_000);
  });
});

test('an egress message reaches the member of its flow, with the flow', async () => {
  const [a, b] = [member(1), member(2)];
  await farm(a, b);
  const flow = { member: 2, incarnation: 1, listener: 1, connection: 0, address: '192.0.2.9', port: 5061 };
  const bytes = Buffer.from('--SIP/2.0 200 OK--');
  assert.ok(a.link.egress(flow, bytes, 2, bytes.length - 2));
  assert.equal(a.link.egress({ ...flow, member: 1 }, bytes, 0, 1), false);
  await network.settle();
  assert.deepEqual(b.egresses, [{ flow, text: 'SIP/2.0 200 OK' }]);
});

test('three members exchange packets, and each counts by peer', async () => {
  const all = [member(1), member(2), member(3)];
  await farm(...all);
  for (const from of all)
    for (const to of all) if (from !== to) from.link.relay(to.number, from.packet(`${from.number}${to.number}`));
  await network.settle();
  assert.deepEqual(
    all.map(({ packets }) => packets.map(({ text }) => text).sort()),
    [
      ['21', '31'],
      ['12', '32'],
      ['13', '23'],
    ],
  );
  assert.equal(all[0]?.relayed('in', 'm3'), 1);
});

describe('a frame is refused and counted', () => {
  const rows: readonly [string, Parameters<Member['refused']>[0], Partial<Frame>][] = [
    ['from an unknown member', 'unknown-sender', { sender: 7 }],
    ['from an older incarnation', 'old-incarnation', { senderIncarnation: 4 }],
    ['for another member', 'not-for-me', { receiver: 3 }],
    ['of an unknown kind', 'kind', { kind: 99 as FrameKind }],
    ['as an invalid probe', 'kind', { kind: FrameKind.probe }],
    ['with too many hops', 'hops', { hops: HOP_LIMIT + 1 }],
    ['for a listener that no member has', 'listener', { listener: 200 }],
  ];
  for (const [what, reason, change] of rows)
    test(what, async () => {
      const [a, b] = [member(1, undefined, 5), member(2)];
      await farm(a, b);
      await inject(b, { senderIncarnation: 5, ...change });
      assert.equal(b.refused(reason), 1);
      assert.equal(b.packets.length + b.egresses.length, 0);
    });

  test('with the MAC of another farm, or with changed octets', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    await inject(b, {}, keyring(['cd'.repeat(32)]));
    assert.equal(b.refused('mac'), 1);
    assert.match(b.badMacs.join(), /^10\.9\.9\.9:\d+$/);
    await send(b, Buffer.from('OPTIONS sip:b SIP/2.0\r\n\r\n'));
    assert.equal(b.refused('not-a-frame'), 1);
    await send(b, Buffer.alloc(0));
    assert.equal(b.refused('short'), 1);
    await send(b, Buffer.alloc(65_507, 0x0d));
    assert.equal(b.refused('not-a-frame'), 2);
    assert.equal(b.packets.length, 0);
  });

  test('that is repeated, or that returns to its sender', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    let captured: Buffer = Buffer.alloc(0);
    network.onSent = (_from, _to, bytes) => {
      captured = bytes;
    };
    a.link.relay(2, a.packet('x'));
    await network.settle();
    network.onSent = () => {};
    await send(b, captured);
    await send(a, captured);
    assert.equal(b.packets.length, 1);
    assert.equal(b.refused('replayed'), 1);
    assert.equal(a.refused('not-for-me'), 1);
  });

  test('at a receiver without a number', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    b.self.number = 0;
    await inject(b, { receiver: 0 });
    assert.equal(b.refused('not-for-me'), 1);
  });
});

test('a frame on a connection is refused when its sender is not the member that opened the connection', async () => {
  const [a, b, c] = [member(1), member(2), member(3)];
  await farm(a, b, c);
  a.link.relay(2, a.packet('x', { connection: 1 }));
  await b.taken(1);
  a.self.number = 3;
  a.link.relay(2, a.packet('x', { connection: 1, ingress: 3 }));
  while (b.refused('unknown-sender') === 0) await network.settle();
  assert.equal(b.packets.length, 1);
});

describe('during a rotation', () => {
  test('frames of members in both stages are accepted', async () => {
    const [a, b] = [member(1), member(2)];
    const [older, newer] = ['01'.repeat(32), '02'.repeat(32)];
    a.keys = keyring([older, newer]);
    b.keys = keyring([newer, older]);
    await farm(a, b);
    a.link.relay(2, a.packet('x'));
    b.link.relay(1, b.packet('y'));
    await network.settle();
    assert.deepEqual([a.packets.length, b.packets.length], [1, 1]);
  });
});

describe('members with different views', () => {
  test('report a newer epoch in a frame once a second, and the packet is accepted', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    a.self.epoch = 8;
    for (let i = 0; i < 3; i++) a.link.relay(2, a.packet('x'));
    await network.settle();
    assert.deepEqual(b.newer, [8]);
    assert.equal(b.packets.length, 3);
    await clock.pass(1000, 50);
    a.link.relay(2, a.packet('x'));
    await network.settle();
    assert.ok(b.newer.length > 1);
    assert.deepEqual(a.newer, []);
  });

  test('count the time with an outdated view from the first newer frame until the view is current', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    assert.equal(b.link.outrunFor(), 0);
    for (a.self.epoch = 8; a.self.epoch < 12; a.self.epoch++) {
      a.link.relay(2, a.packet('x'));
      await network.settle();
      await clock.pass(1000, 50);
    }
    assert.ok(b.link.outrunFor() >= 4000);
    b.self.epoch = a.self.epoch;
    assert.equal(b.link.outrunFor(), 0);
  });

  test('name the last sender with a newer view while it answers, and none once the own view is current', async () => {
    const [a, b, c] = [member(1), member(2), member(3)];
    await farm(a, b, c);
    assert.equal(b.link.newer(), 0);
    for (const newer of [a, c]) {
      newer.self.epoch = 8;
      newer.link.relay(2, newer.packet('x'));
      await network.settle();
      assert.equal(b.link.newer(), newer.self.number);
    }
    network.reaches = () => false;
    await clock.pass(1500, 50);
    assert.equal(b.link.newer(), 0, 'silent peers decide nothing');
    network.reaches = () => true;
    await clock.pass(500, 50);
    assert.notEqual(b.link.newer(), 0);
    b.self.epoch = 8;
    assert.equal(b.link.newer(), 0);
    // A store from a backup: the epoch of frames from before it no longer counts.
    b.link.announceView();
    b.self.epoch = 7;
    assert.equal(b.link.newer(), 0);
  });

  test('refuse a sender that has lost its seat, and it gets the epoch', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    b.self.epoch = 5;
    b.link.setSeats([b.record]);
    for (let i = 0; i < 4; i++) a.link.relay(2, a.packet('x'));
    await network.settle();
    assert.equal(b.packets.length, 0);
    assert.equal(b.refused('no-seat'), 4);
    assert.deepEqual(a.newer, [5]);
  });

  test('accept packets of a member without a seat with the same view: its balancer still sends to it', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    for (const each of [a, b]) {
      each.self.epoch = 5;
      each.link.setSeats([b.record]);
    }
    a.link.relay(2, a.packet('x'));
    await network.settle();
    assert.equal(b.packets.length, 1);
    assert.equal(b.refused('no-seat'), 0);
  });

  test('send at most one refusal a second, and none for a refusal', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    let refusals = 0;
    network.onSent = (from, _to, bytes) => {
      if (from.address === b.endpoint.address && bytes[32] === FrameKind.refusal) refusals++;
    };
    for (const each of [a, b]) each.link.setSeats([]);
    b.self.epoch = 5;
    for (let i = 0; i < 50; i++) a.link.relay(2, a.packet('x'));
    await network.settle();
    assert.equal(b.refused('no-seat'), 50);
    assert.equal(refusals, 1);
    await inject(b, { kind: FrameKind.refusal, sender: 77 });
    assert.equal(b.refused('unknown-sender'), 1);
    assert.equal(refusals, 1);
  });

  test('accept a member without a seat when its view is newer', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    b.link.setSeats([b.record]);
    a.self.epoch = 2;
    a.link.relay(2, a.packet('x'));
    await network.settle();
    assert.equal(b.packets.length, 1);
    assert.deepEqual(b.newer, [2]);
  });

  test("send the refusal to the frame's source when record and seat of the sender are gone", async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    b.self.epoch = 5;
    b.link.setPeers([b.record]);
    b.link.setSeats([b.record]);
    a.link.relay(2, a.packet('x'));
    await network.settle();
    assert.equal(b.refused('unknown-sender'), 1);
    assert.deepEqual(a.newer, [5]);
  });

  test('accept a member that has its seat and no record', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    b.link.setPeers([b.record]);
    a.link.relay(2, a.packet('x'));
    await network.settle();
    assert.equal(b.packets.length, 1);
  });

  test('refuse an older incarnation when the seat has a newer one, whatever the record contains', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    b.link.setSeats([{ number: 1, incarnation: 3 }, b.record]);
    a.self.incarnation = 2;
    a.link.relay(2, a.packet('x'));
    await network.settle();
    assert.equal(b.refused('old-incarnation'), 1);
  });

  test('accept a restarted member whose frames count from one again', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    for (let i = 0; i < 20; i++) a.link.relay(2, a.packet('x'));
    await network.settle();
    await a.link.stop();
    const again = member(1, undefined, 2);
    await again.start();
    introduce([again, b]);
    again.link.relay(2, again.packet('y'));
    await network.settle();
    assert.equal(b.packets.length, 21);
    assert.equal(b.refused('replayed'), 0);
  });

  test('accept a restarted member before its record arrives, and refuse its earlier incarnation', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    a.self.incarnation = 2;
    a.link.relay(2, a.packet('too early'));
    await network.settle();
    assert.equal(b.refused('unproven'), 1);
    a.link.relay(2, a.packet('new'));
    await network.settle();
    assert.deepEqual(
      b.packets.map(({ text }) => text),
      ['new'],
    );
    a.self.incarnation = 1;
    a.link.relay(2, a.packet('old'));
    await network.settle();
    assert.equal(b.refused('old-incarnation'), 1);
    a.self.incarnation = 2;
    introduce([a, b]);
    a.link.relay(2, a.packet('new'));
    await network.settle();
    assert.equal(b.packets.length, 2);
  });
});
