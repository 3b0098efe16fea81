// Destination of a request of the SIP server to a party that has moved during the dialog: the source of its last
// request that the server accepted. Other senders cannot divert these requests.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Phone, UdpPhone } from '../../../fake/farm.ts';
import { type Message, request, respond } from '../../../fake/sip.ts';
import { cleanUp, fromServer, type Rig, rig, tokenIn } from './rig.ts';

cleanUp();

const CALL = 'moving';
let branches = 0;

interface Place {
  /** Host and port in the Via, where they are not the phone's own. */
  readonly sentBy?: string;
  readonly contact?: string;
  readonly cseq?: number;
  readonly fromTag?: string;
  readonly toTag?: string;
  readonly branch?: string;
}

/** A dialog between a client and the SIP server behind one member. */
class Dialog {
  readonly rig: Rig;
  #routes: readonly string[] = [];
  #serverRoutes: readonly string[] = [];
  target = '';

  constructor(of: Rig) {
    this.rig = of;
  }

  /** Sends INVITE, 200 and ACK. `extra`: more header lines. */
  async begin(phone: Phone, place: Place = {}, extra: readonly string[] = []): Promise<Message> {
    const { farm, server } = this.rig;
    const invite = await this.say(phone, 'INVITE', { cseq: 1, ...place, toTag: '' }, extra);
    this.#routes = invite.all('Record-Route');
    this.#serverRoutes = this.#routes;
    this.target = /<([^>]*)>/.exec(invite.one('Contact'))?.[1] ?? '';
    server.send(respond(invite, 200, { toTag: 'bob', headers: ['Contact: <sip:bob@10.0.0.1:5070>'] }));
    await farm.settle();
    return invite;
  }

  /** Sends a request of the client and returns the request that the server receives. */
  async say(phone: Phone, method: string, place: Place = {}, extra: readonly string[] = []): Promise<Message> {
    const { farm, server } = this.rig;
    const { sentBy = `${phone.at.address}:${phone.at.port}`, cseq = 2, fromTag = 'alice', toTag = 'bob' } = place;
    const tcp = phone.transport === 'TCP';
    const { contact = `sip:alice@${sentBy}${tcp ? ';transport=tcp' : ''}`, branch = `z9hG4bKmove${++branches}` } =
      place;
    const before = server.requests.length;
    phone.send(
      request({
        method,
        uri: 'sip:bob@10.0.0.1:5070',
        via: `SIP/2.0/${phone.transport} ${sentBy};branch=${branch};rport`,
        callId: CALL,
        cseq,
        fromTag,
        ...(toTag && { toTag }),
        headers: [
          ...[...this.#routes].reverse().map((route) => `Route: ${route}`),
          ...(contact && method !== 'INFO' ? [`Contact: <${contact}>`] : []),
          ...extra,
        ],
      }),
    );
    await farm.until(() => server.requests.length > before, 'the server gets the request');
    return server.last;
  }

  /** Sends a request that the server accepts, and takes its Contact as the new target. */
  async accepted(phone: Phone, method: string, place: Place = {}): Promise<void> {
    await this.answered(await this.say(phone, method, place), 200);
  }

  async answered(message: Message, status: number): Promise<void> {
    this.rig.server.send(respond(message, status));
    await this.rig.farm.settle();
    const contact = /<([^>]*)>/.exec(message.one('Contact'))?.[1];
    if (contact && status < 300) this.target = contact;
  }

  /** Sends the BYE of the server to its target along its route set. */
  async hangUp(): Promise<void> {
    const headers = this.#serverRoutes.map((route) => `Route: ${route}`);
    const parts = { method: 'BYE', uri: this.target, callId: CALL, fromTag: 'bob', toTag: 'alice', headers };
    this.rig.server.send(fromServer(this.rig, parts));
    await this.rig.farm.pass(200);
  }

  /** Status codes that the server received. */
  get statuses(): number[] {
    return this.rig.server.responses.map(({ status }) => status);
  }
}

/** Returns whether the phone received a BYE. */
function hears(phone: Phone): boolean {
  return phone.got.some(({ status, method }) => status === 0 && method === 'BYE');
}

async function dialog(answer: 'direct' | 'ingress', members = 1): Promise<Dialog> {
  const made = await rig({ answer, members });
  // The member whose server has the dialog; packets come to any member.
  const { farm } = made;
  const owner = farm.ownerOf(CALL);
  return new Dialog({ farm, member: owner, server: owner.server });
}

const HOME = '192.168.1.5:5060';

for (const answer of ['direct', 'ingress'] as const)
  describe(`a client by UDP with answer: ${answer}`, () => {
    test('is reached at the new port that its NAT gives it', async () => {
      const talk = await dialog(answer, 3);
      const { farm } = talk.rig;
      const [before, after] = [await farm.phone('203.0.113.9', 30_000), await farm.phone('203.0.113.9', 30_001)];
      await talk.begin(before, { sentBy: HOME });
      await talk.accepted(after, 'INVITE', { sentBy: HOME });
      await talk.hangUp();
      assert.deepEqual([hears(before), hears(after)], [false, true]);
    });

    test('that has moved is reached after any accepted request, not only after a new INVITE', async () => {
      const talk = await dialog(answer);
      const { farm } = talk.rig;
      const [before, after] = [await farm.phone('203.0.113.9', 30_000), await farm.phone('203.0.113.9', 30_001)];
      await talk.begin(before, { sentBy: HOME });
      await talk.accepted(after, 'INFO', { sentBy: HOME });
      await talk.hangUp();
      assert.deepEqual([hears(before), hears(after)], [false, true]);
    });

    test('is reached at the new Contact that it names from its old address', async () => {
      const talk = await dialog(answer);
      const { farm } = talk.rig;
      const [phone, other] = [await farm.phone('192.0.2.7'), await farm.phone('192.0.2.8', 5072)];
      await talk.begin(phone);
      await talk.accepted(phone, 'INVITE', { contact: 'sip:alice@192.0.2.8:5072' });
      await talk.hangUp();
      assert.deepEqual([hears(phone), hears(other)], [false, true]);
    });

    test('stays at its source address behind a NAT when it names another private Contact', async () => {
      const talk = await dialog(answer);
      const phone = await talk.rig.farm.phone('203.0.113.9', 30_000);
      await talk.begin(phone, { sentBy: HOME });
      await talk.accepted(phone, 'UPDATE', { sentBy: HOME, contact: 'sip:alice@192.168.1.5:5099' });
      await talk.hangUp();
      assert.equal(hears(phone), true);
    });

    test('that turns out to be behind a NAT stays at its source address, whatever Contact it names', async () => {
      const talk = await dialog(answer);
      const { farm } = talk.rig;
      const [phone, stale] = [await farm.phone('203.0.113.9', 30_000), await farm.phone('203.0.113.10', 5060)];
      await talk.begin(phone);
      await talk.accepted(phone, 'INVITE', { sentBy: HOME, contact: 'sip:alice@203.0.113.10' });
      await talk.hangUp();
      assert.deepEqual([hears(phone), hears(stale)], [true, false]);
    });

    test('is reached at its open address after it has left its NAT', async () => {
      const talk = await dialog(answer);
      const { farm } = talk.rig;
      const [before, after] = [await farm.phone('203.0.113.9', 30_000), await farm.phone('192.0.2.44')];
      await talk.begin(before, { sentBy: HOME });
      await talk.accepted(after, 'INVITE');
      await talk.hangUp();
      assert.deepEqual([hears(before), hears(after)], [false, true]);
    });

    test('that moves while the call rings is reached by the source of its PRACK', async () => {
      const talk = await dialog(answer);
      const { farm, server } = talk.rig;
      const [before, after] = [await farm.phone('203.0.113.9', 30_000), await farm.phone('203.0.113.9', 30_001)];
      server.script = (message) => message.method === 'INVITE' && server.send(respond(message, 183, { toTag: 'bob' }));
      const invite = talk.say(before, 'INVITE', { cseq: 1, sentBy: HOME, toTag: '' });
      await invite;
      await farm.settle();
      await talk.accepted(after, 'PRACK', { sentBy: HOME });
      talk.target = `sip:alice@${HOME}`;
      server.send(respond(await invite, 200, { toTag: 'bob' }));
      await farm.settle();
      await talk.hangUp();
      assert.deepEqual([hears(before), hears(after)], [false, true]);
    });
  });

describe('requests of the server are not diverted', () => {
  const cases: readonly (readonly [string, Place, number])[] = [
    ['a request with a wrong From tag', { fromTag: 'mallory' }, 200],
    ['a request with a wrong To tag', { toTag: 'mallory' }, 200],
    ['a request whose CSeq the server refuses', { cseq: 1 }, 500],
    ['a request whose CSeq does not rise, although the server accepts it', { cseq: 1 }, 200],
    ['a request that the server challenges', {}, 401],
    ['a request whose dialog the server does not have', {}, 481],
    ['a request that the server answers only with 100', {}, 100],
  ];
  for (const [name, place, status] of cases)
    test(`by ${name} from another address`, async () => {
      const talk = await dialog('ingress');
      const { farm } = talk.rig;
      const [phone, mallory] = [await farm.phone('203.0.113.9', 30_000), await farm.phone('203.0.113.66', 30_001)];
      await talk.begin(phone, { sentBy: HOME });
      const { target } = talk;
      await talk.answered(await talk.say(mallory, 'INVITE', { sentBy: '10.6.6.6:5060', ...place }), status);
      talk.target = target;
      await talk.hangUp();
      assert.deepEqual([hears(phone), hears(mallory)], [true, false]);
    });

  test('by a second copy of an accepted request from another address', async () => {
    const talk = await dialog('ingress');
    const { farm } = talk.rig;
    const [phone, mallory] = [await farm.phone('203.0.113.9', 30_000), await farm.phone('203.0.113.66', 30_001)];
    await talk.begin(phone, { sentBy: HOME });
    const place = { sentBy: HOME, branch: 'z9hG4bKcaught' };
    await talk.accepted(phone, 'UPDATE', place);
    await talk.accepted(mallory, 'UPDATE', place);
    await talk.hangUp();
    assert.deepEqual([hears(phone), hears(mallory)], [true, false]);
  });

  test('to an open connection whose user has Call-ID, tag and flow token and answers 430', async () => {
    const talk = await dialog('ingress');
    const { farm, server } = talk.rig;
    const [phone, mallory] = [await farm.tcpPhone('192.0.2.7'), await farm.tcpPhone('203.0.113.66')];
    await talk.begin(phone);
    // The server does not have this To tag.
    await talk.answered(await talk.say(mallory, 'INFO', { toTag: 'guessed' }), 481);
    const headers = talk.rig.server.requests[0]!.all('Record-Route').map((route) => `Route: ${route}`);
    const parts = { method: 'OPTIONS', uri: talk.target, callId: CALL, fromTag: 'bob', toTag: 'alice', headers };
    server.send(fromServer(talk.rig, parts));
    await farm.settle();
    mallory.send(respond(phone.got.at(-1)!, 430));
    await farm.settle();
    await talk.hangUp();
    assert.deepEqual([hears(phone), hears(mallory)], [true, false]);
  });
});

describe('a client by TCP', () => {
  for (const [name, holder] of [
    ['the owner', 'owner'],
    ['another member', 'other'],
  ] as const) {
    test(`that reconnects is reached at once by the new connection when its old one was at ${name}`, async () => {
      const talk = await dialog('direct', 3);
      const { farm, member } = talk.rig;
      const others = farm.members.filter((each) => each !== member);
      farm.choose = () => (holder === 'owner' ? member : others[0]!);
      const before = await farm.tcpPhone('192.0.2.7');
      await talk.begin(before);
      before.close();
      await farm.settle();
      farm.choose = () => others[1]!;
      const after = await farm.tcpPhone('192.0.2.7');
      await talk.accepted(after, 'UPDATE');
      await talk.hangUp();
      assert.deepEqual([hears(after), talk.statuses], [true, []]);
    });

    test(`that used TCP only for the INVITE's size gets UDP at its Contact; lost connection at ${name}`, async () => {
      const talk = await dialog('direct', 3);
      const { farm, member } = talk.rig;
      const other = farm.members.find((each) => each !== member)!;
      farm.choose = () => (holder === 'owner' ? member : other);
      const [stream, phone] = [await farm.tcpPhone('192.0.2.7'), await farm.phone('192.0.2.7')];
      await talk.begin(stream, { contact: 'sip:alice@192.0.2.7:5060' });
      stream.close();
      await farm.settle();
      await talk.hangUp();
      assert.deepEqual([hears(phone), talk.statuses], [true, []]);
    });

    test(`behind a NAT with a closed connection gets nothing, the server 430; lost connection at ${name}`, async () => {
      const talk = await dialog('direct', 3);
      const { farm, member } = talk.rig;
      const other = farm.members.find((each) => each !== member)!;
      farm.choose = () => (holder === 'owner' ? member : other);
      const stream = await farm.tcpPhone('203.0.113.9');
      await talk.begin(stream, { sentBy: HOME });
      stream.close();
      await farm.settle();
      await talk.hangUp();
      assert.deepEqual(talk.statuses, [430]);
    });
  }

  test('that names its end of the connection in a new Contact is reached by the connection', async () => {
    const talk = await dialog('direct');
    const stream = await talk.rig.farm.tcpPhone('192.0.2.7');
    await talk.begin(stream, { contact: 'sip:alice@192.0.2.7:5060;transport=tcp' });
    await talk.accepted(stream, 'UPDATE');
    await talk.hangUp();
    assert.equal(hears(stream), true);
  });

  test('with an open connection is reached by it although its new Contact is useless', async () => {
    const talk = await dialog('direct');
    const stream = await talk.rig.farm.tcpPhone('192.0.2.7');
    await talk.begin(stream, { contact: 'sip:alice@7f3.invalid' });
    await talk.accepted(stream, 'INVITE', { contact: 'sip:alice@8a4.invalid' });
    await talk.hangUp();
    assert.equal(hears(stream), true);
  });
});

describe('a proxy in front with a Record-Route', () => {
  const VIAS = 'SIP/2.0/UDP 192.0.2.80:5060;branch=z9hG4bKproxy;rport, SIP/2.0/UDP 203.0.113.9;branch=z9hG4bKclient';

  for (const answer of ['direct', 'ingress'] as const)
    test(`is reached at its Record-Route, not at its source port, with answer: ${answer}`, async () => {
      const talk = await dialog(answer);
      const { farm, server } = talk.rig;
      const [sends, listens] = [await farm.phone('192.0.2.80', 40_000), await farm.phone('192.0.2.80', 5060)];
      const headers = ['Record-Route: <sip:192.0.2.80;lr;did=7>', 'Contact: <sip:gw@203.0.113.9>'];
      sends.send(request({ method: 'INVITE', uri: 'sip:bob@example.org', via: VIAS, callId: CALL, headers }));
      await farm.until(() => server.requests.length > 0);
      const invite = server.last;
      server.send(respond(invite, 200, { toTag: 'bob' }));
      await farm.settle();
      assert.deepEqual(
        sends.got.map(({ status }) => status),
        [200],
      );
      const routes = invite.all('Record-Route').map((route) => `Route: ${route}`);
      server.send(
        fromServer(talk.rig, {
          method: 'BYE',
          uri: 'sip:gw@203.0.113.9',
          callId: CALL,
          toTag: 'from',
          headers: routes,
        }),
      );
      await farm.settle();
      assert.deepEqual([hears(sends), hears(listens)], [false, true]);
    });

  test('is reached by its open connection, and at its Record-Route after the connection has closed', async () => {
    const talk = await dialog('direct');
    const { farm } = talk.rig;
    for (const open of [true, false]) {
      const [stream, listens] = [await farm.tcpPhone('192.0.2.80'), await farm.phone('192.0.2.80', open ? 5070 : 5071)];
      await talk.begin(stream, { contact: 'sip:gw@203.0.113.9' }, [
        `Record-Route: <sip:192.0.2.80:${listens.at.port};lr>`,
      ]);
      if (!open) stream.close();
      await farm.settle();
      await talk.hangUp();
      assert.deepEqual([hears(stream), hears(listens)], [open, !open]);
    }
  });
});

describe('a callee', () => {
  /**
   * Lets the server call a phone that has registered with a Path or with a Contact of the farm. Returns the INVITE that
   * the phone receives.
   */
  async function called(
    talk: Dialog,
    phone: Phone & { readonly got: Message[] },
    more: readonly string[],
  ): Promise<Message> {
    const { farm, server } = talk.rig;
    const via = `SIP/2.0/${phone.transport} ${HOME};branch=z9hG4bKreg;rport`;
    const headers = [`Contact: <sip:alice@${HOME}>`, ...more];
    phone.send(
      request({
        method: 'REGISTER',
        uri: 'sip:example.org',
        via,
        callId: farm.callIdOf(talk.rig.member, 'reg'),
        headers,
      }),
    );
    await farm.until(() => server.requests.length > 0);
    const register = server.last;
    const path = register.one('Path');
    const uri = /<([^>]*)>/.exec(register.one('Contact'))?.[1] ?? '';
    const route = path === '' ? [] : [`Route: ${path}`];
    server.send(fromServer(talk.rig, { method: 'INVITE', uri, callId: CALL, fromTag: 'bob', headers: route }));
    await farm.until(() => phone.got.some(({ method, status }) => method === 'INVITE' && status === 0), 'the call');
    return phone.got.at(-1)!;
  }

  for (const [how, more] of [
    ['Path', ['Supported: path']],
    ['Contact, because it does not support Path', []],
  ] as const)
    test(`behind a NAT is reached by its ${how}, and gets the Contact that it wrote itself`, async () => {
      const talk = await dialog('direct', 3);
      const phone = await talk.rig.farm.phone('203.0.113.9', 30_000);
      const invite = await called(talk, phone, more);
      assert.equal(invite.uri, `sip:alice@${HOME}`);
      assert.deepEqual(invite.all('Route'), []);
    });

  test('whose answer comes from a new port of its NAT gets ACK and BYE there', async () => {
    const talk = await dialog('direct');
    const { farm, server } = talk.rig;
    const [before, after]: UdpPhone[] = [
      await farm.phone('203.0.113.9', 30_000),
      await farm.phone('203.0.113.9', 30_001),
    ];
    const invite = await called(talk, before!, ['Supported: path']);
    after!.send(respond(invite, 200, { toTag: 'alice', headers: [`Contact: <sip:alice@${HOME}>`] }));
    await farm.settle();
    const headers = server.responses[0]!.all('Record-Route')
      .reverse()
      .map((route) => `Route: ${route}`);
    const parts = { uri: `sip:alice@${HOME}`, callId: CALL, fromTag: 'bob', toTag: 'alice', headers };
    for (const method of ['ACK', 'BYE']) server.send(fromServer(talk.rig, { ...parts, method }));
    await farm.settle();
    assert.deepEqual(
      after!.got.map(({ method }) => method),
      ['ACK', 'BYE'],
    );
  });
});

test('the registrar gets the flow in the Contact, and the client gets its Contact back unchanged', async () => {
  const edge = await rig();
  const { farm, server } = edge;
  const phone = await farm.tcpPhone('192.0.2.7');
  const contacts = '"A" <sip:a@192.0.2.7:1;ob>;expires=60, sip:b@192.0.2.7';
  phone.send(
    request({
      method: 'REGISTER',
      uri: 'sip:example.org',
      via: 'SIP/2.0/TCP 192.0.2.7:1;branch=z9hG4bKr',
      callId: 'reg',
      headers: [`Contact: ${contacts}`, 'Contact: <tel:+1>, *'],
    }),
  );
  await farm.settle();
  const got = server.last.all('Contact');
  assert.match(got[0]!, /^"A" <sip:a@192\.0\.2\.7:1;ob;sf=sf[0-9a-v]+>;expires=60$/);
  assert.match(got[1]!, /^<sip:b@192\.0\.2\.7;sf=sf[0-9a-v]+>$/);
  assert.deepEqual(got.slice(2), ['<tel:+1>', '*']);
  assert.equal(tokenIn(edge.member, got[0]!.replace(/.*;sf=([^>;]*).*/, '$1')).kind, 'streamFlow');
  assert.deepEqual(server.last.all('Path'), []);
  server.send(respond(server.last, 200, { headers: [`Contact: ${got.join(', ')}`] }));
  await farm.settle();
  assert.deepEqual(phone.got[0]!.all('Contact'), [
    '"A" <sip:a@192.0.2.7:1;ob>;expires=60',
    '<sip:b@192.0.2.7>',
    '<tel:+1>',
    '*',
  ]);
});

describe('service.path', () => {
  for (const [path, supported, has, tags] of [
    ['supported', 'Supported: gruu', false, ['gruu']],
    ['supported', 'Supported: gruu, PATH', true, ['gruu', 'PATH']],
    ['always', 'Supported: gruu', true, ['path', 'gruu']],
    ['always', 'k: path', true, ['path']],
    ['never', 'Supported: path', false, ['path']],
  ] as const)
    test(`${path} and a client with ${supported} give Path ${has}`, async () => {
      const edge = await rig({ service: { path } });
      const phone = await edge.farm.phone('192.0.2.7');
      const via = 'SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKr';
      phone.send(request({ method: 'REGISTER', uri: 'sip:x', via, callId: 'reg', headers: [supported] }));
      await edge.farm.settle();
      const { last } = edge.server;
      assert.equal(last.all('Path').length, has ? 1 : 0);
      assert.deepEqual([...last.all('Supported'), ...last.all('k')], tags);
    });
});
