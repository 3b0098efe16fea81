// The slot table: the same at every member, fair by weight, and almost stable when a member joins or leaves.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { sipKey } from '../../../src/base/siphash.ts';
import { buildSlots, CallHash, hashCallId, hashCallIdText, SLOTS, slotBuilding } from '../../../src/ownership/slots.ts';
import type { Generation } from '../../../src/ownership/view.ts';

function generation(numbers: readonly number[], weight: (number: number) => number = () => 100): Generation {
  return { epoch: 1, shares: numbers.map((number) => ({ number, weight: weight(number) })) };
}

/** Returns the number of slots by owner. */
function tally(slots: Uint16Array): Map<number, number> {
  const counts = new Map<number, number>();
  for (const owner of slots) counts.set(owner, (counts.get(owner) ?? 0) + 1);
  return counts;
}

function moved(a: Uint16Array, b: Uint16Array): number {
  return a.reduce((sum, owner, slot) => sum + (owner === b[slot] ? 0 : 1), 0);
}

const members = fc.uniqueArray(fc.integer({ min: 1, max: 65535 }), { minLength: 2, maxLength: 20 });

describe('the slot table', () => {
  test('never changes between versions, because members of two versions must agree', () => {
    const even = buildSlots(generation([1, 2, 3]));
    assert.deepEqual([...even.subarray(0, 16)], [1, 2, 1, 1, 2, 2, 1, 2, 3, 3, 3, 2, 2, 2, 3, 2]);
    const weighted = buildSlots(generation([1, 2, 3], (number) => 100 * number));
    assert.deepEqual([...weighted.subarray(0, 16)], [1, 2, 1, 1, 2, 2, 3, 2, 3, 3, 3, 2, 2, 2, 3, 2]);
  });

  test('does not depend on the order of the members, nor on the epoch', () => {
    fc.assert(
      fc.property(
        members,
        fc.array(fc.integer({ min: 1, max: 1000 }), { minLength: 20, maxLength: 20 }),
        (numbers, weights) => {
          const shares = numbers.map((number, i) => ({ number, weight: weights[i]! }));
          assert.deepEqual(buildSlots({ epoch: 9, shares: [...shares].reverse() }), buildSlots({ epoch: 1, shares }));
        },
      ),
      { numRuns: 5 },
    );
  });

  test('gives a joining member its share and moves no other slot, at most 1.2 times the ideal', () => {
    fc.assert(
      fc.property(members, fc.integer({ min: 1, max: 65535 }), (numbers, joining) => {
        fc.pre(!numbers.includes(joining));
        const before = buildSlots(generation(numbers));
        const after = buildSlots(generation([...numbers, joining]));
        after.forEach((owner, slot) => {
          if (owner !== joining) assert.equal(owner, before[slot]);
        });
        assert.ok(moved(before, after) <= (1.2 * SLOTS) / (numbers.length + 1));
      }),
      { numRuns: 10 },
    );
  });

  test("takes a leaving member's share and moves no other slot, at most 1.2 times the ideal", () => {
    fc.assert(
      fc.property(members, fc.nat(), (numbers, index) => {
        const leaving = numbers[index % numbers.length]!;
        const before = buildSlots(generation(numbers));
        const after = buildSlots(generation(numbers.filter((number) => number !== leaving)));
        before.forEach((owner, slot) => {
          if (owner !== leaving) assert.equal(owner, after[slot]);
        });
        assert.ok(moved(before, after) <= (1.2 * SLOTS) / numbers.length);
      }),
      { numRuns: 10 },
    );
  });

  test('moves slots only to a member whose weight rises', () => {
    const before = buildSlots(generation([1, 2, 3, 4]));
    const after = buildSlots(generation([1, 2, 3, 4], (number) => (number === 2 ? 150 : 100)));
    after.forEach((owner, slot) => {
      if (owner !== before[slot]) assert.equal(owner, 2);
    });
  });

  test('is even among members with equal weights', () => {
    for (const count of [2, 3, 5, 10, 20]) {
      const counts = tally(buildSlots(generation(Array.from({ length: count }, (_, i) => i + 1))));
      for (const [number, slots] of counts)
        assert.ok(Math.abs((slots * count) / SLOTS - 1) < 0.05, `member ${number} of ${count}: ${slots}`);
    }
  });

  test('follows the weights', () => {
    const weights = new Map([
      [1, 100],
      [2, 200],
      [3, 50],
      [4, 1],
      [5, 649],
    ]);
    const counts = tally(buildSlots(generation([...weights.keys()], (number) => weights.get(number)!)));
    for (const [number, weight] of weights)
      assert.ok(Math.abs(counts.get(number)! / SLOTS - weight / 1000) < 0.008, `member ${number}`);
  });

  test('belongs to the only member, or to none when there is no member', () => {
    assert.deepEqual([...tally(buildSlots(generation([77])))], [[77, SLOTS]]);
    assert.deepEqual([...tally(buildSlots(generation([])))], [[0, SLOTS]]);
  });

  test('is the same, built anew or from any earlier table', () => {
    const shares = fc.uniqueArray(
      fc.record({ number: fc.integer({ min: 1, max: 30 }), weight: fc.constantFrom(50, 100, 300) }),
      {
        selector: ({ number }) => number,
        maxLength: 12,
      },
    );
    fc.assert(
      fc.property(shares, shares, (before, after) => {
        const known = { generation: { epoch: 1, shares: before }, slots: buildSlots({ epoch: 1, shares: before }) };
        const next = { epoch: 2, shares: after };
        assert.deepEqual(buildSlots(next, known), buildSlots(next));
      }),
      { numRuns: 15 },
    );
  });

  test('is built in slices for a large farm, and in few slices from an earlier table', () => {
    const all = Array.from({ length: 200 }, (_, i) => i + 1);
    const pauses = (building: Generator<void, Uint16Array, void>): number => [...building].length;
    assert.ok(pauses(slotBuilding(generation(all))) >= 20);
    const known = { generation: generation(all), slots: buildSlots(generation(all)) };
    assert.equal(pauses(slotBuilding(generation([...all, 201]), known)), 0);
    assert.equal(pauses(slotBuilding(generation(all.slice(1)), known)), 0);
  });
});

describe('the slot of a Call-ID', () => {
  const key = sipKey(Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex'));
  const hash = (text: string): CallHash => {
    const out = new CallHash();
    hashCallId(key, Buffer.from(`<<${text}>>`), 2, 2 + Buffer.byteLength(text), out);
    return out;
  };

  test('never changes between versions, and depends on the letter case', () => {
    const [lower, upper] = ['a84b4c76e66710@pc33.atlanta.com', 'A84b4c76e66710@pc33.atlanta.com'].map(hash);
    assert.deepEqual({ ...lower }, { slot: 16670, key: 8501333341973345 });
    assert.deepEqual({ ...upper }, { slot: 17238, key: 6461746074879792 });
  });

  test('is the same for a Call-ID given as text, one octet per character', () => {
    const out = new CallHash();
    hashCallIdText(key, 'a84b4c76e66710@pc33.atlanta.com', out);
    assert.deepEqual({ ...out }, { slot: 16670, key: 8501333341973345 });
    hashCallIdText(key, 'caf\u00e9', out);
    const octet = new CallHash();
    hashCallId(key, Buffer.of(0x63, 0x61, 0x66, 0xe9), 0, 4, octet);
    assert.deepEqual(out, octet);
  });

  test('is within the range, with a key that is a safe integer', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const { slot, key: number } = hash(text);
        assert.ok(slot >= 0 && slot < SLOTS && Number.isInteger(slot));
        assert.ok(Number.isSafeInteger(number) && number >= 0);
      }),
    );
  });

  test('differs with another seed', () => {
    const out = new CallHash();
    hashCallId(sipKey(Buffer.alloc(16)), Buffer.from('abc'), 0, 3, out);
    assert.notEqual(out.key, hash('abc').key);
  });
});
