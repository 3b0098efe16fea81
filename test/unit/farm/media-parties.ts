// The two ends of calls whose media is relayed: phones and a SIP server with descriptions. They answer each re-INVITE
// by their rule, and count the CSeq numbers of their dialog as RFC 3261 12.2 has it.
import type { FakeFarm, FakeServer, UdpPhone } from '../../fake/farm.ts';
import { type Message, parameterOf, request, respond, uriOf } from '../../fake/sip.ts';
import { Scene, sdp, TYPE } from './media-scene.ts';
import { proxies } from './proxies.ts';

export const WRITTEN_MS = 200;
export const ALICE = sdp('192.0.2.7', 4000);
export const BOB = sdp('192.0.2.9', 6000);
export const SERVER = sdp('10.0.0.99', 5000);

export const cseq = (message: Message | undefined): number => Number.parseInt(message?.one('CSeq') ?? '', 10);
export const statusAndNumber = (message: Message): string => `${message.status} ${message.one('CSeq')}`;

/** Answer to a request in the dialog: a status, with headers; 0: none. */
export type Rule = (message: Message, copies: number) => number;

const ACCEPTS: Rule = () => 200;

/** One end of a dialog. */
export class End {
  /** Requests in the dialog without copies. */
  readonly got: Message[] = [];
  /** Responses in the dialog. */
  readonly responses: Message[] = [];
  /** Copies of each request, by method and branch. */
  readonly copies = new Map<string, number>();
  rule: Rule = ACCEPTS;
  description: string;
  /** Its own last CSeq number. */
  cseq: number;
  /** The highest CSeq number of the other end's requests. */
  #remote = 0;
  readonly #tag: string;
  readonly #peer: string;
  readonly #callId: string;
  readonly #target: string;
  readonly #routes: readonly string[];
  readonly #at: { readonly address: string; readonly port: number };
  readonly #send: (text: string) => void;
  #branches = 0;

  constructor(
    dialog: Message,
    isCaller: boolean,
    cseq: number,
    description: string,
    at: { readonly address: string; readonly port: number },
    send: (text: string) => void,
  ) {
    const [from, to] = [parameterOf(dialog.one('From'), 'tag'), parameterOf(dialog.one('To'), 'tag') || 'bob'];
    [this.#tag, this.#peer] = isCaller ? [from, to] : [to, from];
    this.#callId = dialog.callId;
    this.#target = uriOf(dialog.one('Contact'));
    const routes = dialog.all('Record-Route');
    this.#routes = isCaller ? routes.reverse() : routes;
    this.cseq = cseq;
    this.#remote = isCaller ? 0 : Number.parseInt(dialog.one('CSeq'), 10);
    this.description = description;
    this.#at = at;
    this.#send = send;
  }

  /** Requests in the dialog of this method, without copies. */
  of(method: string): Message[] {
    return this.got.filter((each) => each.method === method);
  }

  get re(): Message | undefined {
    return this.of('INVITE').at(-1);
  }

  /** Takes a message. Returns false when it belongs to another dialog. */
  take(message: Message): boolean {
    if (message.callId !== this.#callId) return false;
    if (message.status !== 0) {
      this.responses.push(message);
      return true;
    }
    if (message.toTag !== this.#tag) return false;
    const { method } = message;
    const key = `${method} ${message.branch}`;
    const copies = (this.copies.get(key) ?? 0) + 1;
    this.copies.set(key, copies);
    const cseq = Number.parseInt(message.one('CSeq'), 10);
    if (copies === 1) this.got.push(message);
    if (method === 'ACK') return true;
    let status = this.rule(message, copies);
    if (method === 'CANCEL') status = 200;
    else if (copies === 1 && status !== 0) {
      if (cseq <= this.#remote) status = 500;
      this.#remote = Math.max(this.#remote, cseq);
    }
    if (status === 0) return true;
    const offers = method === 'INVITE' && status === 200;
    const { address, port } = this.#at;
    const headers = offers ? [`Contact: <sip:end@${address}:${port}>`, TYPE] : [];
    this.#last = respond(message, status, { headers, body: offers ? this.description : '' });
    this.#send(this.#last);
    return true;
  }
  #last = '';

  /** Sends its last response again. */
  repeat(): void {
    this.#send(this.#last);
  }

  /** Sends a request in the dialog; `cseq`: of an ACK or CANCEL, that of its INVITE. Returns its branch. */
  request(
    method: string,
    { cseq = ++this.cseq, branch = '', headers = [] as readonly string[], body = '' } = {},
  ): string {
    const { address, port } = this.#at;
    const its = branch || `z9hG4bK${this.#tag}-${++this.#branches}`;
    const contact = `Contact: <sip:end@${address}:${port}>`;
    const lines = [contact, ...this.#routes.map((route) => `Route: ${route}`), ...headers];
    this.#send(
      request({
        ...{ method, uri: this.#target, via: `SIP/2.0/UDP ${address}:${port};branch=${its}`, callId: this.#callId },
        ...{ fromTag: this.#tag, toTag: this.#peer, cseq, body },
        headers: body === '' ? lines : [...lines, TYPE],
      }),
    );
    return its;
  }
}

/** Puts a user agent server of this description behind every member; all serve every dialog. */
export function serveMedia({ members }: FakeFarm, description: string): Map<string, End> {
  const ends = new Map<string, End>();
  let current: FakeServer | undefined;
  for (const { server } of members) {
    const { address, port } = server.at;
    const headers = [`Contact: <sip:server@${address}:${port}>`, TYPE];
    const take = (message: Message): void => {
      current = server;
      if (ends.get(message.callId)?.take(message) || message.method !== 'INVITE' || message.status !== 0) return;
      server.send(respond(message, 200, { toTag: 'bob', headers, body: description }));
      const send = (text: string): void => current?.send(text);
      ends.set(message.callId, new End(message, false, 0, description, server.at, send));
    };
    server.script = take;
    server.onResponse = take;
  }
  return ends;
}

/** Makes `phone` answer calls with this description. Returns the ends of its dialogs, by Call-ID. */
export function answerMedia(phone: UdpPhone, description: string, more: readonly string[] = []): Map<string, End> {
  const ends = new Map<string, End>();
  phone.onMessage = (message) => {
    if (ends.get(message.callId)?.take(message) || message.method !== 'INVITE' || message.status !== 0) return;
    const { address, port } = phone.at;
    const headers = [`Contact: <sip:bob@${address}:${port}>`, TYPE, ...more];
    phone.send(respond(message, 200, { toTag: 'bob', headers, body: description }));
    ends.set(message.callId, new End(message, false, 0, description, phone.at, (text) => phone.send(text)));
  };
  return ends;
}

export interface Talk {
  readonly scene: Scene;
  readonly alice: End;
  readonly bob: End;
}

/** Makes a confirmed call. `to`: the callee is a client behind a proxy, or the SIP server. */
export async function talk(
  to: 'client' | 'server',
  { members = 3, callId = 'one', headers = [] as readonly string[], media = {} } = {},
): Promise<Talk> {
  const scene = await Scene.open('always', members, media);
  const { farm, caller } = scene;
  const callee = await farm.phone('192.0.2.9');
  const ends = to === 'client' ? answerMedia(callee, BOB, headers) : serveMedia(farm, SERVER);
  if (to === 'client') proxies(farm, ['sip:bob@192.0.2.9:5060']);
  await scene.send('INVITE', callId, ALICE);
  await farm.until(() => caller.got.at(-1)?.status === 200, 'the call is answered');
  const alice = new End(caller.got.at(-1)!, true, 1, ALICE, caller.at, (text) => caller.send(text));
  caller.onMessage = (message) => void alice.take(message);
  alice.request('ACK', { cseq: 1 });
  await farm.pass(WRITTEN_MS);
  return { scene, alice, bob: ends.get(callId)! };
}
