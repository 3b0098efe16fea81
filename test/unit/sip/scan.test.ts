// Accepted and refused messages of the scanner, beyond the RFC 4475 messages.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  faultAnswer,
  faultDropReason,
  Method,
  SCAN_FAULTS,
  SCAN_LIMITS,
  Scan,
  type ScanFault,
  scan,
} from '../../../src/sip/scan.ts';
import { crlf, message, mutated, options, scanned, text } from './messages.ts';

const tags: readonly (readonly [value: string, tag: string | null])[] = [
  ['<sip:a@b>;tag=x', 'x'],
  ['sip:a@b;tag=x', 'x'],
  ['<sip:a@b;tag=uri>', null],
  ['<sip:a@b;tag=uri>;tag=x', 'x'],
  ['"a;tag=quoted" <sip:a@b>', null],
  ['"a \\";tag=quoted" <sip:a@b>;TAG = x ;y', 'x'],
  ['<sip:a@b>;p="x;tag=inside";tag=y', 'y'],
  ['<sip:a@b>;tag=', null],
  ['<sip:a@b>;tag', null],
  ['<sip:a@b>;stag=n;tag=x', 'x'],
  ['"unterminated ;tag=x <sip:a@b>', null],
  ['<sip:a@b;tag=x', null],
  ['Bell, Alexander <sip:a@b>;tag=43', '43'],
  ['<sip:a@b>;\r\n tag\r\n =\r\n x', 'x'],
];
for (const [value, tag] of tags) {
  test(`the tag of ${JSON.stringify(value)} is ${tag}`, () => {
    const bytes = options({ From: value, To: value });
    const { scan, fault } = scanned(bytes);
    assert.equal(fault, null);
    assert.equal(text(bytes, scan.fromTagStart, scan.fromTagEnd), tag);
    assert.equal(text(bytes, scan.toTagStart, scan.toTagEnd), tag);
  });
}

const refused: readonly (readonly [what: string, bytes: Buffer, fault: ScanFault, answer: number])[] = [
  [
    'a Via line with a bare LF and 0x16',
    options({ Via: 'SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\n\x16: x' }),
    'line-end',
    0,
  ],
  ['a bare LF behind the Via', options({ Subject: 'a\nContent-Length: 9' }), 'line-end', 400],
  ['a bare CR where a known name has its hyphen', options({ 'Call\rID': 'x' }), 'header-name', 400],
  ['a bare CR in a value', options({ Subject: 'a\rb' }), 'line-end', 400],
  ['only bare LF line ends', Buffer.from(options().toString('latin1').replaceAll('\r', ''), 'latin1'), 'line-end', 0],
  ['a control octet in a header name', options({ 'Content\x01Length': '5' }), 'header-name', 400],
  ['a header line without a colon', options({ 'X: y\r\nRubbish\r\nZ': '1' }), 'header-name', 400],
  ['a Content-Length beyond 2^32', options({ 'Content-Length': '4294967296' }), 'content-length', 400],
  ['a Content-Length beyond 2^64', options({ 'Content-Length': '18446744073709551616' }), 'content-length', 400],
  ['a Content-Length with a sign', options({ 'Content-Length': '+0' }), 'content-length', 400],
  ['a Content-Length in exponent form', options({ 'Content-Length': '1e0' }), 'content-length', 400],
  ['a Content-Length in two forms that differ', options({ l: '5' }, undefined, 'four'), 'content-length', 400],
  ['a Content-Length joined by a comma', options({ 'Content-Length': '0, 0' }), 'content-length', 400],
  ['an empty Content-Length', options({ 'Content-Length': '' }), 'content-length', 400],
  [
    'a Content-Length one above what came',
    options({ 'Content-Length': '5' }, undefined, 'four'),
    'content-length-beyond',
    400,
  ],
  ['two Call-ID, one compact', options({ i: 'call2' }), 'duplicate-header', 400],
  ['two To, one compact with a blank before the colon', options({ 't ': '<sip:x@y>' }), 'duplicate-header', 400],
  ['a Call-ID with a blank inside', options({ 'Call-ID': 'a b' }), 'call-id', 400],
  ['a Call-ID with a NUL inside', options({ 'Call-ID': 'a\0b' }), 'call-id', 400],
  ['an empty Call-ID', options({ 'Call-ID': '' }), 'missing-header', 400],
  ['a CSeq without a method', options({ CSeq: '1' }), 'cseq', 400],
  ['a CSeq of two numbers', options({ CSeq: '1 2 OPTIONS' }), 'cseq', 400],
  ['a CSeq with digits and method joined', options({ CSeq: '1OPTIONS' }), 'cseq', 400],
  ['a CSeq of 2^32', options({ CSeq: '4294967296 OPTIONS' }), 'cseq', 400],
  ['a CSeq method in another case', options({ CSeq: '1 options' }), 'method-mismatch', 400],
  ['no Via', options({ Via: undefined }), 'no-via', 0],
  ['a Via without sent-by', options({ Via: 'SIP/2.0/UDP ;branch=z9hG4bK1' }), 'no-via', 0],
  ['a Via port of 65536', options({ Via: 'SIP/2.0/UDP h:65536;branch=z9hG4bK1' }), 'no-via', 0],
  ['an ACK with a fault', options({ CSeq: '1 INVITE' }, 'ACK sip:a@b SIP/2.0'), 'method-mismatch', 0],
  ['a response with a fault', options({ CSeq: 'x' }, 'SIP/2.0 200 OK'), 'cseq', 0],
  ['a response of status 99', options({}, 'SIP/2.0 099 Odd'), 'status', 0],
  ['a response of four digits', options({}, 'SIP/2.0 2000 Odd'), 'status', 0],
  ['a response of another version', options({}, 'SIP/3.0 200 OK'), 'version', 0],
  ['a folded start line', options({}, 'OPTIONS sip:a@b SIP/2.0\r\n folded: x'), 'start-line', 400],
  ['a control octet in the Request-URI', options({}, 'OPTIONS sip:a\x01@b SIP/2.0'), 'start-line', 400],
  ['a tab in the start line', options({}, 'OPTIONS\tsip:a@b SIP/2.0'), 'start-line', 400],
  ['a version without a dot', options({}, 'OPTIONS sip:a@b SIP/2'), 'start-line', 400],
  [
    'more header lines than the limit',
    options({ Subject: `x${'\r\ny: z'.repeat(SCAN_LIMITS.headerLines)}` }),
    'header-limit',
    400,
  ],
  ['two semicolons behind a Via', options({ Via: 'SIP/2.0/UDP h;branch=z9hG4bK1;;' }), 'via', 400],
  ['a message that ends inside a line', options().subarray(0, -6), 'truncated', 400],
];
for (const [what, bytes, fault, answer] of refused) {
  test(`the scanner refuses ${what}`, () => {
    const result = scanned(bytes);
    assert.equal(result.fault, fault);
    assert.equal(faultAnswer(fault, result.scan), answer);
    assert.equal(faultDropReason(result.scan) === null, answer !== 0);
  });
}

const accepted: readonly (readonly [what: string, bytes: Buffer])[] = [
  ['a Content-Length twice with one value', options({ l: '004' }, undefined, 'four')],
  ['an IPv6 literal in brackets in the Request-URI (RFC 5118 4.1)', options({}, 'OPTIONS sip:[2001:db8::10] SIP/2.0')],
  [
    'an IPv6 literal without brackets in the Request-URI, which only the owner refuses (4.2)',
    options({}, 'OPTIONS sip:2001:db8::10 SIP/2.0'),
  ],
  ['a port inside the brackets (4.3)', options({}, 'OPTIONS sip:[2001:db8::10:5070] SIP/2.0')],
  ['a port outside the brackets (4.4)', options({}, 'OPTIONS sip:[2001:db8::10]:5070 SIP/2.0')],
  [
    'received with brackets (4.5)',
    options({ Via: 'SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255];branch=z9hG4bKas3-111' }),
  ],
  [
    'received without brackets (4.5)',
    options({ Via: 'SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9:255;branch=z9hG4bKas3-111' }),
  ],
  [
    'both families in several headers (4.7)',
    options({ v: 'SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx, SIP/2.0/TCP [2001:db8::9:1];branch=z9hG4bKy' }),
  ],
  ['an IPv4-mapped literal (4.9)', options({ Via: 'SIP/2.0/UDP [::ffff:192.0.2.10]:19823;branch=z9hG4bKbh19' })],
  [
    'three colons before an embedded IPv4 address (4.10)',
    options(
      { Via: 'SIP/2.0/UDP [2001:db8:::192.0.2.1];branch=z9hG4bKas3-111' },
      'OPTIONS sip:user@[2001:db8:::192.0.2.1] SIP/2.0',
    ),
  ],
  ['a response without a reason phrase', options({}, 'SIP/2.0 200')],
  ['the version in small letters', options({}, 'OPTIONS sip:a@b sip/2.0')],
  ['a Via port of 0, which counts as no port', options({ Via: 'SIP/2.0/UDP h:0;branch=z9hG4bK1' })],
  ['a branch with octets that are no token', options({ Via: 'SIP/2.0/UDP h;branch=z9hG4bKab/c+d==' })],
  ['empty parameters of Via', options({ Via: 'SIP/2.0/UDP h;branch=;rport=;received=;oc' })],
  [
    '64 Via lines',
    crlf(
      'OPTIONS sip:a@b SIP/2.0',
      ...Array(64).fill('v: SIP/2.0/UDP h;branch=z9hG4bKx'),
      ...options().toString('latin1').split('\r\n').slice(2, 7),
      '',
    ),
  ],
  ['a header line of nearly the whole message', options({ Subject: 'x'.repeat(SCAN_LIMITS.message - 400) })],
  ['an unterminated quote in To', options({ To: '"a <sip:a@b>' })],
  ['an unreadable Authorization', options({ Authorization: 'Digest ,,,=",";\\' })],
];
for (const [what, bytes] of accepted) {
  test(`the scanner accepts ${what}`, () => assert.equal(scanned(bytes).fault, null));
}

describe('a Via of RFC 5118', () => {
  const cases: readonly (readonly [via: string, host: string, port: number, received: string | null])[] = [
    [
      'SIP/2.0/UDP [2001:db8::9:1]:5070;branch=z9hG4bK1;received=[2001:db8::9:255]',
      '2001:db8::9:1',
      5070,
      '2001:db8::9:255',
    ],
    ['SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9:255;branch=z9hG4bK1', '2001:db8::9:1', 0, '2001:db8::9:255'],
    ['SIP/2.0/UDP [::ffff:192.0.2.10]:19823;branch=z9hG4bKbh19', '::ffff:192.0.2.10', 19823, null],
  ];
  for (const [value, host, port, received] of cases) {
    test(value, () => {
      const bytes = options({ Via: value });
      const { via } = scanned(bytes).scan;
      assert.equal(text(bytes, via.hostStart, via.hostEnd), host);
      assert.equal(via.hostIsIpv6, true);
      assert.equal(via.port, port);
      assert.equal(text(bytes, via.receivedStart, via.receivedEnd), received);
    });
  }
});

test('a blank before the colon does not hide a header', () => {
  const bytes = options({ 'Max-Forwards': undefined, 'mAx-forwards \t': '12' });
  assert.equal(scanned(bytes).scan.maxForwards, 12);
});

test('a stream needs Content-Length, a datagram does not', () => {
  const bytes = options({ 'Content-Length': undefined }, undefined, 'body');
  assert.equal(scanned(bytes, true).fault, 'content-length-missing');
  const { fault, scan } = scanned(bytes);
  assert.equal(fault, null);
  assert.equal(scan.end - scan.bodyStart, 4);
});

test('the first Route value and the header with another dialog are found', () => {
  const bytes = options({
    Route: '"a,b" <sip:p1.example.com;x=",";lr>;y , <sip:p2.example.com;lr>',
    Replaces: 'abc@host;to-tag=1;from-tag=2',
    Join: 'other',
  });
  const { scan } = scanned(bytes);
  assert.equal(text(bytes, scan.routeStart, scan.routeEnd), '"a,b" <sip:p1.example.com;x=",";lr>;y');
  assert.equal(text(bytes, scan.namedDialogStart, scan.namedDialogEnd), 'abc@host;to-tag=1;from-tag=2');
});

test('the method of a response is that of its CSeq', () => {
  assert.equal(scanned(options({ CSeq: '3 INVITE' }, 'SIP/2.0 180 Ringing')).scan.method, Method.INVITE);
  assert.equal(scanned(options({ CSeq: '3 INVITEX' }, 'SIP/2.0 180 Ringing')).scan.method, Method.OTHER);
});

test('a message in the middle of a buffer is scanned as if it were alone', () => {
  const inner = options({ CSeq: '77 OPTIONS' });
  const bytes = Buffer.concat([Buffer.from('INVITE sip:x SIP/2.0\r\n'), inner, Buffer.from('Via: more\r\n')]);
  const out = new Scan();
  assert.equal(scan(bytes, 22, 22 + inner.length, true, out), null);
  assert.equal(out.cseq, 77);
  assert.equal(text(bytes, out.viaStart, out.viaEnd), 'SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKabc;rport');
});

test('a reused scan has no values of the message before', () => {
  const out = new Scan();
  const first = options({ Route: '<sip:a>', Replaces: 'x' }, undefined, 'body');
  scan(first, 0, first.length, false, out);
  const second = Buffer.from('OPTIONS');
  scan(second, 0, second.length, false, out);
  const fresh = new Scan();
  scan(second, 0, second.length, false, fresh);
  assert.deepEqual(out, fresh);
});

test('generated messages are accepted and their fields read', () => {
  fc.assert(
    fc.property(message, fc.boolean(), (parts, stream) => {
      const { fault, scan } = scanned(parts.bytes, stream);
      assert.equal(fault, null);
      const { bytes } = parts;
      assert.deepEqual(
        {
          isRequest: scan.isRequest,
          status: scan.status,
          method: text(bytes, scan.cseqMethodStart, scan.cseqMethodEnd),
          callId: text(bytes, scan.callIdStart, scan.callIdEnd),
          cseq: scan.cseq,
          branch: text(bytes, scan.branchStart, scan.branchEnd),
          fromTag: text(bytes, scan.fromTagStart, scan.fromTagEnd),
          toTag: text(bytes, scan.toTagStart, scan.toTagEnd),
        },
        {
          isRequest: parts.isRequest,
          status: parts.status,
          method: parts.method,
          callId: parts.callId,
          cseq: parts.cseq,
          branch: parts.branch,
          fromTag: parts.fromTag,
          toTag: parts.toTag,
        },
      );
    }),
  );
});

/** Checks that every pair of offsets is absent or a range inside of the message. */
function assertRanges(value: object, start: number, end: number): void {
  for (const [key, from] of Object.entries(value)) {
    if (!key.endsWith('Start')) continue;
    const to = (value as Record<string, unknown>)[`${key.slice(0, -5)}End`];
    if (to === undefined) continue;
    if (from === -1) assert.equal(to, -1, key);
    else
      assert.ok(
        from >= start && typeof to === 'number' && to >= from && to <= end,
        `${key} ${from}-${to} of ${start}-${end}`,
      );
  }
}

test('the scanner never throws, and its offsets are inside of the message, whatever the octets are', () => {
  const anything = fc.oneof(
    { weight: 3, arbitrary: mutated },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 300 }).map((octets) => Buffer.from(octets)) },
    { weight: 1, arbitrary: fc.tuple(mutated, fc.nat()).map(([bytes, cut]) => bytes.subarray(0, cut % bytes.length)) },
  );
  fc.assert(
    fc.property(anything, fc.boolean(), (bytes, stream) => {
      const padded = Buffer.concat([Buffer.from('xx'), bytes, Buffer.from('\r\nVia: SIP/2.0/UDP h\r\n')]);
      const out = new Scan();
      const fault = scan(padded, 2, 2 + bytes.length, stream, out);
      assert.ok(out.end <= 2 + bytes.length && out.bodyStart <= 2 + bytes.length && out.headersStart <= out.headersEnd);
      assertRanges(out, 2, 2 + bytes.length);
      assertRanges(out.via, 2, 2 + bytes.length);
      if (fault) assert.ok(fault in SCAN_FAULTS);
      else assert.ok(out.viaStart >= 0 && out.callIdEnd > out.callIdStart && out.cseq >= 0);
    }),
    { numRuns: 2000 },
  );
});

test('a message that is cut at any octet is never accepted on a stream', () => {
  const bytes = options({}, undefined, 'v=0\r\n');
  for (let cut = 0; cut < bytes.length; cut++)
    assert.notEqual(scanned(bytes.subarray(0, cut), true).fault, null, String(cut));
  assert.equal(scanned(bytes, true).fault, null);
});

test('a header line of 64 KiB of folds, quotes or signs is scanned; that many header lines are refused', () => {
  for (const filler of ['\r\n ', '"', ';', ',', '<', '\\', 'a: b\r\n']) {
    const from = `<sip:a@b>;tag=1${filler.repeat(Math.floor(65_000 / filler.length))}`;
    const { fault, scan } = scanned(options({ From: from }));
    assert.equal(fault, filler.startsWith('a') ? 'header-limit' : null, JSON.stringify(filler));
    assert.equal(scan.fromTagStart - scan.fromStart, 14);
  }
});

test('a message of 65,535 octets is accepted and a longer one is not, by datagram and by stream', () => {
  const room = SCAN_LIMITS.message - options({}, undefined, 'x'.repeat(10_000)).length + 10_000;
  assert.equal(scanned(options({}, undefined, 'x'.repeat(room)), true).fault, null);
  assert.equal(scanned(options({}, undefined, 'x'.repeat(room + 1)), true).fault, 'header-limit');
});
