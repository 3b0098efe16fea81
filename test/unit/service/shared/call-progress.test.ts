// The effect of messages on the call table: which entry a message belongs to, what begins a call, and what accepts a
// request.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { Step } from '../../../../src/calls/table/call-table.ts';
import { acceptedInTable, entryOf, noteRequest, noteResponse } from '../../../../src/service/shared/call-progress.ts';
import type { ServiceContext } from '../../../../src/service/shared/context.ts';
import { Method } from '../../../../src/sip/scan.ts';
import { request, response, seat } from '../../ownership/lookups.ts';
import { contextRig, scanOf } from './context-rig.ts';

const KEY = 77;
const ALICE = '<sip:alice@example.com>;tag=a';
const BOB = '<sip:bob@example.com>;tag=b';

async function contextOf(t: TestContext): Promise<ServiceContext> {
  return (await contextRig(t)).context;
}

/** Notes an INVITE and its answer: the call is a dialog of the tags a and b, with CSeq 1. */
function talk(context: ServiceContext, entry: number): void {
  assert.equal(noteRequest(context, scanOf(request('INVITE', { From: ALICE })), entry), Step.began);
  const answer = response('z9hG4bKx', { From: ALICE, To: BOB, CSeq: '1 INVITE' });
  assert.equal(noteResponse(context, scanOf(answer), entry), Step.confirmed);
}

describe('a message belongs to', () => {
  for (const [name, held, entry, starts, found] of [
    ['the entry of its own side when no call is held', [], KEY, false, KEY],
    ['the entry of its own side when both calls are held', [KEY, -KEY], -KEY, false, -KEY],
    [
      'the entry of the other side when only that call is held, because either end may hang up',
      [-KEY],
      KEY,
      false,
      -KEY,
    ],
    ['the entry of the other side, also towards clients', [KEY], -KEY, false, KEY],
    ['the entry of its own side when it starts a call, whatever is held', [-KEY], KEY, true, KEY],
  ] as const)
    test(name, async (t) => {
      const context = await contextOf(t);
      for (const each of held) talk(context, each);
      assert.equal(entryOf(context, entry, starts), found);
    });
});

describe('a re-INVITE of an unknown dialog', () => {
  const again = () => scanOf(request('INVITE', { From: ALICE, To: BOB, CSeq: '2 INVITE' }));

  test('begins a call at a member with a seat when its dialog names no other one', async (t) => {
    for (const owner of [0, 1, 9]) assert.equal(noteRequest(await contextOf(t), again(), KEY, owner), Step.began);
  });

  test('begins nothing where its BYE does not come: another member with a seat owns it', async (t) => {
    const { context } = await contextRig(t, undefined, 2);
    assert.equal(noteRequest(context, again(), KEY, 2), Step.none);
    assert.equal(context.calls.has(KEY), false);
  });

  test('begins nothing at a member without a seat', async (t) => {
    const { member, context } = await contextRig(t, undefined, 2);
    member.tables = { ...member.tables, seats: new Map([[2, seat(2)]]) };
    assert.equal(noteRequest(context, again(), KEY), Step.none);
    assert.equal(noteRequest(context, scanOf(request('INVITE', { From: ALICE })), KEY), Step.began);
  });

  test('keeps a dialog that this member holds, whoever is named as owner', async (t) => {
    const { context, farm } = await contextRig(t, undefined, 2);
    talk(context, KEY);
    farm.clock.advance(7_000_000);
    noteRequest(context, again(), KEY, 2);
    farm.clock.advance(7_000_000);
    context.calls.sweep(farm.clock.now());
    assert.equal(context.calls.has(KEY), true);
  });
});

test('only INVITE and SUBSCRIBE begin a call', async (t) => {
  const began = ['INVITE', 'SUBSCRIBE', 'OPTIONS', 'MESSAGE', 'REGISTER', 'ACK', 'CANCEL'];
  const context = await contextOf(t);
  const steps = began.map((method, index) => noteRequest(context, scanOf(request(method)), index + 1));
  assert.deepEqual(steps, [Step.began, Step.began, Step.none, Step.none, Step.none, Step.none, Step.none]);
});

describe('a request is accepted', () => {
  const INFO = { From: ALICE, To: BOB };
  for (const [name, status, changes, accepted] of [
    ['by its 2xx, when its CSeq has risen', 200, { ...INFO, CSeq: '2 UPDATE' }, true],
    ['not by a provisional response', 180, { ...INFO, CSeq: '2 UPDATE' }, false],
    ['not by an error', 486, { ...INFO, CSeq: '2 UPDATE' }, false],
    ['not when its CSeq has not risen', 200, { ...INFO, CSeq: '1 INVITE' }, false],
    ['not when it has other tags', 200, { ...INFO, To: '<sip:bob@example.com>;tag=x', CSeq: '2 UPDATE' }, false],
    ['not when it has no To tag', 200, { ...INFO, To: '<sip:bob@example.com>', CSeq: '2 UPDATE' }, false],
    [
      'not by its later passes through the farm',
      200,
      { ...INFO, CSeq: '2 UPDATE', Via: 'SIP/2.0/UDP a;branch=z9hG4bKx, SIP/2.0/UDP b;branch=z9hG4bKy;lp=01234567' },
      false,
    ],
  ] as const)
    test(name, async (t) => {
      const context = await contextOf(t);
      talk(context, KEY);
      assert.equal(acceptedInTable(context, scanOf(response('z9hG4bKx', changes, status)), KEY), accepted);
    });

  test('once: a repeated 2xx accepts nothing', async (t) => {
    const context = await contextOf(t);
    talk(context, KEY);
    const scan = scanOf(response('z9hG4bKx', { ...INFO, CSeq: '2 UPDATE' }));
    assert.deepEqual([acceptedInTable(context, scan, KEY), acceptedInTable(context, scan, KEY)], [true, false]);
  });

  test('not in a call that this member does not hold', async (t) => {
    const scan = scanOf(response('z9hG4bKx', { ...INFO, CSeq: '2 UPDATE' }));
    assert.equal(acceptedInTable(await contextOf(t), scan, KEY), false);
  });
});

test('a call that its session timer has ended is forgotten, one without a timer is not (RFC 4028)', async (t) => {
  const { context, farm } = await contextRig(t);
  for (const [key, headers] of [
    [1, { 'Session-Expires': '90' }],
    [2, {}],
  ] as const) {
    context.calls.onRequest(key, Method.INVITE, { from: 1, to: 0, cseq: 1 }, farm.clock.now(), 1);
    const changes = { From: ALICE, To: BOB, CSeq: '1 INVITE', ...headers };
    assert.equal(noteResponse(context, scanOf(response('z9hG4bKx', changes)), key), Step.confirmed);
  }
  farm.clock.advance(3_000_000);
  context.calls.sweep(farm.clock.now());
  assert.deepEqual([context.calls.has(1), context.calls.has(2)], [false, true]);
});
