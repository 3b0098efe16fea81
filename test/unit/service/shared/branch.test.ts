// The branch of a forwarded request (RFC 3261 16.11) and its loop mark: which parts of the request change them.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { sipKey } from '../../../../src/base/siphash.ts';
import { Direction, MARK_OCTETS, writeBranchValue, writeLoopMark } from '../../../../src/service/shared/branch.ts';
import type { Scan } from '../../../../src/sip/scan.ts';
import { options, scanned } from '../../sip/messages.ts';

const KEY = sipKey(Buffer.alloc(16, 7));
const VIA = 'SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKabc;rport';

interface Changes {
  readonly headers?: Readonly<Record<string, string>>;
  readonly method?: string;
  readonly uri?: string;
}

function scanOf({ headers = {}, method = 'INVITE', uri = 'sip:bob@example.com' }: Changes = {}): Scan {
  const request = options({ CSeq: `1 ${method}`, Via: VIA, ...headers }, `${method} ${uri} SIP/2.0`);
  const { fault, scan } = scanned(request);
  assert.equal(fault, null);
  return scan;
}

function branch(changes: Changes = {}, direction: Direction = Direction.inward, key = KEY): string {
  const to = Buffer.alloc(8);
  writeBranchValue(key, scanOf(changes), direction, to);
  return to.toString('hex');
}

describe('the branch', () => {
  for (const [title, changes] of [
    ['CANCEL', { method: 'CANCEL' }],
    ['ACK of an error, which has a To tag', { method: 'ACK', headers: { To: '<sip:bob@example.com>;tag=to1' } }],
    ['retransmission with other Max-Forwards', { headers: { 'Max-Forwards': '12' } }],
    [
      'other Request-URI, because the branch of the client identifies the transaction',
      { uri: 'sip:carol@example.com' },
    ],
    ['Via without the default port', { headers: { Via: 'SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKabc;rport' } }],
  ] as const)
    test(`is the same for a ${title}`, () => assert.equal(branch(changes), branch()));

  test('is the same for a host name in another case', () => {
    const via = (host: string): Changes => ({ headers: { Via: `SIP/2.0/UDP ${host}:5070;branch=z9hG4bKabc` } });
    assert.equal(branch(via('PC33.Example.com')), branch(via('pc33.example.com')));
  });

  for (const [title, changes] of [
    ['branch of the client', { Via: VIA.replace('abc', 'abd') }],
    ['branch in another case', { Via: VIA.replace('abc', 'ABC') }],
    ['host of the client', { Via: VIA.replace('192.0.2.1', '192.0.2.2') }],
    ['port of the client', { Via: VIA.replace('5060', '5062') }],
    ['Call-ID', { 'Call-ID': 'call2@192.0.2.1' }],
    ['From tag', { From: '<sip:alice@example.com>;tag=from2' }],
    ['CSeq number', { CSeq: '2 INVITE' }],
  ] as const)
    test(`differs with another ${title}`, () => assert.notEqual(branch({ headers: changes }), branch()));

  test('differs with the direction and with the key', () => {
    assert.notEqual(branch({}, Direction.outward), branch());
    assert.notEqual(branch({}, Direction.inward, sipKey(Buffer.alloc(16, 8))), branch());
  });

  test('from a client without the magic cookie also follows from the whole Via and the Request-URI', () => {
    for (const cookieless of ['z9hG4b', 'z9hG4bK', '1']) {
      const old = (more = '', uri?: string): string =>
        branch({ headers: { Via: `SIP/2.0/UDP 192.0.2.1;branch=${cookieless}${more}` }, ...(uri && { uri }) });
      assert.equal(old(), old());
      assert.notEqual(old(';x=1'), old(), cookieless);
      assert.notEqual(old('', 'sip:carol@example.com'), old(), cookieless);
    }
  });

  test('follows from the first 4,096 octets of the values: no length writes beyond the block', () => {
    const long = (end: string): string => branch({ headers: { 'Call-ID': `${'c'.repeat(5000)}${end}` } });
    assert.equal(long('1'), long('2'));
    const via = `SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK${'x'.repeat(4200)}`;
    assert.match(branch({ headers: { Via: via } }), /^[0-9a-f]{16}$/);
  });
});

describe('the loop mark', () => {
  function mark(changes: Changes = {}, withRoute = false): string {
    const scan = scanOf(changes);
    const route = withRoute ? { nextStart: scan.callIdStart, nextEnd: scan.callIdEnd } : { nextStart: -1, nextEnd: -1 };
    const to = Buffer.alloc(MARK_OCTETS + 2, '-');
    writeLoopMark(KEY, scan, route, to, 1);
    return to.toString('latin1');
  }

  test('has eight hexadecimal digits at its place', () => assert.match(mark(), /^-[0-9a-f]{8}-$/));

  test('is the same for the same request by the same element', () => {
    assert.equal(mark(), mark({ headers: { Via: VIA.replace('abc', 'abd'), 'Max-Forwards': '12' } }));
  });

  for (const [title, changes] of [
    ['previous hop, as in a spiral', { headers: { Via: VIA.replace('192.0.2.1', '192.0.2.2') } }],
    ['Request-URI', { uri: 'sip:carol@example.com' }],
    ['Call-ID', { headers: { 'Call-ID': 'call2@192.0.2.1' } }],
    ['From tag', { headers: { From: '<sip:alice@example.com>;tag=from2' } }],
    ['CSeq number', { headers: { CSeq: '2 INVITE' } }],
  ] as const)
    test(`differs with another ${title}`, () => assert.notEqual(mark(changes), mark()));

  test('differs with the next Route', () => assert.notEqual(mark({}, true), mark()));
});
