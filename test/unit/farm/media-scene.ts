// Calls whose media is relayed, in a whole farm: the caller, its descriptions, and the fake relay of each member.
import assert from 'node:assert/strict';
import { type CallRecord, parseCallRecord } from '../../../src/calls/records/call-record.ts';
import type { AnchorRule } from '../../../src/media/anchor.ts';
import type { FakeFarm, FakeMember, UdpPhone } from '../../fake/farm.ts';
import { FakeRelay } from '../../fake/media-relay.ts';
import { type Message, request, respond, uriOf } from '../../fake/sip.ts';
import { start } from './calls.ts';

export const WAN = '203.0.113.11';
export const TYPE = 'Content-Type: application/sdp';

export const sdp = (address: string, port: number): string =>
  `v=0\r\no=- 1 1 IN IP4 ${address}\r\ns=-\r\nc=IN IP4 ${address}\r\nt=0 0\r\nm=audio ${port} RTP/AVP 8\r\n`;

/** Returns `address:port` of the first stream; '' without a description. The body has exactly Content-Length octets. */
export function placeIn(message: Message): string {
  assert.equal(Number(message.one('Content-Length')), message.body.length);
  if (message.body === '') return '';
  return `${/^c=IN IP4 (\S+)/m.exec(message.body)?.[1]}:${/^m=audio (\d+)/m.exec(message.body)?.[1]}`;
}

export class Scene {
  readonly farm: FakeFarm;
  /** By member number. */
  readonly relays: Map<number, FakeRelay>;
  readonly caller: UdpPhone;
  /** Ports that other programs have when a member starts. */
  readonly foreign: Set<number>;
  #branches = 0;

  constructor(farm: FakeFarm, relays: Map<number, FakeRelay>, caller: UdpPhone, foreign: Set<number>) {
    this.foreign = foreign;
    this.farm = farm;
    this.relays = relays;
    this.caller = caller;
  }

  static async open(rule: AnchorRule, members = 3, more: object = {}): Promise<Scene> {
    const relays = new Map<number, FakeRelay>();
    const foreign = new Set<number>();
    const media = (index: number) => {
      const relay = new FakeRelay();
      for (const port of foreign) relay.foreign.add(port);
      relays.set(index, relay);
      const bind = `10.0.0.${index}`;
      return { relay, section: { anchor: rule, plan: 'multi-ip', bind, wan: WAN, inside: bind, ...more } };
    };
    const farm = await start({ members, dialogs: 'shared', media });
    return new Scene(farm, relays, await farm.phone('192.0.2.7'), foreign);
  }

  owner(callId: string): FakeMember {
    return this.farm.ownerOf(callId);
  }

  relay(callId: string): FakeRelay {
    return this.relays.get(this.owner(callId).index)!;
  }

  /** Kills the owner of the call, and starts it again in front of its living server. */
  async restart(callId: string): Promise<void> {
    const owner = this.owner(callId);
    await this.farm.kill(owner, { serverLives: true });
    await this.farm.add(owner.index);
  }

  /** Returns the record of the call in the store; undefined when there is none. */
  record(callId: string): CallRecord | undefined {
    const values = this.farm.memory.readAll('calls/').map(({ value }) => parseCallRecord(value));
    return values.find((record) => record?.callId === callId);
  }

  /** Sends a request of the caller; `dialog`: the response that has made the dialog. */
  async send(method: string, callId: string, body: string, dialog?: Message): Promise<void> {
    const { address, port } = this.caller.at;
    this.caller.send(
      request({
        method,
        uri: dialog ? uriOf(dialog.one('Contact')) : 'sip:bob@example.org',
        via: `SIP/2.0/UDP ${address}:${port};branch=z9hG4bKmedia-${++this.#branches}`,
        callId,
        cseq: this.#branches,
        ...(dialog && { toTag: dialog.toTag }),
        headers: [
          `Contact: <sip:alice@${address}:${port}>`,
          ...(dialog?.all('Record-Route').reverse() ?? []).map((route) => `Route: ${route}`),
          ...(body === '' ? [] : [TYPE]),
        ],
        body,
      }),
    );
    await this.farm.settle();
  }

  /** Answers the server's last request with this body. */
  async answer(callId: string, status: number, body: string, toTag = 'bob'): Promise<Message> {
    const { server } = this.owner(callId);
    const { address, port } = server.at;
    const headers = [`Contact: <sip:bob@${address}:${port}>`, ...(body === '' ? [] : [TYPE])];
    server.send(respond(server.last, status, { toTag, headers, body }));
    await this.farm.settle();
    return this.caller.got.at(-1)!;
  }
}
