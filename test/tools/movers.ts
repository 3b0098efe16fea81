// Calls of parties that move, in the client's namespace of a laboratory: a caller that changes its place in each of the ways of the field, and a callee
// that then hangs up. Prints a line of JSON per case: its name, and what was seen. Before the last case hangs up it prints the Call-ID, and waits for
// SIGUSR2: somebody kills the owner meanwhile.
//
//   node movers.ts VIP CALLER-ADDRESS CALLEE-ADDRESS
import dgram from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { splitStream } from './sip-stream.ts';

const [vip = '', callerAddress = '', calleeAddress = ''] = process.argv.slice(2);
const PORT = 5060;
const HOME = '192.168.1.5:5060';
/** UDP repeats a request so often, each second; a whole answer takes less. */
const ATTEMPTS = 10;

let ids = 0;
const fresh = (word: string): string => `${word}${process.pid}x${++ids}`;
const valuesOf = (message: string, name: string): string[] =>
  message.split('\r\n').flatMap((line) => {
    const value = new RegExp(`^${name}:(.*)$`, 'i').exec(line)?.[1];
    return value === undefined ? [] : value.split(/,(?![^<]*>)/).map((part) => part.trim());
  });
const tagOf = (message: string, name: string): string =>
  /;tag=([^;>\s]+)/.exec(valuesOf(message, name)[0] ?? '')?.[1] ?? '';
const uriOf = (value = ''): string => /<([^>]*)>/.exec(value)?.[1] ?? value;
const branchOf = (message: string): string => /branch=([^;,\s]+)/.exec(valuesOf(message, 'Via')[0] ?? '')?.[1] ?? '';
const methodOf = (message: string): string => message.slice(0, message.indexOf(' '));

function answerTo(message: string, status: string, more: readonly string[] = []): string {
  const to = valuesOf(message, 'To')[0]!;
  return [
    `SIP/2.0 ${status}`,
    ...valuesOf(message, 'Via').map((via) => `Via: ${via}`),
    ...valuesOf(message, 'Record-Route').map((route) => `Record-Route: ${route}`),
    `From: ${valuesOf(message, 'From')[0]}`,
    `To: ${to}${to.includes(';tag=') ? '' : ';tag=callee'}`,
    `Call-ID: ${valuesOf(message, 'Call-ID')[0]}`,
    `CSeq: ${valuesOf(message, 'CSeq')[0]}`,
    ...more,
    'Content-Length: 0',
    '\r\n',
  ].join('\r\n');
}

/** One place in the network. */
class Place {
  readonly got: string[] = [];
  readonly send: (text: string) => void;
  readonly close: () => void;
  readonly at: string;
  readonly transport: 'UDP' | 'TCP';

  private constructor(transport: 'UDP' | 'TCP', at: string, send: (text: string) => void, close: () => void) {
    this.transport = transport;
    this.at = at;
    this.send = send;
    this.close = close;
  }

  static async udp(address: string, port = 0): Promise<Place> {
    const socket = dgram.createSocket('udp4');
    socket.bind(port, address);
    await once(socket, 'listening');
    const send = (text: string): void => void socket.send(text, PORT, vip);
    const place = new Place('UDP', `${address}:${socket.address().port}`, send, () => socket.close());
    socket.on('message', (bytes) => place.#take(bytes.toString('latin1')));
    return place;
  }

  static async tcp(address: string): Promise<Place> {
    const socket = net.connect({ host: vip, port: PORT, localAddress: address });
    await once(socket, 'connect');
    const send = (text: string): void => void socket.write(text, 'latin1');
    const place = new Place('TCP', `${address}:${socket.localPort}`, send, () => socket.destroy());
    socket.setEncoding('latin1').on(
      'data',
      splitStream((message) => place.#take(message)),
    );
    socket.on('error', () => {});
    return place;
  }

  #take(message: string): void {
    this.got.push(message);
    if (!message.startsWith('SIP/2.0') && methodOf(message) !== 'ACK') this.send(answerTo(message, '200 OK'));
  }

  /** A BYE has come here. */
  get hungUp(): boolean {
    return this.got.some((message) => message.startsWith('BYE '));
  }

  /** Sends a request until it has a final answer, which is acknowledged when it is that of an INVITE. */
  async ask(text: string): Promise<string> {
    const branch = branchOf(text);
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      if (attempt === 0 || this.transport === 'UDP') this.send(text);
      for (let i = 0; i < 50; i++) {
        const final = this.got.find(
          (each) =>
            /^SIP\/2\.0 [2-6]/.test(each) && branchOf(each) === branch && each.includes(`${methodOf(text)}\r\n`),
        );
        if (final) return final;
        await wait(20);
      }
    }
    throw new Error(`no answer to ${text.slice(0, text.indexOf('\r'))}`);
  }
}

/** Answers calls, and hangs up; a call for `ring` rings until it is cancelled. */
class Callee {
  readonly invites = new Map<string, string>();
  readonly cancelled = new Set<string>();
  readonly #place: Place;
  readonly #targets = new Map<string, string>();

  constructor(place: Place, take: (handler: (message: string) => void) => void) {
    this.#place = place;
    take((message) => this.#take(message));
  }

  static async start(): Promise<Callee> {
    const socket = dgram.createSocket('udp4');
    socket.bind(PORT, calleeAddress);
    await once(socket, 'listening');
    const got: string[] = [];
    const place = { got, send: (text: string) => void socket.send(text, PORT, vip) } as unknown as Place;
    return new Callee(place, (handler) => void socket.on('message', (bytes) => handler(bytes.toString('latin1'))));
  }

  #take(message: string): void {
    this.#place.got.push(message);
    const callId = valuesOf(message, 'Call-ID')[0]!;
    const method = methodOf(message);
    if (message.startsWith('SIP/2.0') || method === 'ACK') return;
    const contact = [`Contact: <sip:callee@${calleeAddress}:${PORT}>`];
    const target = valuesOf(message, 'Contact')[0];
    if (target && (method === 'INVITE' || method === 'UPDATE')) this.#targets.set(callId, uriOf(target));
    if (method === 'INVITE' && !valuesOf(message, 'To')[0]!.includes(';tag=')) {
      this.invites.set(callId, message);
      if (callId.startsWith('ring')) {
        this.#place.send(answerTo(message, '180 Ringing', contact));
        return;
      }
    }
    if (method === 'CANCEL') {
      this.#place.send(answerTo(message, '200 OK'));
      if (!this.cancelled.has(callId)) this.#place.send(answerTo(this.invites.get(callId)!, '487 Request Terminated'));
      this.cancelled.add(callId);
      return;
    }
    this.#place.send(answerTo(message, '200 OK', contact));
  }

  /** Sends BYE until it has an answer, whatever that is; its status, 0 for none. */
  async hangUp(callId: string): Promise<number> {
    const invite = this.invites.get(callId)!;
    const branch = fresh('z9hG4bKbye');
    const bye = [
      `BYE ${this.#targets.get(callId)} SIP/2.0`,
      `Via: SIP/2.0/UDP ${calleeAddress}:${PORT};branch=${branch}`,
      'Max-Forwards: 70',
      ...valuesOf(invite, 'Record-Route').map((route) => `Route: ${route}`),
      `From: ${valuesOf(invite, 'To')[0]};tag=callee`,
      `To: ${valuesOf(invite, 'From')[0]}`,
      `Call-ID: ${callId}`,
      'CSeq: 1 BYE',
      'Content-Length: 0',
      '\r\n',
    ].join('\r\n');
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      this.#place.send(bye);
      for (let i = 0; i < 50; i++) {
        const final = this.#place.got.find((each) => /^SIP\/2\.0 [2-6]/.test(each) && branchOf(each) === branch);
        if (final) return Number(final.slice(8, 11));
        await wait(20);
      }
    }
    return 0;
  }
}

/** The caller's side of one call. */
class Call {
  readonly id: string;
  #cseq = 0;
  #to = '<sip:bob@example.com>';
  #uri = 'sip:bob@example.com';
  #routes: readonly string[] = [];

  constructor(word = 'call') {
    this.id = fresh(word);
  }

  text(
    place: Place,
    method: string,
    via: string,
    contact: string,
    extra: readonly string[] = [],
    uri = this.#uri,
  ): string {
    if (method !== 'ACK' && method !== 'CANCEL') this.#cseq++;
    return [
      `${method} ${uri} SIP/2.0`,
      `Via: ${via}`,
      'Max-Forwards: 70',
      ...this.#routes.map((route) => `Route: ${route}`),
      ...extra,
      `From: <sip:alice@example.com>;tag=${this.id}`,
      `To: ${this.#to}`,
      `Call-ID: ${this.id}`,
      `CSeq: ${this.#cseq} ${method}`,
      `Contact: <sip:alice@${contact}${place.transport === 'TCP' ? ';transport=tcp' : ''}>`,
      'Content-Length: 0',
      '\r\n',
    ].join('\r\n');
  }

  via(place: Place, host = place.at): string {
    return `SIP/2.0/${place.transport} ${host};branch=${fresh('z9hG4bKcall')};rport`;
  }

  /** INVITE or a request in the dialog, from `place`, which gives `host` for its own. */
  async say(place: Place, method: string, host = place.at, extra: readonly string[] = [], more = ''): Promise<void> {
    const final = await place.ask(this.text(place, method, `${this.via(place, host)}${more}`, host, extra));
    if (!final.startsWith('SIP/2.0 200')) throw new Error(`${method}: ${final.slice(0, final.indexOf('\r'))}`);
    if (method !== 'INVITE') return;
    if (this.#routes.length === 0) this.#routes = valuesOf(final, 'Record-Route').reverse().slice(extra.length);
    this.#to = valuesOf(final, 'To')[0]!;
    this.#uri = uriOf(valuesOf(final, 'Contact')[0]);
    place.send(this.text(place, 'ACK', `${this.via(place, host)}${more}`, host));
  }

  get tag(): string {
    return tagOf(`To: ${this.#to}`, 'To');
  }
}

const callee = await Callee.start();
const go = new Promise<void>((resolve) => process.once('SIGUSR2', () => resolve()));

const CASES: Readonly<Record<string, () => Promise<unknown>>> = {
  'a client whose NAT gives it a new port': async () => {
    const [before, after] = [await Place.udp(callerAddress), await Place.udp(callerAddress)];
    const call = new Call();
    await call.say(before, 'INVITE', HOME);
    await call.say(after, 'INVITE', HOME);
    return [await callee.hangUp(call.id), before.hungUp, after.hungUp];
  },
  'a client that comes back on another connection': async () => {
    const before = await Place.tcp(callerAddress);
    const call = new Call();
    await call.say(before, 'INVITE');
    before.close();
    const after = await Place.tcp(callerAddress);
    await call.say(after, 'UPDATE');
    return [await callee.hangUp(call.id), before.hungUp, after.hungUp];
  },
  'a proxy in front that sends from another port': async () => {
    const [sends, listens] = [await Place.udp(callerAddress), await Place.udp(callerAddress, PORT)];
    const call = new Call();
    const route = [`Record-Route: <sip:${callerAddress};lr>`];
    await call.say(sends, 'INVITE', listens.at, route, `, SIP/2.0/UDP 203.0.113.99;branch=${fresh('z9hG4bKua')}`);
    const seen = [await callee.hangUp(call.id), sends.hungUp, listens.hungUp];
    listens.close();
    return seen;
  },
  'a CANCEL that spells the Request-URI otherwise': async () => {
    const place = await Place.udp(callerAddress);
    const call = new Call('ring');
    const via = call.via(place);
    const invited = place.ask(call.text(place, 'INVITE', via, place.at, [], 'sip:bob@example.com;user=phone'));
    while (!place.got.some((message) => message.startsWith('SIP/2.0 180'))) await wait(20);
    await place.ask(call.text(place, 'CANCEL', via, place.at)).catch(() => {});
    return [Number((await invited).slice(8, 11)), callee.cancelled.has(call.id)];
  },
  'a client that has moved, its owner dead since': async () => {
    const [before, after] = [await Place.udp(callerAddress), await Place.udp(callerAddress)];
    const call = new Call();
    await call.say(before, 'INVITE', HOME);
    await call.say(after, 'INVITE', HOME);
    process.stdout.write(`${JSON.stringify({ wait: call.id })}\n`);
    await go;
    return [await callee.hangUp(call.id), before.hungUp, after.hungUp];
  },
};

for (const [name, run] of Object.entries(CASES)) {
  const seen = await run().catch((error: unknown) => String(error));
  process.stdout.write(`${JSON.stringify({ name, seen })}\n`);
}
process.exit(0);
