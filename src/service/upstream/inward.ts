// Forwards requests of clients to the SIP server, and its responses back. A request gets the farm's Via, Record-Route
// and Path on top. Its response comes to `responseFromServer`, loses that Via and leaves by the flow in it.
import type { Clock } from '../../base/clock.ts';
import { isIpv6 } from '../../base/endpoint.ts';
import { Step } from '../../calls/table/call-table.ts';
import type { ListenerTraits } from '../../egress/remote-listeners.ts';
import { returnFlow } from '../../egress/return-flow.ts';
import { RETRY_AFTER, type StatelessReplies } from '../../egress/stateless-reply.ts';
import { Token } from '../../ownership/token.ts';
import { emptyWay, sameFlow, type Way } from '../../packet/flow.ts';
import type { Packet } from '../../packet/packet.ts';
import type { ReplyStatus } from '../../packet/verdict.ts';
import { Method, Scan, scan as scanMessage } from '../../sip/scan.ts';
import type { Listener } from '../../transport/transport.ts';
import type { Inserted } from '../inserted/inserted.ts';
import { Direction, MARK_OCTETS, writeLoopMark } from '../shared/branch.ts';
import { noteClientLeg, noteServerResponse } from '../shared/call-events.ts';
import { acceptedInTable, entryOf, noteRequest, noteResponse } from '../shared/call-progress.ts';
import { callKey, type ServiceContext, sentByOfFlow } from '../shared/context.ts';
import { readWayParameter, wayParameter } from '../shared/flow-parameter.ts';
import { RouteReading, readdressRoutes, takeInwardRoutes } from '../shared/own-routes.ts';
import { noteMove, noteTargets, offerTarget } from '../shared/parties.ts';
import { Place } from '../shared/place.ts';
import { MAX_DATAGRAM, Rewriter, recordsRoute } from '../shared/rewriter.ts';
import { LOOP_PARAMETER } from '../shared/top-headers.ts';
import type { Takeover } from '../takeover/takeover.ts';
import { markContacts, unmarkContacts } from './contact-flow.ts';
import { HeldTrying } from './held-trying.ts';
import { namesPath, type PathRule } from './path.ts';

export interface InwardOptions {
  readonly clock: Clock;
  readonly context: ServiceContext;
  readonly answers: StatelessReplies;
  readonly takeover: Takeover;
  readonly inserted: Inserted;
  readonly toServer: (message: Buffer) => void;
  readonly serverUp: () => boolean;
  /** True while this member must not act as owner. */
  readonly fenced: () => boolean;
  readonly dialogs: 'own' | 'shared';
  /** Rule for adding a Path to REGISTER requests. */
  readonly path: PathRule;
}

export class Inward {
  readonly #options: InwardOptions;
  readonly #routes = new RouteReading();
  readonly #back: Way = emptyWay();
  readonly #place = new Place();
  readonly #token = new Token();
  readonly #rewriter = new Rewriter();
  /** Loop mark of the current request, in the form it has in the Via of an earlier pass. */
  readonly #mark = Buffer.alloc(LOOP_PARAMETER.length + MARK_OCTETS);
  /** Listeners that share transport and address family with another listener. */
  readonly #twins: ReadonlySet<ListenerTraits>;
  readonly #trying: HeldTrying;
  readonly #requests: { n: number };
  readonly #responses: { n: number };

  constructor(options: InwardOptions) {
    this.#options = options;
    LOOP_PARAMETER.copy(this.#mark);
    const { listeners } = options.context.transport;
    this.#twins = new Set(listeners.filter((one) => listeners.filter((each) => alike(each, one)).length > 1));
    const { journal } = options.context;
    this.#trying = new HeldTrying({
      clock: options.clock,
      unwritten: (entry) => journal?.unwritten(entry) === true,
      // A fenced member is no owner: its 100 would end the repetitions that lead to the owner.
      send: (way, message) => void (options.fenced() || this.#toClient(way, message)),
    });
    this.#requests = options.context.handled.cell({ from: 'client', kind: 'request' });
    this.#responses = options.context.handled.cell({ from: 'server', kind: 'response' });
  }

  /** Handles a client's request that this member owns. */
  request(packet: Packet, scan: Scan): void {
    const { context, answers, toServer, dialogs, takeover, inserted } = this.#options;
    this.#requests.n++;
    if (takeover.active && takeover.request(packet, scan)) return;
    if (packet.orphan && dialogs === 'own' && scan.toTagStart >= 0) {
      // The dialog was lost with its owner's server.
      if (scan.method === Method.ACK) context.drops['owner-gone'].n++;
      else answers.answer(packet, scan, 481);
      return;
    }
    const rewriter = this.#rewriter.begin(scan);
    takeInwardRoutes(context, scan, rewriter, this.#routes, packet.orphan);
    if (packet.orphan) readdressRoutes(context, scan, rewriter, this.#routes, packet.owner);
    const refusal = this.#refusal(scan);
    if (refusal !== 0) {
      answers.answer(packet, scan, refusal, refusal === 503 ? RETRY_AFTER : []);
      return;
    }

    if (inserted.collides(packet.callKey, 'server', scan)) {
      answers.answer(packet, scan, 491);
      return;
    }
    const { routing, remoteListeners } = context;
    const { top } = rewriter;
    const { keys, tables } = routing;
    const traits = remoteListeners.traitsOf(packet);
    if (!traits) return;
    const back = this.#back;
    returnFlow(scan, packet, tables, traits, back);
    const sentBy = sentByOfFlow(context, back);
    if (!sentBy) return;
    const inDialog = scan.toTagStart >= 0;
    const place = this.#place;
    place.read(scan, packet, context.natSigns());
    this.#placeOf(packet, scan, inDialog, back);
    rewriter.pushVia(keys, Direction.inward, context.serverSentBy, tables.self, back, this.#mark);
    back.target = place.target;
    back.nat = place.nat;
    if (recordsRoute(scan)) {
      if (this.#clientNeedsFlow(packet, traits)) top.recordRouteWay(keys, context.serverSentBy, back);
      else top.recordRouteOwner(keys, context.serverSentBy, tables.self);
      top.recordRouteOwner(keys, sentBy, tables.self);
    } else if (scan.method === Method.REGISTER) this.#leadBack(packet, scan, traits, back);
    rewriter.countHop();
    rewriter.stampVia(packet.address, packet.port);
    context.shifts.request(packet.callKey, 'server', scan, rewriter);
    const source = scan.nextViaStart < 0 ? packet.address : '';
    if (context.anchor?.requestFromClient(scan, packet.callKey, source, place.nat, rewriter) === false) {
      answers.answer(packet, scan, 503, RETRY_AFTER);
      return;
    }
    const message = rewriter.finish(MAX_DATAGRAM);
    if (!message) {
      answers.answer(packet, scan, 513);
      return;
    }
    toServer(message);
    const entry = entryOf(context, packet.callKey, !inDialog);
    const step = noteRequest(context, scan, entry);
    if (inDialog) offerTarget(context, scan, entry);
    if (step !== Step.began) return;
    // A dialog of a dead member already has a record. The record comes here by adoption, or stays with the member if it
    // returns.
    if (packet.orphan && inDialog) takeover.beganFor(packet.owner, entry);
    else noteClientLeg(context, scan, entry, message, rewriter.tail, top.length, back);
  }

  /**
   * Sets the place in `back` when an in-dialog request shows that its sender has moved. Signs are another flow, a NAT,
   * or a new Contact equal to the source. The place is then part of the farm's Via, and counts once the server accepts
   * the request. Otherwise `back.target` is -1 and the Via has no place.
   */
  #placeOf(packet: Packet, scan: Scan, inDialog: boolean, back: Way): void {
    const place = this.#place;
    back.target = -1;
    back.nat = false;
    if (!inDialog || scan.method === Method.ACK) return;
    const known = this.#knownWay(packet, scan);
    const proxied = scan.nextViaStart >= 0;
    // A proxy may use any of its ports for in-dialog requests. Its Record-Route, which names its place, is only in the
    // first request.
    if (proxied && back.connection === 0) return;
    const nat = proxied ? known?.nat === true : place.nat;
    const renamed = place.here && place.target !== known?.target;
    const moved = known ? !sameFlow(known, back) || (nat && !known.nat) || renamed : nat;
    if (!moved) return;
    back.target = place.target || Math.max(known?.target ?? 0, 0);
    back.nat = nat;
  }

  /**
   * Returns the way to the sender of an in-dialog request: the one it moved to, else the one its dialog names. Returns
   * undefined when the dialog uses the sender's Contact.
   */
  #knownWay(packet: Packet, scan: Scan): Readonly<Way> | undefined {
    const { ways } = this.#options.context;
    const moved = ways.some
      ? ways.find(packet.callKey, scan.bytes.toString('latin1', scan.fromTagStart, scan.fromTagEnd))
      : undefined;
    return moved ?? (this.#routes.hasFlow ? this.#routes.way : undefined);
  }

  /** Returns the status of the error answer; 0 when the request may be forwarded. */
  #refusal(scan: Scan): 0 | ReplyStatus {
    if (this.#routes.excess) return 400;
    if (scan.maxForwards === 0) return 483;
    if (!this.#options.serverUp() && scan.method !== Method.ACK) return 503;
    return this.#hasLooped(scan) ? 482 : 0;
  }

  /**
   * Returns whether requests to the client must use the flow of this request. Required for a connection, for a balancer
   * with a session per client (`answer: ingress`), and when the client's listener is ambiguous. Required also behind a
   * NAT, or with `detect` when the Contact names another address than the source.
   */
  #clientNeedsFlow(packet: Packet, traits: ListenerTraits): boolean {
    const { nat, elsewhere } = this.#place;
    if (packet.connection !== 0 || traits.answer === 'ingress' || this.#twins.has(traits)) return true;
    return nat || (elsewhere && this.#options.context.natSigns() === 'detect');
  }

  /**
   * Adds the flow that leads back to the client: in a Path where permitted (RFC 3327 5.2), else in the Contact if
   * needed.
   */
  #leadBack(packet: Packet, scan: Scan, traits: ListenerTraits, way: Way): void {
    const { context, path } = this.#options;
    const { routing } = context;
    const { top } = this.#rewriter;
    const named = path !== 'never' && namesPath(scan);
    if (named || path === 'always') {
      top.path(routing.keys, context.serverSentBy, way);
      if (!named) top.supportedPath();
    } else if (this.#clientNeedsFlow(packet, traits))
      markContacts(scan, this.#rewriter, wayParameter(routing.keys, way));
  }

  /**
   * Returns whether the same hop has sent this request before, with the same values for routing (RFC 3261 16.3 item 4).
   * Writes `#mark`.
   */
  #hasLooped(scan: Scan): boolean {
    const { keys } = this.#options.context.routing;
    const mark = this.#mark;
    writeLoopMark(keys.primary.branch, scan, this.#routes, mark, LOOP_PARAMETER.length);
    // A request with one Via has not passed before. `bytes` may be a whole chunk of a stream, so the search ends with
    // the headers.
    return scan.nextViaStart >= 0 && scan.bytes.subarray(scan.start, scan.headersEnd).includes(mark);
  }

  /** Forwards the server's response to a client's request. Its top Via is this farm's. */
  responseFromServer(scan: Scan): void {
    const { context } = this.#options;
    this.#responses.n++;
    const back = this.#back;
    if (!readWayParameter(context, scan, this.#token, back)) {
      if (!this.#options.inserted.takes(scan, '')) context.drops['stray-response'].n++;
      return;
    }
    const rewriter = this.#rewriter.begin(scan).popVia();
    if (scan.method === Method.REGISTER) unmarkContacts(scan, rewriter);
    const key = callKey(context, scan);
    context.shifts.response(key, 'server', scan, rewriter);
    context.anchor?.responseToClient(scan, key, rewriter);
    const message = rewriter.finish();
    if (!message) {
      context.drops['bad-response'].n++;
      return;
    }
    const entry = entryOf(context, key, false);
    const isTrying = scan.status === 100 && scan.method === Method.INVITE;
    // A client repeats only datagrams.
    if (!(isTrying && back.connection === 0 && this.#trying.hold(entry, back, message))) {
      if (scan.method === Method.INVITE) this.#trying.forget(entry);
      this.#toClient(back, message);
    }
    const step = noteResponse(context, scan, entry);
    if (step === Step.none && acceptedInTable(context, scan, entry)) {
      if (back.target >= 0)
        noteMove(context, key, entry, scan.bytes.toString('latin1', scan.fromTagStart, scan.fromTagEnd), back);
      noteTargets(context, scan, entry);
    }
    noteServerResponse(context, scan, entry, step, message, rewriter.tail);
  }

  /**
   * Returns a request that this member sends in the name of a client as the server receives it, without a Via of the
   * farm; undefined when it cannot be sent. `message`: the request as it would leave the client.
   */
  asReceived(message: Buffer): Buffer | undefined {
    const { context } = this.#options;
    const { seats } = context.routing.tables;
    const scan = new Scan();
    if (scanMessage(message, 0, message.length, false, scan) !== null) return undefined;
    const rewriter = this.#rewriter.begin(scan);
    const routes = this.#routes;
    takeInwardRoutes(context, scan, rewriter, routes);
    const { owner } = routes;
    if (owner !== 0 && !seats.has(owner)) {
      takeInwardRoutes(context, scan, rewriter.begin(scan), routes, true);
      readdressRoutes(context, scan, rewriter, routes, owner);
    }
    return routes.excess ? undefined : rewriter.finish(MAX_DATAGRAM);
  }

  #toClient(way: Readonly<Way>, message: Buffer): void {
    const { egress, drops } = this.#options.context;
    if (!egress.send(way, message)) drops['flow-lost'].n++;
  }

  /** Sends nothing more. */
  stop(): void {
    this.#trying.clear();
  }
}

function alike(a: Listener, b: Listener): boolean {
  return a.transport === b.transport && isIpv6(a.bind.address) === isIpv6(b.bind.address);
}
