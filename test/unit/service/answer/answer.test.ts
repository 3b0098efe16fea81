// The service `answer`: its answers to requests, their repetitions, and the BYE with which it ends a call.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { CallTable } from '../../../../src/calls/table/call-table.ts';
import { CellFamily, cellsBy } from '../../../../src/metrics/counters.ts';
import { buildOwnerTables } from '../../../../src/ownership/owner-tables.ts';
import { readToken, Token, TokenKind } from '../../../../src/ownership/token.ts';
import type { Flow } from '../../../../src/packet/flow.ts';
import { Packet } from '../../../../src/packet/packet.ts';
import { DROP_REASONS, type DropReason } from '../../../../src/packet/verdict.ts';
import { makeAnswer } from '../../../../src/service/answer/answer.ts';
import { FakeClock } from '../../../fake/clock.ts';
import { Message, parameterOf, type RequestParts, request, respond, uriOf, userOf } from '../../../fake/sip.ts';
import { Call, start, stopFarms } from '../../farm/calls.ts';
import { KEYS, keyOf, seat, viewOf } from '../../ownership/lookups.ts';
import { scanned } from '../../sip/messages.ts';

type Config = Parameters<typeof makeAnswer>[0];
type Service = ReturnType<typeof makeAnswer>;
type ServiceParts = Parameters<typeof makeAnswer>[1];

afterEach(stopFarms);

const PHONE = { address: '192.0.2.7', port: 5060 };
const CONTACT = `Contact: <sip:alice@${PHONE.address}>`;
const OWN = 2;
const LISTENERS = [
  { code: 4, answer: 'direct', advertise: { host: '198.51.100.1', port: 5060, transport: 'udp' } },
] as const;

/** The service at member 2, with calls in a real table and a record of the messages that leave. */
class Rig {
  readonly clock = new FakeClock();
  readonly calls = new CallTable({
    ringingSeconds: 200,
    longestCallSeconds: 7200,
    maxEntries: 20_000,
    evicted: { n: 0 },
  });
  readonly sent: { readonly flow: Flow; readonly message: Message }[] = [];
  readonly service: Service;
  /** False: the egress refuses each message. */
  open = true;
  readonly #drops = new CellFamily({ name: 'drops', help: '', labels: ['reason'] });
  readonly #handled = new CellFamily({ name: 'handled', help: '', labels: ['from', 'kind'] });
  readonly #tables = buildOwnerTables(viewOf([seat(1), seat(OWN)]), OWN, 1);

  constructor(holdSeconds = 0) {
    const parts: Partial<Record<keyof ServiceParts, unknown>> = {
      routing: { keys: KEYS, tables: this.#tables },
      clock: this.clock,
      transport: { listeners: LISTENERS },
      remoteListeners: { traitsOf: ({ listener }: Packet) => LISTENERS[listener] },
      egress: {
        listenerOf: ({ listener }: Flow) => LISTENERS.findIndex(({ code }) => code === listener),
        send: (flow: Flow, message: Buffer) => {
          if (this.open) this.sent.push({ flow: { ...flow }, message: new Message(message.toString('latin1')) });
          return this.open;
        },
      },
      calls: this.calls,
      handled: this.#handled,
      drops: cellsBy(this.#drops, 'reason', Object.keys(DROP_REASONS) as DropReason[]),
    };
    const config = { service: { kind: 'answer', holdSeconds } } as Config;
    this.service = makeAnswer(config, parts as unknown as ServiceParts);
  }

  /** Lets the service handle a message of the phone, and returns the messages that leave at once. */
  take(text: string, change: Partial<Packet> = {}): readonly Message[] {
    const bytes = Buffer.from(text, 'latin1');
    const { fault, scan } = scanned(bytes);
    assert.equal(fault, null);
    const packet = new Packet().begin(bytes, 0, bytes.length).cameFrom(PHONE.address, PHONE.port, 0, false);
    packet.cameTo('198.51.100.1', 5060, 0, LISTENERS[0].code).enteredAt(1, 1, 0);
    packet.callKey = keyOf(this.#tables, new Message(text).callId);
    const before = this.sent.length;
    this.service.handle(Object.assign(packet, change), scan);
    return this.sent.slice(before).map(({ message }) => message);
  }

  /** Advances the time, and returns the messages that leave meanwhile. */
  pass(ms: number): readonly Message[] {
    const before = this.sent.length;
    this.clock.advance(ms);
    return this.sent.slice(before).map(({ message }) => message);
  }

  dropped(reason: DropReason): number {
    return this.#drops.cell({ reason }).n;
  }

  handled(kind: 'request' | 'response'): number {
    return this.#handled.cell({ from: 'client', kind }).n;
  }
}

let branches = 0;

/** Returns a request of the phone in the call `one`, with a branch of its own. */
function from(method: string, parts: Partial<RequestParts> = {}): string {
  const via = `SIP/2.0/UDP ${PHONE.address}:${PHONE.port};branch=z9hG4bKphone${++branches}`;
  return request({ method, uri: 'sip:bob@example.org', via, callId: 'one', ...parts });
}

const invite = (parts: Partial<RequestParts> = {}): string => from('INVITE', { headers: [CONTACT], ...parts });
const statuses = (messages: readonly Message[]): number[] => messages.map(({ status }) => status);

/** Lets `rig` answer a call and confirms it. Returns the To tag. */
function talking(rig: Rig): string {
  const toTag = rig.take(invite()).at(-1)!.toTag;
  rig.take(from('ACK', { toTag }));
  return toTag;
}

describe('an INVITE', () => {
  test('gets 180 and 200 of one dialog, and is a call', () => {
    const rig = new Rig();
    const answers = rig.take(invite());
    assert.deepEqual(statuses(answers), [180, 200]);
    assert.ok(answers[1]!.toTag !== '' && answers[0]!.toTag === answers[1]!.toTag);
    assert.deepEqual([rig.calls.calls, rig.service.status.answered], [1, 1]);
  });

  test('gets a 200 with SDP, its Record-Route, and a Contact that names the owner', () => {
    const routes = ['<sip:p1.example.org;lr>', '<sip:p2.example.org;lr>'];
    const headers = [CONTACT, ...routes.map((route) => `Record-Route: ${route}`)];
    const ok = new Rig().take(invite({ headers }))[1]!;
    assert.deepEqual(ok.all('Record-Route'), routes);
    assert.equal(ok.one('Content-Type'), 'application/sdp');
    assert.match(ok.body, /^v=0\r\n.*c=IN IP4 198\.51\.100\.1\r\n.*a=inactive\r\n$/s);
    assert.equal(ok.one('Content-Length'), `${ok.body.length}`);
    const contact = uriOf(ok.one('Contact'));
    const [token, user] = [new Token(), Buffer.from(userOf(contact))];
    assert.equal(readToken(KEYS, user, 0, user.length, token), 'valid');
    assert.deepEqual([token.kind, token.member], [TokenKind.dialog, OWN]);
    assert.ok(contact.endsWith('@198.51.100.1:5060'));
  });

  test('again gets the same 200 once more, and is no second call', () => {
    const rig = new Rig();
    const text = invite();
    const first = rig.take(text)[1]!;
    assert.deepEqual(
      rig.take(text).map((message) => message.text),
      [first.text],
    );
    assert.deepEqual([rig.calls.calls, rig.service.status.answered], [1, 1]);
  });

  test('of the dialog gets 200 without 180, and is no second call', () => {
    const rig = new Rig();
    const toTag = talking(rig);
    const answers = rig.take(invite({ cseq: 2, toTag }));
    assert.deepEqual([statuses(answers), answers[0]!.toTag], [[200], toTag]);
    assert.deepEqual([rig.calls.calls, rig.service.status.answered], [1, 1]);
  });

  test('that comes late, after a newer one, gets 500 and leaves the newer one in force (RFC 3261 12.2.2)', () => {
    const rig = new Rig(30);
    const toTag = talking(rig);
    rig.take(invite({ cseq: 3, toTag, headers: ['Contact: <sip:alice@192.0.2.8>'] }));
    rig.take(from('ACK', { cseq: 3, toTag }));
    assert.deepEqual(statuses(rig.take(invite({ cseq: 2, toTag }))), [500]);
    const [bye, ...more] = rig.pass(30_000);
    assert.deepEqual([bye?.method, bye?.uri, more], ['BYE', 'sip:alice@192.0.2.8', []]);
  });

  for (const [what, parts, status] of [
    ['without a Contact', { headers: [] }, 400],
    ['of an unknown dialog', { toTag: 'none' }, 481],
  ] as const)
    test(`${what} gets ${status} and is no call`, () => {
      const rig = new Rig();
      assert.deepEqual(statuses(rig.take(invite(parts))), [status]);
      assert.deepEqual([rig.service.status.answered, statuses(rig.pass(32_000))], [0, []]);
      assert.deepEqual(statuses(rig.take(from('BYE', { toTag: 'none' }))), [481]);
    });

  test('above 10,000 calls gets 486 until one of them has ended', () => {
    const rig = new Rig();
    for (let call = 0; call < 10_000; call++) rig.take(invite({ callId: `${call}` }));
    assert.deepEqual(statuses(rig.take(invite({ callId: 'more' }))), [486]);
    assert.deepEqual(statuses(rig.take(from('BYE', { callId: '7', cseq: 2, toTag: 'x' }))), [200]);
    assert.deepEqual(statuses(rig.take(invite({ callId: 'more', cseq: 2 }))), [180, 200]);
  });

  test('that came by a connection at another member is answered by that connection', () => {
    const rig = new Rig();
    rig.take(invite(), { connection: 9, ingress: 1, ingressIncarnation: 5 });
    for (const { flow } of rig.sent)
      assert.deepEqual([flow.member, flow.incarnation, flow.connection, flow.listener], [1, 5, 9, LISTENERS[0].code]);
  });

  test('is no call when the listener that received it is gone', () => {
    const rig = new Rig();
    assert.deepEqual(rig.take(invite(), { listener: 1 }), []);
    assert.equal(rig.service.status.answered, 0);
  });

  test('whose answers find no way back is counted as a lost flow', () => {
    const rig = new Rig();
    rig.open = false;
    rig.take(invite());
    assert.equal(rig.dropped('flow-lost'), 2);
  });
});

describe('the 200', () => {
  test('is repeated until the ACK comes (RFC 3261 13.3.1.4)', () => {
    const rig = new Rig();
    const ok = rig.take(invite())[1]!;
    // After T1, 2*T1, 4*T1, then each T2.
    const repeated = [500, 1000, 2000, 4000, 4000].map((ms) => {
      assert.deepEqual(rig.pass(ms - 1), []);
      return rig.pass(1);
    });
    for (const messages of repeated)
      assert.deepEqual(
        messages.map(({ text }) => text),
        [ok.text],
      );
    assert.deepEqual(rig.take(from('ACK', { toTag: ok.toTag })), []);
    assert.deepEqual(rig.pass(60_000), []);
    assert.equal(rig.clock.timers, 0);
  });

  test('is repeated for 32 s at most without an ACK', () => {
    const rig = new Rig();
    rig.take(invite());
    rig.pass(32_000);
    assert.deepEqual(rig.pass(60_000), []);
  });
});

describe('a request in no call', () => {
  for (const [method, parts, status, header] of [
    ['OPTIONS', {}, 200, 'Allow'],
    ['OPTIONS', { toTag: 'none' }, 481, 'Allow'],
    ['UPDATE', { toTag: 'none' }, 481, 'Allow'],
    ['BYE', { toTag: 'none' }, 481, undefined],
    ['CANCEL', {}, 481, undefined],
    ['PUPPET', {}, 501, 'Allow'],
  ] as const)
    test(`by ${method} ${'toTag' in parts ? 'with a To tag ' : ''}gets ${status}`, () => {
      const rig = new Rig();
      const [answer, ...more] = rig.take(from(method, parts));
      assert.deepEqual([answer?.status, more], [status, []]);
      if (header) assert.match(answer!.text, new RegExp(`\r\n${header}: .*INVITE`));
      assert.equal(rig.handled('request'), 1);
    });

  test('by REGISTER gets 200 with its Contacts and an expiry', () => {
    const headers = ['Contact: <sip:a@192.0.2.7>', 'm: <sip:b@192.0.2.7>'];
    const [answer] = new Rig().take(from('REGISTER', { headers }));
    assert.equal(answer?.status, 200);
    for (const line of [...headers, 'Expires: 60']) assert.ok(answer!.text.includes(`\r\n${line}\r\n`), line);
  });

  test('by ACK gets no answer', () => assert.deepEqual(new Rig().take(from('ACK', { toTag: 'none' })), []));
});

describe('a request in a call', () => {
  for (const method of ['CANCEL', 'OPTIONS', 'UPDATE', 'INFO'])
    test(`by ${method} gets 200, and the call goes on`, () => {
      const rig = new Rig();
      const toTag = talking(rig);
      assert.deepEqual(statuses(rig.take(from(method, method === 'CANCEL' ? {} : { toTag, cseq: 2 }))), [200]);
      assert.equal(rig.calls.calls, 1);
    });

  test('by BYE gets 200 and ends it: a second BYE gets 481, and the service sends none', () => {
    const rig = new Rig(30);
    const toTag = talking(rig);
    rig.take(invite({ cseq: 2, toTag }));
    assert.deepEqual(statuses(rig.take(from('BYE', { toTag, cseq: 3 }))), [200]);
    assert.equal(rig.calls.calls, 0);
    assert.equal(rig.clock.timers, 0);
    assert.deepEqual(statuses(rig.take(from('BYE', { toTag, cseq: 4 }))), [481]);
  });

  test('by BYE before the ACK ends the repetition of the 200, too', () => {
    const rig = new Rig();
    const { toTag } = rig.take(invite())[1]!;
    rig.take(from('BYE', { toTag, cseq: 2 }));
    assert.deepEqual(rig.pass(60_000), []);
  });
});

describe('the end of the time that a call is held', () => {
  test('is a BYE in its dialog, repeated until it is answered, and the call is over', () => {
    const rig = new Rig(30);
    const toTag = talking(rig);
    assert.deepEqual(rig.pass(29_999), []);
    const [bye, ...more] = rig.pass(1);
    assert.ok(bye);
    assert.deepEqual([more, rig.calls.calls], [[], 0]);
    assert.equal(bye.startLine, `BYE sip:alice@${PHONE.address} SIP/2.0`);
    assert.deepEqual([bye.callId, parameterOf(bye.one('From'), 'tag'), bye.toTag], ['one', toTag, 'from']);
    const [token, branch] = [new Token(), Buffer.from(bye.branch.slice('z9hG4bK'.length))];
    assert.equal(readToken(KEYS, branch, 0, branch.length, token), 'valid');
    assert.deepEqual([token.kind, token.member], [TokenKind.outward, OWN]);
    assert.deepEqual(
      rig.pass(500).map(({ text }) => text),
      [bye.text],
    );
    assert.deepEqual(rig.take(respond(bye, 200)), []);
    assert.deepEqual([rig.pass(60_000), rig.clock.timers, rig.handled('response')], [[], 0, 1]);
    assert.deepEqual(statuses(rig.take(from('BYE', { toTag, cseq: 2 }))), [481]);
  });

  test('counts from the first INVITE of the dialog', () => {
    const rig = new Rig(30);
    const toTag = talking(rig);
    rig.pass(20_000);
    rig.take(invite({ cseq: 2, toTag }));
    rig.take(from('ACK', { toTag, cseq: 2 }));
    assert.deepEqual(
      rig.pass(10_000).map(({ method }) => method),
      ['BYE'],
    );
  });

  test('gives each call a BYE with a branch of its own', () => {
    const rig = new Rig(30);
    for (const callId of ['one', 'two']) {
      const { toTag } = rig.take(invite({ callId })).at(-1)!;
      rig.take(from('ACK', { callId, toTag }));
    }
    const byes = rig.pass(30_000);
    assert.deepEqual(
      byes.map(({ callId }) => callId),
      ['one', 'two'],
    );
    assert.notEqual(byes[0]!.branch, byes[1]!.branch);
  });

  test('never comes with 0 seconds', () => {
    const rig = new Rig(0);
    talking(rig);
    assert.deepEqual([rig.clock.timers, rig.calls.calls], [0, 1]);
  });

  test('comes to the phone from the address of the farm, and its answer finds the owner', async () => {
    const farm = await start({ members: 3, config: { service: { kind: 'answer', holdSeconds: 30 } } });
    const phone = await farm.phone('192.0.2.66');
    const call = new Call(farm, phone);
    const byes: Message[] = [];
    call.invite();
    await farm.settle();
    const before = phone.onMessage;
    phone.onMessage = (message) => {
      if (message.method === 'BYE' && message.status === 0) byes.push(message);
      else before(message);
    };
    await farm.pass(29_000);
    assert.equal(byes.length, 0);
    await farm.pass(1500);
    assert.ok(byes.length >= 1);
    assert.deepEqual([byes[0]!.callId, byes[0]!.toTag], [call.callId, call.fromTag]);
    assert.ok(farm.live.every(({ node }) => node.ownedCalls === 0));
    phone.send(respond(byes[0]!, 200));
    await farm.settle();
    const seen = byes.length;
    await farm.pass(32_000);
    assert.equal(byes.length, seen, 'an answered BYE is not repeated');
  });
});

describe('a drain', () => {
  test('refuses new calls with 503, and calls that run go on to their end', () => {
    const rig = new Rig();
    const toTag = talking(rig);
    rig.service.drain();
    assert.deepEqual(statuses(rig.take(invite({ callId: 'two' }))), [503]);
    assert.equal(rig.service.status.trouble, 'the service takes no new calls');
    assert.deepEqual(statuses(rig.take(invite({ cseq: 2, toTag }))), [200]);
    assert.deepEqual(statuses(rig.take(from('BYE', { cseq: 3, toTag }))), [200]);
    assert.equal(rig.calls.calls, 0);
  });
});

for (const [what, end] of [
  ['a stop', (service: Service) => service.stop()],
  ['the loss of the seat', async (service: Service) => service.succession.clear()],
] as const)
  test(`${what} forgets all calls, and nothing more is sent for them`, async () => {
    const rig = new Rig(30);
    talking(rig);
    rig.take(invite({ callId: 'two' }));
    await end(rig.service);
    assert.deepEqual([rig.pass(60_000), rig.clock.timers], [[], 0]);
    assert.deepEqual(statuses(rig.take(from('BYE', { cseq: 2, toTag: 'x' }))), [481]);
  });

test('the section of another service is refused', () => {
  const config = { service: { kind: 'upstream' } } as Config;
  assert.throws(() => makeAnswer(config, {} as ServiceParts), { code: 'SF_INTERNAL' });
});
