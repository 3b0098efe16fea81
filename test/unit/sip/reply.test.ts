// Stateless replies: copied headers, requests without a reply, and the limit of their size.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { buildReply, reasonPhrase } from '../../../src/sip/reply.ts';
import { crlf, message, mutated, options, scanned, TORTURE_FOLDER, text, torture } from './messages.ts';

const source = { address: '203.0.113.5', port: 1024 };

test('a reply copies Via, From, To, Call-ID and CSeq and adds the source of the request', () => {
  const bytes = options(
    { 'Record-Route': '<sip:r;lr>', v: 'SIP/2.0/UDP low;branch=z9hG4bKlow', Subject: 'x'.repeat(90) },
    undefined,
    'body',
  );
  const reply = buildReply(scanned(bytes).scan, 483, '', 'sfabc', source, ['Retry-After: 5']);
  assert.equal(
    reply?.toString(),
    crlf(
      'SIP/2.0 483 Too Many Hops',
      'Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKabc;received=203.0.113.5;rport=1024',
      'From: <sip:alice@example.com>;tag=from1',
      'To: <sip:bob@example.com>;tag=sfabc',
      'Call-ID: call1@192.0.2.1',
      'CSeq: 1 OPTIONS',
      'v: SIP/2.0/UDP low;branch=z9hG4bKlow',
      'Retry-After: 5',
      'Content-Length: 0',
      '',
    ).toString(),
  );
});

test('an existing tag is kept', () => {
  const bytes = options({ To: '<sip:b@h>;tag=old' });
  const reply = buildReply(scanned(bytes).scan, 481, 'Own Words', 'new', source, [], Number.POSITIVE_INFINITY)!;
  assert.match(reply.toString(), /^SIP\/2\.0 481 Own Words\r\n/);
  assert.match(reply.toString(), /;tag=old\r\n/);
  assert.doesNotMatch(reply.toString(), /new/);
});

test('a tag is added after the single semicolon that a phone has left, without a second one', () => {
  const bytes = options({ To: '<sip:b@h> ; ' });
  const reply = buildReply(scanned(bytes).scan, 481, '', 'new', source, [], Number.POSITIVE_INFINITY)!;
  assert.match(reply.toString(), /\r\nTo: <sip:b@h> ;tag=new *\r\n/);
  const { scan } = scanned(reply);
  assert.equal(text(reply, scan.toTagStart, scan.toTagEnd), 'new');
});

test('a response, an ACK and a request without a readable Via get no reply', () => {
  const requests = [
    options({}, 'SIP/2.0 200 OK'),
    options({ CSeq: '1 ACK' }, 'ACK sip:a@b SIP/2.0'),
    options({ CSeq: '1 ACK' }, 'ACK  sip:a@b SIP/2.0'),
    options({ Via: undefined }),
    options({ Via: 'x' }),
    Buffer.from('x'),
  ];
  for (const bytes of requests) assert.equal(buildReply(scanned(bytes).scan, 400, '', '', source, [], 9999), null);
});

test('every RFC 4475 request with a readable Via that is refused gets a reply', () => {
  for (const name of [
    'badinv01',
    'clerr',
    'ncl',
    'scalar02',
    'ltgtruri',
    'lwsruri',
    'lwsstart',
    'trws',
    'badvers',
    'mismatch01',
    'mismatch02',
    'insuf',
    'multi01',
    'mcl01',
  ]) {
    const bytes = torture(name);
    const reply = buildReply(scanned(bytes).scan, 400, '', 'sf0123456789012345678901234567', source);
    assert.ok(reply, name);
    assert.ok(reply.length <= bytes.length, name);
    const { scan, fault } = scanned(reply);
    assert.equal(scan.status, 400, name);
    if (!['badinv01', 'scalar02', 'insuf'].includes(name)) assert.equal(fault, null, name);
  }
});

test('a request with two Call-ID, CSeq, From and To gets the first of each in its reply', () => {
  const reply = buildReply(scanned(torture('multi01')).scan, 400, '', 't', source)!;
  const { scan, fault } = scanned(reply);
  assert.equal(fault, null);
  assert.equal(text(reply, scan.callIdStart, scan.callIdEnd), 'multi01.98asdh@192.0.2.1');
  assert.equal(scan.cseq, 5);
});

test('a too long reply loses headers, phrase, long names and length, then the tag; then it is not sent', () => {
  const { scan } = scanned(options());
  const build = (max: number): Buffer | null =>
    buildReply(scan, 503, '', 'tag-of-some-length', source, ['Retry-After: 5'], max);
  const full = build(9999)!;
  const noExtra = build(full.length - 1)!;
  assert.doesNotMatch(noExtra.toString(), /Retry-After/);
  const short = build(noExtra.length - 1)!;
  assert.match(short.toString(), /^SIP\/2\.0 503 \r\n[\s\S]*tag-of-some-length[\s\S]*\r\nl: 0\r\n\r\n$/);
  const compact = build(short.length - 1)!;
  assert.equal(
    compact.toString(),
    crlf(
      'SIP/2.0 503 ',
      'v:SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKabc;received=203.0.113.5;rport=1024',
      'f:<sip:alice@example.com>;tag=from1',
      't:<sip:bob@example.com>;tag=tag-of-some-length',
      'i:call1@192.0.2.1',
      'CSeq: 1 OPTIONS',
      '',
    ).toString(),
  );
  assert.equal(scanned(compact).fault, null);
  const noTag = build(compact.length - 1)!;
  assert.doesNotMatch(noTag.toString(), /tag-of-some-length/);
  assert.equal(scanned(noTag).fault, null);
  assert.equal(build(noTag.length - 1), null);
});

test('a reply to INVITE always has its tag, because the ACK needs it', () => {
  const { scan } = scanned(options({ CSeq: '1 INVITE' }, 'INVITE sip:b@h SIP/2.0'));
  const lengths = new Set<number>();
  for (let max = 0; max < 600; max++) {
    const reply = buildReply(scan, 400, '', 'the-tag', source, [], max);
    if (!reply) continue;
    assert.match(reply.toString(), /;tag=the-tag\r\n/);
    lengths.add(reply.length);
  }
  assert.equal(lengths.size, 3);
});

test('the shortest requests with a reply have the lengths in docs/limits.md', () => {
  const far = { address: '203.113.113.113', port: 65_535 };
  const tag = 'sf283000800005g55cphpt7gdq';
  const page = fs.readFileSync(new URL('../../../docs/limits.md', import.meta.url), 'utf8');
  const [, ...figures] =
    /at least (\d+) octets \((\d+) of an INVITE\)[^.]*?, with short names (\d+) \((\d+)\)/.exec(page) ?? [];
  const names = { Via: 'v', From: 'f', To: 't', 'Call-ID': 'i' };
  const kinds = [
    ['OPTIONS', false],
    ['INVITE', false],
    ['OPTIONS', true],
    ['INVITE', true],
  ] as const;
  for (const [at, [method, short]] of kinds.entries()) {
    const least = Number(figures[at]);
    for (const octets of [least, least - 1]) {
      // Start line and one header that the reply does not copy.
      const start = `${method} sip:h SIP/2.0`;
      const other = `s:${'x'.repeat(octets - start.length - 6)}`;
      const repeated = [
        'Via: SIP/2.0/UDP h;rport;branch=z9hG4bK1',
        'From: <sip:a@b>;tag=1',
        'To: <sip:b@c>',
        'Call-ID: 1',
      ].map((line) => line.replace(/^([^:]+): /, (all, name: keyof typeof names) => (short ? `${names[name]}:` : all)));
      const bytes = crlf(start, ...repeated, `CSeq: 1 ${method}`, other, '');
      const { scan, fault } = scanned(bytes);
      assert.equal(fault, null);
      assert.equal(buildReply(scan, 400, '', tag, far) !== null, octets === least, `${method} ${octets}`);
    }
  }
});

test('every reply is a response and no larger than its request, whatever the request is', () => {
  const hostile = fc.oneof(
    mutated,
    fc.constantFrom(...fs.readdirSync(TORTURE_FOLDER)).map((file) => torture(file.slice(0, -4))),
    fc.tuple(mutated, fc.nat()).map(([bytes, cut]) => bytes.subarray(0, cut % bytes.length)),
  );
  fc.assert(
    fc.property(hostile, (bytes) => {
      const reply = buildReply(scanned(bytes).scan, 400, '', 'sf0123456789', source, ['X: y']);
      if (!reply) return;
      assert.ok(reply.length <= bytes.length);
      const { scan } = scanned(reply);
      assert.equal(scan.status, 400);
      assert.ok(scan.viaStart > 0);
      assert.equal(reply.length, scan.end);
    }),
    { numRuns: 1000 },
  );
});

test('the reply to a generated request matches it for its sender', () => {
  fc.assert(
    fc.property(message, (parts) => {
      const reply = buildReply(scanned(parts.bytes).scan, 500, '', 'mytag', source, [], Number.POSITIVE_INFINITY);
      assert.equal(reply === null, !parts.isRequest || parts.method === 'ACK');
      if (!reply) return;
      const { scan, fault } = scanned(reply, true);
      assert.equal(fault, null);
      assert.equal(text(reply, scan.branchStart, scan.branchEnd), parts.branch);
      assert.equal(text(reply, scan.callIdStart, scan.callIdEnd), parts.callId);
      assert.equal(text(reply, scan.fromTagStart, scan.fromTagEnd), parts.fromTag);
      assert.equal(text(reply, scan.toTagStart, scan.toTagEnd), parts.toTag ?? 'mytag');
      assert.equal(scan.cseq, parts.cseq);
    }),
  );
});

test('a status without a standard phrase has an empty one', () => {
  assert.equal(reasonPhrase(481), 'Call/Transaction Does Not Exist');
  assert.equal(reasonPhrase(599), '');
});
