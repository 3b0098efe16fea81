// Splices: each requested change is made, and no other octet changes.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Edit, MAX_SPLICES } from '../../../src/sip/edit.ts';
import { message, options, scanned, text, torture } from './messages.ts';

const edit = new Edit();

test('a message without splices stays the same, without the octets behind its end', () => {
  const bytes = torture('dblreq');
  const { scan } = scanned(bytes);
  assert.deepEqual(edit.beginScan(scan).apply(), bytes.subarray(0, scan.end));
});

test('splices in any order give one result, and pieces for one offset keep their order', () => {
  const bytes = Buffer.from('0123456789');
  const expected = 'AB01xx456C';
  assert.equal(
    edit
      .begin(bytes, 0, 10)
      .delete(7, 10)
      .insert(0, 'A')
      .insert(0, 'B')
      .replace(2, 4, 'xx')
      .insert(7, 'C')
      .apply()
      ?.toString(),
    expected,
  );
  assert.equal(
    edit
      .begin(bytes, 0, 10)
      .insert(7, 'C')
      .replace(2, 4, Buffer.from('xx'))
      .insert(0, 'A')
      .delete(7, 10)
      .insert(0, 'B')
      .apply()
      ?.toString(),
    expected,
  );
});

test('overlapping ranges are deleted once, and pieces inside of them are inserted', () => {
  const bytes = Buffer.from('0123456789');
  assert.equal(
    edit.begin(bytes, 0, 10).delete(2, 6).delete(4, 8).delete(3, 5).insert(5, '|').apply()!.toString(),
    '01|89',
  );
});

test('any splices give the result of a plain model, and size() returns its length', () => {
  const splice = fc.tuple(fc.nat(40), fc.nat(12), fc.string({ unit: fc.constantFrom('a', 'ß', '\0'), maxLength: 5 }));
  fc.assert(
    fc.property(fc.array(splice, { maxLength: 12 }), (splices) => {
      const bytes = Buffer.from('....0123456789abcdefghijklmnopqrstuvwxyzABCDEF....');
      const [start, end] = [4, bytes.length - 4];
      const deleted = new Set<number>();
      const inserted = new Map<number, string>();
      edit.begin(bytes, start, end);
      for (const [where, length, piece] of splices) {
        const at = start + where;
        const until = Math.min(at + length, end);
        edit.replace(at, until, piece);
        for (let i = at; i < until; i++) deleted.add(i);
        inserted.set(at, (inserted.get(at) ?? '') + piece);
      }
      let model = '';
      for (let i = start; i <= end; i++)
        model += (inserted.get(i) ?? '') + (i < end && !deleted.has(i) ? String.fromCharCode(bytes[i]!) : '');
      assert.equal(edit.size(), model.length);
      assert.equal(edit.apply()!.toString('latin1'), model);
    }),
  );
});

describe('an impossible edit returns undefined, throws nothing, and does not affect the next one, with', () => {
  const bytes = Buffer.from('0123456789');
  for (const [name, splice] of [
    ['a range before the message', () => edit.insert(1, 'x')],
    ['a range behind it', () => edit.delete(5, 9)],
    ['a range that ends before it begins', () => edit.delete(5, 4)],
    [
      'one splice too many',
      () => {
        for (let i = 0; i <= MAX_SPLICES; i++) edit.insert(2, 'x');
      },
    ],
  ] as const)
    test(name, () => {
      edit.begin(bytes, 2, 8);
      splice();
      edit.insert(2, 'y');
      assert.equal(edit.apply(), undefined);
      assert.equal(edit.size(), Number.POSITIVE_INFINITY);
      assert.equal(edit.begin(bytes, 2, 8).insert(2, 'y').apply()?.toString(), 'y234567');
    });

  test('the greatest number of splices is made', () => {
    edit.begin(bytes, 2, 8);
    for (let i = 0; i < MAX_SPLICES; i++) edit.insert(2, 'x');
    assert.equal(edit.apply()?.length, MAX_SPLICES + 6);
  });

  test('a result longer than allowed', () => {
    edit.begin(bytes, 2, 8).insert(2, 'x');
    assert.equal(edit.apply(6), undefined);
    assert.equal(edit.apply(7)?.length, 7);
  });
});

test('a Via that is pushed and popped leaves the message unchanged', () => {
  fc.assert(
    fc.property(message, ({ bytes }) => {
      const before = scanned(bytes).scan;
      const via = 'Via: SIP/2.0/UDP 192.0.2.99:5060;branch=z9hG4bKpushed\r\n';
      const pushed = edit.beginScan(before).insert(before.viaLineStart, via).apply()!;
      const { fault, scan } = scanned(pushed);
      assert.equal(fault, null);
      assert.equal(text(pushed, scan.branchStart, scan.branchEnd), 'z9hG4bKpushed');
      assert.deepEqual(edit.beginScan(scan).popVia(scan).apply(), bytes);
    }),
  );
});

test('popping Via values one by one shows each next one, joined by commas or not, until none is left', () => {
  fc.assert(
    fc.property(message, (parts) => {
      let bytes = parts.bytes;
      let { fault, scan } = scanned(bytes);
      const branches: (string | null)[] = [];
      while (fault === null) {
        branches.push(text(bytes, scan.branchStart, scan.branchEnd));
        const callId = text(bytes, scan.callIdStart, scan.callIdEnd);
        bytes = edit.beginScan(scan).popVia(scan).apply()!;
        ({ fault, scan } = scanned(bytes));
        assert.equal(text(bytes, scan.callIdStart, scan.callIdEnd), callId);
      }
      assert.equal(fault, 'no-via');
      assert.equal(scan.viaLineStart, -1);
      assert.deepEqual(branches, [parts.branch, ...branches.slice(1).map((_, i) => `z9hG4bKlow${i + 1}`)]);
    }),
  );
});

const stamps: readonly (readonly [what: string, via: string, stamped: string])[] = [
  ['sent-by is the source', 'SIP/2.0/UDP 192.0.2.9:5060;branch=b', 'SIP/2.0/UDP 192.0.2.9:5060;branch=b'],
  ['sent-by is another address', 'SIP/2.0/UDP 10.0.0.1;branch=b', 'SIP/2.0/UDP 10.0.0.1;branch=b;received=192.0.2.9'],
  ['sent-by is a name', 'SIP/2.0/UDP h.example;branch=b', 'SIP/2.0/UDP h.example;branch=b;received=192.0.2.9'],
  [
    'rport is requested',
    'SIP/2.0/UDP 192.0.2.9;rport;branch=b',
    'SIP/2.0/UDP 192.0.2.9;received=192.0.2.9;rport=1024;branch=b',
  ],
  ['rport is forged', 'SIP/2.0/UDP h;rport=9;branch=b', 'SIP/2.0/UDP h;received=192.0.2.9;rport=1024;branch=b'],
  ['received is forged', 'SIP/2.0/UDP h;received=6.6.6.6;branch=b', 'SIP/2.0/UDP h;branch=b;received=192.0.2.9'],
  [
    'received and rport are forged',
    'SIP/2.0/UDP h;received=[::6];branch=b;rport=1',
    'SIP/2.0/UDP h;branch=b;received=192.0.2.9;rport=1024',
  ],
  [
    'another value follows',
    'SIP/2.0/UDP h;branch=b , SIP/2.0/UDP i',
    'SIP/2.0/UDP h;branch=b;received=192.0.2.9 , SIP/2.0/UDP i',
  ],
];
for (const [what, via, stamped] of stamps) {
  test(`the true source is written into Via when ${what}`, () => {
    const bytes = options({ Via: via });
    const { scan } = scanned(bytes);
    assert.deepEqual(edit.beginScan(scan).stampVia(scan, '192.0.2.9', 1024).apply(), options({ Via: stamped }));
  });
}

test('an IPv6 source that equals sent-by except for letter case needs no received', () => {
  const bytes = options({ Via: 'SIP/2.0/UDP [2001:DB8::1];branch=b' });
  const { scan } = scanned(bytes);
  assert.deepEqual(edit.beginScan(scan).stampVia(scan, '2001:db8::1', 5060).apply(), bytes);
});

test('Max-Forwards is replaced, also when it is not readable, or added', () => {
  for (const before of ['70', '0070', '300', '-1', undefined]) {
    const bytes = options({ 'Max-Forwards': before });
    const { scan } = scanned(bytes);
    const after = edit.beginScan(scan).setMaxForwards(scan, 69).apply()!;
    assert.equal(scanned(after).scan.maxForwards, 69);
    if (before !== undefined) assert.deepEqual(after, options({ 'Max-Forwards': '69' }));
  }
});

test('header lines can be added before all others and after all others', () => {
  const bytes = options({}, undefined, 'body');
  const { scan } = scanned(bytes);
  const after = edit
    .beginScan(scan)
    .appendHeader(scan, 'Z: 1')
    .insert(scan.headersStart, 'Record-Route: <sip:a;lr>\r\n')
    .insert(scan.headersStart, 'Record-Route: <sip:b;lr>\r\n')
    .apply()!
    .toString();
  assert.match(after, /SIP\/2\.0\r\nRecord-Route: <sip:a;lr>\r\nRecord-Route: <sip:b;lr>\r\nVia/);
  assert.match(after, /Content-Length: 4\r\nZ: 1\r\n\r\nbody$/);
});

test('a message without the empty line (RFC 4475 baddn) can be edited', () => {
  const bytes = torture('baddn');
  const { scan } = scanned(bytes);
  const after = edit.beginScan(scan).appendHeader(scan, 'Z: 1').popVia(scan).apply()!;
  assert.equal(after.toString().endsWith('l: 0\r\nZ: 1\r\n'), true);
});

describe('the body', () => {
  /** Body and Content-Length of a message, as a stream would read it. */
  const read = (bytes: Buffer) => {
    const { scan, fault } = scanned(bytes, true);
    return [fault, scan.contentLength, bytes.toString('latin1', scan.bodyStart, scan.end)];
  };

  for (const [what, headers] of [
    ['with its length', { 'Content-Length': '4' }],
    ['with a compact name', { 'Content-Length': undefined, l: '4' }],
    ['with its length twice', { 'Content-Length': '4', l: '0004' }],
    ['without a length', { 'Content-Length': undefined }],
  ] as const)
    test(`in a message ${what} is replaced, and Content-Length follows`, () => {
      const { scan } = scanned(options({ ...headers, 'Content-Type': 'application/sdp' }, undefined, 'body'));
      const after = edit.beginScan(scan).setBody(scan, 'v=0\r\ns=another\r\n').apply()!;
      assert.deepEqual(read(after), [null, 16, 'v=0\r\ns=another\r\n']);
      assert.equal(after.toString().match(/^(?:l|content-length)\s*:/gim)?.length, 1);
      const again = scanned(after).scan;
      assert.equal(after.toString('latin1', again.contentTypeStart, again.contentTypeEnd), 'application/sdp');
    });

  test('can be given to a message that has none, also without the empty line', () => {
    for (const bytes of [options({}), torture('baddn')]) {
      const { scan } = scanned(bytes);
      const after = edit.beginScan(scan).setBody(scan, Buffer.from('x=1')).apply()!;
      assert.deepEqual(read(after).slice(1), [3, 'x=1']);
    }
  });

  test('can be taken away', () => {
    const { scan } = scanned(options({ 'Content-Length': '4' }, undefined, 'body'));
    assert.deepEqual(read(edit.beginScan(scan).setBody(scan, '').apply()!), [null, 0, '']);
  });

  test('may be any octets, of any length, and no header changes but Content-Length', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 3000 }), (octets) => {
        const body = Buffer.from(octets);
        const { scan } = scanned(options({ Subject: 'kept', 'Content-Length': '4' }, undefined, 'body'));
        const after = edit.beginScan(scan).setBody(scan, body).apply()!;
        const found = scanned(after, true).scan;
        assert.deepEqual(after.subarray(found.bodyStart, found.end), body);
        const head = after.toString('latin1', 0, found.headersEnd);
        assert.equal(head.replace(/(Content-Length: )\d+/, '$14'), scan.bytes.toString('latin1', 0, scan.headersEnd));
      }),
    );
  });
});
