// The service `answer`: a small user agent server (RFC 3261 8.2, 13.3) that answers every call, holds it, and ends it.
// It replaces a SIP server in demos and tests. With a media relay it sends the caller's own media back (echo.ts), else
// its SDP accepts audio and sends none. Its calls end with their member.
import { formatPlace } from '../../base/endpoint.ts';
import { SipfarmError } from '../../base/errors.ts';
import type { AdoptionOutcome } from '../../calls/adoption/adoption.ts';
import { returnFlow } from '../../egress/return-flow.ts';
import { RETRY_AFTER } from '../../egress/stateless-reply.ts';
import type { Cell } from '../../metrics/counters.ts';
import { MAGIC_COOKIE, mintToken, TokenKind } from '../../ownership/token.ts';
import { emptyFlow, type Flow } from '../../packet/flow.ts';
import type { Packet } from '../../packet/packet.ts';
import { TRANSPORT_KINDS } from '../../packet/transport-kind.ts';
import { HeaderName } from '../../sip/header-name.ts';
import { buildReply } from '../../sip/reply.ts';
import { Method, type Scan } from '../../sip/scan.ts';
import { Repeats } from '../../transaction/retransmit.ts';
import type { Service, ServiceFactory, ServiceParts, ServiceStatus, Succession } from '../service.ts';
import { tagHash } from '../shared/place.ts';
import { AnsweredCall, callOf, contactOf, headerLines, inactiveAudio, withBody } from './answered-call.ts';
import { Echo } from './echo.ts';

/** Calls at one time; a call more is answered 486. */
const MAX_CALLS = 10_000;
const NO_HEADERS: readonly string[] = [];
const ALLOW = 'Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, REGISTER, UPDATE';

interface AnswerOptions extends ServiceParts {
  /** Seconds after the answer until the service hangs up; 0: never. */
  readonly holdSeconds: number;
}

class AnswerService implements Service {
  readonly #parts: AnswerOptions;
  readonly #repeats: Repeats;
  /** undefined without a media relay. */
  readonly #echo: Echo | undefined;
  readonly #requests: Cell;
  readonly #responses: Cell;
  /** Answered calls that are not over, by Call-ID and From tag. */
  readonly #calls = new Map<string, AnsweredCall>();
  readonly #flow = emptyFlow();
  readonly #sender = { from: 0, to: 0, cseq: 0 };
  #branches = 0;
  #answered = 0;
  #draining = false;

  constructor(options: AnswerOptions) {
    this.#parts = options;
    this.#requests = options.handled.cell({ from: 'client', kind: 'request' });
    this.#responses = options.handled.cell({ from: 'client', kind: 'response' });
    this.#echo = options.anchor && new Echo(options.anchor);
    this.#repeats = new Repeats(options.clock, (flow, message) => this.#send(flow, message));
  }

  get status(): ServiceStatus {
    const trouble = this.#draining ? 'the service takes no new calls' : undefined;
    return { kind: 'answer', up: true, server: '', answered: this.#answered, trouble };
  }

  /** No call of this service is recorded, so none is ever adopted. */
  readonly succession: Succession = {
    hasEnded: () => false,
    asTaken: (record) => record,
    recovered: () => {},
    adopted: (): AdoptionOutcome => 'over-already',
    seated: () => {},
    decided: () => {},
    follow: () => {},
    clear: () => this.#clear(),
  };

  handle(packet: Packet, scan: Scan): void {
    if (!scan.isRequest) {
      this.#responses.n++;
      this.#repeats.stop(scan.bytes.toString('latin1', scan.branchStart, scan.branchEnd));
      return;
    }
    this.#requests.n++;
    this.#note(packet, scan);
    const key = callOf(scan);
    const call = this.#calls.get(key);
    switch (scan.method) {
      case Method.ACK:
        if (call) this.#repeats.stop(call.key);
        return;
      case Method.INVITE:
        this.#invite(packet, scan, key, call);
        return;
      case Method.BYE:
        this.#answer(packet, scan, call ? 200 : 481);
        if (call) this.#end(call);
        return;
      case Method.CANCEL:
        // A call is answered at once: there is nothing left to cancel (RFC 3261 9.2).
        this.#answer(packet, scan, call ? 200 : 481);
        return;
      case Method.REGISTER:
        this.#answer(packet, scan, 200, [...headerLines(scan, HeaderName.CONTACT), 'Expires: 60']);
        return;
      case Method.OTHER:
        this.#answer(packet, scan, 501, [ALLOW]);
        return;
      default:
        this.#answer(packet, scan, scan.toTagStart >= 0 && !call ? 481 : 200, [ALLOW]);
    }
  }

  /** The service sends no request by another member that could come back. */
  returned(): void {}

  flowClosed(): void {}

  apply(): void {}

  setRecords(): void {}

  async start(): Promise<void> {}

  async firstVerdict(): Promise<void> {}

  drain(): void {
    this.#draining = true;
  }

  async stop(): Promise<void> {
    this.#clear();
  }

  #clear(): void {
    this.#repeats.close();
    for (const { timer } of this.#calls.values()) timer?.cancel();
    this.#calls.clear();
  }

  #invite(packet: Packet, scan: Scan, key: string, known: AnsweredCall | undefined): void {
    if (scan.toTagStart >= 0 && !known) {
      this.#answer(packet, scan, 481);
      return;
    }
    if (known && known.cseq === scan.cseq) {
      if (this.#fillFlow(packet, scan)) this.#send(this.#flow, known.answer);
      return;
    }
    // A late copy of an earlier INVITE must not become the last one (RFC 3261 12.2.2).
    if (known && scan.cseq < known.cseq) {
      this.#answer(packet, scan, 500);
      return;
    }
    // Without a target the call could not be ended from here (RFC 3261 12.1.1).
    if (!known && contactOf(scan) === undefined) {
      this.#answer(packet, scan, 400);
      return;
    }
    if (!known && (this.#draining || this.#calls.size >= MAX_CALLS)) {
      this.#answer(packet, scan, this.#draining ? 503 : 486);
      return;
    }
    if (!this.#fillFlow(packet, scan)) return;
    const source = scan.nextViaStart < 0 ? packet.address : '';
    const silent = inactiveAudio(packet.localAddress);
    const body = this.#echo ? this.#echo.describe(scan, packet.callKey, source, silent) : silent;
    if (body === undefined) {
      this.#answer(packet, scan, 503, RETRY_AFTER);
      return;
    }
    const own = this.#contact(packet);
    const routes = headerLines(scan, HeaderName.RECORD_ROUTE);
    const tag = packet.callKey.toString(36);
    const ringing = buildReply(scan, 180, '', tag, packet, [...routes, own], Number.POSITIVE_INFINITY);
    const headers = [...routes, own, ALLOW, 'Content-Type: application/sdp'];
    const plain = buildReply(scan, 200, '', tag, packet, headers, Number.POSITIVE_INFINITY);
    if (!ringing || !plain) return;
    const described = withBody(plain, body);
    const answer = this.#echo?.shown(described, packet.callKey) ?? described;
    if (!known) {
      this.#answered++;
      this.#send(this.#flow, ringing);
    }
    const call = known ?? new AnsweredCall(key, packet.callKey, scan, tag);
    call.renew(scan, this.#flow, answer);
    this.#calls.set(key, call);
    this.#repeats.stop(key);
    this.#repeats.untilAck(key, call.flow, answer);
    this.#noteAnswer(packet, scan, 200, tagHash(this.#slotKey, Buffer.from(tag), 0, tag.length));
    const { clock, holdSeconds } = this.#parts;
    if (!known && holdSeconds > 0) call.timer = clock.after(holdSeconds * 1000, () => this.#hangUp(call));
  }

  /** Sends BYE to the caller (RFC 3261 15.1.1), by the flow of its last INVITE. */
  #hangUp(call: AnsweredCall): void {
    const { routing, transport, egress, calls, clock } = this.#parts;
    const listener = transport.listeners[egress.listenerOf(call.flow)];
    if (!listener) return;
    const { keys, tables } = routing;
    const unique = new Uint8Array(8);
    new DataView(unique.buffer).setUint32(0, tables.incarnation);
    new DataView(unique.buffer).setUint32(4, ++this.#branches);
    const branch = MAGIC_COOKIE + mintToken(keys, TokenKind.outward, tables.self, 0, unique);
    const bye = call.bye(listener.advertise, branch);
    this.#sender.to = 1;
    calls.onRequest(call.entry, Method.BYE, this.#sender, clock.now(), tables.epoch);
    calls.onResponse(call.entry, Method.BYE, 200, 0, clock.now());
    this.#end(call);
    this.#repeats.request(branch, call.flow, bye);
  }

  #end(call: AnsweredCall): void {
    call.timer?.cancel();
    this.#repeats.stop(call.key);
    this.#calls.delete(call.key);
  }

  #answer(packet: Packet, scan: Scan, status: number, headers = NO_HEADERS): void {
    const reply = buildReply(scan, status, '', packet.callKey.toString(36), packet, headers, Number.POSITIVE_INFINITY);
    if (!reply || !this.#fillFlow(packet, scan)) return;
    this.#send(this.#flow, reply);
    this.#noteAnswer(packet, scan, status, 0);
  }

  /** Fills `#flow` with the way back to the sender; false when this farm has no such listener. */
  #fillFlow(packet: Packet, scan: Scan): boolean {
    const { remoteListeners, routing } = this.#parts;
    const traits = remoteListeners.traitsOf(packet);
    if (traits) returnFlow(scan, packet, routing.tables, traits, this.#flow);
    return traits !== undefined;
  }

  #send(flow: Readonly<Flow>, message: Buffer): void {
    const { egress, drops } = this.#parts;
    if (!egress.send(flow, message)) drops['flow-lost'].n++;
  }

  /** A Contact by which every member finds the owner: the token of a dialog, at the listener that the caller uses. */
  #contact(packet: Packet): string {
    const { routing, transport } = this.#parts;
    const { keys, tables } = routing;
    const advertise = (transport.listeners[packet.listener] ?? transport.listeners[0])!.advertise;
    const token = mintToken(keys, TokenKind.dialog, tables.self, 0);
    return `Contact: <sip:${token}@${formatPlace(advertise)}${TRANSPORT_KINDS[advertise.transport].uriParameter}>`;
  }

  get #slotKey() {
    return this.#parts.routing.tables.slotKey;
  }

  #note({ callKey }: Packet, scan: Scan): void {
    const { calls, clock, routing } = this.#parts;
    const { bytes } = scan;
    this.#sender.from = tagHash(this.#slotKey, bytes, scan.fromTagStart, scan.fromTagEnd);
    this.#sender.to = tagHash(this.#slotKey, bytes, scan.toTagStart, scan.toTagEnd);
    this.#sender.cseq = scan.cseq;
    calls.onRequest(callKey, scan.method, this.#sender, clock.now(), routing.tables.epoch);
  }

  #noteAnswer({ callKey }: Packet, { method }: Scan, status: number, toTag: number): void {
    const { calls, clock } = this.#parts;
    calls.onResponse(callKey, method, status, toTag, clock.now());
  }
}

/** The factory of `service.kind: answer`. */
export const makeAnswer: ServiceFactory = ({ service }, parts) => {
  if (service.kind !== 'answer') throw new SipfarmError('SF_INTERNAL', `no section of answer: ${service.kind}`);
  return new AnswerService({ ...parts, holdSeconds: service.holdSeconds });
};
