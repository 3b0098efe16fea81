// Captured frames and restarted members: no frame is accepted twice, and frames of living members are accepted.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { encodeFrame, Frame, FrameKind, HEAD_IPV4 } from '../../../src/relay/envelope.ts';
import { MAX_PROBE_OCTETS, PROBE_ANSWER, PROBE_QUESTION, writeProbe } from '../../../src/relay/probe.ts';
import { FakeClock } from '../../fake/clock.ts';
import { FakeNetwork } from '../../fake/network.ts';
import { farm, introduce, KEYS, Member, type MemberOptions } from './relay-farm.ts';

/** Offsets of the envelope's version and the frame's kind, with IPv4 addresses. */
const VERSION_AT = HEAD_IPV4 - 40;
const KIND_AT = VERSION_AT + 1;
const PORT = 5064;
/** Delay of the network in one direction. */
const DELAY_MS = 5;

let clock: FakeClock;
let network: FakeNetwork;
let members: Member[];
let captured: { readonly to: string; readonly bytes: Buffer }[];

function member(number: number, incarnation = 1, options: MemberOptions = {}): Member {
  const address = `10.0.0.${number}`;
  const made = new Member(number, { network, clock, address, port: PORT, incarnation, ...options });
  members.push(made);
  return made;
}

/** Returns the captured frames of one kind to `to`. */
function framesTo({ endpoint }: Member, kind: FrameKind): Buffer[] {
  return captured
    .filter(({ to, bytes }) => to === endpoint.address && bytes[KIND_AT] === kind)
    .map(({ bytes }) => bytes);
}

/** Sends copies of datagrams from an unknown address. */
async function replay(to: Member, datagrams: readonly Buffer[]): Promise<void> {
  const socket = await network.bindUdp(
    { address: '10.9.9.9', port: 0 },
    { onDatagram: () => {}, onSendError: assert.fail },
  );
  for (const bytes of datagrams) socket.send(Buffer.from(bytes), to.endpoint.address, to.endpoint.port);
  await clock.pass(3 * DELAY_MS, 1);
  await socket.close();
}

/** Ends the member's process and starts it again. It has the records of `others`; they do not have its new one. */
async function restart(
  old: Member,
  others: readonly Member[],
  incarnation = old.self.incarnation + 1,
): Promise<Member> {
  await old.link.stop();
  const again = member(old.number, incarnation, old.speaks === undefined ? {} : { speaks: old.speaks });
  await again.start();
  const records = [...others, again].map(({ record }) => record);
  again.link.setPeers(records);
  again.link.setSeats(records);
  return again;
}

async function send(from: Member, to: Member, count: number): Promise<void> {
  for (let i = 0; i < count; i++) from.link.relay(to.number, from.packet(`${i}`));
  await clock.pass(2 * DELAY_MS, 1);
}

/** Advances the clock until `holds` is true: a TLS connection between members takes time. */
async function until(holds: () => boolean): Promise<void> {
  for (let turns = 0; turns < 300 && !holds(); turns++) await clock.pass(10);
  assert.ok(holds(), 'it has not come to pass');
}

beforeEach(() => {
  clock = new FakeClock();
  network = new FakeNetwork({ clock, delay: { min: DELAY_MS, max: DELAY_MS } });
  members = [];
  captured = [];
  network.onSent = (_from, to, bytes) => captured.push({ to: to.address, bytes: Buffer.from(bytes) });
});

afterEach(async () => {
  await Promise.all(members.map(({ link }) => link.stop()));
});

describe('a restarted member', () => {
  test('accepts no captured packet, message or probe for its earlier incarnation', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    await clock.pass(1000);
    await send(a, b, 50);
    const flow = { member: 2, incarnation: 1, listener: 1, connection: 0, address: '192.0.2.9', port: 5061 };
    a.link.egress(flow, Buffer.from('BYE'), 0, 3);
    await clock.pass(2 * DELAY_MS, 1);
    const probes = framesTo(b, FrameKind.probe);
    const frames = [...framesTo(b, FrameKind.packet), ...framesTo(b, FrameKind.egress), ...probes];
    assert.ok(probes.length > 3 && frames.length >= 51 + probes.length);

    const again = await restart(b, [a]);
    await replay(again, frames);
    assert.equal(again.packets.length + again.egresses.length, 0);
    assert.equal(again.refused('other-incarnation'), frames.length);
    assert.equal(again.link.heldSince(1), 1, 'no probe of before has told anything');
  });

  test('is reached again after one round trip, without a record or a notification', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    await send(a, b, 5);
    const again = await restart(b, [a]);
    a.link.relay(2, a.packet('lost'));
    await clock.pass(2 * DELAY_MS, 1);
    a.link.relay(2, a.packet('taken'));
    await clock.pass(DELAY_MS, 1);
    assert.deepEqual(
      again.packets.map(({ text }) => text),
      ['taken'],
    );
    assert.equal(again.refused('other-incarnation'), 1);
  });

  test('is reached at once by members that have its record or its seat', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    const again = await restart(b, [a]);
    a.link.setPeers([a.record, again.record]);
    await send(a, again, 1);
    const third = await restart(again, [a]);
    a.link.setSeats([a.record, third.record]);
    await send(a, third, 1);
    assert.deepEqual([again.packets.length, third.packets.length], [1, 1]);
    assert.equal(again.refused('other-incarnation') + third.refused('other-incarnation'), 0);
  });

  test('and another one that restarts at the same time reach each other', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    const second = await restart(b, [a]);
    const first = await restart(a, [b]);
    await clock.pass(1000);
    await send(first, second, 3);
    await send(second, first, 3);
    assert.deepEqual([first.packets.length, second.packets.length], [3, 3]);
    assert.deepEqual(first.link.reachablePeers(), [2]);
  });

  test('sends its refusal to the peer, not to the source of a replay, at most ten times a second', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    await send(a, b, 50);
    const frames = framesTo(b, FrameKind.packet);
    const again = await restart(b, [a]);
    captured = [];
    await replay(again, frames);
    assert.equal(again.refused('other-incarnation'), 50);
    const refusals = captured.filter(({ bytes }) => bytes[KIND_AT] === FrameKind.refusal);
    assert.deepEqual(
      refusals.map(({ to }) => to),
      [a.endpoint.address],
    );
  });

  test('stays reachable when a refusal of its earlier incarnation is repeated', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    const second = await restart(b, [a]);
    await send(a, second, 1);
    const [word] = framesTo(a, FrameKind.refusal);
    assert.ok(word);
    const third = await restart(second, [a]);
    await send(a, third, 1);
    await replay(a, [word]);
    await send(a, third, 1);
    assert.equal(third.packets.length, 1);
    assert.equal(third.refused('other-incarnation'), 1);
  });

  test('gets the messages that waited for a connection to it', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    await b.link.stop();
    a.link.relay(2, a.packet('by TCP', { connection: 1 }));
    const again = await restart(b, [a]);
    await until(() => again.packets.length > 0);
    assert.equal(again.packets[0]?.text, 'by TCP');
  });

  test('is accepted with a lower incarnation after its record is gone and the store was restored', async () => {
    const [a, b] = [member(1, 9), member(2, 9)];
    await farm(a, b);
    await send(a, b, 1);
    const again = await restart(b, [a], 4);
    await send(a, again, 1);
    await send(a, again, 2);
    assert.deepEqual([again.packets.length, again.refused('other-incarnation')], [2, 1]);
  });
});

describe('after the store was restored from an older backup', () => {
  /** Member 2 was at its seventh start and is at its fourth again. Member 1 has gone on. */
  async function restored(): Promise<{ a: Member; b: Member; before: readonly Buffer[] }> {
    const [a, old] = [member(1), member(2, 7)];
    await farm(a, old);
    old.self.epoch = 40;
    await clock.pass(1000);
    await send(old, a, 5);
    const before = captured.filter(({ to }) => to === a.endpoint.address).map(({ bytes }) => bytes);
    const b = await restart(old, [a], 4);
    introduce([a, b]);
    a.packets.length = 0;
    a.newer.length = 0;
    return { a, b, before };
  }

  test('captured frames of a higher incarnation are refused, and 51 of 51 living frames are accepted', async () => {
    const { a, b, before } = await restored();
    assert.ok(before.length > 10);
    await replay(a, before.slice(-1));
    await send(b, a, 51);
    assert.equal(a.packets.length, 51);
    await replay(a, before);
    await clock.pass(2000);
    await send(b, a, 1);
    assert.equal(a.packets.length, 52);
    assert.equal(a.refused('unproven'), before.length + 1);
    assert.equal(a.refused('old-incarnation'), 0);
    assert.deepEqual(a.link.reachablePeers(), [2]);
  });

  test('the living member is always reachable, and is probed at most once a second more', async () => {
    const { a, b, before } = await restored();
    captured = [];
    for (let i = 0; i < 20; i++) {
      await replay(a, before);
      await send(a, b, 1);
    }
    assert.equal(b.packets.length, 20);
    assert.equal(b.refused('other-incarnation'), 0);
    const passed = 20 * 5 * DELAY_MS;
    assert.ok(framesTo(b, FrameKind.probe).length <= 2 * (passed / 250) + 3);
  });

  test('the view of the store replaces the newer epoch that earlier frames reported', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    b.self.epoch = 40;
    await send(b, a, 1);
    b.self.epoch = 3;
    assert.ok(a.link.outrunFor() > 0);
    introduce([a, b]);
    assert.equal(a.link.outrunFor(), 0);
  });
});

test('an unreported restart is accepted from a connection, which cannot be replayed', async () => {
  const [a, b] = [member(1), member(2)];
  await farm(a, b);
  b.self.incarnation = 2;
  b.link.relay(1, b.packet('by TCP', { connection: 1 }));
  await until(() => a.packets.length > 0);
  await send(b, a, 1);
  assert.deepEqual([a.packets.length, a.refused('unproven')], [2, 0]);
});

/** Returns a packet from member 1 to member 2, made by another holder of the farm key. */
function forged(change: Partial<Frame>, message = Buffer.from('OPTIONS')): Buffer {
  const frame = Object.assign(new Frame(), { kind: FrameKind.packet, hops: 1, sender: 1, senderIncarnation: 1 });
  Object.assign(frame, { receiver: 2, bound: 1, ingress: 1, ingressIncarnation: 1, listener: 255, ...change });
  const bytes = Buffer.alloc(HEAD_IPV4 + message.length);
  encodeFrame(KEYS, frame, message, 0, message.length, bytes, 0);
  return bytes;
}

describe('a frame with a sequence number far ahead', () => {
  test('is refused, and the frames of its sender are still accepted', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    await clock.pass(1000);
    await send(a, b, 1);
    await replay(b, [forged({ sequence: 2 ** 48 - 1 })]);
    await send(a, b, 20);
    assert.deepEqual([b.packets.length, b.refused('jumped'), b.refused('replayed')], [21, 1, 0]);
  });

  test('within the limit blocks its sender until the next probe answer and no longer', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    await clock.pass(1100);
    await replay(b, [forged({ sequence: 1_000_000 })]);
    await send(a, b, 1);
    assert.equal(b.refused('replayed'), 1);
    await clock.pass(300);
    await send(a, b, 20);
    assert.equal(b.packets.length, 21);
    assert.deepEqual(b.link.reachablePeers(), [1]);
    assert.equal(b.link.reachable(1), true);
  });

  test('is accepted when it answers a current probe, as after a time in which this member was suspended', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    await clock.pass(1100);
    const question = framesTo(a, FrameKind.probe)
      .map((bytes) => bytes.subarray(HEAD_IPV4))
      .findLast((body) => body[0] === PROBE_QUESTION)!;
    const body = Buffer.alloc(MAX_PROBE_OCTETS);
    const octets = writeProbe(PROBE_ANSWER, question.readUInt32BE(1), 77, new Set(), body);
    await replay(b, [forged({ sequence: 2 ** 40 - 1 })]);
    await replay(b, [forged({ kind: FrameKind.probe, hops: 0, sequence: 2 ** 40 }, body.subarray(0, octets))]);
    assert.deepEqual([b.link.heldSince(1), b.refused('jumped')], [77, 1]);
  });

  test('blocks its sender no longer when it is the first frame of all', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    await replay(b, [forged({ sequence: 2 ** 48 - 1 })]);
    await clock.pass(300);
    await send(a, b, 20);
    assert.equal(b.packets.length, 21);
  });

  test('makes no frame count twice: the answer that ends the block is accepted once', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    await clock.pass(1000);
    await replay(b, [forged({ sequence: 1_000_000 })]);
    captured = [];
    await clock.pass(300);
    const answers = framesTo(b, FrameKind.probe);
    captured = [];
    await send(a, b, 10);
    const packets = framesTo(b, FrameKind.packet);
    assert.equal(packets.length, 10);
    await replay(b, [...answers, ...packets]);
    assert.equal(b.packets.length, 11);
  });
});

test('a frame that is bound to no incarnation is refused as a datagram', async () => {
  const [a, b] = [member(1), member(2)];
  await farm(a, b);
  await replay(b, [forged({ bound: 0, sequence: 9, epoch: 7 })]);
  assert.deepEqual([b.packets.length, b.refused('other-incarnation')], [0, 1]);
  assert.deepEqual(b.newer, [], 'nor is its epoch');
});

describe('members of the previous version', () => {
  /** Member 1 is of this build. Member 2 is of the previous one and treats all members as such. */
  async function mixed(): Promise<readonly [Member, Member]> {
    const [a, b] = [member(1), member(2, 1, { speaks: 1 })];
    await farm(a, b);
    b.link.setPeers([{ ...a.record, speaks: 1 }, b.record]);
    return [a, b];
  }

  test('exchange packets, messages and probes with the current ones in their version', async () => {
    const [a, b] = await mixed();
    await clock.pass(2000);
    await send(a, b, 3);
    await send(b, a, 3);
    a.link.relay(2, a.packet('by TCP', { connection: 1 }));
    await until(() => b.packets.length === 4);
    assert.equal(a.packets.length, 3);
    assert.deepEqual([a.link.reachablePeers(), b.link.reachablePeers()], [[2], [1]]);
    assert.deepEqual(new Set(captured.map(({ bytes }) => bytes[VERSION_AT])), new Set([1]));
  });

  test('are accepted after a restart as soon as they have answered, before their record arrives', async () => {
    const [a, b] = await mixed();
    b.self.incarnation = 2;
    await send(b, a, 1);
    await clock.pass(DELAY_MS, 1);
    await send(b, a, 1);
    assert.deepEqual([a.packets.length, a.refused('unproven')], [1, 1]);
  });

  test('are refused in their version, and get the epoch', async () => {
    const [a, b] = await mixed();
    a.self.epoch = 5;
    a.link.setSeats([a.record]);
    await send(b, a, 1);
    assert.equal(a.refused('no-seat'), 1);
    assert.deepEqual(b.newer, [5]);
    assert.deepEqual(new Set(captured.map(({ bytes }) => bytes[VERSION_AT])), new Set([1]));
  });

  test('are accepted in the current version after their upgrade, and frames captured before are refused', async () => {
    const [a, b] = await mixed();
    b.self.epoch = 9;
    await send(b, a, 20);
    const frames = framesTo(a, FrameKind.packet);
    assert.equal(frames.length, 20);
    await b.link.stop();
    const upgraded = member(2, 2);
    await upgraded.start();
    introduce([a, upgraded]);
    await send(upgraded, a, 1);
    await send(a, upgraded, 1);
    assert.deepEqual([a.packets.length, upgraded.packets.length], [21, 1]);
    await clock.pass(2000);
    a.newer.length = 0;
    await replay(a, frames);
    assert.equal(a.packets.length, 21);
    assert.equal(a.refused('version'), 20);
    assert.deepEqual(a.newer, [], 'their epoch is worth nothing either');
  });
});
