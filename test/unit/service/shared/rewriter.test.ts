// The rewrite of one message: what it puts on top, what it changes, and that nothing of one message reaches the next.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { readBranchToken, Token, TokenKind } from '../../../../src/ownership/token.ts';
import { Direction } from '../../../../src/service/shared/branch.ts';
import { Rewriter, recordsRoute } from '../../../../src/service/shared/rewriter.ts';
import { SentBy } from '../../../../src/service/shared/top-headers.ts';
import { Message } from '../../../fake/sip.ts';
import { KEYS, request, response } from '../../ownership/lookups.ts';
import { options } from '../../sip/messages.ts';
import { scanOf } from './context-rig.ts';

const SIDE = new SentBy({ host: '10.0.0.1', port: 5062, transport: 'udp' });
const MEMBER = 7;

/** Returns the finished message as text; undefined when there is none. */
function text(rewriter: Rewriter, most?: number): string | undefined {
  return rewriter.finish(most)?.toString('latin1');
}

describe('a finished message', () => {
  test('is the message itself when nothing was changed', () => {
    const bytes = request('INVITE');
    assert.equal(text(new Rewriter().begin(scanOf(bytes))), bytes.toString('latin1'));
  });

  test('has the lines of the farm above all others, in the order in which they were put, and every splice', () => {
    const scan = scanOf(request('INVITE', { 'X-One': 'a', 'X-Two': 'b' }));
    const at = scan.bytes.indexOf('X-One');
    const rewriter = new Rewriter().begin(scan);
    rewriter.delete(at, at + 'X-One: a\r\n'.length);
    rewriter.insert(scan.bytes.indexOf('X-Two'), 'X-New: c\r\n');
    rewriter.replace(scan.uriStart, scan.uriEnd, 'sip:carol@example.com');
    rewriter.pushVia(KEYS, Direction.inward, SIDE, MEMBER, undefined);
    rewriter.top.recordRouteOwner(KEYS, SIDE, MEMBER);
    const got = new Message(text(rewriter)!);
    assert.equal(got.uri, 'sip:carol@example.com');
    assert.deepEqual(
      got.headers.slice(0, 3).map(([name]) => name),
      ['Via', 'Record-Route', 'Via'],
    );
    assert.deepEqual([got.one('X-One'), got.one('X-New'), got.one('X-Two')], ['', 'c', 'b']);
  });

  test('is absent above its bound, and present at it', () => {
    const bytes = request('INVITE');
    assert.equal(new Rewriter().begin(scanOf(bytes)).finish(bytes.length - 1), undefined);
    assert.equal(new Rewriter().begin(scanOf(bytes)).finish(bytes.length)?.length, bytes.length);
  });

  test('is absent after a splice outside of the message', () => {
    const scan = scanOf(request('INVITE'));
    const rewriter = new Rewriter().begin(scan);
    rewriter.insert(scan.end + 1, 'x');
    assert.equal(rewriter.finish(), undefined);
  });

  test('contains nothing of the message before', () => {
    const rewriter = new Rewriter();
    const [first, second] = [scanOf(request('INVITE')), scanOf(request('BYE', { 'Call-ID': 'other' }))];
    rewriter.begin(first);
    rewriter.pushVia(KEYS, Direction.inward, SIDE, MEMBER, undefined);
    rewriter.top.maxForwards();
    rewriter.delete(first.viaLineStart, first.viaLineEnd);
    rewriter.finish();
    assert.equal(text(rewriter.begin(second)), second.bytes.toString('latin1'));
    // A rewrite that was not finished leaves nothing either.
    rewriter.begin(first).top.maxForwards();
    assert.equal(text(rewriter.begin(second)), second.bytes.toString('latin1'));
  });
});

describe('the Via of the farm', () => {
  /** Returns the branch that a request gets, and the kind of token in it. */
  function branchOf(bytes: Buffer, direction: Direction): { readonly branch: string; readonly kind: TokenKind } {
    const rewriter = new Rewriter().begin(scanOf(bytes));
    rewriter.pushVia(KEYS, direction, SIDE, MEMBER, undefined);
    const { branch } = new Message(text(rewriter)!);
    const token = new Token();
    assert.equal(readBranchToken(KEYS, Buffer.from(branch), 0, branch.length, token), 'valid');
    assert.equal(token.member, MEMBER);
    return { branch, kind: token.kind };
  }

  test('has a token of its direction', () => {
    assert.equal(branchOf(request('INVITE'), Direction.inward).kind, TokenKind.inward);
    assert.equal(branchOf(request('INVITE'), Direction.outward).kind, TokenKind.outward);
  });

  test('has one branch for INVITE and its CANCEL, and other branches for another call and the other direction', () => {
    const { branch } = branchOf(request('INVITE'), Direction.inward);
    assert.equal(branchOf(request('CANCEL'), Direction.inward).branch, branch);
    assert.notEqual(branchOf(request('INVITE', { 'Call-ID': 'other' }), Direction.inward).branch, branch);
    assert.notEqual(branchOf(request('INVITE'), Direction.outward).branch, branch);
  });
});

describe('Max-Forwards', () => {
  for (const [has, gets] of [
    ['70', '69'],
    ['1', '0'],
    [undefined, '70'],
    ['many', '70'],
  ] as const)
    test(`${has ?? '(none)'} becomes ${gets}`, () => {
      const rewriter = new Rewriter().begin(scanOf(options({ 'Max-Forwards': has })));
      rewriter.countHop();
      assert.deepEqual(new Message(text(rewriter)!).all('Max-Forwards'), [gets]);
    });
});

test('a response loses its top Via and keeps the others', () => {
  const scan = scanOf(response('z9hG4bKfarm', { Via: 'SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/UDP b' }));
  assert.deepEqual(new Message(text(new Rewriter().begin(scan).popVia())!).all('Via'), ['SIP/2.0/UDP b']);
});

test("the sender's Via gets the true source", () => {
  const rewriter = new Rewriter().begin(scanOf(options()));
  rewriter.stampVia('203.0.113.9', 33_333);
  const got = new Message(text(rewriter)!);
  assert.deepEqual([got.via('received'), got.via('rport')], ['203.0.113.9', '33333']);
});

describe('a Record-Route', () => {
  for (const [method, inDialog, gets] of [
    ['INVITE', false, true],
    ['SUBSCRIBE', false, true],
    ['REFER', false, true],
    ['NOTIFY', false, true],
    ['NOTIFY', true, true],
    ['INVITE', true, false],
    ['SUBSCRIBE', true, false],
    ['REGISTER', false, false],
    ['BYE', true, false],
    ['OPTIONS', false, false],
  ] as const)
    test(`${gets ? 'is' : 'is not'} put on ${method} ${inDialog ? 'in' : 'outside of'} a dialog`, () => {
      const to = `<sip:bob@example.com>${inDialog ? ';tag=b' : ''}`;
      assert.equal(recordsRoute(scanOf(request(method, { To: to }))), gets);
    });
});
