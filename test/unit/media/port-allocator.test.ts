import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { NO_PORT, PortAllocator, type PortAllocatorOptions } from '../../../src/media/port-allocator.ts';

const REST = 1000;
const FOREIGN = 5000;

/** An allocator of ports 10000 to 10009, five pairs, that draws the first candidate. */
function allocator(changes: Partial<PortAllocatorOptions> = {}): PortAllocator {
  const options = { first: 10_000, last: 10_009, restMs: REST, foreignMs: FOREIGN, reservedPairs: 0 };
  return new PortAllocator({ ...options, random: () => 0, ...changes });
}

/** Returns integers below the argument, the same series for the same seed (Lehmer). */
function pseudoRandom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state * 16_807) % 2_147_483_647;
    return state % below;
  };
}

function drain(ports: PortAllocator, now: number): number[] {
  const taken: number[] = [];
  for (let port = ports.takePair(now); port !== NO_PORT; port = ports.takePair(now)) taken.push(port);
  return taken.sort();
}

describe('a media port allocator', () => {
  test('hands out every pair of the range once, each with an even port first (RFC 3550 11)', () => {
    assert.deepEqual(drain(allocator(), 0), [10_000, 10_002, 10_004, 10_006, 10_008]);
  });

  test('leaves out an odd first port and an even last port, because they have no other half', () => {
    assert.deepEqual(drain(allocator({ first: 10_001, last: 10_008 }), 0), [10_002, 10_004, 10_006]);
    assert.deepEqual(drain(allocator({ first: 10_001, last: 10_001 }), 0), []);
    assert.deepEqual(drain(allocator({ first: 10_000, last: 10_000 }), 0), []);
    assert.deepEqual(drain(allocator({ first: 65_534, last: 65_535 }), 0), [65_534]);
  });

  test('draws the pair by the random number', () => {
    assert.equal(allocator({ random: (below) => below - 1 }).takePair(0), 10_008);
  });

  test('puts two streams with rtcp-mux into one pair, and frees it when both have rested', () => {
    const ports = allocator();
    assert.deepEqual([ports.takeSingle(0), ports.takeSingle(0)], [10_000, 10_001]);
    ports.release(10_000, 0);
    ports.release(10_001, 500);
    assert.equal(ports.freePairs(REST), 4);
    assert.equal(ports.freePairs(REST + 500), 5);
  });

  test('gives a port that was half of a pair to a stream with rtcp-mux before it breaks another pair', () => {
    const ports = allocator();
    ports.takePair(0);
    ports.release(10_001, 0);
    assert.equal(ports.takeSingle(REST), 10_001);
  });

  test('lets a port rest, so that late packets of a call never reach the next one', () => {
    const ports = allocator({ last: 10_001 });
    ports.takePair(0);
    ports.release(10_000, 0);
    ports.release(10_001, 0);
    assert.equal(ports.takePair(REST - 1), NO_PORT);
    assert.equal(ports.takePair(REST), 10_000);
  });

  test('lets a port rest until no packet has come to it for the whole time', () => {
    const ports = allocator({ last: 10_001 });
    ports.takePair(0);
    ports.release(10_000, 0);
    ports.release(10_001, 0);
    ports.heard(10_000, 900);
    assert.equal(ports.takePair(REST), NO_PORT);
    assert.equal(ports.takePair(900 + REST - 1), NO_PORT);
    assert.equal(ports.takePair(900 + REST), 10_000);
  });

  test('does not count packets of the session itself as late', () => {
    const ports = allocator({ last: 10_001 });
    ports.takePair(0);
    ports.heard(10_000, 900);
    ports.release(10_000, 900);
    ports.release(10_001, 900);
    assert.equal(ports.takePair(900 + REST), 10_000);
  });

  test('skips a port of another program for a while', () => {
    const ports = allocator({ last: 10_003 });
    assert.equal(ports.takePair(0), 10_000);
    ports.markForeign(10_000, 0);
    ports.release(10_001, 0);
    assert.deepEqual({ ...ports.counts }, { free: 2, used: 0, resting: 1, foreign: 1 });
    assert.deepEqual(drain(ports, FOREIGN - 1), [10_002]);
    assert.deepEqual(drain(ports, FOREIGN), [10_000]);
  });

  test('admits no new call into the reserve, but gives it to calls that run', () => {
    const ports = allocator({ reservedPairs: 2 });
    assert.ok(ports.admits(3, 0));
    assert.ok(!ports.admits(4, 0));
    for (let i = 0; i < 3; i++) ports.takePair(0);
    assert.ok(!ports.admits(1, 0));
    assert.notEqual(ports.takePair(0), NO_PORT);
  });

  test('gives a restarted process the ports of the calls that it finds alive', () => {
    const ports = allocator();
    assert.ok(ports.claim(10_002, 0));
    assert.ok(ports.claim(10_003, 0));
    assert.ok(!ports.claim(10_002, 0), 'twice');
    assert.ok(!ports.claim(9_999, 0), 'outside of the range');
    assert.deepEqual(drain(ports, 0), [10_000, 10_004, 10_006, 10_008]);
  });

  test('ignores the release of a port that is not used', () => {
    const ports = allocator();
    for (const port of [0, 9_999, 10_000, 10_010, 70_000]) ports.release(port, 0);
    assert.deepEqual({ ...ports.counts }, { free: 10, used: 0, resting: 0, foreign: 0 });
    assert.equal(ports.stateOf(10_010), undefined);
    assert.equal(ports.stateOf(10_000), 'free');
  });
});

const order = fc.record({
  what: fc.constantFrom('pair', 'single', 'claim', 'release', 'release', 'foreign', 'heard', 'pass'),
  which: fc.nat(999),
});

test('no port is ever handed out twice, or before it has rested, whatever is taken, returned or heard', () => {
  fc.assert(
    fc.property(fc.array(order, { maxLength: 200 }), fc.integer({ min: 1, max: 24 }), (orders, size) => {
      const random = pseudoRandom(size);
      const ports = allocator({ last: 10_000 + size, random });
      const all = Array.from({ length: (size + 1) & ~1 }, (_, i) => 10_000 + i);
      const used = new Set<number>();
      const free = new Map<number, number>();
      let now = 0;
      const take = (port: number): void => {
        assert.ok(!used.has(port), `${port} is used already`);
        assert.ok((free.get(port) ?? 0) <= now, `${port} has not rested`);
        used.add(port);
      };
      for (const { what, which } of orders) {
        const port = [...used][which % Math.max(used.size, 1)];
        if (what === 'pass') now += which;
        else if (what === 'pair') {
          const first = ports.takePair(now);
          if (first !== NO_PORT) for (const each of [first, first + 1]) take(each);
        } else if (what === 'single') {
          const one = ports.takeSingle(now);
          if (one !== NO_PORT) take(one);
        } else if (what === 'claim') {
          const one = all[which % all.length];
          if (one !== undefined && ports.claim(one, now)) take(one);
        } else if (what === 'heard') {
          const one = all[which % Math.max(all.length, 1)];
          if (one !== undefined && ports.stateOf(one) === 'resting') free.set(one, now + REST);
          if (one !== undefined) ports.heard(one, now);
        } else if (port !== undefined) {
          if (what === 'release') ports.release(port, now);
          else ports.markForeign(port, now);
          used.delete(port);
          free.set(port, now + (what === 'release' ? REST : FOREIGN));
        }
        const { counts } = ports;
        assert.equal(counts.free + counts.used + counts.resting + counts.foreign, all.length);
        assert.equal(counts.used, used.size);
      }
      // Nothing leaks: after all have rested, the whole range can be had again.
      for (const port of used) ports.release(port, now);
      assert.equal(drain(ports, now + 3 * FOREIGN).length, all.length / 2);
    }),
  );
});

test('a million allocations of which some fail to bind leak no port', () => {
  const random = pseudoRandom(7);
  const ports = allocator({ last: 19_999, random });
  const held: number[] = [];
  let now = 0;
  for (let i = 0; i < 1_000_000; i++) {
    now += random(3);
    const port = ports.takePair(now);
    if (port === NO_PORT || held.length > 4_000) {
      const [gone] = held.splice(random(held.length), 1);
      for (const each of [gone!, gone! + 1]) ports.release(each, now);
    }
    if (port === NO_PORT) continue;
    if (random(10) === 0) {
      ports.markForeign(port, now);
      ports.release(port + 1, now);
    } else held.push(port);
  }
  for (const port of held) for (const each of [port, port + 1]) ports.release(each, now);
  assert.equal(ports.freePairs(now + REST + FOREIGN), 5_000);
});
