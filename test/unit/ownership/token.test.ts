// Tokens: the farm accepts the tokens that it has signed, and no others.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { base32Decode, base32Encode } from '../../../src/base/base32.ts';
import { keyring } from '../../../src/ownership/keyring.ts';
import {
  MAGIC_COOKIE,
  mintToken,
  readBranchToken,
  readToken,
  Token,
  type TokenCheck,
  TokenKind,
  writeToken,
} from '../../../src/ownership/token.ts';

const OLD = '11'.repeat(32);
const NEW = '22'.repeat(32);
const keys = keyring([OLD]);
const token = new Token();

const kinds = fc.constantFrom(...Object.values(TokenKind));
const numbers = fc.integer({ min: 1, max: 65535 });
const incarnations = fc.integer({ min: 1, max: 0xffffff });
const values = fc.uint8Array({ maxLength: 19 });

function check(text: string, ring = keys): TokenCheck {
  const bytes = Buffer.from(text, 'latin1');
  return readToken(ring, bytes, 0, bytes.length, token);
}

/** A branch token with a nonce of 8 octets. */
const sample = mintToken(keys, TokenKind.outward, 259, 0x010203, Buffer.from('nonce678'));

describe('a token', () => {
  test('contains its member and its value', () => {
    fc.assert(
      fc.property(kinds, numbers, incarnations, values, (kind, member, incarnation, value) => {
        assert.equal(check(mintToken(keys, kind, member, incarnation, value)), 'valid');
        assert.deepEqual(
          [token.kind, token.member, token.incarnation, token.keyId],
          [kind, member, incarnation, keys.primary.id],
        );
        assert.deepEqual(Uint8Array.from(token.octets.subarray(token.valueStart, token.valueEnd)), value);
      }),
    );
  });

  test('never changes between versions, because members of two versions must agree', () => {
    assert.equal(sample, 'sf3g1020o1081msrrecdijcdpoir4al4e266llu');
  });

  test('is written at the given offset inside of a larger text', () => {
    const bytes = Buffer.alloc(80, 0x2e);
    const end = writeToken(keys, TokenKind.dialog, 7, 9, new Uint8Array(0), 0, bytes, 5);
    assert.equal(bytes.toString('latin1', 0, 5), '.....');
    assert.equal(bytes[end], 0x2e);
    assert.equal(readToken(keys, bytes, 5, end, token), 'valid');
  });

  test('makes a branch of at most 48 characters, all allowed in a token of RFC 3261', () => {
    const branch = MAGIC_COOKIE + sample;
    assert.ok(branch.length <= 48, `${branch.length}`);
    assert.match(branch, /^z9hG4bK[a-z0-9]+$/);
    assert.equal(readBranchToken(keys, Buffer.from(branch), 0, branch.length, token), 'valid');
    assert.equal(token.member, 259);
  });

  test('stays valid after an element has changed the letter case', () => {
    fc.assert(
      fc.property(fc.infiniteStream(fc.boolean()), (upper) => {
        const changed = (MAGIC_COOKIE + sample)
          .split('')
          .map((character) => (upper.next().value ? character.toUpperCase() : character.toLowerCase()))
          .join('');
        assert.equal(readBranchToken(keys, Buffer.from(changed), 0, changed.length, token), 'valid');
      }),
    );
  });
});

describe('a token is refused', () => {
  test('after a change of any single bit of its octets', () => {
    const octets = new Uint8Array(40);
    const length = base32Decode(Buffer.from(sample), 2, sample.length, octets);
    for (let bit = 0; bit < length * 8; bit++) {
      const changed = octets.slice(0, length);
      changed[bit >> 3]! ^= 1 << (bit & 7);
      const text = Buffer.from(`sf${'.'.repeat(sample.length - 2)}`);
      base32Encode(changed, length, text, 2);
      assert.equal(readToken(keys, text, 0, text.length, token), 'forged', `bit ${bit}`);
    }
  });

  test('after a change of any single bit of its characters, except for the letter case', () => {
    for (let bit = 0; bit < sample.length * 8; bit++) {
      const text = Buffer.from(sample);
      text[bit >> 3]! ^= 1 << (bit & 7);
      const sameButForCase = text.toString('latin1').toLowerCase() === sample;
      assert.equal(readToken(keys, text, 0, text.length, token) === 'valid', sameButForCase, `bit ${bit}`);
    }
  });

  test('when it is cut or extended at any place', () => {
    for (let length = 0; length < sample.length; length++) assert.notEqual(check(sample.slice(0, length)), 'valid');
    for (const tail of ['0', '00', 'sf', '.', '0'.repeat(100)]) assert.equal(check(sample + tail), 'forged', tail);
  });

  test('when its parts come from two valid tokens', () => {
    const other = mintToken(keys, TokenKind.outward, 260, 0x010203, Buffer.from('nonce679'));
    for (let at = 3; at < sample.length - 1; at++) {
      const mixed = sample.slice(0, at) + other.slice(at);
      if (mixed !== sample && mixed !== other) assert.equal(check(mixed), 'forged', `cut at ${at}`);
    }
  });

  test('when another farm minted it', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), kinds, numbers, (secret, kind, member) => {
        const foreign = keyring([Buffer.from(secret).toString('hex')]);
        assert.equal(check(mintToken(foreign, kind, member, 1)), 'forged');
      }),
    );
  });

  test('as no token at all when the text does not look like one', () => {
    for (const text of ['', 's', 'sf', 'sf0', 'sfoobar', 'z9hG4bK', `sg${sample.slice(2)}`, `xf${sample.slice(2)}`])
      assert.equal(check(text), 'none', text);
    for (const branch of ['', 'z9hG4bK', 'z9hG4bKnashds8', sample, `z9hG4b${sample}`])
      assert.equal(readBranchToken(keys, Buffer.from(branch), 0, branch.length, token), 'none', branch);
  });

  test('without a throw, whatever the octets are', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 80 }), (noise) => {
        assert.notEqual(check(`sf${noise}`), 'valid');
      }),
    );
  });

  test('when it ends outside of the given range', () => {
    const bytes = Buffer.from(sample);
    assert.notEqual(readToken(keys, bytes, 0, bytes.length - 1, token), 'valid');
  });
});

describe('while keys rotate', () => {
  const minted = (secrets: readonly string[]): string => mintToken(keyring(secrets), TokenKind.dialog, 1, 1);

  test('the first key mints and both verify', () => {
    const both = keyring([NEW, OLD]);
    assert.equal(minted([NEW, OLD]), minted([NEW]));
    assert.equal(check(minted([OLD]), both), 'valid');
    assert.equal(check(minted([NEW]), both), 'valid');
  });

  test('a member with only the old key, or with a removed key, reports a forged token', () => {
    assert.equal(check(minted([NEW, OLD]), keyring([OLD, NEW])), 'valid');
    assert.equal(check(minted([OLD]), keyring([NEW])), 'forged');
    assert.equal(check(minted([NEW]), keyring([OLD])), 'forged');
  });

  test('two keys with the same id both verify', () => {
    const byId = new Map<number, string>();
    let pair: readonly string[] | undefined;
    for (let i = 0; !pair; i++) {
      const secret = i.toString(16).padStart(64, '0');
      const id = keyring([secret]).primary.id;
      const other = byId.get(id);
      if (other) pair = [secret, other];
      byId.set(id, secret);
    }
    for (const secret of pair) assert.equal(check(minted([secret]), keyring(pair)), 'valid');
  });
});
