// The demo's SIP server: a small user agent server by UDP that takes every call, so that the farm has something behind each member.
import type { Clock, Timer } from '../base/clock.ts';
import { type Endpoint, formatEndpoint } from '../base/endpoint.ts';
import type { DatagramSocket, Network } from '../base/network.ts';
import { HeaderName } from '../sip/header-name.ts';
import { HeaderLine, nextHeader } from '../sip/headers.ts';
import { reasonPhrase } from '../sip/reply.ts';
import { Method, Scan, scan } from '../sip/scan.ts';

/** RFC 3261 17.1.1.1: first interval of retransmission, doubled up to T2, and given up after 64*T1. */
const T1_MS = 500;
const T2_MS = 4000;
/** A 200 nobody acknowledges is the caller's loss: the table of pending ones stays small. */
const MAX_PENDING = 10_000;

interface Pending {
  readonly response: Buffer;
  readonly address: string;
  readonly port: number;
  timer: Timer;
}

export class AnsweringServer {
  readonly #network: Network;
  readonly #clock: Clock;
  readonly #scan = new Scan();
  readonly #line = new HeaderLine();
  /** 200 to INVITE without its ACK, by Call-ID. */
  readonly #pending = new Map<string, Pending>();
  #socket: DatagramSocket | undefined;
  /** INVITEs answered, retransmissions left out. */
  calls = 0;

  constructor(network: Network, clock: Clock) {
    this.#network = network;
    this.#clock = clock;
  }

  /** Binds and resolves to where it listens. */
  async start(bind: Endpoint): Promise<Endpoint> {
    this.#socket = await this.#network.bindUdp(bind, {
      onDatagram: (bytes, address, port) => this.#take(bytes, address, port),
      onSendError: () => {},
    });
    return this.#socket.local;
  }

  async stop(): Promise<void> {
    for (const { timer } of this.#pending.values()) timer.cancel();
    this.#pending.clear();
    await this.#socket?.close();
  }

  #take(bytes: Buffer, address: string, port: number): void {
    const message = this.#scan;
    if (scan(bytes, 0, bytes.length, false, message) !== null || !message.isRequest) return;
    const callId = bytes.toString('latin1', message.callIdStart, message.callIdEnd);
    switch (message.method) {
      case Method.ACK:
        this.#forget(callId);
        break;
      case Method.INVITE:
        this.#answerInvite(message, callId, address, port);
        break;
      case Method.BYE:
        this.#forget(callId);
        this.#send(this.#response(message, 200), address, port);
        break;
      case Method.CANCEL:
        // The call is answered at once: there is nothing left to cancel (RFC 3261 9.2).
        this.#send(this.#response(message, this.#pending.has(callId) ? 200 : 481), address, port);
        break;
      case Method.REGISTER:
        this.#send(
          this.#response(message, 200, [...this.#lines(message, HeaderName.CONTACT), 'Expires: 60']),
          address,
          port,
        );
        break;
      case Method.OTHER:
        this.#send(this.#response(message, 501), address, port);
        break;
      default:
        this.#send(this.#response(message, 200), address, port);
    }
  }

  #answerInvite(message: Scan, callId: string, address: string, port: number): void {
    const known = this.#pending.get(callId);
    if (known && message.toTagStart < 0) {
      this.#send(known.response, address, port);
      return;
    }
    if (message.toTagStart < 0) this.calls++;
    this.#forget(callId);
    const routes = this.#lines(message, HeaderName.RECORD_ROUTE);
    const own = formatEndpoint(this.#socket?.local ?? { address, port });
    this.#send(this.#response(message, 180, [...routes, `Contact: <sip:demo@${own}>`]), address, port);
    const body = offerlessAnswer(this.#socket?.local.address ?? address);
    const response = this.#response(
      message,
      200,
      [...routes, `Contact: <sip:demo@${own}>`, 'Content-Type: application/sdp'],
      body,
    );
    this.#send(response, address, port);
    if (this.#pending.size < MAX_PENDING) this.#retransmit(callId, response, address, port);
  }

  /** RFC 3261 13.3.1.4: the 200 is sent again until its ACK comes. */
  #retransmit(callId: string, response: Buffer, address: string, port: number): void {
    let interval = T1_MS;
    let left = 64 * T1_MS;
    const again = (): void => {
      this.#send(response, address, port);
      left -= interval;
      interval = Math.min(interval * 2, T2_MS);
      const pending = this.#pending.get(callId);
      if (left > 0 && pending) pending.timer = this.#clock.after(interval, again);
      else this.#pending.delete(callId);
    };
    this.#pending.set(callId, { response, address, port, timer: this.#clock.after(interval, again) });
  }

  #forget(callId: string): void {
    this.#pending.get(callId)?.timer.cancel();
    this.#pending.delete(callId);
  }

  #send(response: Buffer, address: string, port: number): void {
    this.#socket?.send(response, address, port);
  }

  /** The header lines of one name, as they stand, without their line ends. */
  #lines(message: Scan, name: HeaderName): string[] {
    const { bytes, headersStart, headersEnd } = message;
    const line = this.#line;
    const found: string[] = [];
    for (let at = headersStart; nextHeader(bytes, at, headersEnd, line); at = line.lineEnd)
      if (line.name === name) found.push(bytes.toString('latin1', line.lineStart, line.lineEnd).trimEnd());
    return found;
  }

  /** RFC 3261 8.2.6.2; the To tag is made of the Call-ID, so that a retransmission gets the same. */
  #response(message: Scan, status: number, headers: readonly string[] = [], body = ''): Buffer {
    const { bytes } = message;
    const to = this.#lines(message, HeaderName.TO);
    const tag =
      message.toTagStart < 0 && status > 100
        ? `;tag=demo-${bytes.toString('hex', message.callIdStart, Math.min(message.callIdEnd, message.callIdStart + 12))}`
        : '';
    const lines = [
      `SIP/2.0 ${status} ${reasonPhrase(status)}`,
      ...this.#lines(message, HeaderName.VIA),
      ...this.#lines(message, HeaderName.FROM),
      `${to[0] ?? ''}${tag}`,
      ...this.#lines(message, HeaderName.CALL_ID),
      ...this.#lines(message, HeaderName.CSEQ),
      ...headers,
      `Content-Length: ${body.length}`,
    ];
    return Buffer.from(`${lines.join('\r\n')}\r\n\r\n${body}`, 'latin1');
  }
}

/** An SDP that takes audio and sends none: the demo has no media. */
function offerlessAnswer(address: string): string {
  return `v=0\r\no=sipfarm 1 1 IN IP4 ${address}\r\ns=demo\r\nc=IN IP4 ${address}\r\nt=0 0\r\nm=audio 9 RTP/AVP 0 8\r\na=inactive\r\n`;
}
