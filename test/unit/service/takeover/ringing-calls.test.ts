// Adopted calls that ring: what the caller and the callees get until the ringing ends, and afterwards (RFC 3261 16.7,
// 16.10).
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import type { Leg } from '../../../../src/calls/records/call-record.ts';
import { type RingingCall, RingingCalls } from '../../../../src/service/takeover/ringing-calls.ts';
import { JournalRig } from '../../calls/records/journal-rig.ts';
import { packetOf, scanOf } from '../shared/context-rig.ts';
import { branchTo, CALLER, CALLER_VIA, ofCallee, ofCaller, type TakeoverRig, takeoverRig } from './takeover-rig.ts';

const ENTRY = 77;
const ALICE = CALLER.address;
const BOB = '192.0.2.9';
const CAROL = '192.0.2.10';
const RINGING_SECONDS = 200;
/** 64*T1. */
const LINGER_MS = 32_000;
const TICK_MS = 1000;

interface Ringing {
  readonly rig: TakeoverRig;
  readonly calls: RingingCalls;
  readonly call: RingingCall;
  /** Handles a request of the caller. Returns whether it was one of the call. */
  readonly request: (method: string, via?: string) => boolean;
  /** Handles a callee's response to a dead proxy. Returns whether it is held. */
  readonly answer: (name: string, status: number, branch?: string) => boolean;
  /** The same for a dead back-to-back user agent. */
  readonly late: (name: string, status: number, branch?: string) => boolean;
  readonly sent: () => Promise<readonly string[]>;
}

/** Adopts a call that rings at `callees`. `caller` false: a call of the server. */
async function ringing(t: TestContext, callees: readonly string[] = ['bob', 'carol'], caller = true): Promise<Ringing> {
  const rig = await takeoverRig(t);
  const { context, member, clock, surrogate } = rig;
  const ringingSeconds = (): number => RINGING_SECONDS;
  const calls = new RingingCalls({ context, answers: member.answers, clock, surrogate, ringingSeconds });
  t.after(() => calls.clear());
  const legs: Leg[] = caller ? [rig.clientLeg()] : [];
  for (const name of callees) legs.push(rig.serverLeg(name, name === 'bob' ? BOB : CAROL));
  const call = calls.take(caller ? ENTRY : -ENTRY, rig.record(...legs));
  return {
    rig,
    calls,
    call,
    request: (method, via = CALLER_VIA) => {
      const bytes = ofCaller(method, via);
      return calls.request(call, packetOf(bytes, CALLER.address, CALLER.port), scanOf(bytes));
    },
    answer: (name, status, branch) => calls.answer(call, scanOf(ofCallee(name, status, branch))),
    late: (name, status, branch) => calls.lateAnswer(call, scanOf(ofCallee(name, status, branch))),
    sent: () => rig.sent(),
  };
}

test('a call is found by the key of its Call-ID, also a call of the server', async (t) => {
  for (const caller of [true, false]) {
    const { calls, call } = await ringing(t, ['bob'], caller);
    assert.deepEqual([calls.size, calls.get(ENTRY), calls.get(-ENTRY)], [1, call, undefined]);
    calls.clear();
    assert.deepEqual([calls.size, calls.get(ENTRY)], [0, undefined]);
  }
});

describe("the caller's", () => {
  test('repeated INVITE gets 100 while the call rings, and the last answer once it is over', async (t) => {
    const { calls, call, request, sent } = await ringing(t, []);
    assert.equal(request('INVITE'), true);
    assert.deepEqual(await sent(), [`100 ${ALICE}`]);
    calls.giveUp(call, 500, []);
    assert.deepEqual(await sent(), [`500 ${ALICE}`]);
    assert.equal(request('INVITE'), true);
    assert.deepEqual(await sent(), [`500 ${ALICE}`]);
  });

  test('CANCEL gets 200 and cancels each branch that rings, once', async (t) => {
    const { request, sent } = await ringing(t);
    assert.equal(request('CANCEL'), true);
    assert.deepEqual(await sent(), [`200 ${ALICE}`, `CANCEL ${BOB}`, `CANCEL ${CAROL}`]);
    assert.equal(request('CANCEL'), true);
    assert.deepEqual(await sent(), [`200 ${ALICE}`]);
  });

  test('CANCEL of a call without branches gets 200, and its INVITE 487', async (t) => {
    const { call, request, sent } = await ringing(t, []);
    request('CANCEL');
    assert.deepEqual(await sent(), [`200 ${ALICE}`, `487 ${ALICE}`]);
    assert.equal(call.end, 'told');
  });

  test('CANCEL after the end of the ringing gets 200 only, and the answer stays the one that was sent', async (t) => {
    const { calls, call, request, sent } = await ringing(t, []);
    calls.giveUp(call, 500, []);
    request('ACK');
    await sent();
    request('CANCEL');
    request('INVITE');
    assert.deepEqual(await sent(), [`200 ${ALICE}`, `500 ${ALICE}`]);
  });

  test('request of another transaction is not one of the call', async (t) => {
    const { request, sent } = await ringing(t);
    for (const method of ['INVITE', 'CANCEL', 'ACK'])
      assert.equal(request(method, 'SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKother'), false);
    assert.deepEqual(await sent(), []);
  });

  test('ACK is forwarded while the call rings or after a 2xx', async (t) => {
    const { request, answer, sent } = await ringing(t, ['bob']);
    assert.equal(request('ACK'), false);
    answer('bob', 200);
    assert.equal(request('ACK'), false);
    assert.deepEqual(await sent(), []);
  });

  test('ACK of an error of this member ends its repetition and is not forwarded', async (t) => {
    const { rig, calls, call, request, sent } = await ringing(t, []);
    calls.giveUp(call, 500, []);
    assert.equal(request('ACK'), true);
    await rig.pass(10_000);
    assert.deepEqual(await sent(), [`500 ${ALICE}`]);
  });

  test('ACK of an error that was passed on goes to the callee of that error only', async (t) => {
    const { rig, request, answer } = await ringing(t);
    answer('bob', 486);
    answer('carol', 603);
    await rig.messages();
    assert.equal(request('ACK'), true);
    const acks = await rig.messages();
    assert.deepEqual(
      acks.map(({ method, to, branch, toTag }) => [method, to, branch, toTag]),
      [['ACK', `${CAROL}:5060`, branchTo('carol'), 'carol']],
    );
  });
});

describe('the response of a callee of a dead proxy:', () => {
  test('an error is held and acknowledged while another branch rings, and the last one goes on', async (t) => {
    const { call, answer, sent } = await ringing(t);
    assert.equal(answer('bob', 486), true);
    assert.deepEqual([await sent(), call.end], [[`ACK ${BOB}`], 'none']);
    assert.equal(answer('carol', 486), false);
    assert.deepEqual([await sent(), call.end], [[], 'failed']);
  });

  test('a repeated error has the same effect again', async (t) => {
    const { answer, sent } = await ringing(t);
    for (let i = 0; i < 2; i++) assert.equal(answer('bob', 486), true);
    assert.deepEqual(await sent(), [`ACK ${BOB}`, `ACK ${BOB}`]);
    for (let i = 0; i < 2; i++) assert.equal(answer('carol', 486), false);
    assert.deepEqual(await sent(), []);
    assert.equal(answer('bob', 486), true);
  });

  test('a 2xx goes on and cancels the other branches, whose errors are held', async (t) => {
    const { call, answer, sent } = await ringing(t);
    assert.equal(answer('bob', 200), false);
    assert.deepEqual([await sent(), call.end], [[`CANCEL ${CAROL}`], 'answered']);
    assert.equal(answer('carol', 487), true);
    assert.deepEqual(await sent(), [`ACK ${CAROL}`]);
  });

  test('each 2xx goes on, also the second one, and one after the end', async (t) => {
    const { call, answer } = await ringing(t);
    assert.equal(answer('bob', 200), false);
    assert.equal(answer('carol', 200), false);
    assert.equal(call.end, 'answered');
    const over = await ringing(t);
    over.calls.giveUp(over.call, 408, []);
    assert.equal(over.answer('bob', 200), false);
    assert.equal(over.call.end, 'told');
  });

  for (const [name, end, held] of [
    ['goes on while the call rings', () => {}, false],
    ['is held after a 2xx', ({ answer }: Ringing) => void answer('bob', 200), true],
    ['is held after this member has ended the call', ({ calls, call }: Ringing) => calls.giveUp(call, 408, []), true],
  ] as const)
    test(`a provisional one ${name}`, async (t) => {
      const it = await ringing(t);
      end(it);
      assert.equal(it.answer('carol', 180), held);
    });

  test('a final one of a branch ends the repetition of its CANCEL', async (t) => {
    const { rig, request, answer, sent } = await ringing(t);
    request('CANCEL');
    answer('bob', 487);
    await sent();
    await rig.pass(3000);
    assert.deepEqual(new Set(await sent()), new Set([`CANCEL ${CAROL}`]));
  });

  test('an error of an unknown branch goes on, unless this member has ended the call', async (t) => {
    const { calls, call, answer } = await ringing(t);
    assert.equal(answer('dave', 486, 'z9hG4bKunknown'), false);
    assert.equal(call.end, 'none');
    calls.giveUp(call, 408, []);
    assert.equal(answer('dave', 486, 'z9hG4bKunknown'), true);
  });
});

describe('the response of a callee of a dead back-to-back user agent:', () => {
  test('a 2xx gets ACK and BYE, and its repetition another ACK', async (t) => {
    const { rig, late } = await ringing(t, ['bob'], false);
    assert.equal(late('bob', 200), true);
    const messages = await rig.messages();
    assert.deepEqual(
      messages.map(({ method, uri, toTag }) => [method, uri, toTag]),
      [
        ['ACK', 'sip:bob@192.0.2.99', 'bob'],
        ['BYE', 'sip:bob@192.0.2.99', 'bob'],
      ],
    );
    assert.equal(late('bob', 200), true);
    assert.deepEqual(await rig.sent(), [`ACK ${BOB}`]);
  });

  test('an error gets ACK and ends the repetition of its CANCEL', async (t) => {
    const { rig, calls, call, late, sent } = await ringing(t, ['bob'], false);
    calls.giveUp(call, 500, []);
    assert.equal(late('bob', 487), true);
    await rig.pass(5000);
    assert.deepEqual(await sent(), [`CANCEL ${BOB}`, `ACK ${BOB}`]);
  });

  test('a provisional one gets nothing, and one of an unknown branch is forwarded', async (t) => {
    const { late, sent } = await ringing(t, ['bob'], false);
    assert.equal(late('bob', 180), true);
    for (const status of [180, 200, 486]) assert.equal(late('bob', status, 'z9hG4bKunknown'), false);
    assert.deepEqual(await sent(), []);
  });
});

describe('the end of a call:', () => {
  test('the caller gets the status with its headers, and the branches that ring get CANCEL', async (t) => {
    const { rig, calls, call, answer } = await ringing(t);
    answer('bob', 486);
    await rig.messages();
    calls.giveUp(call, 500, ['Retry-After: 5']);
    const messages = await rig.messages();
    assert.deepEqual(
      messages.map(({ status, method }) => `${status || method}`),
      ['CANCEL', '500'],
    );
    const [, reply] = messages;
    assert.deepEqual([reply!.one('Retry-After'), reply!.branch], ['5', 'z9hG4bKalice']);
    assert.notEqual(reply!.toTag, '');
  });

  test('an answered call with one branch has nothing to cancel', async (t) => {
    const { calls, call, sent } = await ringing(t, ['bob']);
    calls.answered(call);
    assert.deepEqual([await sent(), call.end], [[], 'answered']);
  });

  test('a call that rings for too long gets 408', async (t) => {
    const { rig, call, sent } = await ringing(t, ['bob']);
    await rig.pass(RINGING_SECONDS * 1000);
    assert.deepEqual([await sent(), call.end], [[], 'none']);
    await rig.pass(TICK_MS);
    assert.deepEqual([(await sent()).slice(0, 2), call.end], [[`CANCEL ${BOB}`, `408 ${ALICE}`], 'told']);
  });

  test('it is forgotten when no retransmission can come any more', async (t) => {
    const { rig, calls, call } = await ringing(t, []);
    await rig.pass(60_000);
    calls.end(call, 'failed');
    await rig.pass(LINGER_MS);
    assert.equal(calls.size, 1);
    await rig.pass(TICK_MS);
    assert.equal(calls.size, 0);
  });

  test('a call taken after the last one was forgotten ends in time, too', async (t) => {
    const { rig, calls, call } = await ringing(t, []);
    calls.end(call, 'failed');
    await rig.pass(LINGER_MS + TICK_MS);
    const next = calls.take(ENTRY, call.record);
    await rig.pass(RINGING_SECONDS * 1000 + TICK_MS);
    assert.equal(next.end, 'told');
  });

  test('its record is over, unless it was answered', async (t) => {
    for (const [end, over] of [
      ['failed', true],
      ['told', true],
      ['answered', false],
    ] as const) {
      const rig = await takeoverRig(t);
      const { journal } = new JournalRig();
      t.after(() => journal.close());
      const { member, clock, surrogate } = rig;
      const context = { ...rig.context, journal };
      const calls = new RingingCalls({ context, answers: member.answers, clock, surrogate, ringingSeconds: () => 200 });
      t.after(() => calls.clear());
      const record = rig.record(rig.clientLeg());
      journal.restore(ENTRY, record);
      const call = calls.take(ENTRY, record);
      if (end === 'answered') calls.answered(call);
      else calls.end(call, end);
      assert.equal(journal.has(ENTRY), !over);
    }
  });
});
