import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BoundedMap } from '../../../src/base/bounded-map.ts';

test('a new key in a full map replaces the key that was set longest ago', () => {
  const map = new BoundedMap<string, number>(2);
  map.set('a', 1).set('b', 2).set('c', 3);
  assert.deepEqual(
    [...map],
    [
      ['b', 2],
      ['c', 3],
    ],
  );
});

test('a key that is set again is the newest, and replaces no other', () => {
  const map = new BoundedMap<string, number>(2);
  map.set('a', 1).set('b', 2).set('a', 3);
  assert.deepEqual(
    [...map],
    [
      ['b', 2],
      ['a', 3],
    ],
  );
});

test('makeRoom returns the replaced value of a full map only', () => {
  const map = new BoundedMap<string, number>(2);
  map.set('a', 1);
  assert.equal(map.makeRoom(), undefined);
  map.set('b', 2);
  assert.equal(map.makeRoom(), 1);
  assert.deepEqual([...map.keys()], ['b']);
});

test('holds the last distinct keys, in order of their last set, after any sets', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(9)), fc.integer({ min: 1, max: 6 }), (keys, most) => {
      const map = new BoundedMap<number, number>(most);
      for (const [at, key] of keys.entries()) map.set(key, at);
      const newest = [...new Set(keys.toReversed())].slice(0, most).toReversed();
      assert.deepEqual(
        [...map],
        newest.map((key) => [key, keys.lastIndexOf(key)]),
      );
    }),
  );
});
