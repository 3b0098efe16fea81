// Messages with session descriptions for the fuzzer: those of phones, browsers and servers, with lines and octets
// changed, and multipart bodies around them. Most stay whole enough to be relayed.
import { compose } from '../fake/sip.ts';
import type { Dice } from './dice.ts';

/** Addresses of clients and servers, of no host, and texts that are no addresses. */
const ADDRESSES = [
  'IP4 192.0.2.7',
  'IP4 192.0.2.7',
  'IP4 192.0.2.8',
  'IP4 10.1.2.3',
  'IP4 10.0.0.9',
  'IP4 0.0.0.0',
  'IP4 127.0.0.1',
  'IP4 224.2.1.1/127/3',
  'IP4 255.255.255.255',
  'IP4 999.1.1.1',
  'IP4 host.example',
  'IP6 2001:db8::7',
  'IP6 ::ffff:192.0.2.7',
  'IP6 ::',
  'IP6 ff15::101/3',
  'IP6 192.0.2.7',
];
const ODD_PORTS = ['4000', '4000', '4001', '4002', '5000', '0', '1', '65535', '65536', '99999', '4000/2', '-1', ''];
const PROTOCOLS = [
  'RTP/AVP',
  'RTP/AVP',
  'RTP/SAVP',
  'UDP/TLS/RTP/SAVPF',
  'udptl',
  'TCP/MSRP',
  'rtp/avp',
  'RTP/AVPX',
  '?',
];
/** Even ports from 4000 on that most descriptions name. */
export const PORTS = 8;
/** A and P stand for an address and a port of the description, T for a transport protocol. */
const MEDIA: readonly (readonly string[])[] = [
  ['m=audio P T 0 8', 'a=rtpmap:0 PCMU/8000', 'a=sendrecv'],
  ['m=audio P T 8', 'i=a title', 'c=IN A', 'b=AS:64', 'a=rtcp:P IN A'],
  ['m=audio P T 8', 'c=IN A/127', 'a=rtcp:P'],
  ['m=video P T 96', 'a=rtpmap:96 H264/90000', 'a=rtcp-mux', 'a=rtcp:P'],
  ['m=image P udptl t38', 'c=IN A'],
  ['m=message P TCP/MSRP *', 'a=path:msrp://h:P/s;tcp'],
  ['m=audio 0 RTP/AVP 0'],
  [
    'm=audio P UDP/TLS/RTP/SAVPF 111',
    'c=IN A',
    'a=rtcp:P IN A',
    'a=candidate:1 1 UDP 2130706431 192.0.2.7 P typ host',
    'a=candidate:1 2 UDP 2130706430 192.0.2.7 P typ host',
    'a=ice-ufrag:F7gI',
    'a=ice-pwd:x9cml/YzichV2+XlhiMu8g',
    'a=rtcp-mux',
  ],
];
const LINES = [
  'c=IN A',
  'c=IN A',
  'a=rtcp:P IN A',
  'a=rtcp:P',
  'o=- 1 1 IN A',
  'm=audio P T 0',
  'a=rtcp-mux',
  'a=inactive',
];
const ODD = ['\0', '\r', '\n', '\r\n', ' ', '=', ':', '/', 'c=', '\nc=', '\t', '\xff', '"', '--b', ''];
/** Texts that are repeated, because a reader might read them again and again. */
const UNITS = [
  ' ',
  '\r\n',
  'a=',
  'c=IN IP4 ',
  'm=audio 1 RTP/AVP 0\r\n',
  'a=candidate:1 1 UDP 1 h 1 typ host\r\n',
  '--b\r\n',
];
const METHODS = ['INVITE', 'INVITE', 'INVITE', 'INVITE', 'ACK', 'PRACK', 'UPDATE', 'MESSAGE'];
const STATUSES = [180, 183, 200, 200, 200, 486];
const TAGS = ['one', 'two', 'three'];
const MOST_REPEATED = 60_000;

export interface DescribedMessage {
  readonly isRequest: boolean;
  readonly bytes: Buffer;
}

export class Descriptions {
  readonly #dice: Dice;
  #eol = '\r\n';
  /** Values of earlier answers of the relay: `IP4 address` and port. */
  readonly #seen: [string, string][] = [];

  constructor(dice: Dice) {
    this.#dice = dice;
  }

  /** Stores the place of a relayed description, which later ones name again. */
  learn(address: string, port: string): void {
    if (this.#seen.push([`IP4 ${address}`, port]) > 30) this.#seen.shift();
  }

  /** Returns a request or a response with a description, of the call `callId`. */
  message(callId: string): DescribedMessage {
    const dice = this.#dice;
    const method = dice.pick(METHODS);
    const isRequest = dice.chance(0.5);
    const branches = dice.int(4);
    let body = this.#description();
    let type = dice.chance(0.9) ? 'application/sdp' : dice.pick(['Application/SDP; x=y', 'text/plain']);
    if (dice.chance(0.15)) [type, body] = this.#multipart(body);
    const text = compose(
      isRequest ? `${method} sip:bob@example.org SIP/2.0` : `SIP/2.0 ${dice.pick(STATUSES)} Something`,
      [
        `Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bK-${branches}`,
        `From: <sip:alice@example.org>;tag=${dice.pick(TAGS)}`,
        `To: <sip:bob@example.org>${dice.chance(0.7) ? `;tag=${dice.pick(TAGS)}` : ''}`,
        `Call-ID: ${callId}`,
        `CSeq: 1 ${method}`,
        'Max-Forwards: 70',
        `Content-Type: ${type}`,
      ],
      body,
    );
    return { isRequest, bytes: Buffer.from(text, 'latin1') };
  }

  #description(): string {
    const dice = this.#dice;
    this.#eol = dice.chance(0.9) ? '\r\n' : '\n';
    const lines = ['v=0', 'o=- 1 1 IN A', 's=-', ...(dice.chance(0.8) ? ['c=IN A'] : []), 't=0 0'];
    for (let i = dice.pick([1, 1, 1, 2, 2, 3, 40]); i > 0; i--) lines.push(...dice.pick(MEDIA));
    for (let i = dice.pick([0, 0, 1, 1, 2, 5]); i > 0; i--) this.#changeLine(lines);
    let text = lines.map((line) => this.#fill(line)).join(this.#eol) + (dice.chance(0.9) ? this.#eol : '');
    if (dice.chance(0.2)) text = this.#changeOctets(text);
    return text;
  }

  #fill(line: string): string {
    const dice = this.#dice;
    const [address = '', port = ''] = (dice.chance(0.15) && dice.pick(this.#seen)) || [];
    return line.replace(/(?<=[ :])[APT](?=[ /;]|$)/g, (word) => {
      if (word === 'T') return dice.chance(0.8) ? 'RTP/AVP' : dice.pick(PROTOCOLS);
      if (word === 'A') return address || (dice.chance(0.7) ? 'IP4 192.0.2.7' : dice.pick(ADDRESSES));
      return port || (dice.chance(0.8) ? String(4000 + 2 * dice.int(PORTS)) : dice.pick(ODD_PORTS));
    });
  }

  #changeLine(lines: string[]): void {
    const dice = this.#dice;
    const at = dice.int(lines.length);
    const kind = dice.int(5);
    if (kind === 0) lines.splice(at, 1);
    else if (kind === 1) lines.splice(at, 0, lines[at]!);
    else if (kind === 2) lines.splice(at, 0, dice.pick(LINES));
    else if (kind === 3) lines.splice(at, 0, ...lines.splice(dice.int(lines.length), 1));
    else lines[at] = lines[at]!.replace(' ', '  ');
    if (lines.length === 0) lines.push('v=0');
  }

  #changeOctets(text: string): string {
    const dice = this.#dice;
    const at = dice.int(text.length + 1);
    const kind = dice.int(4);
    if (kind === 0) return text.slice(0, at);
    if (kind === 1) return text.slice(0, at) + dice.pick(ODD) + text.slice(at);
    if (kind === 2) return text.slice(0, at) + String.fromCharCode(dice.int(256)) + text.slice(at + 1);
    const unit = dice.pick(UNITS);
    const most = Math.min(MOST_REPEATED / unit.length, dice.chance(0.05) ? MOST_REPEATED : 40);
    return text.slice(0, at) + unit.repeat(dice.int(most)) + text.slice(at);
  }

  #multipart(body: string): [string, string] {
    const dice = this.#dice;
    const part = (type: string, text: string): string => `--b\r\nContent-Type: ${type}\r\n\r\n${text}\r\n`;
    const parts = [part('application/sdp', body), part('text/plain', 'c=IN IP4 192.0.2.7')];
    if (dice.chance(0.3)) parts.reverse();
    let text = `${parts.join('')}--b--\r\n`;
    if (dice.chance(0.3)) text = this.#changeOctets(text);
    return [dice.pick(['multipart/mixed;boundary=b', 'multipart/mixed; boundary="b"', 'multipart/mixed']), text];
  }
}
