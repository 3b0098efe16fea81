// Who answers, who is said to be gone, and what a peer tells of itself.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { FakeClock } from '../../fake/clock.ts';
import { FakeNetwork } from '../../fake/network.ts';
import { farm, introduce, Member } from './relay-farm.ts';

let clock: FakeClock;
let network: FakeNetwork;
let members: Member[];

async function farmOf(size: number): Promise<Member[]> {
  members = Array.from({ length: size }, (_, i) => new Member(i + 1, { network, clock, address: `10.0.0.${i + 1}` }));
  await farm(...members);
  return members;
}

/** Cuts the datagrams between the members of a pair, both ways. */
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

test('a new peer has the benefit of the doubt, and a second later must have answered', async () => {
  const [a] = await farmOf(2);
  assert.ok(a);
  a.link.setPeers([{ number: 9, incarnation: 1, id: 'm9', relay: { address: '10.0.0.9', port: 1 }, listeners: [] }]);
  assert.ok(a.link.reachable(9));
  assert.ok(!a.link.reachable(8));
  await clock.pass(900);
  assert.ok(a.link.reachable(9));
  await clock.pass(400);
  assert.ok(!a.link.reachable(9));
});

test('a peer that falls silent is unreachable after a second, and reachable with its first answer', async () => {
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

test('the time of one hop is measured', async () => {
  const [a] = await farmOf(2);
  await clock.pass(1000, 1);
  assert.ok(a && a.hops.length >= 3);
  for (const seconds of a.hops) assert.ok(seconds >= 0.001 && seconds <= 0.003, `${seconds}`);
});

test('a peer tells the oldest epoch of a call it holds; until it has, it may hold any', async () => {
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

test('a restarted peer has told nothing yet', async () => {
  const [a, b] = await farmOf(2);
  assert.ok(a && b);
  await clock.pass(500);
  assert.equal(a.link.heldSince(2), 0);
  b.self.incarnation = 2;
  introduce(members);
  assert.equal(a.link.heldSince(2), 1);
});

test('a member that two of three cannot reach is suspected by both, and by itself nobody is', async () => {
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

test('a broken line between two of three members accuses nobody', async () => {
  const [a, b, c] = await farmOf(3);
  assert.ok(a && b && c);
  cut([1, 2]);
  await clock.pass(5000);
  assert.ok(!a.link.reachable(2));
  assert.deepEqual([a.suspects, b.suspects, c.suspects], [[], [], []]);
});

test('of two members neither is suspected', async () => {
  const [a, b] = await farmOf(2);
  assert.ok(a && b);
  cut([1, 2]);
  await clock.pass(5000);
  assert.deepEqual([a.suspects, b.suspects], [[], []]);
});

test('a member that stood still does not blame the others', async () => {
  const [a, b, c] = await farmOf(3);
  assert.ok(a && b && c);
  await clock.pass(1000);
  // One jump of the clock is a stall of every member: the timers run late, no answer comes in between.
  const late = clock.now() + 30_000;
  const now = clock.now.bind(clock);
  clock.now = () => Math.max(now(), late);
  await clock.pass(30_000 + 2000, 250);
  assert.deepEqual([a.suspects, b.suspects, c.suspects], [[], [], []]);
  assert.deepEqual(a.link.reachablePeers(), [2, 3]);
});

test('five per cent of loss makes a peer look unreachable for less than a hundredth of the time', async () => {
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

test('an unmeasurable load of replayed and doubled probes changes nothing', async () => {
  network.duplication = 1;
  const [a, b] = await farmOf(2);
  assert.ok(a && b);
  await clock.pass(2000);
  assert.ok(a.refused('replayed') > 5);
  assert.deepEqual(a.link.reachablePeers(), [2]);
});

test('a link that has stopped leaves no timer behind', async () => {
  await farmOf(3);
  await clock.pass(1000);
  await Promise.all(members.map(({ link }) => link.stop()));
  await clock.pass(20_000, 500);
  assert.equal(clock.timers, 0);
});
