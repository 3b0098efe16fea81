// Leads a packet through this member to its verdict:
//
//    transport -> classify -> scan -> probe? -> owner lookup -> verdict
//    verdict: local service | relay link | stateless reply | drop
//
// The path has one direction and no loop, and nothing in it awaits. A relayed packet takes the same path, beginning
// with the owner lookup.
import type { AddressList } from '../base/address-list.ts';
import { type Guard, NO_GUARD, type PacketEntrance } from '../base/guard.ts';
import { SERVICE_SIDE } from '../base/listener-code.ts';
import type { Egress } from '../egress/egress.ts';
import { finalReply, RETRY_AFTER, type StatelessReplies } from '../egress/stateless-reply.ts';
import { type Cell, type CellFamily, cellsBy } from '../metrics/counters.ts';
import type { Keyring } from '../ownership/keyring.ts';
import type { OwnerLookup } from '../ownership/owner-lookup.ts';
import { readBranchToken, Token, TokenKind } from '../ownership/token.ts';
import type { Way } from '../packet/flow.ts';
import { Packet } from '../packet/packet.ts';
import type { Tap, TapSlot } from '../packet/tap.ts';
import { DROP_REASONS, type DropReason, drop, type ReplyStatus, replyWith, type Verdict } from '../packet/verdict.ts';
import type { RelayLink } from '../relay/relay-link.ts';
import type { Service } from '../service/service.ts';
import { faultAnswer, faultDropReason, Method, Scan, type ScanFault, scan } from '../sip/scan.ts';
import { isResponse } from '../transport/classify.ts';

export interface PacketPathOptions {
  readonly routing: { readonly keys: Keyring };
  readonly lookup: OwnerLookup;
  readonly link: RelayLink;
  readonly service: Pick<Service, 'handle' | 'returned'>;
  readonly answers: StatelessReplies;
  readonly egress: Egress;
  readonly verdicts: CellFamily<'verdict' | 'reason'>;
  /** Hosts that name only this member: an OPTIONS to one of them is a probe. In the form of a URI, IPv6 in brackets. */
  readonly ownHosts: readonly string[];
  /** Sources of the balancer's probes. */
  readonly probes: () => AddressList;
  /** Targets that a request sent through this member by a peer may not reach. Left out: every target is allowed. */
  readonly forbidden?: { has(address: string, port: number): boolean };
  /** `on`: this member moves clients to others (it drains, or has drained). `close` closes a client's connection. */
  readonly moving: { readonly on: boolean; close(connection: number): void };
  /** Up while this member must not act as owner. */
  readonly fence: { readonly up: boolean };
  /** Returns whether this member takes new calls. Decides the answer to a probe. */
  readonly ready: () => boolean;
  /** Left out: exceptions are passed on to the caller. */
  readonly guard?: Guard;
}

const SIP = Buffer.from('sip:');

/** Source of an undeliverable request's answer: the answer is routed by its Via only. */
const NOWHERE = { address: '0.0.0.0', port: 0 };

/** Returns the counters of dropped packets, one per reason, created at the start. */
export function dropCells(verdicts: CellFamily<'verdict' | 'reason'>): Readonly<Record<DropReason, Cell>> {
  return cellsBy(verdicts, 'reason', Object.keys(DROP_REASONS) as DropReason[], { verdict: 'drop' });
}

export class PacketPath {
  readonly #options: PacketPathOptions;
  readonly #guard: Guard;
  readonly #ownHosts: readonly Buffer[];
  readonly #taps: TapSlot;
  readonly #local: Cell;
  readonly #relayed: Cell;
  readonly #drops: Readonly<Record<DropReason, Cell>>;
  /**
   * One scan for packets from outside, one for frames of peers. A frame arrives in another turn of the event loop,
   * never while the service handles a packet.
   */
  readonly #outside = new Scan();
  readonly #inside = new Scan();
  readonly #lost = { top: new Scan(), packet: new Packet() };
  readonly #token = new Token();

  constructor(options: PacketPathOptions) {
    this.#options = options;
    this.#guard = options.guard ?? NO_GUARD;
    this.#taps = options.egress.taps;
    this.#ownHosts = options.ownHosts.map((host) => Buffer.from(host.toLowerCase()));
    this.#local = options.verdicts.cell({ verdict: 'local', reason: '' });
    this.#relayed = options.verdicts.cell({ verdict: 'relay', reason: '' });
    this.#drops = dropCells(options.verdicts);
  }

  /**
   * The tap of this member: at the points of the packet path, of the egress and of the service. Null by default. It may
   * be set at any time.
   */
  get tap(): Tap | null {
    return this.#taps.tap;
  }
  set tap(tap: Tap | null) {
    this.#taps.tap = tap;
  }

  /** Handles a packet from outside. */
  enter(packet: Packet): void {
    try {
      this.#enter(packet);
    } catch (error) {
      this.#caught(packet.connection === 0 ? 'datagram' : 'connection', error, packet);
    }
  }

  #enter(packet: Packet): void {
    const { tap } = this.#taps;
    if (tap !== null) tap.seen('received', packet, null);
    const message = this.#outside;
    const fault = scan(packet.bytes, packet.start, packet.end, packet.connection !== 0, message);
    packet.end = message.end;
    if (fault) this.#act(faultVerdict(fault, message), packet, message);
    else if (message.isRequest && this.#isProbe(packet, message)) this.#answerProbe(packet, message);
    else if (message.isRequest && message.method === Method.REGISTER && this.#redirects(packet))
      this.#sendOn(packet, message);
    else this.#act(this.#options.lookup.decide(message, packet), packet, message);
  }

  /** Handles a packet that a peer relayed. It is scanned again here: no member trusts the bytes of a peer. */
  relayed(packet: Packet): void {
    const message = this.#inside;
    try {
      const { tap } = this.#taps;
      if (tap !== null) tap.seen('from-peer', packet, null);
      const fault = scan(packet.bytes, packet.start, packet.end, packet.connection !== 0, message);
      packet.end = message.end;
      this.#act(fault ? faultVerdict(fault, message) : this.#options.lookup.decide(message, packet), packet, message);
    } catch (error) {
      this.#caught('relay', error, packet);
    }
  }

  /**
   * Handles a connection that has lost its framing; `packet` holds the received octets. A readable request is answered
   * 400 before the connection closes.
   */
  faulted(packet: Packet): void {
    const message = this.#outside;
    try {
      const { tap } = this.#taps;
      if (tap !== null) tap.seen('received', packet, null);
      const fault = scan(packet.bytes, packet.start, packet.end, true, message) ?? 'content-length';
      this.#act(faultVerdict(fault, message), packet, message);
    } catch (error) {
      this.#caught('connection', error, packet);
    }
  }

  /**
   * Sends a peer's message by a flow of this member. If its connection is gone, a request returns to its owner, which
   * may have another way. A request to a listener of this member is answered 503, because the peer cannot check for
   * these.
   */
  leave(flow: Way, bytes: Buffer, start: number, end: number): void {
    const { egress, forbidden } = this.#options;
    const connected = flow.connection !== 0;
    const { tap } = this.#taps;
    if (tap !== null) tap.seen('from-peer', bytes.subarray(start, end), null);
    if (!connected && forbidden?.has(flow.address, flow.port) && !isResponse(bytes, start))
      this.#answerUndeliverable(bytes, start, end, 503);
    else if (egress.send(flow, bytes.subarray(start, end))) return;
    else if (!connected || !this.#giveBack(flow, bytes, start, end))
      this.#answerUndeliverable(bytes, start, end, connected ? 430 : 503);
  }

  /**
   * Returns a message of another member's SIP server to that member. Returns false unless it is a request whose owner
   * is reachable.
   */
  #giveBack(flow: Way, bytes: Buffer, start: number, end: number): boolean {
    const { link, routing } = this.#options;
    const message = this.#inside;
    const token = this.#token;
    if (scan(bytes, start, end, false, message) !== null || !message.isRequest || message.branchStart < 0) return false;
    const check = readBranchToken(routing.keys, bytes, message.branchStart, message.branchEnd, token);
    if (check !== 'valid' || token.kind !== TokenKind.outward) return false;
    if (!link.giveBack(token.member, flow, bytes, start, end)) return false;
    this.#dropBytes('flow-lost', bytes, start, end);
    return true;
  }

  /** Handles a request of this member's SIP server that a peer returned: its flow there is gone. */
  returned(flow: Way, bytes: Buffer, start: number, end: number): void {
    const { tap } = this.#taps;
    if (tap !== null) tap.seen('from-peer', bytes.subarray(start, end), null);
    if (this.#options.fence.up) this.#dropBytes('fenced', bytes, start, end);
    else this.#options.service.returned(Buffer.from(bytes.subarray(start, end)), flow);
  }

  /** Handles a message whose connection could not be opened. A request is answered 503 (RFC 3261 8.1.3.1). */
  unsent(message: Buffer): void {
    try {
      this.#answerUndeliverable(message, 0, message.length, 503);
    } catch (error) {
      this.#guard.caught('connection', error, message, 0, message.length);
    }
  }

  #caught(entrance: PacketEntrance, error: unknown, { bytes, start, end }: Packet): void {
    this.#guard.caught(entrance, error, bytes, start, end);
  }

  /**
   * Answers an undeliverable request of the farm in place of its next hop. The answer reaches its owner by the top
   * branch.
   */
  #answerUndeliverable(bytes: Buffer, start: number, end: number, status: 430 | 503): void {
    const message = this.#inside;
    this.#dropBytes('flow-lost', bytes, start, end);
    if (scan(bytes, start, end, false, message) !== null) return;
    const { top, packet } = this.#lost;
    const reply = finalReply(message, status, NOWHERE);
    if (!reply || scan(reply, 0, reply.length, false, top) !== null) return;
    packet.begin(reply, 0, top.end).cameTo('', 0, -1, SERVICE_SIDE);
    this.#act(this.#options.lookup.decide(top, packet), packet, top);
  }

  #drop(reason: DropReason, packet: Packet): void {
    this.#drops[reason].n++;
    const { tap } = this.#taps;
    if (tap !== null) tap.seen('dropped', packet, reason);
  }

  #dropBytes(reason: DropReason, bytes: Buffer, start: number, end: number): void {
    this.#drops[reason].n++;
    const { tap } = this.#taps;
    if (tap !== null) tap.seen('dropped', bytes.subarray(start, end), reason);
  }

  #redirects(packet: Packet): boolean {
    return packet.connection !== 0 && this.#options.moving.on;
  }

  /**
   * Answers a REGISTER with 503 and closes its connection, because this member ends its connections. Retry-After makes
   * the client try again (RFC 3261 21.5.4). The closed connection makes it open another (RFC 5626 4.4.1), which the
   * balancer gives to a ready member.
   */
  #sendOn(packet: Packet, message: Scan): void {
    this.#reply(packet, message, 503);
    this.#options.moving.close(packet.connection);
  }

  #act(verdict: Verdict, packet: Packet, message: Scan): void {
    switch (verdict.kind) {
      case 'local':
        if (this.#options.fence.up) this.#drop('fenced', packet);
        else {
          this.#local.n++;
          this.#options.service.handle(packet, message);
        }
        break;
      case 'relay':
        if (this.#options.link.relay(verdict.to, packet)) {
          this.#relayed.n++;
          const { tap } = this.#taps;
          if (tap !== null) tap.seen('relayed', packet, verdict.to);
        } else this.#drop('owner-gone', packet);
        break;
      case 'reply':
        this.#reply(packet, message, verdict.status);
        break;
      case 'drop':
        this.#drop(verdict.reason, packet);
        break;
    }
  }

  #reply(packet: Packet, message: Scan, status: ReplyStatus, listed = false): void {
    this.#options.verdicts.cell({ verdict: 'reply', reason: String(status) }).n++;
    this.#options.answers.answer(packet, message, status, status === 503 ? RETRY_AFTER : [], listed);
  }

  /**
   * Returns whether the packet is a probe: sent by the balancer itself (PROXY LOCAL), or an OPTIONS outside a dialog.
   * The OPTIONS must come from a listed address or be addressed to a name of this member only. Other requests from
   * listed addresses may be calls, when the balancer hides their sources.
   */
  #isProbe(packet: Packet, message: Scan): boolean {
    if (packet.fromBalancer) return true;
    if (message.method !== Method.OPTIONS || message.toTagStart >= 0) return false;
    if (this.#options.probes().matches(packet.address)) return true;
    for (const host of this.#ownHosts) if (namesHost(message, host)) return true;
    return false;
  }

  /**
   * Answers a probe here, whoever owns the Call-ID: 200 only while this member takes new calls. A listed source gets
   * the full answer, because it may search for "200 OK".
   */
  #answerProbe(packet: Packet, message: Scan): void {
    const listed = this.#options.probes().matches(packet.address);
    if (message.method === Method.ACK) this.#drop('stateless-ack', packet);
    else if (message.method !== Method.OPTIONS) this.#reply(packet, message, 405, listed);
    else this.#reply(packet, message, this.#options.ready() ? 200 : 503, listed);
  }
}

function faultVerdict(fault: ScanFault, message: Scan): Verdict {
  const status = faultAnswer(fault, message);
  return status === 0 ? drop(faultDropReason(message) ?? 'no-via') : replyWith(status);
}

/**
 * Returns whether the Request-URI is `sip:HOST` or `sip:HOST:port`, with or without parameters. A user part excludes
 * it.
 */
function namesHost(message: Scan, host: Buffer): boolean {
  const { bytes, uriStart, uriEnd } = message;
  const at = uriStart + SIP.length;
  const end = at + host.length;
  if (end > uriEnd) return false;
  for (let i = 0; i < SIP.length; i++) if ((bytes[uriStart + i]! | 32) !== (SIP[i]! | 32)) return false;
  for (let i = 0; i < host.length; i++) if ((bytes[at + i]! | 32) !== (host[i]! | 32)) return false;
  if (end < uriEnd && bytes[end] !== 0x3a && bytes[end] !== 0x3b) return false;
  // A user part may begin like a host and a port. An @ occurs nowhere else in the URI (RFC 3261 25.1).
  for (let i = end; i < uriEnd; i++) if (bytes[i] === 0x40) return false;
  return true;
}
