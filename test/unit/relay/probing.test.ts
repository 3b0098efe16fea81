// Probes between members: reachability, suspects, and the state that a peer reports of itself.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { encodeFrame, Frame, FrameKind, headOctets } from '../../../src/relay/envelope.ts';
import { MAX_PROBE_OCTETS, PROBE_ANSWER, writeProbe } from '../../../src/relay/probe.ts';
import { FakeClock } from '../../fake/clock.ts';
import { FakeNetwork } from '../../fake/network.ts';
import { farm, introduce, KEYS, Member } from './relay-farm.ts';

let clock: FakeClock;
let network: FakeNetwork;
let members: Member[];

async function farmOf(size: number): Promise<Member[]> {
  members = Array.from({ length: size }, (_, i) => new Member(i + 1, { network, clock, address: `10.0.0.${i + 1}` }));
  await farm(...members);
  return members;
}

/** Cuts the datagrams between the members of a pair, in both directions. */
function cut(...pairs: readonly (readonly [number, number])[]): void {
  network.reaches = (from, to) =>
    !pairs.some(([a, b]) => {
      const ends = [`10.0.0.${a}`, `10.0.0.${b}`];
      return ends.includes(from.address) && ends.includes(to.address) && from.address !== to.address;
    });
}

beforeEach(() => {
  clock = new FakeClock();
  network = new FakeNetwork({ clock, delay: { min: 1, max: 2 } });
});

afterEach(async () => {
  await Promise.all(members.map(({ link }) => link.stop()));
});

test('a new peer counts as reachable at first, and must have answered a second later', async () => {
  const [a] = await farmOf(2);
  assert.ok(a);
  a.link.setPeers([{ number: 9, incarnation: 1, id: 'm9', relay: { address: '10.0.0.9', port: 1 } }]);
  assert.ok(a.link.reachable(9));
  assert.ok(!a.link.reachable(8));
  await clock.pass(900);
  assert.ok(a.link.reachable(9));
  await clock.pass(400);
  assert.ok(!a.link.reachable(9));
});

test('a silent peer is unreachable after a second, and reachable after its first answer', async () => {
  const [a, b] = await farmOf(2);
  assert.ok(a && b);
  await clock.pass(3000);
  assert.ok(a.link.reachable(2));
  assert.deepEqual(a.link.reachablePeers(), [2]);
  cut([1, 2]);
  await clock.pass(740);
  assert.ok(a.link.reachable(2));
  await clock.pass(600);
  assert.ok(!a.link.reachable(2));
  assert.deepEqual(a.link.reachablePeers(), []);
  cut();
  await clock.pass(300);
  assert.ok(a.link.reachable(2));
});

test('the round trip time gives the time of one hop', async () => {
  const [a] = await farmOf(2);
  await clock.pass(1000, 1);
  assert.ok(a && a.hops.length >= 3);
  for (const seconds of a.hops) assert.ok(seconds >= 0.001 && seconds <= 0.003, `${seconds}`);
});

test('a peer reports the oldest epoch of its calls; until its report it may have calls of any epoch', async () => {
  const [a, b] = await farmOf(2);
  assert.ok(a && b);
  b.self.heldSince = 42;
  assert.equal(a.link.heldSince(2), 1);
  await clock.pass(300);
  assert.equal(a.link.heldSince(2), 42);
  b.self.heldSince = 0;
  await clock.pass(300);
  assert.equal(a.link.heldSince(2), 0);
  assert.equal(a.link.heldSince(9), 0);
  b.self.heldSince = 42;
  await clock.pass(300);
  cut([1, 2]);
  await clock.pass(1500);
  assert.equal(a.link.heldSince(2), 0, 'one that cannot be reached cannot be offered anything');
});

test('a restarted peer has not reported yet', async () => {
  const [a, b] = await farmOf(2);
  assert.ok(a && b);
  await clock.pass(500);
  assert.equal(a.link.heldSince(2), 0);
  b.self.incarnation = 2;
  introduce(members);
  assert.equal(a.link.heldSince(2), 1);
});

test('a member that two of three cannot reach is suspected by both, and suspects no other itself', async () => {
  const [a, b, c] = await farmOf(3);
  assert.ok(a && b && c);
  await clock.pass(2000);
  cut([1, 3], [2, 3]);
  await clock.pass(2000);
  assert.deepEqual([a.suspects, b.suspects, c.suspects], [[[3]], [[3]], []]);
  cut();
  await clock.pass(1000);
  assert.deepEqual([a.suspects, b.suspects, c.suspects], [[[3], []], [[3], []], []]);
});

test('a broken line between two of three members causes no suspicion', async () => {
  const [a, b, c] = await farmOf(3);
  assert.ok(a && b && c);
  cut([1, 2]);
  await clock.pass(5000);
  assert.ok(!a.link.reachable(2));
  assert.deepEqual([a.suspects, b.suspects, c.suspects], [[], [], []]);
});

test('neither of two members is suspected', async () => {
  const [a, b] = await farmOf(2);
  assert.ok(a && b);
  cut([1, 2]);
  await clock.pass(5000);
  assert.deepEqual([a.suspects, b.suspects], [[], []]);
});

test('a member that stood still does not suspect the others', async () => {
  const [a, b, c] = await farmOf(3);
  assert.ok(a && b && c);
  await clock.pass(1000);
  // The timers fire half a minute late, and no answer has come in between.
  const now = clock.now.bind(clock);
  clock.now = () => now() + 30_000;
  clock.advance(250);
  assert.deepEqual(
    members.map(({ link }) => link.reachablePeers().length),
    [2, 2, 2],
  );
  await clock.pass(2000);
  assert.deepEqual([a.suspects, b.suspects, c.suspects], [[], [], []]);
});

test('an answer to an old probe is ignored', async () => {
  const [a, b] = await farmOf(2);
  assert.ok(a && b);
  await clock.pass(3000);
  cut([1, 2]);
  const socket = await network.bindUdp(
    { address: '10.9.9.9', port: 0 },
    { onDatagram: () => {}, onSendError: () => {} },
  );
  const body = Buffer.alloc(MAX_PROBE_OCTETS);
  for (let i = 0; i < 8; i++) {
    const frame = Object.assign(new Frame(), {
      kind: FrameKind.probe,
      sender: 2,
      senderIncarnation: 1,
      receiver: 1,
      bound: 1,
      epoch: 1,
      sequence: 1000 + i,
    });
    const octets = writeProbe(PROBE_ANSWER, 1, 0, new Set(), body);
    const bytes = Buffer.alloc(headOctets(frame) + octets);
    encodeFrame(KEYS, frame, body, 0, octets, bytes, 0);
    socket.send(bytes, a.endpoint.address, a.endpoint.port);
    await clock.pass(250);
  }
  assert.ok(!a.link.reachable(2));
  assert.equal(a.refused('kind') + a.refused('replayed') + a.refused('mac'), 0);
});

test("a silent member's earlier report does not count", async () => {
  const [a] = await farmOf(5);
  assert.ok(a);
  await clock.pass(1000);
  // 2, 3 and 4 lose 5, and then 2 falls silent: only 3 and 4 of the four others can report it to member 1.
  cut([2, 5], [3, 5], [4, 5]);
  await clock.pass(2000);
  assert.deepEqual(a.suspects, [[5]]);
  cut([2, 5], [3, 5], [4, 5], [1, 2]);
  await clock.pass(2000);
  assert.deepEqual(a.suspects, [[5], []]);
});

test('a connection to a peer that is silent for five seconds is closed once and opened again', async () => {
  let dialled = 0;
  const connectTcp = network.connectTcp.bind(network);
  network.connectTcp = (remote, from) => {
    dialled++;
    return connectTcp(remote, from);
  };
  const [a, b] = await farmOf(2);
  assert.ok(a && b);
  // The handshake computes between turns of the clock.
  a.link.relay(2, a.packet('x', { connection: 1 }));
  while (b.packets.length === 0) await clock.pass(10);
  cut([1, 2]);
  await clock.pass(4800);
  assert.equal(dialled, 1);
  await clock.pass(700);
  assert.equal(dialled, 2);
});

test('a connection to an absent peer is tried once in two seconds', async () => {
  let dialled = 0;
  const connectTcp = network.connectTcp.bind(network);
  network.connectTcp = (remote, from) => {
    dialled++;
    return connectTcp(remote, from);
  };
  const [a] = await farmOf(1);
  assert.ok(a);
  a.link.setPeers([{ number: 9, incarnation: 1, id: 'm9', relay: { address: '10.0.0.9', port: 1 } }]);
  await clock.pass(60_000, 20);
  assert.ok(dialled >= 30 && dialled <= 36, `${dialled}`);
});

test('a loss of five per cent makes a peer look unreachable for less than a hundredth of the time', async () => {
  network = new FakeNetwork({ clock, loss: 0.05, seed: 7, delay: { min: 1, max: 2 } });
  const [a] = await farmOf(2);
  assert.ok(a);
  let missed = 0;
  const steps = 1200;
  for (let i = 0; i < steps; i++) {
    await clock.pass(250, 25);
    if (!a.link.reachable(2)) missed++;
  }
  assert.ok(network.lost > 100, 'there was loss');
  assert.ok(missed < steps / 100, `${missed} of ${steps}`);
});

test('replayed and doubled probes change nothing', async () => {
  network.duplication = 1;
  const [a, b] = await farmOf(2);
  assert.ok(a && b);
  await clock.pass(2000);
  assert.ok(a.refused('replayed') > 5);
  assert.deepEqual(a.link.reachablePeers(), [2]);
});

test('a stopped link leaves no timer behind', async () => {
  await farmOf(3);
  await clock.pass(1000);
  await Promise.all(members.map(({ link }) => link.stop()));
  await clock.pass(20_000, 500);
  assert.equal(clock.timers, 0);
});
