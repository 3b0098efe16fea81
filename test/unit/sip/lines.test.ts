// The header lines that the vectors find, against a walk octet by octet.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { HeaderName } from '../../../src/sip/header-name.ts';
import { HeaderLine, nextHeader } from '../../../src/sip/headers.ts';
import {
  FOUND_WORDS,
  findLines,
  found,
  LINE_END,
  NAME,
  NO_NAME,
  VALUE_END,
  VALUE_START,
  WORD_END,
} from '../../../src/sip/lines.ts';

/** The names that the scanner reads. */
const WANTED = new Set<HeaderName>([
  HeaderName.VIA,
  HeaderName.FROM,
  HeaderName.TO,
  HeaderName.CALL_ID,
  HeaderName.CSEQ,
  HeaderName.CONTENT_LENGTH,
  HeaderName.MAX_FORWARDS,
  HeaderName.ROUTE,
  HeaderName.CONTACT,
  HeaderName.REPLACES,
  HeaderName.JOIN,
  HeaderName.TARGET_DIALOG,
]);

const names = fc.oneof(
  fc.constantFrom(
    'Via',
    'v',
    'CALL-ID',
    'call-id',
    'Max-Forwards',
    'Content-Length',
    'target-dialog',
    'Contact',
    'm',
    'To',
    'Tol',
    'o',
  ),
  fc.string({ unit: fc.constantFrom(...'abz-09.!%*_+`~'), minLength: 1, maxLength: 40 }),
);
const values = fc.string({ unit: fc.constantFrom(...'ab:;" \t\x00\x7f\xff', '\r\n ', '\r\n\t'), maxLength: 70 });
const lines = fc.array(fc.tuple(names, fc.constantFrom('', ' ', '\t \t'), values), { maxLength: 20 });

function firstBlank(bytes: Buffer, start: number, end: number): number {
  let i = start;
  while (i < end && bytes[i]! > 0x20 && bytes[i]! !== 0x7f) i++;
  return i;
}

test('whatever the lines are and wherever they begin, name, value and end of each are those that a walk finds', () => {
  fc.assert(
    fc.property(lines, fc.nat(40), fc.boolean(), (generated, before, emptyLine) => {
      const text = generated.map(([name, blank, value]) => `${name}${blank}:${value}\r\n`).join('');
      const bytes = Buffer.from(
        `${'\r\n'.padStart(before + 2, 'x')}${text}${emptyLine ? '\r\nv: body\r\n' : ''}`,
        'latin1',
      );
      const start = before + 2;
      const end = start + text.length;
      const whole = findLines(bytes, start, emptyLine ? bytes.length : end, 512);
      assert.equal(whole, generated.length);
      const line = new HeaderLine();
      for (let at = start, row = 0; nextHeader(bytes, at, end, line); at = line.lineEnd, row += FOUND_WORDS) {
        assert.equal(found[row + LINE_END], line.lineEnd);
        assert.equal(found[row + NAME], WANTED.has(line.name) ? line.name : HeaderName.OTHER);
        if (!WANTED.has(line.name)) continue;
        const [valueStart, valueEnd] = [found[row + VALUE_START]!, found[row + VALUE_END]!];
        assert.equal(valueEnd - valueStart, line.valueEnd - line.valueStart);
        if (valueStart < valueEnd) assert.equal(valueStart, line.valueStart);
        assert.equal(found[row + WORD_END], firstBlank(bytes, valueStart, valueEnd));
      }
    }),
  );
});

const broken: readonly (readonly [what: string, line: string, at: number])[] = [
  ['a CR alone', 'To: abc\rdef\r\n', 7],
  ['a LF alone, far from the begin of the line', `To: ${'x'.repeat(50)}\n`, 54],
  ['the end', 'To: abc', 7],
  ['the end between CR and LF', 'To: abc\r', 7],
  ['the end in the name', 'Conte', 5],
];
for (const [what, line, at] of broken)
  test(`a line that ${what} breaks off is found as far as that, and not counted`, () => {
    const bytes = Buffer.from(`Via: a\r\n${line}`);
    // What an earlier, longer message left behind the end must not be read.
    findLines(Buffer.alloc(200, '\n'), 0, 200, 512);
    assert.equal(findLines(bytes, 0, bytes.length, 512), 1);
    assert.equal(found[FOUND_WORDS + LINE_END], 8 + at);
  });

test('a line that begins with no name, or has no colon behind it, is told from one whose name nobody reads', () => {
  const bytes = Buffer.from(': a\r\nSubject\r\nSub ject: a\r\nS@: a\r\nSubject: a\r\n');
  assert.equal(findLines(bytes, 0, bytes.length, 512), 5);
  const namesFound = Array.from({ length: 5 }, (_, line) => found[line * FOUND_WORDS + NAME]);
  assert.deepEqual(namesFound, [NO_NAME, NO_NAME, NO_NAME, NO_NAME, HeaderName.OTHER]);
});
