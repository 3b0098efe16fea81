// Stateless replies: small, to the source, rate-limited, and with a To tag that every member recognizes.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { finalReply } from '../../../src/egress/stateless-reply.ts';
import { keyring } from '../../../src/ownership/keyring.ts';
import { readToken, Token, TokenKind } from '../../../src/ownership/token.ts';
import { Scan, scan } from '../../../src/sip/scan.ts';
import { EDGE, EDGE6, errorLimits, NAT, type WayFarm, wayFarm } from '../ingress/way-farm.ts';
import { callIdOf, KEYS, request, seat } from '../ownership/lookups.ts';

/** Returns a request that is answered 400, large enough for the whole answer. */
function broken(changes: Record<string, string | undefined> = {}): Buffer {
  return request('INVITE', { CSeq: '1 BYE', Subject: 'x'.repeat(200), ...changes });
}

const VIA = 'SIP/2.0/UDP client.example.com:5066;branch=z9hG4bK1';

function toTag(text: string): string | undefined {
  return /\r\nTo: [^\r]*;tag=([^;\r]*)/.exec(text)?.[1];
}

describe('a reply to a datagram', () => {
  test('goes to its source, at the port of its Via, with received', async (t) => {
    const farm = await wayFarm(t);
    await farm.datagram(1, broken({ Via: VIA }));
    assert.equal(farm.out[0]?.to, '192.0.2.7:5066');
    assert.match(farm.out[0].text, /^SIP\/2\.0 400 Bad Request\r\nVia: [^\r]*;received=192\.0\.2\.7\r\n/);
  });

  test('goes to its source port when the client requests it by rport, with the port in rport', async (t) => {
    const farm = await wayFarm(t);
    await farm.datagram(1, broken({ Via: `${VIA};rport` }));
    assert.equal(farm.out[0]?.to, '192.0.2.7:5070');
    assert.match(farm.out[0].text, /\r\nVia: [^\r]*;rport=5070/);
    assert.match(farm.out[0].text, /\r\nVia: [^\r]*;received=192\.0\.2\.7/);
  });

  test('has all Via values, From, To, Call-ID and CSeq, and nothing else', async (t) => {
    const farm = await wayFarm(t);
    await farm.datagram(1, broken({ Via: `${VIA}, SIP/2.0/TCP below;branch=z9hG4bK0`, From: '<sip:a@b>;tag=f' }));
    const { text } = farm.out[0]!;
    assert.match(text, /SIP\/2\.0\/TCP below;branch=z9hG4bK0/);
    for (const line of ['From: <sip:a@b>;tag=f', 'Call-ID: call1@192.0.2.1', 'CSeq: 1 BYE', 'Content-Length: 0'])
      assert.ok(text.includes(`\r\n${line}\r\n`), line);
    assert.ok(!text.includes('Subject'));
  });

  test('leaves from the address that the datagram came to', async (t) => {
    const farm = await wayFarm(t);
    await farm.datagram(1, broken(), NAT);
    await farm.datagram(1, broken(), EDGE6, { address: '2001:db8:c::7', port: 5070 });
    assert.deepEqual(
      farm.out.map(({ from }) => from),
      ['10.0.0.1:5080', '[2001:db8::1]:5060'],
    );
  });

  test('is never larger than the datagram: first optional headers are removed, then it is not sent', async (t) => {
    for (let room = 0; room < 200; room += 20) {
      const farm = await wayFarm(t);
      const short = { Via: 'SIP/2.0/UDP h;rport;branch=z9hG4bK1', CSeq: '1 BYE', 'Max-Forwards': undefined };
      const bytes = request('INVITE', { ...short, s: room === 0 ? undefined : 'x'.repeat(room) }, 'sip:h');
      await farm.datagram(1, bytes);
      const { verdicts, answered } = farm.member(1);
      assert.equal(farm.out.length + (verdicts['drop amplification'] ?? 0), 1, `${room} octets of room`);
      assert.ok((farm.out[0]?.text.length ?? 0) <= bytes.length);
      assert.deepEqual(answered, farm.out.length === 1 ? { 400: 1 } : {});
      if (room === 0) assert.equal(farm.out.length, 0);
      if (room === 180) assert.equal(farm.out.length, 1);
    }
  });

  test('from a service is shortened in the same way', async (t) => {
    const farm = await wayFarm(t);
    const member = farm.member(1);
    member.serve = (packet, message) => member.answers.answer(packet, message, 503, [`X: ${'y'.repeat(400)}`]);
    const bytes = request('INVITE', { Subject: 'x'.repeat(100) });
    await farm.datagram(1, bytes);
    assert.equal(farm.out.length, 1);
    assert.ok(farm.out[0]!.text.length <= bytes.length);
  });

  test('may not be longer because of octets after the message in its datagram', async (t) => {
    const farm = await wayFarm(t);
    const noise = Buffer.alloc(1000, 'x');
    await farm.datagram(1, Buffer.concat([request('OPTIONS', { Contact: '*' }, 'sip:10.0.0.1'), noise]));
    await farm.datagram(1, request('OPTIONS', { Contact: '*' }, 'sip:10.0.0.1'));
    assert.equal(farm.out[0]?.text.length, farm.out[1]?.text.length);
  });

  test('is never sent for an ACK', async (t) => {
    const farm = await wayFarm(t);
    await farm.datagram(1, request('ACK', { CSeq: '1 BYE', Subject: 'x'.repeat(200) }));
    farm.member(1).serve = (packet, message) => farm.member(1).answers.answer(packet, message, 503);
    await farm.datagram(1, request('ACK', { Subject: 'x'.repeat(200) }));
    assert.deepEqual(farm.out, []);
    assert.deepEqual(farm.member(1).verdicts, { local: 1, 'drop bad-ack': 2 });
  });
});

describe('the To tag of a reply', () => {
  test('is a token by which every member recognizes the ACK and drops it', async (t) => {
    const farm = await wayFarm(t, { members: 2 });
    const callId = callIdOf(farm.member(1).tables, 1);
    await farm.datagram(1, broken({ 'Call-ID': callId }));
    const tag = toTag(farm.out[0]!.text)!;
    const token = new Token();
    assert.equal(readToken(KEYS, Buffer.from(tag), 0, tag.length, token), 'valid');
    assert.deepEqual([token.kind, token.member], [TokenKind.reply, 1]);
    for (const number of [1, 2])
      await farm.datagram(number, request('ACK', { 'Call-ID': callId, To: `<sip:bob@example.com>;tag=${tag}` }));
    assert.deepEqual(farm.member(2).verdicts, { 'drop stateless-ack': 1 });
    assert.deepEqual(farm.member(1).verdicts, { 'reply 400': 1, 'drop stateless-ack': 1 });
  });

  test("is the client's own where it has one", async (t) => {
    const farm = await wayFarm(t);
    await farm.datagram(1, broken({ To: '<sip:bob@example.com>;tag=theirs' }));
    assert.match(farm.out[0]!.text, /\r\nTo: <sip:bob@example\.com>;tag=theirs\r\n/);
  });

  test('is new when the farm key changes', async (t) => {
    const farm = await wayFarm(t);
    const member = farm.member(1);
    await farm.datagram(1, broken());
    await farm.datagram(1, broken());
    member.keys = keyring(['12'.repeat(32)]);
    await farm.datagram(1, broken());
    const tags = farm.out.map(({ text }) => toTag(text)!);
    assert.equal(tags[0], tags[1]);
    assert.equal(readToken(member.keys, Buffer.from(tags[2]!), 0, tags[2]!.length, new Token()), 'valid');
  });
});

describe('error replies', () => {
  async function count(farm: WayFarm, address: string, times: number, listener = EDGE): Promise<number> {
    const before = farm.out.length;
    for (let i = 0; i < times; i++) await farm.datagram(1, broken(), listener, { address, port: 5070 });
    return farm.out.length - before;
  }

  test('are limited per /24 and per /56, and unanswered ones are counted', async (t) => {
    const farm = await wayFarm(t, { errorsPerSecond: 2, burst: 3 });
    assert.equal(await count(farm, '192.0.2.7', 2), 2);
    assert.equal(await count(farm, '192.0.2.99', 2), 1);
    assert.equal(await count(farm, '192.0.3.7', 1), 1);
    assert.equal(await count(farm, '2001:db8:c:1::1', 2, EDGE6), 2);
    assert.equal(await count(farm, '2001:db8:c:ff::1', 2, EDGE6), 1);
    assert.equal(await count(farm, '2001:db8:c:100::1', 1, EDGE6), 1);
    assert.equal(farm.member(1).verdicts['drop rate-limit'], 2);
    assert.deepEqual(farm.member(1).answered, { 400: 8 });
  });

  test('are allowed again as time passes', async (t) => {
    const farm = await wayFarm(t, { errorsPerSecond: 2, burst: 3 });
    assert.equal(await count(farm, '192.0.2.7', 4), 3);
    farm.clock.advance(499);
    assert.equal(await count(farm, '192.0.2.7', 1), 0);
    farm.clock.advance(501);
    assert.equal(await count(farm, '192.0.2.7', 3), 2);
  });

  test('have one limit for grammar errors (400, 501, 505) and another for all other refusals', async (t) => {
    const farm = await wayFarm(t);
    const member = farm.member(1);
    const faults = new Set([400, 501, 505]);
    for (const status of [400, 501, 505, 481, 483, 503] as const) {
      member.answers.limits = { faults: errorLimits(1, 1).faults, refusals: errorLimits(1, 3).refusals };
      member.serve = (packet, message) => member.answers.answer(packet, message, status);
      const before = farm.out.length;
      for (let i = 0; i < 5; i++) await farm.datagram(1, request('INVITE', { Subject: 'x'.repeat(200) }));
      assert.equal(farm.out.length - before, faults.has(status) ? 1 : 3, `${status}`);
    }
  });

  test('follow a limit that changes', async (t) => {
    const farm = await wayFarm(t, { errorsPerSecond: 1, burst: 1 });
    farm.member(1).answers.limits = errorLimits(1, 5);
    assert.equal(await count(farm, '192.0.2.7', 9), 5);
  });

  test('do not share their limit with the answers to probes, which are no errors', async (t) => {
    const farm = await wayFarm(t, { errorsPerSecond: 1, burst: 1 });
    for (let i = 0; i < 5; i++) await farm.datagram(1, request('OPTIONS', { Contact: '*' }, 'sip:10.0.0.1'));
    assert.equal(farm.out.length, 5);
    assert.equal(await count(farm, '192.0.2.7', 2), 1);
  });
});

describe('the reply of an owner to a relayed packet', () => {
  const TWO = [seat(1, { state: 'draining' }), seat(2)];

  async function answering(farm: WayFarm): Promise<void> {
    const owner = farm.member(2);
    owner.serve = (packet, message) => owner.answers.answer(packet, message, 503, ['Retry-After: 5']);
  }

  test('leaves at the owner when any member may answer', async (t) => {
    const farm = await wayFarm(t, { members: TWO });
    await answering(farm);
    await farm.datagram(1, request('INVITE', { Subject: 'x'.repeat(200) }));
    assert.deepEqual(
      farm.out.map(({ from, to }) => `${from} > ${to}`),
      ['10.0.0.2:5060 > 192.0.2.7:5070'],
    );
    assert.match(farm.out[0]!.text, /^SIP\/2\.0 503 [^\r]*\r\n(.*\r\n)*Retry-After: 5\r\n/);
  });

  test('leaves at the ingress member when only that member may answer', async (t) => {
    const farm = await wayFarm(t, { members: TWO });
    await answering(farm);
    await farm.datagram(1, request('INVITE', { Subject: 'x'.repeat(200) }), NAT);
    assert.deepEqual(
      farm.out.map(({ from, to }) => `${from} > ${to}`),
      ['10.0.0.1:5080 > 192.0.2.7:5070'],
    );
  });

  test('leaves by the connection at the member that has it, whatever its size', async (t) => {
    const farm = await wayFarm(t, { members: TWO });
    await answering(farm);
    const client = farm.connect(1);
    client.stream.write(request('INVITE', { Via: 'SIP/2.0/TCP c;branch=z9hG4bK1' }));
    await farm.until(() => client.text() !== '');
    assert.match(client.text(), /^SIP\/2\.0 503 Service Unavailable\r\n/);
    assert.match(client.text(), /;received=192\.0\.2\.7/);
    assert.deepEqual(farm.out, []);
  });

  test('is counted as lost when that connection has closed', async (t) => {
    const farm = await wayFarm(t);
    const member = farm.member(1);
    const client = farm.connect(1);
    member.serve = (packet, message) => {
      packet.connection = 999_999;
      member.answers.answer(packet, message, 503);
    };
    client.stream.write(request('INVITE'));
    await farm.network.settle();
    assert.equal(client.text(), '');
    assert.deepEqual(member.verdicts, { local: 1, 'drop flow-lost': 1 });
  });
});

describe("a reply to this farm's own request", () => {
  const SOURCE = { address: '192.0.2.9', port: 5099 };
  const replyTo = (bytes: Buffer, status: 430 | 503): string | undefined => {
    const message = new Scan();
    scan(bytes, 0, bytes.length, false, message);
    return finalReply(message, status, SOURCE)?.toString('latin1');
  };

  test('is larger than the request where needed, names the source, and has the same tag each time', () => {
    const short = request('INVITE', { Via: 'SIP/2.0/UDP h;rport;branch=z9hG4bK1', 'Max-Forwards': undefined }, 'sip:h');
    const [one, two] = [replyTo(short, 503)!, replyTo(short, 430)!];
    assert.match(one, /^SIP\/2\.0 503 Service Unavailable\r\n/);
    assert.ok(one.length > short.length, `${one.length} octets`);
    assert.match(one, /;received=192\.0\.2\.9/);
    assert.match(one, /;rport=5099/);
    assert.ok(toTag(one));
    assert.equal(toTag(one), toTag(two));
  });

  test('has a To tag that no member takes for a token, so its ACK reaches the server', () => {
    const tag = Buffer.from(toTag(replyTo(broken(), 503)!)!);
    assert.notEqual(readToken(KEYS, tag, 0, tag.length, new Token()), 'valid');
  });

  test('is not made for an ACK', () => assert.equal(replyTo(request('ACK'), 503), undefined));
});
