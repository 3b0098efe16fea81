// Header lines found by the vector code, compared with a walk octet by octet.
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

/** Names that the scanner reads. */
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

test('name, value and end of each line are those of a plain walk, whatever the lines and their offsets are', () => {
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
  ['a bare CR', 'To: abc\rdef\r\n', 7],
  ['a bare LF far from the start of the line', `To: ${'x'.repeat(50)}\n`, 54],
  ['the end of the message', 'To: abc', 7],
  ['the end of the message between CR and LF', 'To: abc\r', 7],
  ['the end of the message in the name', 'Conte', 5],
];
for (const [what, line, at] of broken)
  test(`a line that ends at ${what} is found up to that place and not counted`, () => {
    const bytes = Buffer.from(`Via: a\r\n${line}`);
    // Octets of an earlier, longer message behind the end must not be read.
    findLines(Buffer.alloc(200, '\n'), 0, 200, 512);
    assert.equal(findLines(bytes, 0, bytes.length, 512), 1);
    assert.equal(found[FOUND_WORDS + LINE_END], 8 + at);
  });

test('a line without a name or a colon differs from a line with an unknown name', () => {
  const bytes = Buffer.from(': a\r\nSubject\r\nSub ject: a\r\nS@: a\r\nSubject: a\r\n');
  assert.equal(findLines(bytes, 0, bytes.length, 512), 5);
  const namesFound = Array.from({ length: 5 }, (_, line) => found[line * FOUND_WORDS + NAME]);
  assert.deepEqual(namesFound, [NO_NAME, NO_NAME, NO_NAME, NO_NAME, HeaderName.OTHER]);
});
