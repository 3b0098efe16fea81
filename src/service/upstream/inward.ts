// From the client to the server: a request gets our Via, Record-Route and Path on top and goes to the SIP server; its response comes back
// to `responseFromServer`, loses our Via and leaves by the flow that the Via carries.
import { Step } from '../../calls/call-table.ts';
import type { Flow } from '../../ownership/flow.ts';
import { readBranchToken, Token, TokenKind } from '../../ownership/token.ts';
import type { ReplyStatus } from '../../ownership/verdict.ts';
import type { Answers } from '../../relay/answers.ts';
import type { Entrance } from '../../relay/doors.ts';
import { emptyFlow, returnFlow } from '../../relay/return-flow.ts';
import { MAX_VALUES } from '../../sip/headers.ts';
import { Method, type Scan } from '../../sip/scan.ts';
import type { Packet } from '../../transport/packet.ts';
import type { Listener } from '../../transport/transport.ts';
import { Direction, writeBranchValue, writeLoopHash } from './branch.ts';
import { callKey, countHop, type Edge, entryOf, MAX_DATAGRAM, noteInTable, opensDialog, sideOfFlow } from './edge.ts';
import { readFlowParameter } from './flow-parameter.ts';
import type { Heir } from './heir.ts';
import { noteClientLeg, noteServerResponse } from './legs.ts';
import { recordMove } from './moves.ts';
import { RouteReading, readdressRoutes, takeOwnRoutes } from './own-routes.ts';

export interface InwardOptions {
  readonly edge: Edge;
  readonly answers: Answers;
  readonly heir: Heir;
  readonly toServer: (message: Buffer) => void;
  readonly serverUp: () => boolean;
  readonly dialogs: 'own' | 'shared';
}

/** Seconds after which a client may try again when the server is down. */
const RETRY_AFTER = ['Retry-After: 5'];
const OUR_BRANCH = Buffer.from('z9hG4bKsf');

export class Inward {
  readonly #options: InwardOptions;
  readonly #routes = new RouteReading();
  readonly #back: Flow = emptyFlow();
  readonly #token = new Token();
  readonly #seen = new Uint8Array(8);
  /** Listeners that share transport and family with another. */
  readonly #twins: ReadonlySet<Entrance>;
  readonly #requests: { n: number };
  readonly #responses: { n: number };

  constructor(options: InwardOptions) {
    this.#options = options;
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
    takeOwnRoutes(edge, scan, true, this.#routes, packet.orphan);
    if (packet.orphan) readdressRoutes(edge, scan, this.#routes);
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
    returnFlow(scan, packet, tables, entrance, this.#back);
    const side = sideOfFlow(edge, this.#back);
    if (!side) return;
    writeBranchValue(keys.primary.branch, scan, this.#routes, Direction.inward, branchValue);
    stamp.via(keys, TokenKind.inward, edge.serverSide, tables.self, branchValue, this.#back);
    if (opensDialog(scan)) {
      if (this.#clientNeedsFlow(packet, scan, entrance)) stamp.recordRouteFlow(keys, edge.serverSide, this.#back);
      else stamp.recordRouteOwner(keys, edge.serverSide, tables.self);
      stamp.recordRouteOwner(keys, side, tables.self);
    } else if (scan.method === Method.REGISTER) stamp.path(keys, edge.serverSide, this.#back);
    countHop(edge, scan);
    edit.insert(scan.headersStart, stamp.block.subarray(0, stamp.length));
    edit.stampVia(scan, packet.address, packet.port);
    const message = edit.apply(MAX_DATAGRAM);
    if (!message) {
      answers.answer(packet, scan, 513);
      return;
    }
    toServer(message);
    if (packet.connection !== 0 && this.#routes.hasFlow) this.#noteConnection(packet, scan);
    const inDialog = scan.toTagStart >= 0;
    const entry = entryOf(edge, packet.callKey, !inDialog);
    const step = edge.calls.onRequest(entry, scan.method, inDialog, edge.clock.now(), tables.epoch);
    // A dialog of a member that is gone has its record, which comes here by adoption, or stays that member's if it comes back.
    if (step === Step.began && !(packet.orphan && inDialog)) noteClientLeg(edge, scan, entry, message, this.#back);
  }

  /** A request in a dialog that names another connection than the one it came by: its client has come back. */
  #noteConnection(packet: Packet, scan: Scan): void {
    const { flow } = this.#routes;
    if (flow.connection === 0 || scan.toTagStart < 0) return;
    if (flow.connection === packet.connection && flow.member === packet.ingress) return;
    const { edge } = this.#options;
    const tag = scan.bytes.toString('latin1', scan.fromTagStart, scan.fromTagEnd);
    const entry = entryOf(edge, packet.callKey, false);
    const sure = edge.calls.stateOf(entry) === 'confirmed';
    if (edge.rebound.note(packet.callKey, tag, flow, this.#back, sure) && sure)
      recordMove(edge, entry, tag, this.#back);
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
   * (`answer: ingress`); yes when other listeners could be taken for the one the client uses; yes behind a NAT, seen by a source that the
   * Via does not name, from a client that asks for it by `rport`.
   */
  #clientNeedsFlow(packet: Packet, scan: Scan, entrance: Entrance): boolean {
    if (packet.connection !== 0 || entrance.answer === 'ingress' || this.#twins.has(entrance)) return true;
    const { via, bytes } = scan;
    if (via.rport < 0) return false;
    return (
      (via.port || 5060) !== packet.port || bytes.toString('latin1', via.hostStart, via.hostEnd) !== packet.address
    );
  }

  /** The request has passed this farm in this direction before, unchanged in all that decides its way (RFC 3261 16.3 item 4). */
  #hasLooped(scan: Scan): boolean {
    const { keys } = this.#options.edge.world;
    // The bytes may be a whole chunk of a stream: look no further than the headers.
    const bytes = scan.bytes.subarray(0, scan.headersEnd);
    let at = scan.viaStart;
    let computed = false;
    for (let seen = 0; ; seen++) {
      at = bytes.indexOf(OUR_BRANCH, at);
      if (at < 0) return false;
      // So often it has passed some farm, whatever each of them says.
      if (seen === MAX_VALUES) return true;
      let end = at + OUR_BRANCH.length;
      while (end < scan.headersEnd && isBase32(bytes[end]!)) end++;
      const check = readBranchToken(keys, bytes, at, end, this.#token);
      if (check === 'valid' && this.#token.kind === TokenKind.inward) {
        if (!computed) writeLoopHash(keys.primary.branch, scan, this.#routes, Direction.inward, this.#seen);
        computed = true;
        if (sameLoop(this.#token, this.#seen)) return true;
      }
      at = end;
    }
  }

  /** A response of the server to a request of a client. Its top Via is ours. */
  responseFromServer(scan: Scan): void {
    const { edge } = this.#options;
    this.#responses.n++;
    if (!readFlowParameter(edge, scan, this.#token, this.#back)) {
      edge.drops['stray-response'].n++;
      return;
    }
    const message = edge.edit.beginScan(scan).popVia(scan).apply();
    if (!message) {
      edge.drops['bad-response'].n++;
      return;
    }
    if (!edge.egress.send(this.#back, message)) edge.drops['flow-lost'].n++;
    const entry = entryOf(edge, callKey(edge, scan), false);
    noteServerResponse(edge, scan, entry, noteInTable(edge, scan, entry), message);
  }
}

function alike(a: Listener, b: Listener): boolean {
  return a.transport === b.transport && a.bind.address.includes(':') === b.bind.address.includes(':');
}

function isBase32(octet: number): boolean {
  return (octet >= 0x30 && octet <= 0x39) || ((octet | 32) >= 0x61 && (octet | 32) <= 0x76);
}

function sameLoop(token: Token, value: Uint8Array): boolean {
  for (let i = 4; i < 8; i++) if (token.octets[token.valueStart + i] !== value[i]) return false;
  return true;
}
