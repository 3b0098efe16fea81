// A call of a client to the SIP server of a member, whose every packet the test sends and reads: SIP and RTP of both.
import assert from 'node:assert/strict';
import type { Endpoint } from '../../src/base/endpoint.ts';
import { Message, request, respond, uriOf } from '../fake/sip.ts';
import { until } from '../fake/until.ts';
import type { MediaHost } from './media-hosts.ts';

/** Places of a call: those of signalling, and the listener of the farm. */
export interface CallOptions {
  readonly callId: string;
  readonly client: MediaHost;
  readonly server: MediaHost;
  readonly clientSip: Endpoint;
  readonly serverSip: Endpoint;
  readonly farm: Endpoint;
}

const text = ({ address, port }: Endpoint): string => `${address}:${port}`;

function descriptionOf({ address, port }: Endpoint): string {
  const lines = [
    'v=0',
    `o=- 1 1 IN IP4 ${address}`,
    's=-',
    `c=IN IP4 ${address}`,
    't=0 0',
    `m=audio ${port} RTP/AVP 0`,
  ];
  return lines.map((line) => `${line}\r\n`).join('');
}

function placeIn({ body }: Message): Endpoint {
  const address = /^c=IN IP4 ([\d.]+)/m.exec(body)?.[1] ?? '';
  return { address, port: Number(/^m=audio (\d+)/m.exec(body)?.[1] ?? 0) };
}

/** One party: sends numbered packets of RTP, and reads those of the other. */
export class Talker {
  readonly host: MediaHost;
  readonly name: string;
  /** Its places, the last one in use. */
  readonly places: Endpoint[] = [];
  /** Place that the last description for it has named. */
  to: Endpoint = { address: '', port: 0 };
  /** Packets that it has sent. */
  sent = 0;

  constructor(host: MediaHost, name: string) {
    this.host = host;
    this.name = name;
  }

  async move(place: Endpoint): Promise<void> {
    await this.host.bind(place);
    this.places.push(place);
  }

  /** Sends the next packets. */
  async talk(count: number): Promise<void> {
    const texts = Array.from({ length: count }, (_, i) => {
      const header = Buffer.alloc(12);
      header[0] = 0x80;
      header.writeUInt16BE(this.sent + i, 2);
      header.write('TALK', 8, 'latin1');
      return `${header.toString('latin1')}${this.name} ${this.sent + i}`;
    });
    this.sent += count;
    await this.host.send(this.places.at(-1)!, this.to, ...texts);
  }

  /** Waits for all packets of the other, once each and unchanged, from the one place that its descriptions name. */
  async hears(other: Talker): Promise<void> {
    const all = async (): Promise<string[]> => {
      const found = await Promise.all(this.places.map((place) => this.host.received(place, 0)));
      return found.flat().map((each) => `${each.from} ${each.text.slice(12)}`);
    };
    await until(async () => (await all()).length >= other.sent, 10);
    const from = `${this.to.address} ${this.to.port}`;
    const expected = Array.from({ length: other.sent }, (_, i) => `${from} ${other.name} ${i}`);
    assert.deepEqual((await all()).toSorted(), expected.toSorted());
  }
}

export class MediaCall {
  readonly caller: Talker;
  readonly callee: Talker;
  readonly #options: CallOptions;
  /** The last answer to an INVITE. */
  #answer: Message | undefined;
  #cseq = 0;

  constructor(options: CallOptions) {
    this.#options = options;
    this.caller = new Talker(options.client, 'caller');
    this.callee = new Talker(options.server, 'callee');
  }

  /** Sends an INVITE with the caller's place, in the dialog if there is one, answers it, and confirms the answer. */
  async invite(): Promise<void> {
    const { client, server, clientSip, serverSip, farm } = this.#options;
    await client.send(clientSip, farm, this.#request('INVITE', descriptionOf(this.caller.places.at(-1)!)));
    const { message, from } = await this.#arrived(server, serverSip, 0);
    const headers = [`Contact: <sip:callee@${text(serverSip)}>`, 'Content-Type: application/sdp'];
    const body = descriptionOf(this.callee.places.at(-1)!);
    await server.send(serverSip, from, respond(message, 200, { toTag: 'callee', headers, body }));
    this.#answer = (await this.#arrived(client, clientSip, 200)).message;
    this.callee.to = placeIn(message);
    this.caller.to = placeIn(this.#answer);
    await client.send(clientSip, farm, this.#request('ACK'));
  }

  #request(method: string, body = ''): string {
    const { callId, clientSip, farm } = this.#options;
    const dialog = this.#answer;
    if (method !== 'ACK') this.#cseq++;
    return request({
      ...{ method, callId, cseq: this.#cseq, body },
      uri: dialog ? uriOf(dialog.one('Contact')) : `sip:callee@${text(farm)}`,
      via: `SIP/2.0/UDP ${text(clientSip)};rport;branch=z9hG4bK-${callId}-${method}-${this.#cseq}`,
      ...(dialog && { toTag: dialog.toTag }),
      headers: [
        `Contact: <sip:caller@${text(clientSip)}>`,
        ...(dialog?.all('Record-Route').reverse() ?? []).map((route) => `Route: ${route}`),
        ...(body === '' ? [] : ['Content-Type: application/sdp']),
      ],
    });
  }

  /** Waits for the INVITE of this CSeq number, or for its answer. */
  async #arrived(host: MediaHost, at: Endpoint, status: number): Promise<{ message: Message; from: Endpoint }> {
    const { callId } = this.#options;
    let found: { message: Message; from: Endpoint } | undefined;
    await until(async () => {
      for (const each of await host.received(at, 0)) {
        const message = new Message(each.text);
        if (message.callId !== callId || message.status !== status) continue;
        if (message.one('CSeq') !== `${this.#cseq} INVITE`) continue;
        const [address = '', port = ''] = each.from.split(' ');
        found = { message, from: { address, port: Number(port) } };
      }
      return found !== undefined;
    }, 20);
    return found!;
  }
}
