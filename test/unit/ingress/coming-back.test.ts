// A request that cannot leave returns to its owner. With a lost flow it returns unchanged, because the owner may have
// another flow. Otherwise it becomes an answer: 430 where the owner cannot be reached (RFC 5626 11.4), 503 for a
// connection that cannot be opened.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { MAGIC_COOKIE, TokenKind } from '../../../src/ownership/token.ts';
import type { Flow } from '../../../src/packet/flow.ts';
import { callIdOf, FOREIGN_KEYS, request, response, seat, token } from '../ownership/lookups.ts';
import { EDGE, NAT, TCP, type WayFarm, wayFarm } from './way-farm.ts';

/** Returns a request of the server of member `owner` to its client, as it leaves that member. */
function outgoing(
  owner: number,
  method = 'INVITE',
  changes: Record<string, string> = {},
  keys?: typeof FOREIGN_KEYS,
): Buffer {
  const branch = MAGIC_COOKIE + token(TokenKind.outward, owner, 0, 8, keys);
  const vias = `SIP/2.0/UDP 198.51.100.1:5060;branch=${branch}, SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bKserver`;
  return request(method, { Via: vias, ...changes });
}

/** Returns the answer that the service of member `to` got. */
function answerAt(farm: WayFarm, to: number): string | undefined {
  return farm.member(to).handled[0]?.text;
}

const LOST = { address: '192.0.2.7', port: 5070 };

async function three(t: TestContext): Promise<{ farm: WayFarm; lost: Flow }> {
  const farm = await wayFarm(t, { members: 3 });
  return { farm, lost: farm.member(2).flow(TCP, LOST, 999_999) };
}

/** Sends the message as a peer's egress frame does: from somewhere in a larger buffer. */
function leave(farm: WayFarm, at: number, to: Flow, message: Buffer): Promise<void> {
  const frame = Buffer.concat([Buffer.from('head of a frame'), message, Buffer.from('and more')]);
  const flow = { ...to, target: -1, nat: true };
  farm.member(at).way.leave(flow, frame, 15, 15 + message.length);
  return farm.network.settle();
}

describe('a request for a lost flow', () => {
  test('returns to its owner unchanged, with the lost flow', async (t) => {
    const { farm, lost } = await three(t);
    await leave(farm, 2, lost, outgoing(1));
    await farm.until(() => farm.member(1).returned.length === 1);
    const { text, lost: told } = farm.member(1).returned[0]!;
    assert.equal(text, outgoing(1).toString('latin1'));
    assert.deepEqual(told, { ...lost, target: -1, nat: true });
    assert.deepEqual(farm.member(2).verdicts, { 'drop flow-lost': 1 });
    assert.deepEqual(farm.out, []);
  });

  test('returns to its owner over the link that brought it', async (t) => {
    const { farm, lost } = await three(t);
    // The owner may still use the flow: only the member of the flow has noticed the loss.
    assert.ok(farm.member(1).egress.send(lost, outgoing(1)));
    await farm.until(() => farm.member(1).returned.length === 1);
  });

  test('returns to its owner even if that has restarted since', async (t) => {
    const { farm, lost } = await three(t);
    farm.member(2).tables = { ...farm.member(2).tables, seats: new Map([[1, seat(1, { incarnation: 99 })]]) };
    await leave(farm, 2, lost, outgoing(1));
    await farm.until(() => farm.member(1).returned.length === 1);
  });

  test('goes as an orphan to the owner of its slot when its owner is gone', async (t) => {
    const { farm, lost } = await three(t);
    farm.seats([seat(2, { incarnation: 12 }), seat(3, { incarnation: 13 })]);
    const callId = callIdOf(farm.member(2).tables, 3);
    await leave(farm, 2, lost, outgoing(1, 'BYE', { 'Call-ID': callId }));
    assert.match(answerAt(farm, 3)!, /^SIP\/2\.0 430 /);
    assert.equal(farm.member(3).handled[0]?.packet.orphan, true);
  });

  test('stays at its own member, and is answered along the Via that it wrote', async (t) => {
    const { farm, lost } = await three(t);
    await leave(farm, 2, lost, outgoing(2));
    const answer = answerAt(farm, 2)!;
    assert.match(answer, /^SIP\/2\.0 430 Flow Failed\r\n/);
    assert.ok(answer.includes(`branch=${MAGIC_COOKIE}${token(TokenKind.outward, 2, 0, 8)}`));
    assert.ok(answer.includes('127.0.0.1:5070;branch=z9hG4bKserver'), 'the server’s own Via is kept');
    assert.match(answer, /\r\nCSeq: 1 INVITE\r\n/);
    assert.equal(farm.member(2).handled[0]?.packet.hops, 0);
  });

  test('returns with any method, also as an ACK, and each time', async (t) => {
    const { farm, lost } = await three(t);
    const methods = ['MESSAGE', 'CANCEL', 'NOTIFY', 'ACK'];
    for (const method of methods) await leave(farm, 2, lost, outgoing(1, method));
    await farm.until(() => farm.member(1).returned.length === methods.length);
    assert.deepEqual(
      farm.member(1).returned.map(({ text }) => text.split(' ')[0]),
      methods,
    );
  });

  const silent: readonly (readonly [string, Buffer])[] = [
    ['a response', response(MAGIC_COOKIE + token(TokenKind.outward, 1, 0, 8))],
    ['octets that are no message', Buffer.from('INVITE sip:')],
    ['a request with a fault', outgoing(1, 'INVITE', { CSeq: '1 BYE' })],
  ];
  for (const [what, bytes] of silent) {
    test(`is only counted when it is ${what}`, async (t) => {
      const { farm, lost } = await three(t);
      await leave(farm, 2, lost, bytes);
      assert.deepEqual(
        farm.members.map(({ verdicts }) => verdicts),
        [{}, { 'drop flow-lost': 1 }, {}],
      );
    });
  }

  test('is dropped when its Via was not written by the farm, so that no member answers for others', async (t) => {
    const { farm, lost } = await three(t);
    await leave(farm, 2, lost, request('INVITE'));
    await leave(farm, 2, lost, outgoing(1, 'INVITE', {}, FOREIGN_KEYS));
    assert.deepEqual(farm.member(2).verdicts, {
      'drop flow-lost': 2,
      'drop stray-response': 1,
      'drop forged-token': 1,
    });
    assert.deepEqual(farm.out, []);
  });
});

describe('a message that a peer sends through a member to a forbidden target', () => {
  for (const [what, text, leaves] of [
    ['leaves when it is a response', response(MAGIC_COOKIE + token(TokenKind.outward, 1, 0, 8)).toString(), 1],
    ['does not leave when it is no response, even with a slash in its method', 'PUT/ / HTTP/1.1\r\n\r\n', 0],
    ['does not leave when its start only resembles a response', 'abc/2.0 200 OK\r\n\r\n', 0],
  ] as const)
    test(what, async (t) => {
      const farm = await wayFarm(t, { members: 2, forbidden: { has: () => true } });
      await leave(farm, 2, farm.member(2).flow(EDGE, LOST), Buffer.from(text));
      assert.equal(farm.out.length, leaves);
      assert.equal(farm.member(2).verdicts['drop flow-lost'] ?? 0, 1 - leaves);
    });
});

describe('a message for an existing flow', () => {
  test('leaves by its listener, unchanged', async (t) => {
    const { farm } = await three(t);
    const message = outgoing(1);
    await leave(farm, 2, farm.member(2).flow(NAT, LOST), message);
    assert.deepEqual(farm.out, [{ from: '10.0.0.2:5080', to: '192.0.2.7:5070', text: message.toString('latin1') }]);
    assert.deepEqual(farm.member(2).verdicts, {});
  });

  test('leaves by its connection, unchanged', async (t) => {
    const { farm } = await three(t);
    const client = farm.connect(2);
    client.stream.write(request('REGISTER', { 'Call-ID': callIdOf(farm.member(2).tables, 2) }));
    await farm.network.settle();
    const { packet } = farm.member(2).handled[0]!;
    const message = outgoing(1);
    await leave(farm, 2, farm.member(2).flow(TCP, LOST, packet.connection), message);
    assert.equal(client.text(), message.toString('latin1'));
  });
});

describe('a message whose connection cannot be opened', () => {
  test('returns to its owner as 503', async (t) => {
    const farm = await wayFarm(t);
    const member = farm.member(1);
    const connection = member.transport.connectStream(TCP, { address: '192.0.2.99', port: 5060 });
    assert.ok(member.egress.send(member.flow(TCP, LOST, connection), outgoing(1)));
    await farm.network.settle();
    assert.match(answerAt(farm, 1)!, /^SIP\/2\.0 503 Service Unavailable\r\n/);
    assert.deepEqual(member.verdicts, { 'drop flow-lost': 1, local: 1 });
  });

  test('is only counted when it is an ACK or a response', async (t) => {
    const farm = await wayFarm(t);
    const { way } = farm.member(1);
    way.unsent(outgoing(1, 'ACK'));
    way.unsent(response(MAGIC_COOKIE + token(TokenKind.outward, 1, 0, 8)));
    assert.deepEqual(farm.member(1).verdicts, { 'drop flow-lost': 2 });
  });
});

test('the answer of one request does not affect the next packet', async (t) => {
  const { farm, lost } = await three(t);
  farm.seats([seat(2, { incarnation: 12 })]);
  await leave(farm, 2, lost, outgoing(1));
  await leave(farm, 2, lost, outgoing(2));
  await farm.datagram(2, request('INVITE'), EDGE);
  assert.deepEqual(
    farm.member(2).handled.map(({ packet }) => packet.orphan),
    [true, false, false],
  );
});
