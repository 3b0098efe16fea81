// Random dialogs through a farm that sprays packets: clients in the open, behind NATs, by TCP, behind record-routing
// proxies, some with calls that pass the farm twice. They move, reconnect and change Contacts; strangers try to divert
// them. Each message of the server reaches the party at its current address, or the server gets an answer.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import fc from 'fast-check';
import { type FakeFarm, type FakeServer, type Phone, VIP } from '../../fake/farm.ts';
import { type Message, request, respond } from '../../fake/sip.ts';
import { start, stopFarms } from './calls.ts';

afterEach(stopFarms);

const KINDS = ['open', 'nat', 'tcp', 'tcp-nat', 'proxy'] as const;
type Kind = (typeof KINDS)[number];
const HOME = '192.168.1.5:5060';
const OWN_VIA = /^SIP\/2\.0\/UDP 10\.0\.0\.\d:5070;branch=z9hG4bKproxy/;

let count = 0;
let parties = 0;

/** SIP servers as proxies: they answer for bob, and send requests for `via` to the farm again. */
function serve(farm: FakeFarm): void {
  for (const { server } of farm.members) {
    const own = `<sip:${server.at.address}:5070;lr>`;
    const passOn = (text: string): void => {
      const via = `\r\nVia: SIP/2.0/UDP ${server.at.address}:5070;branch=z9hG4bKproxy${++count}`;
      const route = text.startsWith('INVITE sip:via') ? `\r\nRecord-Route: ${own}` : '';
      const rest = text
        .replace('INVITE sip:via@farm', 'INVITE sip:bob@198.51.100.1')
        .replace(`Route: ${own}\r\n`, '')
        .replace('\r\nVia:', `${via}${route}\r\nVia:`);
      const next = /\r\nRoute: <sip:[^@]*@([^:]*)/.exec(rest)?.[1] ?? (route ? VIP.address : '');
      server.send(rest, next === VIP.address ? VIP : server.edge);
    };
    server.script = (message) => {
      const left = message.all('Route').filter((value) => value !== own);
      if (message.uri.startsWith('sip:via') || left.length > 0) passOn(message.text);
      else if (message.method !== 'ACK') {
        const known = message.toTag === '' || message.toTag === 'bob';
        const headers = ['Contact: <sip:bob@192.0.2.200>'];
        server.send(respond(message, known ? 200 : 481, { toTag: 'bob', headers }));
      }
    };
    server.onResponse = (message) => {
      if (OWN_VIA.test(message.one('Via'))) server.send(message.text.replace(/Via: .*\r\n/, ''));
    };
  }
}

class Party {
  readonly farm: FakeFarm;
  readonly kind: Kind;
  readonly callId = `party-${++count}`;
  /** The current socket, and the earlier ones, which must receive nothing any more. */
  phone!: Phone;
  readonly past: Phone[] = [];
  readonly #index = parties++ % 200;
  #cseq = 0;
  #contact = '';
  /** The last Contact that the server accepted. */
  #target = '';
  #routes: readonly string[] = [];
  #server!: FakeServer;
  #places = 0;

  constructor(farm: FakeFarm, kind: Kind) {
    this.farm = farm;
    this.kind = kind;
  }

  async begin(twice: boolean): Promise<void> {
    await this.#settle();
    const answer = await this.say('INVITE', { uri: twice ? 'sip:via@farm' : 'sip:bob@example.org' });
    assert.equal(answer?.status, 200, `${this.kind} begins its call`);
    this.#routes = answer!.all('Record-Route').reverse();
    this.#server = this.farm.members
      .map(({ server }) => server)
      .findLast(({ requests }) =>
        requests.some(({ callId, uri }) => callId === this.callId && uri.startsWith('sip:bob')),
      )!;
  }

  /** Moves the party to a new address. */
  async #settle(): Promise<void> {
    const host = `203.0.113.${10 + this.#index}`;
    this.#places++;
    if (this.phone) {
      this.past.push(this.phone);
      if (this.phone.transport === 'TCP') (this.phone as unknown as { close(): void }).close();
    }
    const tcp = this.kind === 'tcp' || this.kind === 'tcp-nat';
    // A proxy listens at one port and sends from another.
    const port = this.kind === 'open' ? 5060 + this.#places : 30_000 + this.#places;
    this.phone = tcp ? await this.farm.tcpPhone(host) : await this.farm.phone(host, port);
    if (this.kind === 'proxy') {
      this.past.push(this.phone);
      this.phone = await this.farm.phone(host, 5060 + this.#places).catch(() => this.phone);
    }
    const hidden = this.kind === 'nat' || this.kind === 'tcp-nat' || this.kind === 'proxy';
    this.#contact = hidden ? HOME : `${this.phone.at.address}:${this.phone.at.port}`;
  }

  /** The socket that sends. */
  get #sender(): Phone {
    return this.kind === 'proxy' ? this.past[0]! : this.phone;
  }

  async say(
    method: string,
    more: { uri?: string; contact?: string; from?: Phone; fromTag?: string; toTag?: string } = {},
  ) {
    const from = more.from ?? this.#sender;
    const { transport } = from;
    const hidden = this.kind === 'nat' || this.kind === 'tcp-nat';
    const own = `SIP/2.0/${transport} ${hidden ? HOME : `${from.at.address}:${from.at.port}`};branch=z9hG4bKp${++count};rport`;
    const via = this.kind === 'proxy' ? `${own}, SIP/2.0/UDP ${HOME};branch=z9hG4bKb${count}` : own;
    const proxied = this.kind === 'proxy' && method === 'INVITE' && this.#cseq === 0;
    const before = from.got.length;
    const tags = { fromTag: more.fromTag ?? 'alice', ...(this.#routes.length > 0 && { toTag: more.toTag ?? 'bob' }) };
    from.send(
      request({
        method,
        uri: more.uri ?? 'sip:bob@192.0.2.200',
        via,
        callId: this.callId,
        cseq: ++this.#cseq,
        ...tags,
        headers: [
          // A proxy has removed its own value.
          ...this.#routes.slice(this.kind === 'proxy' ? 1 : 0).map((route) => `Route: ${route}`),
          ...(proxied ? [`Record-Route: <sip:${this.phone.at.address}:${this.phone.at.port};lr>`] : []),
          `Contact: <sip:alice@${more.contact ?? this.#contact}${transport === 'TCP' ? ';transport=tcp' : ''}>`,
        ],
      }),
    );
    const final = () => from.got.slice(before).find(({ status }) => status >= 200);
    await this.farm.until(() => final() !== undefined, `an answer to ${method} of ${this.kind} ${this.callId}`);
    const answer = final();
    // The server accepts no stranger, whatever it answers; and INFO changes no target.
    if (!more.from && method !== 'INFO') this.#target = more.contact ?? this.#contact;
    return answer;
  }

  async move(method: string): Promise<void> {
    if (this.kind === 'proxy') return;
    await this.#settle();
    // In the open only a target refresh gives the new address (RFC 3261 12.2.1.1).
    const heard = await this.say(this.kind === 'open' && method === 'INFO' ? 'UPDATE' : method);
    assert.equal(heard?.status, 200, `${this.kind} is heard from its new place`);
  }

  /** Checks that a request of the server reaches the party and no other phone. */
  async hears(): Promise<void> {
    const places = [this.phone, ...this.past];
    const before = places.map(({ got }) => got.length);
    const headers = [...this.#routes].reverse().map((route) => `Route: ${route}`);
    const via = `SIP/2.0/UDP ${this.#server.at.address}:5070;branch=z9hG4bKask${++count}`;
    const uri = `sip:alice@${this.#target}${this.phone.transport === 'TCP' ? ';transport=tcp' : ''}`;
    const parts = { method: 'OPTIONS', uri, via, callId: this.callId, fromTag: 'bob', toTag: 'alice', headers };
    this.#server.send(request(parts));
    const heard = (): boolean => this.phone.got.length > before[0]!;
    await this.farm.until(heard, `${this.kind} ${this.callId} hears its server`);
    await this.farm.settle();
    const asked = places.map(({ got }, i) => got.slice(before[i]).filter(({ status }: Message) => status === 0).length);
    assert.deepEqual(asked, [1, ...this.past.map(() => 0)], `${this.kind} ${this.callId} hears its server`);
    this.phone.send(respond(this.phone.got.at(-1)!, 200));
    await this.farm.settle();
  }
}

const steps = fc.array(
  fc.record({
    who: fc.nat(5),
    what: fc.constantFrom('move', 'move', 'say', 'hear', 'hear', 'wrong tag', 'wrong dialog'),
    method: fc.constantFrom('INFO', 'UPDATE', 'INVITE'),
  }),
  { minLength: 6, maxLength: 24 },
);

for (const answer of ['direct', 'ingress'] as const)
  test(`a moving party receives the requests of its server with answer: ${answer}`, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.constantFrom(...KINDS), fc.boolean()), { minLength: 2, maxLength: 6 }),
        steps,
        async (kinds, schedule) => {
          const farm = await start({ members: 3, dialogs: 'shared', answer });
          try {
            serve(farm);
            const stranger = await farm.phone('198.51.100.66', 6666);
            const all: Party[] = [];
            for (const [kind, twice] of kinds) {
              const party = new Party(farm, kind);
              await party.begin(twice);
              all.push(party);
            }
            for (const { who, what, method } of schedule) {
              const party = all[who % all.length]!;
              if (what === 'move') await party.move(method);
              else if (what === 'say') assert.equal((await party.say(method))?.status, 200);
              else if (what === 'wrong tag') await party.say('UPDATE', { from: stranger, fromTag: 'mallory' });
              else if (what === 'wrong dialog') await party.say('UPDATE', { from: stranger, toTag: 'mallory' });
              else await party.hears();
            }
            for (const party of all) await party.hears();
            assert.deepEqual(
              stranger.got.filter(({ status }) => status === 0),
              [],
            );
          } finally {
            await stopFarms();
          }
        },
      ),
      { numRuns: 12 },
    );
  });
