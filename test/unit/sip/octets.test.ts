// The small readers of SIP octets: ranges, blanks, quoted strings, numbers and comma-joined values.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  equalsIgnoreCase,
  isText,
  lineBreak,
  readNumber,
  sameOctets,
  skipBlanks,
  skipClass,
  skipQuoted,
  TOKEN,
  trimEnd,
  valueEnd,
} from '../../../src/sip/octets.ts';

const bytes = (text: string): Buffer => Buffer.from(text, 'latin1');
/** Returns the text that `end` leaves of `text` from `at` on. */
const rest = (text: string, end: (octets: Buffer) => number): string => text.slice(end(bytes(text)));

describe('blanks', () => {
  for (const [text, left] of [
    ['x', 'x'],
    ['  \tx ', 'x '],
    [' \r\n x', 'x'],
    ['   ', ''],
    ['', ''],
  ] as const)
    test(`before ${JSON.stringify(left)} are skipped in ${JSON.stringify(text)}`, () =>
      assert.equal(
        rest(text, (octets) => skipBlanks(octets, 0, octets.length)),
        left,
      ));

  test('at the end are trimmed, but not beyond the start', () => {
    const octets = bytes('ab \t ');
    assert.equal(trimEnd(octets, 0, octets.length), 2);
    assert.equal(trimEnd(octets, 3, octets.length), 3);
    assert.equal(trimEnd(octets, 0, 1), 1);
  });

  test('outside of the range are not read', () => assert.equal(skipBlanks(bytes('   x'), 0, 2), 2));
});

test('a run of a class ends at the first octet outside of it', () => {
  assert.equal(
    rest('INVITE sip', (octets) => skipClass(octets, 0, octets.length, TOKEN)),
    ' sip',
  );
  assert.equal(skipClass(bytes('INVITE'), 0, 3, TOKEN), 3);
});

test('a line ends at the first CR or LF, or at the end of the range', () => {
  for (const [text, at] of [
    ['a b\r\n', 3],
    ['a\nb\r\n', 1],
    ['\t\x0b\x0c', 3],
  ] as const)
    assert.equal(lineBreak(bytes(text), 0, text.length), at, JSON.stringify(text));
});

describe('a quoted string', () => {
  for (const [text, left] of [
    ['"" x', ' x'],
    ['"a b";c', ';c'],
    ['"a \\" b";c', ';c'],
    ['"a \\\\";c', ';c'],
    ['"never closed', ''],
    ['"escaped end\\', ''],
  ] as const)
    test(`${text} leaves ${JSON.stringify(left)}`, () =>
      assert.equal(
        rest(text, (octets) => skipQuoted(octets, 0, octets.length)),
        left,
      ));
});

describe('a number', () => {
  for (const [text, max, value] of [
    ['0', 9, 0],
    ['0070', 100, 70],
    ['4294967295', 0xffffffff, 4294967295],
    ['4294967296', 0xffffffff, -1],
    ['71', 70, -1],
    ['', 70, -1],
    ['7a', 70, -1],
    ['-1', 70, -1],
    ['7 ', 70, -1],
    ['99999999999999999999999999', 0xffffffff, -1],
  ] as const)
    test(`${JSON.stringify(text)} up to ${max} is ${value}`, () =>
      assert.equal(readNumber(bytes(text), 0, text.length, max), value));
});

describe('a comparison', () => {
  test('ignores the case of letters and of nothing else', () => {
    const lower = bytes('tag[1');
    for (const [text, equal] of [
      ['TAG[1', true],
      ['tAg[1', true],
      ['tag{1', false],
      ['tag[', false],
      ['tag[12', false],
    ] as const)
      assert.equal(equalsIgnoreCase(bytes(text), 0, text.length, lower), equal, text);
  });

  test('with a text needs the same length and case', () => {
    const octets = bytes('xlr=onx');
    assert.equal(isText(octets, 1, 6, 'lr=on'), true);
    assert.equal(isText(octets, 1, 6, 'LR=on'), false);
    assert.equal(isText(octets, 1, 6, 'lr=o'), false);
    assert.equal(isText(octets, 1, 1, ''), true);
  });

  test('between two ranges covers octets and lengths', () => {
    const [a, b] = [bytes('-abc-'), bytes('abcd')];
    assert.equal(sameOctets(a, 1, 4, b, 0, 3), true);
    assert.equal(sameOctets(a, 1, 4, b, 0, 4), false);
    assert.equal(sameOctets(a, 1, 4, b, 1, 4), false);
  });
});

describe('a value in a comma-joined line', () => {
  for (const [text, left] of [
    ['<sip:a@b>, <sip:c@d>', ', <sip:c@d>'],
    ['"a, b" <sip:a@b>,c', ',c'],
    ['<sip:a,b@c>,d', ',d'],
    ['<sip:a,b@c', ''],
    ['"never closed, a', ''],
    ['alone', ''],
    [',', ','],
  ] as const)
    test(`${text} leaves ${JSON.stringify(left)}`, () =>
      assert.equal(
        rest(text, (octets) => valueEnd(octets, 0, octets.length)),
        left,
      ));
});
