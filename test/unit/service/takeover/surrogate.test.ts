// Requests and answers in place of a dead server: how often they leave, by which flow, and with which Via.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Leg } from '../../../../src/calls/records/call-record.ts';
import { readBranchToken, Token, TokenKind } from '../../../../src/ownership/token.ts';
import type { Way } from '../../../../src/packet/flow.ts';
import { OwnVias } from '../../../../src/service/inserted/own-vias.ts';
import { Surrogate } from '../../../../src/service/takeover/surrogate.ts';
import { EDGE6, NAT } from '../../ingress/way-farm.ts';
import { KEYS } from '../../ownership/lookups.ts';
import { branchTo, CALLER, type TakeoverRig, takeoverRig } from './takeover-rig.ts';

const BOB = '192.0.2.9';
/** Longer than 64*T1. */
const LONG_MS = 40_000;
/** Times at which a request leaves over UDP in 32 s: 0, 0.5, 1.5, 3.5 s, then every 4 s (RFC 3261 17.1.2.2). */
const REQUESTS = 11;

const bob = (rig: TakeoverRig): Leg => rig.serverLeg('bob', BOB, true);

describe('over UDP', () => {
  test('a CANCEL is repeated for 32 s, with the branch of its INVITE', async (t) => {
    const rig = await takeoverRig(t);
    rig.surrogate.cancel(bob(rig), branchTo('bob'));
    await rig.pass(LONG_MS);
    const messages = await rig.messages();
    assert.equal(messages.length, REQUESTS);
    assert.ok(
      messages.every(({ method, branch, to }) => `${method} ${branch} ${to}` === `CANCEL z9hG4bKbob ${BOB}:5060`),
    );
  });

  test('a CANCEL is not repeated once it is answered', async (t) => {
    const rig = await takeoverRig(t);
    rig.surrogate.cancel(bob(rig), branchTo('bob'));
    assert.equal(rig.surrogate.cancelAnswered(branchTo('carol')), false);
    assert.equal(rig.surrogate.cancelAnswered(branchTo('bob')), true);
    await rig.pass(LONG_MS);
    assert.deepEqual(await rig.sent(), [`CANCEL ${BOB}`]);
    assert.equal(rig.surrogate.cancelAnswered(branchTo('bob')), false);
  });

  test('an answer leaves four times, and not again once it is acknowledged', async (t) => {
    const rig = await takeoverRig(t);
    const answer = Buffer.from('SIP/2.0 487 Gone\r\nCSeq: 1 INVITE\r\n\r\n');
    for (const key of [1, 2]) rig.surrogate.answer(key, rig.flowTo(key === 1 ? BOB : CALLER.address), answer);
    rig.surrogate.answerAcknowledged(2);
    await rig.pass(LONG_MS);
    assert.deepEqual((await rig.sent()).toSorted(), [`487 ${CALLER.address}`, ...Array(4).fill(`487 ${BOB}`)]);
  });

  test('an ACK leaves once: of an error with its To value, of a 2xx to the Contact', async (t) => {
    const rig = await takeoverRig(t);
    rig.surrogate.ackError(bob(rig), '<sip:bob@example.org>;tag=busy');
    rig.surrogate.ackAnswer(bob(rig));
    await rig.pass(LONG_MS);
    const messages = await rig.messages();
    assert.deepEqual(
      messages.map(({ method, toTag, uri }) => [method, toTag, uri]),
      [
        ['ACK', 'busy', 'sip:bob@example.org'],
        ['ACK', 'bob', 'sip:bob@192.0.2.99'],
      ],
    );
    assert.equal(messages[0]!.branch, branchTo('bob'));
    assert.notEqual(messages[1]!.branch, branchTo('bob'));
  });

  for (const [name, send, leg] of [
    ['BYE', (surrogate: Surrogate, of: Leg) => surrogate.bye(of), bob],
    [
      'NOTIFY',
      (surrogate: Surrogate, of: Leg) => surrogate.lastNotify(of),
      (rig: TakeoverRig): Leg => {
        const request = rig
          .clientLeg()
          .request.replace('Content-Length', 'Contact: <sip:a@192.0.2.7>\r\nContent-Length');
        return { ...rig.clientLeg(), request, answer: bob(rig).answer! };
      },
    ],
  ] as const)
    test(`a ${name} is repeated until the final response to its branch, and each has a branch of its own`, async (t) => {
      const rig = await takeoverRig(t);
      for (let i = 0; i < 2; i++) send(rig.surrogate, leg(rig));
      const [one, two] = await rig.messages();
      assert.deepEqual([one!.method, two!.method], [name, name]);
      assert.notEqual(one!.branch, two!.branch);
      assert.equal(rig.surrogate.takeResponse('z9hG4bKother'), false);
      assert.equal(rig.surrogate.takeResponse(one!.branch), true);
      assert.equal(rig.surrogate.takeResponse(one!.branch), false);
      await rig.pass(LONG_MS);
      const later = await rig.messages();
      assert.equal(later.length, REQUESTS - 1);
      assert.ok(later.every(({ branch }) => branch === two!.branch));
    });
});

describe('the Via of a request in a dialog', () => {
  test('has a token of this member, so that the response comes to it', async (t) => {
    const rig = await takeoverRig(t);
    rig.surrogate.bye(bob(rig));
    const { branch } = (await rig.messages())[0]!;
    const token = new Token();
    assert.equal(readBranchToken(KEYS, Buffer.from(branch), 0, branch.length, token), 'valid');
    assert.deepEqual([token.kind, token.member], [TokenKind.outward, rig.member.number]);
  });

  test('names the listener of the flow by which the party is reached now, not that of the record', async (t) => {
    const rig = await takeoverRig(t);
    const now = rig.flowTo('203.0.113.5', 5060, NAT);
    const asked: Readonly<Way>[] = [];
    rig.reach = async (_message, known) => {
      asked.push(known);
      return now;
    };
    const leg = bob(rig);
    rig.surrogate.bye(leg);
    const [bye] = await rig.messages();
    assert.equal(bye!.to, '203.0.113.5:5060');
    assert.match(bye!.one('Via'), /^SIP\/2.0\/UDP 198.51.100.1:5080;/);
    assert.deepEqual(asked, [leg.flow]);
  });
});

describe('a message without a way', () => {
  test('is counted as flow-lost when its connection is gone', async (t) => {
    const rig = await takeoverRig(t);
    rig.surrogate.send({ ...rig.flowTo(BOB), connection: 99 }, Buffer.from('x'));
    assert.equal(rig.context.drops['flow-lost'].n, 1);
    rig.surrogate.send(rig.flowTo(BOB), Buffer.from('x'));
    assert.equal(rig.context.drops['flow-lost'].n, 1);
  });

  test('is counted as flow-lost when its party cannot be reached', async (t) => {
    const rig = await takeoverRig(t);
    rig.reach = async () => undefined;
    rig.surrogate.bye(bob(rig));
    await rig.pass(LONG_MS);
    assert.deepEqual([await rig.sent(), rig.context.drops['flow-lost'].n], [[], 1]);
  });

  test('is counted as flow-lost when the flow leads to a listener that no node has', async (t) => {
    const rig = await takeoverRig(t);
    rig.reach = async (_message, known) => ({ ...known, listener: 255 });
    rig.surrogate.bye(bob(rig));
    assert.deepEqual([await rig.sent(), rig.context.drops['flow-lost'].n], [[], 1]);
  });

  test('is not built from a leg without an answer', async (t) => {
    const rig = await takeoverRig(t);
    rig.surrogate.bye(rig.serverLeg('bob', BOB));
    assert.deepEqual([await rig.sent(), rig.context.drops['flow-lost'].n], [[], 0]);
  });
});

test('nothing leaves after the surrogate is closed, also not what waited for its flow; later messages leave', async (t) => {
  const rig = await takeoverRig(t);
  let found = (): void => {};
  rig.reach = (_message, known) =>
    new Promise((resolve) => {
      found = () => resolve(known);
    });
  rig.surrogate.cancel(bob(rig), branchTo('bob'));
  rig.surrogate.bye(bob(rig));
  await rig.messages();
  rig.surrogate.close();
  found();
  await rig.pass(LONG_MS);
  assert.deepEqual([await rig.sent(), rig.context.drops['flow-lost'].n], [[], 0]);
  rig.surrogate.cancel(bob(rig), branchTo('bob'));
  assert.deepEqual(await rig.sent(), [`CANCEL ${BOB}`]);
});

test('the guard catches what the search for the flow throws', async (t) => {
  const rig = await takeoverRig(t);
  const caught: unknown[] = [];
  const fault = new Error('the search for the flow has failed');
  const reach = () => Promise.reject(fault);
  const guard = { caught: (entrance: string, error: unknown) => void caught.push(entrance, error) };
  new Surrogate(rig.context, rig.clock, reach, new OwnVias(rig.context), guard).bye(bob(rig));
  assert.deepEqual(await rig.sent(), []);
  assert.deepEqual(caught, ['records', fault]);
});

test('a party over IPv6 gets the Via of its listener', async (t) => {
  const rig = await takeoverRig(t);
  rig.surrogate.bye({ ...bob(rig), flow: rig.flowTo('2001:db8::99', 5060, EDGE6) });
  assert.equal((await rig.messages())[0]!.to, '[2001:db8::99]:5060');
});
