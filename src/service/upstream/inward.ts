// From the client to the server: a request gets our Via, Record-Route and Path on top and goes to the SIP server; its response comes back
// to `responseFromServer`, loses our Via and leaves by the flow that the Via carries.
import { Step } from '../../calls/call-table.ts';
import { emptyWay, sameFlow, type Way } from '../../ownership/flow.ts';
import { Token, TokenKind } from '../../ownership/token.ts';
import type { ReplyStatus } from '../../ownership/verdict.ts';
import type { Answers } from '../../relay/answers.ts';
import type { Entrance } from '../../relay/doors.ts';
import { returnFlow } from '../../relay/return-flow.ts';
import { Method, type Scan } from '../../sip/scan.ts';
import type { Packet } from '../../transport/packet.ts';
import type { Listener } from '../../transport/transport.ts';
import { Direction, MARK_OCTETS, writeBranchValue, writeLoopMark } from './branch.ts';
import { markContacts, unmarkContacts } from './contact-flow.ts';
import {
  acceptedInTable,
  callKey,
  countHop,
  type Edge,
  entryOf,
  MAX_DATAGRAM,
  noteRequest,
  noteResponse,
  recordsRoute,
  sideOfFlow,
} from './edge.ts';
import { readWayParameter, wayParameter } from './flow-parameter.ts';
import type { Heir } from './heir.ts';
import { noteClientLeg, noteServerResponse } from './legs.ts';
import { RouteReading, readdressRoutes, takeInwardRoutes } from './own-routes.ts';
import { noteMove } from './parties.ts';
import { namesPath, type PathRule } from './path.ts';
import { Place } from './place.ts';
import { LOOP_PARAMETER } from './stamp.ts';

export interface InwardOptions {
  readonly edge: Edge;
  readonly answers: Answers;
  readonly heir: Heir;
  readonly toServer: (message: Buffer) => void;
  readonly serverUp: () => boolean;
  readonly dialogs: 'own' | 'shared';
  /** Which REGISTER requests get a Path. */
  readonly path: PathRule;
}

/** Seconds after which a client may try again when the server is down. */
const RETRY_AFTER = ['Retry-After: 5'];

export class Inward {
  readonly #options: InwardOptions;
  readonly #routes = new RouteReading();
  readonly #back: Way = emptyWay();
  readonly #place = new Place();
  readonly #token = new Token();
  /** The loop mark of the request, as it stands in the Via of an earlier pass. */
  readonly #mark = Buffer.alloc(LOOP_PARAMETER.length + MARK_OCTETS);
  /** Listeners that share transport and family with another. */
  readonly #twins: ReadonlySet<Entrance>;
  readonly #requests: { n: number };
  readonly #responses: { n: number };

  constructor(options: InwardOptions) {
    this.#options = options;
    LOOP_PARAMETER.copy(this.#mark);
    const { listeners } = options.edge.transport;
    this.#twins = new Set(listeners.filter((one) => listeners.filter((each) => alike(each, one)).length > 1));
    this.#requests = options.edge.handled.cell({ from: 'client', kind: 'request' });
    this.#responses = options.edge.handled.cell({ from: 'server', kind: 'response' });
  }

  /** A request of a client that this member owns. */
  request(packet: Packet, scan: Scan): void {
    const { edge, answers, toServer, dialogs, heir } = this.#options;
    this.#requests.n++;
    if (heir.active && heir.request(packet, scan)) return;
    if (packet.orphan && dialogs === 'own' && scan.toTagStart >= 0) {
      // The dialog died with its owner's server.
      if (scan.method === Method.ACK) edge.drops['owner-gone'].n++;
      else answers.answer(packet, scan, 481);
      return;
    }
    edge.edit.beginScan(scan);
    takeInwardRoutes(edge, scan, this.#routes, packet.orphan);
    if (packet.orphan) readdressRoutes(edge, scan, this.#routes, packet.owner);
    const refusal = this.#refusal(scan);
    if (refusal !== 0) {
      answers.answer(packet, scan, refusal, refusal === 503 ? RETRY_AFTER : []);
      return;
    }

    const { world, stamp, edit, branchValue, doors } = edge;
    const { keys, tables } = world;
    const entrance = doors.entranceOf(packet);
    if (!entrance) return;
    stamp.reset();
    const back = this.#back;
    returnFlow(scan, packet, tables, entrance, back);
    const side = sideOfFlow(edge, back);
    if (!side) return;
    const inDialog = scan.toTagStart >= 0;
    const place = this.#place;
    place.read(scan, packet, edge.natSigns());
    this.#placeOf(packet, scan, inDialog, back);
    writeBranchValue(keys.primary.branch, scan, Direction.inward, branchValue);
    stamp.via(keys, TokenKind.inward, edge.serverSide, tables.self, branchValue, back, this.#mark);
    back.target = place.target;
    back.nat = place.nat;
    if (recordsRoute(scan)) {
      if (this.#clientNeedsFlow(packet, entrance)) stamp.recordRouteWay(keys, edge.serverSide, back);
      else stamp.recordRouteOwner(keys, edge.serverSide, tables.self);
      stamp.recordRouteOwner(keys, side, tables.self);
    } else if (scan.method === Method.REGISTER) this.#leadBack(packet, scan, entrance, back);
    countHop(edge, scan);
    edit.insert(scan.headersStart, stamp.block.subarray(0, stamp.length));
    edit.stampVia(scan, packet.address, packet.port);
    const message = edit.apply(MAX_DATAGRAM);
    if (!message) {
      answers.answer(packet, scan, 513);
      return;
    }
    toServer(message);
    const entry = entryOf(edge, packet.callKey, !inDialog);
    const step = noteRequest(edge, scan, entry);
    if (step !== Step.began) return;
    // A dialog of a member that is gone has its record, which comes here by adoption, or stays that member's if it comes back.
    if (packet.orphan && inDialog) heir.beganFor(packet.owner, entry);
    else noteClientLeg(edge, scan, entry, message, back);
  }

  /**
   * Sets the place in `back` when a request in the dialog shows that its sender is not where the dialog looks for it: at another flow, behind a NAT, or
   * under a Contact that is the flow's own. The way then stands in our Via, and counts once the server has accepted the request. Else the place is left out.
   */
  #placeOf(packet: Packet, scan: Scan, inDialog: boolean, back: Way): void {
    const place = this.#place;
    back.target = -1;
    back.nat = false;
    if (!inDialog || scan.method === Method.ACK) return;
    const known = this.#knownWay(packet, scan);
    const proxied = scan.nextViaStart >= 0;
    // A proxy sends in a dialog from any of its ports. Its Record-Route, which names its place, stands in the first request alone.
    if (proxied && back.connection === 0) return;
    const nat = proxied ? known?.nat === true : place.nat;
    const renamed = place.here && place.target !== known?.target;
    const moved = known ? !sameFlow(known, back) || (nat && !known.nat) || renamed : nat;
    if (!moved) return;
    back.target = place.target || Math.max(known?.target ?? 0, 0);
    back.nat = nat;
  }

  /** The way to the sender of a request in a dialog: where it has moved, else the one that its dialog names; undefined when that is its Contact. */
  #knownWay(packet: Packet, scan: Scan): Readonly<Way> | undefined {
    const { ways } = this.#options.edge;
    const moved = ways.some
      ? ways.find(packet.callKey, scan.bytes.toString('latin1', scan.fromTagStart, scan.fromTagEnd))
      : undefined;
    return moved ?? (this.#routes.hasFlow ? this.#routes.way : undefined);
  }

  /** Why the request goes no further; 0 when it does. */
  #refusal(scan: Scan): 0 | ReplyStatus {
    if (this.#routes.excess) return 400;
    if (scan.maxForwards === 0) return 483;
    if (!this.#options.serverUp() && scan.method !== Method.ACK) return 503;
    return this.#hasLooped(scan) ? 482 : 0;
  }

  /**
   * Must requests towards the client go by the way it came? Yes over a connection; yes when a balancer keeps a session per client
   * (`answer: ingress`); yes when other listeners could be taken for the one the client uses; yes behind a NAT, or when its Contact is not where it
   * sends from.
   */
  #clientNeedsFlow(packet: Packet, entrance: Entrance): boolean {
    const { nat, elsewhere } = this.#place;
    if (packet.connection !== 0 || entrance.answer === 'ingress' || this.#twins.has(entrance)) return true;
    return nat || (elsewhere && this.#options.edge.natSigns() === 'detect');
  }

  /** How the registrar finds the client again: by a Path, where it may be given one (RFC 3327 5.2), else by the Contact. */
  #leadBack(packet: Packet, scan: Scan, entrance: Entrance, way: Way): void {
    const { edge, path } = this.#options;
    const { stamp, world } = edge;
    const named = path !== 'never' && namesPath(scan);
    if (named || path === 'always') {
      stamp.path(world.keys, edge.serverSide, way);
      if (!named) stamp.supportedPath();
    } else if (this.#clientNeedsFlow(packet, entrance)) markContacts(edge, scan, wayParameter(world.keys, way));
  }

  /** The request has come from the same hop before, unchanged in all that decides its way (RFC 3261 16.3 item 4). Sets its mark. */
  #hasLooped(scan: Scan): boolean {
    const { keys } = this.#options.edge.world;
    const mark = this.#mark;
    writeLoopMark(keys.primary.branch, scan, this.#routes, mark, LOOP_PARAMETER.length);
    // One Via has no pass before it. The bytes may be a whole chunk of a stream: look no further than the headers.
    return scan.nextViaStart >= 0 && scan.bytes.subarray(scan.start, scan.headersEnd).includes(mark);
  }

  /** A response of the server to a request of a client. Its top Via is ours. */
  responseFromServer(scan: Scan): void {
    const { edge } = this.#options;
    this.#responses.n++;
    const back = this.#back;
    if (!readWayParameter(edge, scan, this.#token, back)) {
      edge.drops['stray-response'].n++;
      return;
    }
    edge.edit.beginScan(scan).popVia(scan);
    if (scan.method === Method.REGISTER) unmarkContacts(edge, scan);
    const message = edge.edit.apply();
    if (!message) {
      edge.drops['bad-response'].n++;
      return;
    }
    if (!edge.egress.send(back, message)) edge.drops['flow-lost'].n++;
    const key = callKey(edge, scan);
    const entry = entryOf(edge, key, false);
    const step = noteResponse(edge, scan, entry);
    if (step === Step.none && acceptedInTable(edge, scan, entry) && back.target >= 0)
      noteMove(edge, key, entry, scan.bytes.toString('latin1', scan.fromTagStart, scan.fromTagEnd), back);
    noteServerResponse(edge, scan, entry, step, message);
  }
}

function alike(a: Listener, b: Listener): boolean {
  return a.transport === b.transport && a.bind.address.includes(':') === b.bind.address.includes(':');
}
