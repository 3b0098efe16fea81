// TCP framing (RFC 3261 section 18.3): the same messages at every cut of the stream, and no octet of a smuggled
// message.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Framer, type FramerLimits } from '../../../src/transport/framer.ts';
import { message } from './bench.ts';

const LIMITS: FramerLimits = { headerBytes: 65_536, messageBytes: 65_536 };
const TORTURE = path.join(import.meta.dirname, '../../torture/rfc4475');

interface Run {
  readonly events: string[];
  readonly framer: Framer;
}

/** Returns the events of a framer for the chunks as text, one line per event. */
function frame(chunks: readonly Buffer[], limits = LIMITS): Run {
  const events: string[] = [];
  const framer = new Framer(
    {
      onMessage: (bytes, start, end) => events.push(`message ${bytes.toString('latin1', start, end)}`),
      onKeepalive: () => events.push('keepalive'),
      onFault: (fault, bytes, start, end) => events.push(`fault ${fault} ${bytes.toString('latin1', start, end)}`),
    },
    limits,
  );
  for (const chunk of chunks) framer.feed(chunk);
  return { events, framer };
}

function whole(text: string, limits = LIMITS): string[] {
  return frame([Buffer.from(text, 'latin1')], limits).events;
}

/** Returns the chunks between the sorted cuts, each with its own buffer, as a socket delivers them. */
function cut(stream: Buffer, cuts: readonly number[]): Buffer[] {
  const at = [0, ...[...cuts].sort((a, b) => a - b), stream.length];
  return at.slice(1).map((end, i) => Buffer.from(stream.subarray(at[i], end)));
}

/** Returns a request with `lines` as its Content-Length lines and `rest` behind its headers. */
function withLength(lines: string, rest = ''): string {
  return `OPTIONS sip:a@example.com SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.4\r\n${lines}Call-ID: x\r\n\r\n${rest}`;
}

function faultOf(text: string, limits = LIMITS): string | undefined {
  const events = whole(text, limits);
  return events.length === 1 ? /^fault (\S+)/.exec(events[0]!)?.[1] : undefined;
}

describe('a TCP stream', () => {
  const stream = Buffer.from(
    `\r\n${message('one', 'v=0\r\n\r\ns=-\r\n')}\r\n\r\n${message('two')}${message('three', 'x'.repeat(700))}\r\n`,
    'latin1',
  );

  test('is split into its messages and the keep-alives between them', () => {
    assert.deepEqual(frame([stream]).events, [
      `message ${message('one', 'v=0\r\n\r\ns=-\r\n')}`,
      'keepalive',
      `message ${message('two')}`,
      `message ${message('three', 'x'.repeat(700))}`,
    ]);
  });

  test('gives the same messages at each split, at each pair of splits, and octet by octet', () => {
    const expected = frame([stream]).events;
    for (let at = 0; at <= stream.length; at++) assert.deepEqual(frame(cut(stream, [at])).events, expected);
    for (let a = 0; a < stream.length; a += 17) {
      for (let b = a + 1; b < stream.length; b += 29) assert.deepEqual(frame(cut(stream, [a, b])).events, expected);
    }
    assert.deepEqual(frame(cut(stream, [...stream.keys()])).events, expected);
  });

  const files = readdirSync(TORTURE).filter((name) => name.endsWith('.dat'));
  const expectedFault: Record<string, string> = {
    'inv2543.dat': 'no-length',
    'mcl01.dat': 'length-conflict',
    'ncl.dat': 'bad-length',
  };
  // baddn ends without its empty line, clerr announces more octets than it has.
  const unfinished = new Set(['baddn.dat', 'clerr.dat']);
  assert.ok(files.length >= 49);
  for (const name of files) {
    test(`from ${name} gives the same messages at every split`, () => {
      const octets = readFileSync(path.join(TORTURE, name));
      const { events: expected, framer } = frame([octets]);
      const fault = expectedFault[name];
      if (fault) assert.match(expected[0]!, new RegExp(`^fault ${fault} `));
      else if (unfinished.has(name)) {
        assert.deepEqual(expected, []);
        assert.ok(framer.half);
      } else assert.match(expected[0]!, /^message /);
      for (let at = 1; at < octets.length; at++) assert.deepEqual(frame(cut(octets, [at])).events, expected);
    });
  }

  test('with any octets gives the same events at every split', () => {
    const piece = fc.oneof(
      fc.constantFrom('\r\n', '\r', '\n', '\r\n\r\n', ' ', ':', '\0', 'l:', 'L : 3\r\n', 'Content-Length: 2\r\n'),
      fc.constantFrom('content-length :\r\n 4\r\n', 'Content-Length: 99999999999\r\n', 'INVITE a SIP/2.0\r\n', 'abcd'),
      fc.constant(message('m', 'body')),
      fc.string({ maxLength: 4 }),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), fc.array(fc.nat(), { maxLength: 8 }), (pieces, cuts) => {
        const octets = Buffer.from(pieces.join(''), 'latin1');
        const limits = { headerBytes: 300, messageBytes: 400 };
        const places = cuts.map((at) => at % (octets.length + 1));
        assert.deepEqual(frame(cut(octets, places), limits).events, frame([octets], limits).events);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe('Content-Length', () => {
  for (const [what, line] of [
    ['the long name', 'Content-Length: 4\r\n'],
    ['any case', 'cOnTeNt-LeNgTh:4\r\n'],
    ['the compact name', 'l: 4\r\n'],
    ['the compact name in capitals', 'L:4\r\n'],
    ['blanks before the colon', 'Content-Length \t : 4\r\n'],
    ['blanks behind the value', 'Content-Length: 4 \t\r\n'],
    ['a fold before the value', 'Content-Length:\r\n\t 4\r\n'],
    ['a fold behind the value', 'Content-Length: 4\r\n \r\n'],
    ['leading zeros', 'Content-Length: 000000000000000000004\r\n'],
    ['both names with one value', 'l: 4\r\nContent-Length: 04\r\n'],
  ] as const) {
    test(`is accepted in ${what}`, () => {
      const text = withLength(line, 'body');
      assert.deepEqual(whole(`${text}${message()}`), [`message ${text}`, `message ${message()}`]);
    });
  }

  for (const [what, line, fault] of [
    ['has a sign', 'Content-Length: +5\r\n', 'bad-length'],
    ['is negative', 'Content-Length: -1\r\n', 'bad-length'],
    ['has an exponent', 'Content-Length: 1e3\r\n', 'bad-length'],
    ['is hexadecimal', 'Content-Length: 0x10\r\n', 'bad-length'],
    ['is a fraction', 'Content-Length: 5.0\r\n', 'bad-length'],
    ['is a list', 'Content-Length: 5, 5\r\n', 'bad-length'],
    ['is two numbers over a fold', 'Content-Length: 1\r\n 5\r\n', 'bad-length'],
    ['is empty', 'Content-Length:\r\n', 'bad-length'],
    ['is blank over a fold', 'Content-Length:\r\n \r\n', 'bad-length'],
    ['has no colon', 'Content-Length\r\n', 'bad-length'],
    ['hides behind a control octet', 'Content-Length\x0b: 4\r\nl: 0\r\n', 'bad-length'],
    ['hides behind a fold', 'Content-Length\r\n : 4\r\nl: 0\r\n', 'bad-length'],
    ['wraps 32 bits', 'Content-Length: 4294967300\r\n', 'message-too-large'],
    ['wraps 64 bits', 'Content-Length: 18446744073709551620\r\n', 'message-too-large'],
    ['is beyond any number', `Content-Length: ${'9'.repeat(400)}\r\n`, 'message-too-large'],
    ['differs from another', 'Content-Length: 4\r\nContent-Length: 5\r\n', 'length-conflict'],
    ['differs from its compact twin', 'l: 0\r\nContent-Length: 4\r\n', 'length-conflict'],
    ['is missing', '', 'no-length'],
    ['is only the beginning of a name', 'Content-Length-X: 4\r\nContent-Lengt: 4\r\nll: 4\r\n', 'no-length'],
    ['has a carriage return for its hyphen', 'Content\rLength: 4\r\n', 'bare-line-end'],
  ] as const) {
    test(`that ${what} ends the stream with ${fault}`, () => {
      assert.equal(faultOf(withLength(line, `body${message()}`)), fault);
    });
  }

  test('inside a folded line of another header is ignored', () => {
    assert.equal(faultOf(withLength('Subject: a\r\n Content-Length: 4\r\n')), 'no-length');
  });

  test('faults are reported with the complete headers, so that an answer is possible', () => {
    const text = withLength('Content-Length: +5\r\n');
    assert.deepEqual(whole(`${text}more`), [`fault bad-length ${text}`]);
  });
});

describe('framing', () => {
  test('fails at an octet that starts no message', () => {
    for (const first of ['\x16\x03\x01', '\x01', '\r\0', '\r\n\r\0', ' INVITE', '\n', '\r\r', '"']) {
      assert.equal(faultOf(`${first}${message()}`), 'not-sip', JSON.stringify(first));
    }
  });

  test('accepts any number of NULs between messages as keep-alives, and only a double CRLF as a ping', () => {
    const { events, framer } = frame([Buffer.from(`\0${message('one')}\0\0\0\0\r\n\0\r\n\r\n\r\n\0${message('two')}`)]);
    assert.deepEqual(
      events.filter((event) => event !== 'keepalive'),
      [`message ${message('one')}`, `message ${message('two')}`],
    );
    assert.deepEqual([framer.keepalives, framer.pings], [8, 1]);
    assert.equal(frame([Buffer.alloc(100_000)]).framer.keepalives, 100_000);
  });

  test('passes a NUL inside a message on unchanged, and it neither starts nor ends a message', () => {
    const inside = message('one', 'a\0b').replace('Max-Forwards', '\0Max-Forwards');
    assert.deepEqual(whole(inside), [`message ${inside}`]);
  });

  test('fails at a bare CR or LF in the headers', () => {
    assert.equal(faultOf(message().replace('Max-Forwards: 70\r\n', 'Max-Forwards: 70\n')), 'bare-line-end');
    assert.equal(faultOf(message().replace('Max-Forwards: 70', 'Max-Forwards: 7\r0')), 'bare-line-end');
  });

  test('accepts headers of exactly the limit and refuses one octet more', () => {
    const text = withLength('l: 0\r\n');
    assert.deepEqual(whole(text, { headerBytes: text.length, messageBytes: 65_536 }), [`message ${text}`]);
    assert.equal(faultOf(text, { headerBytes: text.length - 1, messageBytes: 65_536 }), 'header-too-large');
    assert.equal(faultOf(text, { headerBytes: 65_536, messageBytes: text.length - 1 }), 'header-too-large');
  });

  test('accepts a message of exactly the limit and refuses one octet more', () => {
    const text = withLength('l: 4\r\n', 'body');
    assert.deepEqual(whole(text, { headerBytes: 65_536, messageBytes: text.length }), [`message ${text}`]);
    assert.equal(faultOf(text, { headerBytes: 65_536, messageBytes: text.length - 1 }), 'message-too-large');
  });

  test('stops in the middle of a chunk when the receiver returns false', () => {
    const seen: number[] = [];
    const onMessage = (_bytes: Buffer, start: number): void => {
      seen.push(start);
      framer.stop();
    };
    const framer = new Framer({ onMessage, onKeepalive() {}, onFault() {} }, LIMITS);
    framer.feed(Buffer.from(message() + message()));
    framer.feed(Buffer.from(message()));
    assert.deepEqual(seen, [0]);
  });

  test('passes on a message within one chunk without a copy', () => {
    const chunk = Buffer.from(message('one') + message('two', 'body'));
    const { framer } = frame([chunk]);
    assert.equal(framer.messages, 2);
    assert.equal(framer.copied, 0);
    const handed: Buffer[] = [];
    const other = new Framer({ onMessage: (bytes) => handed.push(bytes), onKeepalive() {}, onFault() {} }, LIMITS);
    other.feed(chunk);
    assert.ok(handed.every((bytes) => bytes === chunk));
  });

  test('allocates for received octets, not for the announced length', () => {
    const { framer } = frame([Buffer.from(withLength('l: 60000\r\n', 'x'))]);
    assert.ok(framer.half);
    assert.ok(framer.heldBytes <= 512, `${framer.heldBytes}`);
  });

  test('frees the partial message once it is complete', () => {
    const octets = Buffer.from(message('x', 'y'.repeat(5_000)));
    const { framer, events } = frame(cut(octets, [100, 3_000]));
    assert.equal(events.length, 1);
    assert.equal(framer.heldBytes, 0);
  });

  test('copies in proportion to the octets, also when they come one by one', () => {
    for (const length of [4_000, 16_000, 60_000]) {
      const octets = Buffer.from(withLength(`Subject: ${'x'.repeat(length)}\r\nl: 0\r\n`));
      const { framer, events } = frame(cut(octets, [...octets.keys()]));
      assert.equal(events.length, 1);
      assert.equal(framer.examined, octets.length);
      // Each octet is copied once into the buffer, and at most twice more while the buffer doubles.
      assert.ok(framer.copied <= 3 * octets.length, `${framer.copied} octets copied for ${octets.length}`);
    }
  });
});
