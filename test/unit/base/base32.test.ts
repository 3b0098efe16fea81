// Base 32 with the digits 0-9 a-v, the encoding of tokens.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { base32Decode, base32Encode, base32Length } from '../../../src/base/base32.ts';

function encode(octets: Uint8Array): string {
  const text = Buffer.alloc(base32Length(octets.length));
  assert.equal(base32Encode(octets, octets.length, text, 0), text.length);
  return text.toString('latin1');
}

function decode(text: string, room = 100): Uint8Array | undefined {
  const octets = new Uint8Array(room);
  const length = base32Decode(Buffer.from(text, 'latin1'), 0, text.length, octets);
  return length < 0 ? undefined : octets.subarray(0, length);
}

describe('base 32', () => {
  for (const [plain, text] of [
    ['', ''],
    ['f', 'co'],
    ['fo', 'cpng'],
    ['foo', 'cpnmu'],
    ['foob', 'cpnmuog'],
    ['fooba', 'cpnmuoj1'],
    ['foobar', 'cpnmuoj1e8'],
  ] as const)
    test(`writes "${plain}" by RFC 4648 section 10`, () => assert.equal(encode(Buffer.from(plain)), text));

  test('reads its own output in any letter case', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), fc.infiniteStream(fc.boolean()), (octets, upper) => {
        const text = encode(octets)
          .split('')
          .map((digit) => (upper.next().value ? digit.toUpperCase() : digit))
          .join('');
        assert.deepEqual(decode(text), octets);
      }),
    );
  });

  test('has one text per value: every text that it reads is written back unchanged', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom(...'0123456789abcdefghijklmnopqrstuv'), maxLength: 20 }),
        (text) => {
          const octets = decode(text);
          if (octets) assert.equal(encode(octets), text);
        },
      ),
      { numRuns: 2000 },
    );
  });

  test('refuses spare bits that are not zero', () => {
    assert.deepEqual(decode('co'), Uint8Array.of(0x66));
    for (const spare of ['cp', 'cq', 'cr']) assert.equal(decode(spare), undefined, spare);
  });

  test('refuses an impossible length', () => {
    for (const text of ['0', '000', '000000']) assert.equal(decode(text), undefined, text);
  });

  test('refuses every other character', () => {
    for (let character = 0; character < 256; character++) {
      const text = `0${String.fromCharCode(character)}00`;
      if (!/^[0-9a-vA-V]+$/.test(text)) assert.equal(decode(text), undefined, `character ${character}`);
    }
  });

  test('refuses an input that exceeds the room', () => {
    assert.notEqual(decode('cpnmuoj1e8', 6), undefined);
    assert.equal(decode('cpnmuoj1e8', 5), undefined);
  });

  test('writes at the offset and reads the given range', () => {
    const text = Buffer.from('................');
    assert.equal(base32Encode(Buffer.from('foo!'), 3, text, 4), 9);
    assert.equal(text.toString(), '....cpnmu.......');
    const octets = new Uint8Array(3);
    assert.equal(base32Decode(text, 4, 9, octets), 3);
    assert.equal(Buffer.from(octets).toString(), 'foo');
  });
});
