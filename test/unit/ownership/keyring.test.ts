// Keys derived from a farm key.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { keyring } from '../../../src/ownership/keyring.ts';

const SECRET = '0123456789abcdef'.repeat(4);

describe('a keyring', () => {
  test('derives one key for each purpose, all different, and the same at every member', () => {
    const { primary } = keyring([SECRET]);
    assert.deepEqual(keyring([SECRET.toUpperCase()]).primary, primary);
    const texts = [primary.token, primary.relay, primary.branch, primary.psk.subarray(0, 16)].map(String);
    assert.equal(new Set(texts).size, 4);
    assert.ok(primary.id >= 0 && primary.id < 16);
    assert.equal(primary.psk.length, 32);
  });

  test('does not depend on the order of the list, except for the key that mints', () => {
    const other = 'ff'.repeat(32);
    const [a, b] = [keyring([SECRET, other]), keyring([other, SECRET])];
    assert.deepEqual([a.primary, a.all[1]], [b.all[1], b.primary]);
  });

  for (const [text, secret] of [
    ['too short', 'ab'.repeat(31)],
    ['too long', 'ab'.repeat(33)],
    ['not hexadecimal', 'zz'.repeat(32)],
    ['with a line end', `${SECRET}\n`],
    ['empty', ''],
  ] as const)
    test(`refuses a key that is ${text}, with an error that does not contain it`, () => {
      assert.throws(
        () => keyring([SECRET, secret]),
        (error: Error & { code?: string }) =>
          error.code === 'SF_KEY_INVALID' &&
          error.message.includes('key 2') &&
          (secret === '' || !error.message.includes(secret)),
      );
    });

  test('refuses an empty list', () => {
    assert.throws(() => keyring([]), { code: 'SF_KEYS_MISSING' });
  });
});
