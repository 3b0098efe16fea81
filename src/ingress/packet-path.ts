// One packet's way through this member:
//
//    transport -> classify -> scan -> probe? -> owner lookup -> verdict -> local service | relay link | stateless reply | drop
//
// One direction, no way back, nothing in it awaits. A relayed packet takes the same way from the owner lookup on.
import { randomBytes } from 'node:crypto';
import type { AddressList } from '../base/address-list.ts';
import { type Guard, NO_GUARD, type PacketEntrance } from '../base/guard.ts';
import { SERVICE_SIDE } from '../base/listener-code.ts';
import type { Egress } from '../egress/egress.ts';
import type { StatelessReplies } from '../egress/stateless-reply.ts';
import type { Cell, CellFamily } from '../metrics/counters.ts';
import type { Keyring } from '../ownership/keyring.ts';
import type { OwnerLookup } from '../ownership/owner-lookup.ts';
import { readBranchToken, Token, TokenKind } from '../ownership/token.ts';
import type { Way } from '../packet/flow.ts';
import { Packet } from '../packet/packet.ts';
import { DROP_REASONS, type DropReason, drop, type ReplyStatus, replyWith, type Verdict } from '../packet/verdict.ts';
import type { RelayLink } from '../relay/relay-link.ts';
import type { Service } from '../service/service.ts';
import { buildReply } from '../sip/reply.ts';
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
  /** Hosts that name this member and no other: an OPTIONS to one of them is a probe. As they stand in a URI, IPv6 in brackets. */
  readonly ownHosts: readonly string[];
  /** Sources of the balancer's probes. */
  readonly probes: () => AddressList;
  /** Where no request that a peer has sent through here may go. Left out: anywhere. */
  readonly forbidden?: { has(address: string, port: number): boolean };
  /** Whether this member sends clients on to others (it drains, or has drained), and how a connection is closed for it. */
  readonly moving: { readonly on: boolean; close(connection: number): void };
  /** Up while this member must not act as owner. */
  readonly fence: { readonly up: boolean };
  /** Whether this member takes new calls: what a probe is told. */
  readonly ready: () => boolean;
  /** Left out: what is thrown goes on to whoever called. */
  readonly guard?: Guard;
}

/** Seconds a balancer or client may wait before it asks again a member that is not ready. */
const RETRY_AFTER = ['Retry-After: 5'];

const SIP = Buffer.from('sip:');

/** To tag of such an answer: no token, because the server may pass it on, and its ACK must then reach the server. */
const FINAL_TAG = randomBytes(8).toString('hex');
/** Such an answer travels by Via alone. */
const NOWHERE = { address: '0.0.0.0', port: 0 };

/** The cells of dropped packets, each there from the start. */
export function dropCells(verdicts: CellFamily<'verdict' | 'reason'>): Readonly<Record<DropReason, Cell>> {
  const reasons = Object.keys(DROP_REASONS) as DropReason[];
  const cells = reasons.map((reason) => [reason, verdicts.cell({ verdict: 'drop', reason })] as const);
  return Object.fromEntries(cells) as Record<DropReason, Cell>;
}

export class PacketPath {
  readonly #options: PacketPathOptions;
  readonly #guard: Guard;
  readonly #ownHosts: readonly Buffer[];
  readonly #local: Cell;
  readonly #relayed: Cell;
  readonly #drops: Readonly<Record<DropReason, Cell>>;
  /** One scan per entrance: a frame may arrive while a service still works on a packet of the other only in another turn of the event loop. */
  readonly #outside = new Scan();
  readonly #inside = new Scan();
  readonly #lost = { top: new Scan(), packet: new Packet() };
  readonly #token = new Token();

  constructor(options: PacketPathOptions) {
    this.#options = options;
    this.#guard = options.guard ?? NO_GUARD;
    this.#ownHosts = options.ownHosts.map((host) => Buffer.from(host.toLowerCase()));
    this.#local = options.verdicts.cell({ verdict: 'local', reason: '' });
    this.#relayed = options.verdicts.cell({ verdict: 'relay', reason: '' });
    this.#drops = dropCells(options.verdicts);
  }

  /** A packet from outside. */
  enter(packet: Packet): void {
    try {
      this.#enter(packet);
    } catch (error) {
      this.#caught(packet.connection === 0 ? 'datagram' : 'connection', error, packet);
    }
  }

  #enter(packet: Packet): void {
    const message = this.#outside;
    const fault = scan(packet.bytes, packet.start, packet.end, packet.connection !== 0, message);
    packet.end = message.end;
    if (fault) this.#act(faultVerdict(fault, message), packet, message);
    else if (message.isRequest && this.#isProbe(packet, message)) this.#answerProbe(packet, message);
    else if (message.isRequest && message.method === Method.REGISTER && this.#redirects(packet))
      this.#sendOn(packet, message);
    else this.#act(this.#options.lookup.decide(message, packet), packet, message);
  }

  /** A packet that a peer relayed. It was scanned there, and is scanned here: a member trusts the bytes of no one. */
  relayed(packet: Packet): void {
    const message = this.#inside;
    try {
      const fault = scan(packet.bytes, packet.start, packet.end, packet.connection !== 0, message);
      packet.end = message.end;
      this.#act(fault ? faultVerdict(fault, message) : this.#options.lookup.decide(message, packet), packet, message);
    } catch (error) {
      this.#caught('relay', error, packet);
    }
  }

  /** A connection lost its framing; `packet` holds what came. A request that can be read gets its 400 before the connection closes. */
  faulted(packet: Packet): void {
    const message = this.#outside;
    try {
      const fault = scan(packet.bytes, packet.start, packet.end, true, message) ?? 'content-length';
      this.#act(faultVerdict(fault, message), packet, message);
    } catch (error) {
      this.#caught('connection', error, packet);
    }
  }

  /**
   * A message that a peer wants sent by a flow of ours. When its connection is gone, a request goes back to its owner, who may have another way. A
   * peer that sends through us does not know our doors: a request to one of them is answered 503.
   */
  leave(flow: Way, bytes: Buffer, start: number, end: number): void {
    const { egress, forbidden } = this.#options;
    const connected = flow.connection !== 0;
    if (!connected && forbidden?.has(flow.address, flow.port) && !isResponse(bytes, start))
      this.#answerUndeliverable(bytes, start, end, 503);
    else if (egress.send(flow, bytes.subarray(start, end))) return;
    else if (!connected || !this.#giveBack(flow, bytes, start, end))
      this.#answerUndeliverable(bytes, start, end, connected ? 430 : 503);
  }

  /** Gives a message of another member's SIP server back to it. False for one that is no request, or whose owner is not to be reached. */
  #giveBack(flow: Way, bytes: Buffer, start: number, end: number): boolean {
    const { link, routing } = this.#options;
    const message = this.#inside;
    const token = this.#token;
    if (scan(bytes, start, end, false, message) !== null || !message.isRequest || message.branchStart < 0) return false;
    const check = readBranchToken(routing.keys, bytes, message.branchStart, message.branchEnd, token);
    if (check !== 'valid' || token.kind !== TokenKind.outward) return false;
    if (!link.giveBack(token.member, flow, bytes, start, end)) return false;
    this.#drops['flow-lost'].n++;
    return true;
  }

  /** A request of our SIP server that a peer could not send by its flow, which is gone. */
  returned(flow: Way, bytes: Buffer, start: number, end: number): void {
    if (this.#options.fence.up) this.#drops.fenced.n++;
    else this.#options.service.returned(Buffer.from(bytes.subarray(start, end)), flow);
  }

  /** A message whose connection could not be opened: a request is answered 503 (RFC 3261 8.1.3.1). */
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

  /** Answers a request of ours that cannot leave, as if its next hop had: the answer finds its owner by the branch on top. */
  #answerUndeliverable(bytes: Buffer, start: number, end: number, status: 430 | 503): void {
    const message = this.#inside;
    this.#drops['flow-lost'].n++;
    if (scan(bytes, start, end, false, message) !== null) return;
    const { top, packet } = this.#lost;
    const reply = buildReply(message, status, '', FINAL_TAG, NOWHERE, [], Number.POSITIVE_INFINITY);
    if (!reply || scan(reply, 0, reply.length, false, top) !== null) return;
    packet.bytes = reply;
    packet.listener = -1;
    packet.listenerCode = SERVICE_SIDE;
    packet.start = 0;
    packet.end = top.end;
    packet.hops = 0;
    this.#act(this.#options.lookup.decide(top, packet), packet, top);
  }

  #redirects(packet: Packet): boolean {
    return packet.connection !== 0 && this.#options.moving.on;
  }

  /**
   * A client registers anew over a connection that ends with this member. 503 with Retry-After has it try again (RFC 3261 21.5.4), the closed
   * connection has it open another (RFC 5626 4.4.1), which the balancer gives to a member that is ready.
   */
  #sendOn(packet: Packet, message: Scan): void {
    this.#reply(packet, message, 503);
    this.#options.moving.close(packet.connection);
  }

  #act(verdict: Verdict, packet: Packet, message: Scan): void {
    switch (verdict.kind) {
      case 'local':
        if (this.#options.fence.up) this.#drops.fenced.n++;
        else {
          this.#local.n++;
          this.#options.service.handle(packet, message);
        }
        break;
      case 'relay':
        if (this.#options.link.relay(verdict.to, packet)) this.#relayed.n++;
        else this.#drops['owner-gone'].n++;
        break;
      case 'reply':
        this.#reply(packet, message, verdict.status);
        break;
      case 'drop':
        this.#drops[verdict.reason].n++;
        break;
    }
  }

  #reply(packet: Packet, message: Scan, status: ReplyStatus, listed = false): void {
    this.#options.verdicts.cell({ verdict: 'reply', reason: String(status) }).n++;
    this.#options.answers.answer(packet, message, status, status === 503 ? RETRY_AFTER : [], listed);
  }

  /**
   * What the balancer says of its own accord (PROXY LOCAL); an OPTIONS outside a dialog from one of its listed addresses (calls may come from
   * there too, when it hides their sources), or to a name that is this member's alone.
   */
  #isProbe(packet: Packet, message: Scan): boolean {
    if (packet.fromBalancer) return true;
    if (message.method !== Method.OPTIONS || message.toTagStart >= 0) return false;
    if (this.#options.probes().matches(packet.address)) return true;
    for (const host of this.#ownHosts) if (namesHost(message, host)) return true;
    return false;
  }

  /** Truthful: 200 only while this member takes new calls. Always answered here, whoever owns the Call-ID; in full to a listed source, which may look for "200 OK". */
  #answerProbe(packet: Packet, message: Scan): void {
    const listed = this.#options.probes().matches(packet.address);
    if (message.method === Method.ACK) this.#drops['stateless-ack'].n++;
    else if (message.method !== Method.OPTIONS) this.#reply(packet, message, 405, listed);
    else this.#reply(packet, message, this.#options.ready() ? 200 : 503, listed);
  }
}

function faultVerdict(fault: ScanFault, message: Scan): Verdict {
  const status = faultAnswer(fault, message);
  return status === 0 ? drop(faultDropReason(message) ?? 'no-via') : replyWith(status);
}

/** The Request-URI is `sip:HOST` or `sip:HOST:port`, with parameters or without; a user part makes it somebody else's. */
function namesHost(message: Scan, host: Buffer): boolean {
  const { bytes, uriStart, uriEnd } = message;
  const at = uriStart + SIP.length;
  const end = at + host.length;
  if (end > uriEnd) return false;
  for (let i = 0; i < SIP.length; i++) if ((bytes[uriStart + i]! | 32) !== (SIP[i]! | 32)) return false;
  for (let i = 0; i < host.length; i++) if ((bytes[at + i]! | 32) !== (host[i]! | 32)) return false;
  if (end < uriEnd && bytes[end] !== 0x3a && bytes[end] !== 0x3b) return false;
  // A user part may begin like a host and a port; its @ stands nowhere else (RFC 3261 25.1).
  for (let i = end; i < uriEnd; i++) if (bytes[i] === 0x40) return false;
  return true;
}
