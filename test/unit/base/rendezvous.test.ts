import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { fnv1a, mix32, rendezvousScore } from '../../../src/base/rendezvous.ts';

describe('weighted rendezvous hashing', () => {
  // Test vectors of draft-eastlake-fnv, appendix C.
  for (const [text, hash] of [
    ['', 0x811c9dc5],
    ['a', 0xe40c292c],
    ['foobar', 0xbf9cf968],
  ] as const)
    test(`the FNV-1a hash of "${text}" is that of the published vectors`, () => assert.equal(fnv1a(text), hash));

  test('the mix is a permutation that never changes: it gives the published values of MurmurHash3', () => {
    assert.equal(mix32(0), 0);
    assert.equal(mix32(1) >>> 0, 0x514e28b7);
    fc.assert(fc.property(fc.integer(), fc.integer(), (a, b) => a === b || mix32(a) !== mix32(b)));
  });

  test('the score is finite and positive for every hash, and rises with hash and weight', () => {
    for (const hash of [0, 1, 0x7fffffff, 0x80000000, 0xffffffff]) {
      const score = rendezvousScore(hash, 1);
      assert.ok(score > 0 && Number.isFinite(score), `${hash}`);
      assert.ok(rendezvousScore(hash, 2) > score);
      if (hash > 0) assert.ok(score > rendezvousScore(hash - 1, 1));
    }
  });

  test('a candidate wins its share of the weights', () => {
    let won = 0;
    for (let i = 0; i < 10_000; i++) {
      const score = (id: string, weight: number): number => rendezvousScore(mix32(fnv1a(`${id}/${i}`)) >>> 0, weight);
      if (score('a', 3) > score('b', 1)) won++;
    }
    assert.ok(won > 7300 && won < 7700, `${won} of 10,000`);
  });
});
