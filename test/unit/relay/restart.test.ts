// Captured frames, and members that have started anew: what is taken once is not taken again, and who is alive is heard.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { encodeFrame, Frame, FrameKind, HEAD_IPV4 } from '../../../src/relay/envelope.ts';
import { MAX_PROBE_OCTETS, PROBE_ANSWER, PROBE_QUESTION, writeProbe } from '../../../src/relay/probe.ts';
import { FakeClock } from '../../fake/clock.ts';
import { FakeNetwork } from '../../fake/network.ts';
import { farm, introduce, KEYS, Member, type MemberOptions } from './relay-farm.ts';

/** Where the version of the envelope and the kind of the frame stand, with IPv4 addresses. */
const VERSION_AT = HEAD_IPV4 - 40;
const KIND_AT = VERSION_AT + 1;
const PORT = 5064;
/** Of the network, there or back. */
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

/** What has been captured on its way to `to`, of one kind. */
function framesTo({ endpoint }: Member, kind: FrameKind): Buffer[] {
  return captured
    .filter(({ to, bytes }) => to === endpoint.address && bytes[KIND_AT] === kind)
    .map(({ bytes }) => bytes);
}

/** Sends copies of datagrams from an address of nobody. */
async function replay(to: Member, datagrams: readonly Buffer[]): Promise<void> {
  const socket = await network.bindUdp(
    { address: '10.9.9.9', port: 0 },
    { onDatagram: () => {}, onSendError: assert.fail },
  );
  for (const bytes of datagrams) socket.send(Buffer.from(bytes), to.endpoint.address, to.endpoint.port);
  await clock.pass(3 * DELAY_MS, 1);
  await socket.close();
}

/** The member's process ends and starts again; it has heard of `others`, they have not heard of it. */
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

/** A TLS connection between members takes its time. */
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

describe('a member that has started anew', () => {
  test('takes none of the frames that were captured on their way to its former self, packets, messages and probes', async () => {
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

  test('is reached again after one round trip, without any record, though others have heard nothing of it', async () => {
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

  test('is reached at once by those who have its record, or its seat', async () => {
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

  test('and one that has started anew with it find each other', async () => {
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

  test('sends word of itself to the peer, not to the address that a replayed frame comes from, and at most ten times a second', async () => {
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

  test('is not forgotten when an earlier word of another start is repeated', async () => {
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

  test('gets what waited for a connection to it', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    await b.link.stop();
    a.link.relay(2, a.packet('by TCP', { connection: 1 }));
    const again = await restart(b, [a]);
    await until(() => again.packets.length > 0);
    assert.equal(again.packets[0]?.text, 'by TCP');
  });

  test('and was given up by its record is heard with a lower incarnation, when the store was restored from a backup', async () => {
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
  /** Member 2 was at its seventh start, and is at its fourth again. Member 1 has lived on. */
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

  test('captured frames of a higher incarnation are not taken, and 51 of 51 frames of the living member are', async () => {
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

  test('the living member is reached all the time, and asked once a second at most', async () => {
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

  test('the view of the store ends what frames of before have told of a newer one', async () => {
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

test('a start that nobody has told of is believed from a connection, which nobody can repeat', async () => {
  const [a, b] = [member(1), member(2)];
  await farm(a, b);
  b.self.incarnation = 2;
  b.link.relay(1, b.packet('by TCP', { connection: 1 }));
  await until(() => a.packets.length > 0);
  await send(b, a, 1);
  assert.deepEqual([a.packets.length, a.refused('unproven')], [2, 0]);
});

/** A packet as member 1 would send it to member 2, made by another holder of the farm key. */
function forged(change: Partial<Frame>, message = Buffer.from('OPTIONS')): Buffer {
  const frame = Object.assign(new Frame(), { kind: FrameKind.packet, hops: 1, sender: 1, senderIncarnation: 1 });
  Object.assign(frame, { receiver: 2, bound: 1, ingress: 1, ingressIncarnation: 1, listener: 255, ...change });
  const bytes = Buffer.alloc(HEAD_IPV4 + message.length);
  encodeFrame(KEYS, frame, message, 0, message.length, bytes, 0);
  return bytes;
}

describe('a frame far ahead of its sender', () => {
  test('is refused and silences nobody', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    await clock.pass(1000);
    await send(a, b, 1);
    await replay(b, [forged({ sequence: 2 ** 48 - 1 })]);
    await send(a, b, 20);
    assert.deepEqual([b.packets.length, b.refused('jumped'), b.refused('replayed')], [21, 1, 0]);
  });

  test('but not too far silences it until it next answers a probe, and no longer', async () => {
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

  test('is taken when it answers a question of now: as after a time in which this member was suspended', async () => {
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

  test('the first of all, is no harm for longer either', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    await replay(b, [forged({ sequence: 2 ** 48 - 1 })]);
    await clock.pass(300);
    await send(a, b, 20);
    assert.equal(b.packets.length, 21);
  });

  test('makes no frame count twice: the answer that ends the silence is taken once', async () => {
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

test('a frame that is bound to no incarnation is not taken from a datagram', async () => {
  const [a, b] = [member(1), member(2)];
  await farm(a, b);
  await replay(b, [forged({ bound: 0, sequence: 9, epoch: 7 })]);
  assert.deepEqual([b.packets.length, b.refused('other-incarnation')], [0, 1]);
  assert.deepEqual(b.newer, [], 'nor is its epoch');
});

describe('members of the version before', () => {
  /** Member 1 is of this build, member 2 of the one before: it takes everybody for one of its kind. */
  async function mixed(): Promise<readonly [Member, Member]> {
    const [a, b] = [member(1), member(2, 1, { speaks: 1 })];
    await farm(a, b);
    b.link.setPeers([{ ...a.record, speaks: 1 }, b.record]);
    return [a, b];
  }

  test('exchange packets, messages and probes with those of this one, in their version', async () => {
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

  test('are heard after a restart as soon as they have answered, and before their record is', async () => {
    const [a, b] = await mixed();
    b.self.incarnation = 2;
    await send(b, a, 1);
    await clock.pass(DELAY_MS, 1);
    await send(b, a, 1);
    assert.deepEqual([a.packets.length, a.refused('unproven')], [1, 1]);
  });

  test('are refused in their version, and hear the epoch', async () => {
    const [a, b] = await mixed();
    a.self.epoch = 5;
    a.link.setSeats([a.record]);
    await send(b, a, 1);
    assert.equal(a.refused('no-seat'), 1);
    assert.deepEqual(b.newer, [5]);
    assert.deepEqual(new Set(captured.map(({ bytes }) => bytes[VERSION_AT])), new Set([1]));
  });

  test('are heard in this one as soon as they are of this build, and frames captured before are worth nothing', async () => {
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
