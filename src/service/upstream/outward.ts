// Forwards requests of the SIP server to clients, and their responses back. A request gets the farm's Via and
// Record-Route on top. It leaves by the flow it names, or to the target that RFC 3263 finds. Its response comes to
// `responseFromClient`, loses that Via and goes to the server.

import { type Endpoint, isIpv6, SIP_PORT } from '../../base/endpoint.ts';
import type { Guard } from '../../base/guard.ts';
import { SERVICE_SIDE } from '../../base/listener-code.ts';
import { Step } from '../../calls/table/call-table.ts';
import type { ExitChoice } from '../../egress/exit-member.ts';
import type { ForbiddenTargets } from '../../egress/forbidden-targets.ts';
import { sourceFlow } from '../../egress/return-flow.ts';
import type { Locator, Target } from '../../locate/locate.ts';
import { Token } from '../../ownership/token.ts';
import { emptyWay, sameFlow, type Way } from '../../packet/flow.ts';
import type { Packet } from '../../packet/packet.ts';
import { isReliable } from '../../packet/transport-kind.ts';
import type { ReplyStatus } from '../../packet/verdict.ts';
import { HeaderName } from '../../sip/header-name.ts';
import { HeaderLine, nextHeader } from '../../sip/headers.ts';
import { Method, Scan, scan as scanMessage } from '../../sip/scan.ts';
import type { Uri } from '../../sip/uri.ts';
import { parseVia, Via, ViaOutcome } from '../../sip/via.ts';
import type { Inserted } from '../inserted/inserted.ts';
import { Direction } from '../shared/branch.ts';
import { noteClientResponse, noteOrphanResponse, noteServerLeg } from '../shared/call-events.ts';
import { acceptedInTable, entryOf, noteRequest, noteResponse } from '../shared/call-progress.ts';
import { callKey, type ServiceContext, sentByOfFlow, slotOf } from '../shared/context.ts';
import { readWayParameter } from '../shared/flow-parameter.ts';
import { readNamedWay, VALUES_OF_PASS } from '../shared/own-routes.ts';
import { noteMove, noteTargets, refreshesTarget } from '../shared/parties.ts';
import { targetHash } from '../shared/place.ts';
import { MAX_DATAGRAM, Rewriter, recordsRoute } from '../shared/rewriter.ts';
import type { Takeover } from '../takeover/takeover.ts';
import { NextHop } from './next-hop.ts';
import { cutToCaller } from './orphan-vias.ts';

export interface OutwardOptions {
  readonly context: ServiceContext;
  readonly locator: Locator;
  /** Answers a request of the server, statelessly. */
  readonly answerServer: (scan: Scan, status: ReplyStatus, address: string, port: number) => void;
  /** Sends to the server, or to another port that it sent from. */
  readonly toServer: (message: Buffer, address?: string, port?: number) => void;
  /**
   * Returns whether this is the server's own endpoint, once it is resolved. A request from there needs no flow for its
   * response.
   */
  readonly isServer: (address: string, port: number) => boolean;
  readonly serverAt: () => Endpoint | undefined;
  readonly forbidden: ForbiddenTargets;
  readonly dialogs: 'own' | 'shared';
  readonly takeover: Takeover;
  readonly inserted: Inserted;
  readonly guard: Guard;
  /** Selects the member to send through; undefined: this node sends from its own listeners. */
  readonly exitChoice: ExitChoice | undefined;
}

/** Requests that may wait for name resolution at one time. */
const MAX_WAITING = 5000;
const MAX_WAITING_OCTETS = 16 * 1024 * 1024;

const line = new HeaderLine();

export class Outward {
  readonly #options: OutwardOptions;
  readonly #hop: NextHop;
  readonly #rewriter = new Rewriter();
  readonly #flow: Way = emptyWay();
  readonly #back: Way = emptyWay();
  readonly #named: Way = emptyWay();
  readonly #token = new Token();
  readonly #nextVia = new Via();
  /** Scan of requests that waited for name resolution, or were returned by another member. */
  readonly #late = new Scan();
  #waiting = 0;
  #waitingOctets = 0;
  readonly #requests: { n: number };
  readonly #responses: { n: number };

  constructor(options: OutwardOptions) {
    this.#options = options;
    this.#hop = new NextHop(options.context, options.forbidden);
    this.#requests = options.context.handled.cell({ from: 'server', kind: 'request' });
    this.#responses = options.context.handled.cell({ from: 'client', kind: 'response' });
  }

  /** Handles a request of the server, received from `address` and `port`. */
  request(scan: Scan, address: string, port: number): void {
    this.#requests.n++;
    if (scan.maxForwards === 0) this.#options.answerServer(scan, 483, address, port);
    else this.#forward(scan, address, port, undefined, undefined);
  }

  /**
   * Handles a request of the server that another member returned, because its connection `lost` is gone. Keeps
   * `message`.
   */
  returned(message: Buffer, lost: Readonly<Way>): void {
    const { context, serverAt } = this.#options;
    const scan = this.#late;
    if (scanMessage(message, 0, message.length, false, scan) !== null || !scan.isRequest) return;
    const from = readWayParameter(context, scan, this.#token, this.#back) ? this.#back : serverAt();
    if (!from) return;
    const { address, port } = from;
    const rewriter = withoutOurs(scan, this.#rewriter);
    context.shifts.returned(callKey(context, scan), 'party', scan, rewriter);
    const original = rewriter.finish();
    if (original && scanMessage(original, 0, original.length, false, scan) === null)
      this.#forward(scan, address, port, undefined, lost);
  }

  /**
   * Finds the way for a request that the farm itself sends. `message`: the request as the server would send it.
   * `known`: the recorded way to its party. Cold: may wait for DNS. Resolves to undefined when there is no way; never
   * rejects.
   */
  async reach(message: Buffer, known: Readonly<Way>): Promise<Readonly<Way> | undefined> {
    const { context, locator } = this.#options;
    const scan = new Scan();
    if (scanMessage(message, 0, message.length, false, scan) !== null) return undefined;
    const hop = new NextHop(context, this.#options.forbidden);
    const onward = hop.read(scan, new Rewriter().begin(scan), known, false);
    if (onward === 'failed') return undefined;
    if (onward === 'flow' || !hop.readable) return hop.way;
    const { host, port, transport } = questionOf(scan.bytes, hop.uri);
    const targets = await locator.locate(host, port, transport, callKey(context, scan) >>> 0);
    if (targets !== 'busy')
      for (const target of targets) if (this.#wayBy(target, known.target) === 0) return { ...this.#flow };
    return hop.state === 'gone' ? undefined : hop.way;
  }

  /**
   * Forwards the request. `found`: the resolved targets of the next hop; undefined on the first attempt. `lost`: way of
   * an earlier attempt whose connection is gone; the header that named it is no longer in the request.
   */
  #forward(
    scan: Scan,
    address: string,
    port: number,
    found: readonly Target[] | undefined,
    lost: Readonly<Way> | undefined,
  ): void {
    const { answerServer } = this.#options;
    const hop = this.#hop;
    const onward = hop.read(scan, this.#rewriter.begin(scan), lost, lost !== undefined);
    if (onward === 'flow') {
      this.#send(scan, address, port, hop.way!, true);
      return;
    }
    if (onward === 'failed' || !hop.readable) {
      answerServer(scan, onward === 'failed' ? 430 : 400, address, port);
      return;
    }
    const targets = found ?? this.#locate(scan, address, port, lost);
    if (!targets) return;
    // Takes the first target with a usable way. There is no failover: a stateless element sends a whole transaction to
    // one target.
    let status: 0 | ReplyStatus = 503;
    for (const target of targets) {
      status = this.#options.exitChoice
        ? this.#wayThrough(this.#options.exitChoice, target, scan)
        : this.#wayBy(target, this.#targetOf(scan));
      if (status === 0) break;
    }
    if (status === 0) this.#send(scan, address, port, this.#flow, false);
    // The next hop cannot be reached: the flow is the only way left.
    else if (hop.way && hop.state !== 'gone') this.#send(scan, address, port, hop.way, true);
    else answerServer(scan, hop.state === 'gone' ? 430 : status, address, port);
  }

  /**
   * Returns the targets of the next hop; undefined when they must be resolved first. The request then continues later,
   * or is answered 503 if too many wait.
   */
  #locate(scan: Scan, address: string, port: number, lost: Readonly<Way> | undefined): readonly Target[] | undefined {
    const { locator, context, answerServer } = this.#options;
    const { bytes } = scan;
    const { host, port: at, transport } = questionOf(bytes, this.#hop.uri);
    // One choice per call: CANCEL and ACK go to the target of their INVITE.
    const choice = callKey(context, scan) >>> 0;
    const now = locator.locateNow(host, at, transport, choice);
    if (now) return now;
    if (this.#waiting >= MAX_WAITING || this.#waitingOctets + scan.end - scan.start > MAX_WAITING_OCTETS) {
      context.drops['service-busy'].n++;
      answerServer(scan, 503, address, port);
      return undefined;
    }
    const copy = Buffer.from(bytes.subarray(scan.start, scan.end));
    const without = lost && { ...lost };
    this.#waiting++;
    this.#waitingOctets += copy.length;
    void locator.locate(host, at, transport, choice).then((found) => {
      this.#waiting--;
      this.#waitingOctets -= copy.length;
      try {
        this.#goOn(copy, address, port, found, without);
      } catch (error) {
        this.#options.guard.caught('server', error, copy, 0, copy.length);
      }
    });
    return undefined;
  }

  /** Continues with a request that has waited for name resolution. */
  #goOn(
    message: Buffer,
    address: string,
    port: number,
    found: readonly Target[] | 'busy',
    lost: Readonly<Way> | undefined,
  ): void {
    const { context, answerServer } = this.#options;
    scanMessage(message, 0, message.length, false, this.#late);
    if (found !== 'busy') this.#forward(this.#late, address, port, found, lost);
    else {
      context.drops['service-busy'].n++;
      answerServer(this.#late, 503, address, port);
    }
  }

  /**
   * Fills `#flow` with the way to `target` from an own listener. Returns 0, or the status to answer when there is none.
   */
  #wayBy(target: Target, contact: number): 0 | ReplyStatus {
    const { transport, routing } = this.#options.context;
    if (this.#options.forbidden.has(target.address, target.port)) return 503;
    const ipv6 = isIpv6(target.address);
    const index = transport.listeners.findIndex(
      (each) => each.advertise.transport === target.transport && isIpv6(each.local.address) === ipv6,
    );
    const listener = transport.listeners[index];
    if (!listener) return 503;
    const flow = this.#flow;
    flow.member = routing.tables.self;
    flow.incarnation = routing.tables.incarnation;
    flow.listener = listener.code;
    flow.address = target.address;
    flow.port = target.port;
    flow.connection = isReliable(target.transport) ? transport.connectStream(index, target) : 0;
    flow.target = contact;
    flow.nat = false;
    return isReliable(target.transport) && flow.connection === 0 ? 503 : 0;
  }

  /**
   * Fills `#flow` with the way to `target` through a member, which opens the connection if needed. Returns 0, or 503
   * when there is no such member.
   */
  #wayThrough(exitChoice: ExitChoice, target: Target, scan: Scan): 0 | ReplyStatus {
    const { context, forbidden } = this.#options;
    if (forbidden.has(target.address, target.port)) return 503;
    const begins = scan.toTagStart < 0 && scan.method !== Method.CANCEL;
    const ipv6 = isIpv6(target.address);
    const remote = exitChoice.choose(slotOf(context, scan), target.transport, ipv6, begins);
    if (!remote) return 503;
    const flow = this.#flow;
    flow.member = remote.member;
    flow.incarnation = 0;
    flow.listener = remote.code;
    flow.connection = 0;
    flow.address = target.address;
    flow.port = target.port;
    flow.target = this.#targetOf(scan);
    flow.nat = false;
    return 0;
  }

  /** Returns the target hash of the Request-URI. A located party usually has that URI as its Contact. */
  #targetOf({ bytes }: Scan): number {
    const { target } = this.#hop;
    return target.hostStart < 0 ? 0 : targetHash(bytes, target);
  }

  /**
   * Adds the farm's header lines and sends the request by `flow`. `named`: the flow was given, not located by RFC 3263.
   */
  #send(scan: Scan, address: string, port: number, flow: Readonly<Way>, named: boolean): void {
    const { context, answerServer, isServer } = this.#options;
    const { keys, tables } = context.routing;
    const rewriter = this.#rewriter;
    const { top } = rewriter;
    const sentBy = sentByOfFlow(context, flow);
    if (!sentBy) {
      answerServer(scan, 430, address, port);
      return;
    }
    // Responses go to the port in the Via, or to the source port if the Via requests rport (RFC 3261 18.2.2, RFC 3581
    // 4).
    const backPort = scan.via.rport >= 0 ? port : scan.via.port || SIP_PORT;
    const back = isServer(address, backPort) ? undefined : this.#backTo(address, backPort);
    rewriter.pushVia(keys, Direction.outward, sentBy, tables.self, back);
    if (recordsRoute(scan)) {
      top.recordRouteOwner(keys, sentBy, tables.self);
      if (named || flow.connection !== 0) top.recordRouteWay(keys, context.serverSentBy, flow);
      else top.recordRouteOwner(keys, context.serverSentBy, tables.self);
    }
    rewriter.countHop();
    rewriter.stampVia(address, port);
    const key = callKey(context, scan);
    if (this.#options.inserted.collides(key, 'party', scan)) {
      answerServer(scan, 491, address, port);
      return;
    }
    context.shifts.request(key, 'party', scan, rewriter);
    if (context.anchor?.requestToClient(scan, key, flow.nat, rewriter) === false) {
      answerServer(scan, 503, address, port);
      return;
    }
    const message = rewriter.finish(flow.connection === 0 ? MAX_DATAGRAM : undefined);
    if (!message) {
      answerServer(scan, 513, address, port);
      return;
    }
    if (!context.egress.send(flow, message)) answerServer(scan, named ? 430 : 503, address, port);
    const inDialog = scan.toTagStart >= 0;
    const entry = entryOf(context, -key, !inDialog);
    const step = noteRequest(context, scan, entry, this.#hop.owner);
    if (!inDialog) noteServerLeg(context, scan, key, step, message, rewriter.tail, sentBy, flow);
  }

  /** Returns the way back to a server's port that is not its own endpoint. */
  #backTo(address: string, port: number): Way {
    const back = this.#back;
    back.member = this.#options.context.routing.tables.self;
    back.incarnation = 0;
    back.listener = SERVICE_SIDE;
    back.connection = 0;
    back.address = address;
    back.port = port;
    back.target = -1;
    return back;
  }

  /**
   * Forwards a client's response to a server's request. Its top Via is this member's, or a dead member's
   * (`packet.orphan`).
   */
  responseFromClient(packet: Packet, scan: Scan): void {
    const { context, toServer, dialogs, takeover, inserted } = this.#options;
    this.#responses.n++;
    if (takeover.active && takeover.response(packet, scan)) return;
    if (packet.orphan && dialogs === 'shared' && this.#passOver(packet, scan)) return;
    if (!this.#leadsOn(scan)) {
      if (!inserted.takes(scan, packet.address) && !takeover.takes(scan)) context.drops['next-via'].n++;
      return;
    }
    const named = readWayParameter(context, scan, this.#token, this.#back);
    const rewriter = this.#rewriter.begin(scan).popVia();
    context.shifts.response(packet.callKey, 'party', scan, rewriter);
    context.anchor?.responseFromClient(scan, this.#nextVia, packet.callKey, packet.address, rewriter);
    const message = rewriter.finish();
    if (!message) {
      context.drops['bad-response'].n++;
      return;
    }
    if (named && !packet.orphan && this.#back.listener === SERVICE_SIDE)
      toServer(message, this.#back.address, this.#back.port);
    else toServer(message);
    const entry = entryOf(context, -packet.callKey, false);
    const step = noteResponse(context, scan, entry);
    if (step === Step.confirmed) {
      this.#noteAnswerer(packet, scan, entry);
      if (entry < 0) this.#announce(packet);
    } else if (step === Step.none && refreshesTarget(scan) && acceptedInTable(context, scan, entry))
      noteTargets(context, scan, entry);
    noteClientResponse(context, scan, packet.callKey, entry, step, message, rewriter.tail);
  }

  /**
   * Announces the call to the owner of its slot. The party may hang up without the farm's Route; the slot's owner then
   * relays that request here.
   */
  #announce({ slot, callKey }: Packet): void {
    const { announce, routing } = this.#options.context;
    const { slots, self } = routing.tables;
    const owner = slots[slot]!;
    if (owner !== self && owner !== 0) announce?.(owner, callKey);
  }

  /**
   * Notes the answering party's new way, if the first answer that makes a dialog came by another way than its request.
   * Reasons are a new connection, or a NAT that has dropped the old port binding. Only this answer counts: a repetition
   * of it changes nothing.
   */
  #noteAnswerer(packet: Packet, scan: Scan, entry: number): void {
    const { context } = this.#options;
    const named = this.#named;
    if (!readNamedWay(context, scan, named)) return;
    const traits = context.remoteListeners.traitsOf(packet);
    if (!traits) return;
    const now = this.#flow;
    sourceFlow(packet, context.routing.tables, traits, now);
    if (sameFlow(named, now) || !(named.nat || (named.connection !== 0 && now.connection !== 0))) return;
    now.target = named.target;
    now.nat = named.nat;
    noteMove(context, packet.callKey, entry, scan.bytes.toString('latin1', scan.toTagStart, scan.toTagEnd), now);
  }

  /**
   * Sends the response to a dead proxy's request directly to the sender of the original request. No other server has
   * the transaction, so all Vias of the dead host are removed (RFC 3261 16.7, as a stateless element). Returns false
   * when the Vias do not lead to that sender.
   */
  #passOver(packet: Packet, scan: Scan): boolean {
    const { context } = this.#options;
    const rewriter = this.#rewriter.begin(scan);
    if (!cutToCaller(context, scan, rewriter, this.#token, this.#back)) return false;
    const message = rewriter.finish();
    if (!message) return false;
    if (!context.egress.send(this.#back, message)) context.drops['flow-lost'].n++;
    const entry = entryOf(context, packet.callKey, false);
    noteOrphanResponse(context, scan, entry, noteResponse(context, scan, entry), message, rewriter.tail);
    return true;
  }

  /** Returns whether a Via below the top one names a host (RFC 4475 3.3.10). */
  #leadsOn(scan: Scan): boolean {
    const { bytes, nextViaStart, nextViaEnd } = scan;
    const via = this.#nextVia;
    if (nextViaStart < 0 || parseVia(bytes, nextViaStart, nextViaEnd, via) === ViaOutcome.UNREADABLE) return false;
    const { forbidden } = this.#options;
    return (
      !forbidden.hasNoHost(bytes.toString('latin1', via.hostStart, via.hostEnd)) &&
      (via.receivedStart < 0 || !forbidden.hasNoHost(bytes.toString('latin1', via.receivedStart, via.receivedEnd)))
    );
  }
}

/**
 * Begins to rewrite the request in `scan` to what the server has sent: without the farm's Via and the two Record-Route
 * values after it, and with Max-Forwards restored.
 */
function withoutOurs(scan: Scan, rewriter: Rewriter): Rewriter {
  rewriter.begin(scan).popVia();
  let from = scan.viaLineEnd;
  for (let left = recordsRoute(scan) ? VALUES_OF_PASS : 0; left > 0; left--, from = line.lineEnd)
    if (nextHeader(scan.bytes, from, scan.headersEnd, line) && line.name === HeaderName.RECORD_ROUTE)
      rewriter.delete(line.lineStart, line.lineEnd);
  if (scan.maxForwards >= 0) rewriter.replace(scan.maxForwardsStart, scan.maxForwardsEnd, String(scan.maxForwards + 1));
  return rewriter;
}

/** Returns host, port and transport of a URI as input of RFC 3263. `port` 0 = none given. */
function questionOf(bytes: Buffer, uri: Uri): { host: string; port: number; transport: string | undefined } {
  const { maddrStart, maddrEnd, hostStart, hostEnd, transportStart, transportEnd, port } = uri;
  const host =
    maddrStart >= 0 ? bytes.toString('latin1', maddrStart, maddrEnd) : bytes.toString('latin1', hostStart, hostEnd);
  const transport =
    transportStart < 0 ? undefined : bytes.toString('latin1', transportStart, transportEnd).toLowerCase();
  return { host, port, transport };
}
