// One answered call of the service `answer`: the data that later requests of the dialog need (RFC 3261 12.1.1,
// 12.2.1.1).
import type { Timer } from '../../base/clock.ts';
import { formatPlace, isIpv6 } from '../../base/endpoint.ts';
import type { Advertised } from '../../packet/advertised.ts';
import { emptyFlow, type Flow } from '../../packet/flow.ts';
import { TRANSPORT_KINDS } from '../../packet/transport-kind.ts';
import { HeaderName } from '../../sip/header-name.ts';
import { findHeader, HeaderLine, nextHeader } from '../../sip/headers.ts';
import { NameAddr, parseNameAddr } from '../../sip/name-addr.ts';
import type { Scan } from '../../sip/scan.ts';

const line = new HeaderLine();
const nameAddr = new NameAddr();

export class AnsweredCall {
  /** Call-ID and From tag. */
  readonly key: string;
  /** In the call table. */
  readonly entry: number;
  readonly #callId: string;
  readonly #caller: string;
  readonly #self: string;
  readonly #routes: readonly string[];
  /** Request-URI of requests to the caller. */
  #target = '';
  /** CSeq number of the caller's last INVITE. */
  cseq = 0;
  /** The 200 to that INVITE. */
  answer: Buffer = Buffer.alloc(0);
  flow: Readonly<Flow> = emptyFlow();
  /** Until the service hangs up. */
  timer: Timer | undefined;

  /** `invite`: the INVITE that opens the dialog. `tag`: the To tag of the answer. */
  constructor(key: string, entry: number, invite: Scan, tag: string) {
    this.key = key;
    this.entry = entry;
    this.#callId = slice(invite, invite.callIdStart, invite.callIdEnd);
    this.#caller = slice(invite, invite.fromStart, invite.fromEnd);
    this.#self = `${slice(invite, invite.toStart, invite.toEnd)};tag=${tag}`;
    // The callee keeps the order of the route set (RFC 3261 12.1.1).
    this.#routes = headerLines(invite, HeaderName.RECORD_ROUTE).map((text) => text.replace(/^[^:]*:/, 'Route:'));
  }

  /** A new INVITE of the dialog has been answered: its Contact is the target now (RFC 3261 12.2.2). */
  renew(invite: Scan, flow: Readonly<Flow>, answer: Buffer): void {
    this.cseq = invite.cseq;
    this.answer = answer;
    this.flow = { ...flow };
    this.#target = contactOf(invite) ?? this.#target;
  }

  /** Returns the BYE of this side, under a Via of the listener `advertise` with `branch`. */
  bye(advertise: Advertised, branch: string): Buffer {
    const lines = [
      `BYE ${this.#target} SIP/2.0`,
      `Via: SIP/2.0/${TRANSPORT_KINDS[advertise.transport].viaName} ${formatPlace(advertise)};branch=${branch}`,
      'Max-Forwards: 70',
      ...this.#routes,
      `From: ${this.#self}`,
      `To: ${this.#caller}`,
      `Call-ID: ${this.#callId}`,
      'CSeq: 1 BYE',
      'Content-Length: 0',
    ];
    return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
  }
}

/** The key of the dialog's call: Call-ID and the caller's tag. */
export function callOf(scan: Scan): string {
  return `${slice(scan, scan.callIdStart, scan.callIdEnd)} ${slice(scan, scan.fromTagStart, scan.fromTagEnd)}`;
}

/** The header lines of one name as they stand, without their line ends. */
export function headerLines({ bytes, headersStart, headersEnd }: Scan, name: HeaderName): string[] {
  const found: string[] = [];
  for (let at = headersStart; nextHeader(bytes, at, headersEnd, line); at = line.lineEnd)
    if (line.name === name) found.push(bytes.toString('latin1', line.lineStart, line.lineEnd).trimEnd());
  return found;
}

/** Returns a reply without a body with `body` behind it. */
export function withBody(reply: Buffer, body: string): Buffer {
  const head = reply.toString('latin1').replace(/Content-Length: 0\r\n\r\n$/, '');
  return Buffer.from(`${head}Content-Length: ${body.length}\r\n\r\n${body}`, 'latin1');
}

/** An SDP that takes audio and sends none. `address`: an IP literal. */
export function inactiveAudio(address: string): string {
  const at = `IN ${isIpv6(address) ? 'IP6' : 'IP4'} ${address}`;
  return `v=0\r\no=sipfarm 1 1 ${at}\r\ns=-\r\nc=${at}\r\nt=0 0\r\nm=audio 9 RTP/AVP 0 8\r\na=inactive\r\n`;
}

/** Returns the URI of the first Contact; undefined when there is none that can be read. */
export function contactOf(scan: Scan): string | undefined {
  if (!findHeader(scan, HeaderName.CONTACT, scan.headersStart, line)) return undefined;
  if (!parseNameAddr(scan.bytes, line.valueStart, line.valueEnd, nameAddr)) return undefined;
  return slice(scan, nameAddr.uriStart, nameAddr.uriEnd);
}

function slice({ bytes }: Scan, start: number, end: number): string {
  return start < 0 ? '' : bytes.toString('latin1', start, end);
}
