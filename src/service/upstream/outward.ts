// From the server to the client: a request of the SIP server goes to its next hop with our Via and Record-Route on top, by the flow it
// names or to where RFC 3263 leads; the client's response comes to `responseFromClient`, loses our Via and goes to the server.

import { type Endpoint, SIP_PORT } from '../../base/endpoint.ts';
import type { Guard } from '../../base/guard.ts';
import { SERVICE_SIDE } from '../../base/listener-code.ts';
import { Step } from '../../calls/call-table.ts';
import { emptyWay, sameFlow, type Way } from '../../ownership/flow.ts';
import { Token, TokenKind } from '../../ownership/token.ts';
import type { ReplyStatus } from '../../ownership/verdict.ts';
import type { Exits } from '../../relay/exits.ts';
import { sourceFlow } from '../../relay/return-flow.ts';
import { HeaderName } from '../../sip/header-name.ts';
import { HeaderLine, nextHeader } from '../../sip/headers.ts';
import { Method, Scan, scan as scanMessage } from '../../sip/scan.ts';
import type { Uri } from '../../sip/uri.ts';
import { parseVia, Via, ViaOutcome } from '../../sip/via.ts';
import type { Packet } from '../../transport/packet.ts';
import { Direction, writeBranchValue } from './branch.ts';
import {
  callKey,
  countHop,
  type Edge,
  entryOf,
  MAX_DATAGRAM,
  noteRequest,
  noteResponse,
  recordsRoute,
  sideOfFlow,
  slotOf,
} from './edge.ts';
import { readWayParameter } from './flow-parameter.ts';
import type { ForbiddenTargets } from './forbidden-targets.ts';
import type { Heir } from './heir.ts';
import { noteClientResponse, noteOrphanResponse, noteServerLeg } from './legs.ts';
import type { Locator, Target } from './locate.ts';
import { NextHop } from './next-hop.ts';
import { cutToCaller } from './orphan-vias.ts';
import { readNamedWay, VALUES_OF_PASS } from './own-routes.ts';
import { noteMove } from './parties.ts';
import { targetHash } from './place.ts';

export interface OutwardOptions {
  readonly edge: Edge;
  readonly locator: Locator;
  /** Answers a request of the server, statelessly. */
  readonly answerServer: (scan: Scan, status: ReplyStatus, address: string, port: number) => void;
  /** Sends to the server, or to another port it sent from. */
  readonly toServer: (message: Buffer, address?: string, port?: number) => void;
  /** The server's own address and port, once known: a request from there needs no flow for its response. */
  readonly isServer: (address: string, port: number) => boolean;
  readonly serverAt: () => Endpoint | undefined;
  readonly forbidden: ForbiddenTargets;
  readonly dialogs: 'own' | 'shared';
  readonly heir: Heir;
  readonly guard: Guard;
  /** The members to send through; undefined: this node sends from its own listeners. */
  readonly exits: Exits | undefined;
}

/** Requests that may wait for names at one time. */
const MAX_WAITING = 5000;
const MAX_WAITING_OCTETS = 16 * 1024 * 1024;

const line = new HeaderLine();

export class Outward {
  readonly #options: OutwardOptions;
  readonly #hop: NextHop;
  readonly #flow: Way = emptyWay();
  readonly #back: Way = emptyWay();
  readonly #named: Way = emptyWay();
  readonly #token = new Token();
  readonly #nextVia = new Via();
  /** For requests that had to wait for a name. */
  readonly #late = new Scan();
  #waiting = 0;
  #waitingOctets = 0;
  readonly #requests: { n: number };
  readonly #responses: { n: number };

  constructor(options: OutwardOptions) {
    this.#options = options;
    this.#hop = new NextHop(options.edge, options.forbidden);
    this.#requests = options.edge.handled.cell({ from: 'server', kind: 'request' });
    this.#responses = options.edge.handled.cell({ from: 'client', kind: 'response' });
  }

  /** A request of the server, from `address` and `port`. */
  request(scan: Scan, address: string, port: number): void {
    this.#requests.n++;
    if (scan.maxForwards === 0) this.#options.answerServer(scan, 483, address, port);
    else this.#forward(scan, address, port, undefined, undefined);
  }

  /** A request of the server comes back from the member that was to send it by `lost`: that connection is gone. `message` is kept. */
  returned(message: Buffer, lost: Readonly<Way>): void {
    const { edge, serverAt } = this.#options;
    const scan = this.#late;
    if (scanMessage(message, 0, message.length, false, scan) !== null || !scan.isRequest) return;
    const from = readWayParameter(edge, scan, this.#token, this.#back) ? this.#back : serverAt();
    if (!from) return;
    const { address, port } = from;
    const original = withoutOurs(edge, scan);
    if (original && scanMessage(original, 0, original.length, false, scan) === null)
      this.#forward(scan, address, port, undefined, lost);
  }

  /**
   * The way for a request of the farm's own to a party that is known to be found by `known`; the request is composed as the server would send it.
   * Cold: it may wait for DNS. Resolves to undefined when there is no way; never rejects.
   */
  async reach(message: Buffer, known: Readonly<Way>): Promise<Readonly<Way> | undefined> {
    const { edge, locator } = this.#options;
    const scan = new Scan();
    if (scanMessage(message, 0, message.length, false, scan) !== null) return undefined;
    const hop = new NextHop(edge, this.#options.forbidden);
    edge.edit.beginScan(scan);
    const onward = hop.read(scan, known, false);
    if (onward === 'failed') return undefined;
    if (onward === 'flow' || !hop.readable) return hop.way;
    const { host, port, transport } = questionOf(scan.bytes, hop.uri);
    const targets = await locator.locate(host, port, transport, callKey(edge, scan) >>> 0);
    if (targets !== 'busy')
      for (const target of targets) if (this.#wayBy(target, known.target) === 0) return { ...this.#flow };
    return hop.state === 'gone' ? undefined : hop.way;
  }

  /**
   * Sends the request on. `found` are the targets of a name that had to be looked up; left out in the first run. `lost`: the way by which it was
   * tried, whose connection is gone; what named it stands in the request no more.
   */
  #forward(
    scan: Scan,
    address: string,
    port: number,
    found: readonly Target[] | undefined,
    lost: Readonly<Way> | undefined,
  ): void {
    const { edge, answerServer } = this.#options;
    const hop = this.#hop;
    edge.edit.beginScan(scan);
    const onward = hop.read(scan, lost, lost !== undefined);
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
    // The first that there is a listener for. No failover: a stateless element sends all of a transaction one way.
    let status: 0 | ReplyStatus = 503;
    for (const target of targets) {
      status = this.#options.exits
        ? this.#wayThrough(this.#options.exits, target, scan)
        : this.#wayBy(target, this.#targetOf(scan));
      if (status === 0) break;
    }
    if (status === 0) this.#send(scan, address, port, this.#flow, false);
    // Where the hop leads nowhere, the flow is what is left.
    else if (hop.way && hop.state !== 'gone') this.#send(scan, address, port, hop.way, true);
    else answerServer(scan, hop.state === 'gone' ? 430 : status, address, port);
  }

  /** The targets of the next hop; undefined when they had to be asked for and the request goes on later. */
  #locate(scan: Scan, address: string, port: number, lost: Readonly<Way> | undefined): readonly Target[] | undefined {
    const { locator, edge, answerServer } = this.#options;
    const { bytes } = scan;
    const { host, port: at, transport } = questionOf(bytes, this.#hop.uri);
    // One choice per call, so that CANCEL and ACK go where their INVITE went.
    const choice = callKey(edge, scan) >>> 0;
    const now = locator.locateNow(host, at, transport, choice);
    if (now) return now;
    if (this.#waiting >= MAX_WAITING || this.#waitingOctets + scan.end - scan.start > MAX_WAITING_OCTETS) {
      edge.drops['service-busy'].n++;
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

  /** A request that has waited for a name. */
  #goOn(
    message: Buffer,
    address: string,
    port: number,
    found: readonly Target[] | 'busy',
    lost: Readonly<Way> | undefined,
  ): void {
    const { edge, answerServer } = this.#options;
    scanMessage(message, 0, message.length, false, this.#late);
    if (found !== 'busy') this.#forward(this.#late, address, port, found, lost);
    else {
      edge.drops['service-busy'].n++;
      answerServer(this.#late, 503, address, port);
    }
  }

  /** Fills `#flow` with the way to `target`; 0, or the status that tells the server why there is none. */
  #wayBy(target: Target, contact: number): 0 | ReplyStatus {
    const { transport, world } = this.#options.edge;
    if (this.#options.forbidden.has(target.address, target.port)) return 503;
    const ipv6 = target.address.includes(':');
    const index = transport.listeners.findIndex(
      (each) => each.advertise.transport === target.transport && each.local.address.includes(':') === ipv6,
    );
    const listener = transport.listeners[index];
    if (!listener) return 503;
    const flow = this.#flow;
    flow.member = world.tables.self;
    flow.incarnation = world.tables.incarnation;
    flow.listener = listener.code;
    flow.address = target.address;
    flow.port = target.port;
    flow.connection = target.transport === 'tcp' ? transport.connectStream(index, target) : 0;
    flow.target = contact;
    flow.nat = false;
    return target.transport === 'tcp' && flow.connection === 0 ? 503 : 0;
  }

  /** Fills `#flow` with the way to `target` through a member, which opens the connection where one is needed. 503 when there is no such member. */
  #wayThrough(exits: Exits, target: Target, scan: Scan): 0 | ReplyStatus {
    const { edge, forbidden } = this.#options;
    if (forbidden.has(target.address, target.port)) return 503;
    const begins = scan.toTagStart < 0 && scan.method !== Method.CANCEL;
    const ipv6 = target.address.includes(':');
    const door = exits.choose(slotOf(edge, scan), target.transport, ipv6, begins);
    if (!door) return 503;
    const flow = this.#flow;
    flow.member = door.member;
    flow.incarnation = 0;
    flow.listener = door.code;
    flow.connection = 0;
    flow.address = target.address;
    flow.port = target.port;
    flow.target = this.#targetOf(scan);
    flow.nat = false;
    return 0;
  }

  /** The target of a way that was located is that of the Request-URI: as a rule the party names the same in its Contact. */
  #targetOf({ bytes }: Scan): number {
    const { target } = this.#hop;
    return target.hostStart < 0 ? 0 : targetHash(bytes, target);
  }

  /** Stamps the request and sends it by `flow`; `named`: the request named the flow itself. */
  #send(scan: Scan, address: string, port: number, flow: Readonly<Way>, named: boolean): void {
    const { edge, answerServer, isServer } = this.#options;
    const { world, stamp, edit, branchValue } = edge;
    const { keys, tables } = world;
    const side = sideOfFlow(edge, flow);
    if (!side) {
      answerServer(scan, 430, address, port);
      return;
    }
    stamp.reset();
    writeBranchValue(keys.primary.branch, scan, Direction.outward, branchValue);
    // RFC 3261 18.2.2, RFC 3581 4: to the port in the Via, unless it asks for the one it was sent from.
    const backPort = scan.via.rport >= 0 ? port : scan.via.port || SIP_PORT;
    const back = isServer(address, backPort) ? undefined : this.#backTo(address, backPort);
    stamp.via(keys, TokenKind.edge, side, tables.self, branchValue, back);
    if (recordsRoute(scan)) {
      stamp.recordRouteOwner(keys, side, tables.self);
      if (named || flow.connection !== 0) stamp.recordRouteWay(keys, edge.serverSide, flow);
      else stamp.recordRouteOwner(keys, edge.serverSide, tables.self);
    }
    countHop(edge, scan);
    edit.insert(scan.headersStart, stamp.block.subarray(0, stamp.length));
    edit.stampVia(scan, address, port);
    const message = edit.apply(flow.connection === 0 ? MAX_DATAGRAM : undefined);
    if (!message) {
      answerServer(scan, 513, address, port);
      return;
    }
    if (!edge.egress.send(flow, message)) answerServer(scan, named ? 430 : 503, address, port);
    const inDialog = scan.toTagStart >= 0;
    const key = callKey(edge, scan);
    const entry = entryOf(edge, -key, !inDialog);
    const step = noteRequest(edge, scan, entry, this.#hop.owner);
    if (!inDialog) noteServerLeg(edge, scan, key, step, message, side, flow);
  }

  /** The way back to the server, where it is not the server's own address. */
  #backTo(address: string, port: number): Way {
    const back = this.#back;
    back.member = this.#options.edge.world.tables.self;
    back.incarnation = 0;
    back.listener = SERVICE_SIDE;
    back.connection = 0;
    back.address = address;
    back.port = port;
    back.target = -1;
    return back;
  }

  /** A response of a client to a request of the server. Its top Via is ours, or that of a member that is gone (`packet.orphan`). */
  responseFromClient(packet: Packet, scan: Scan): void {
    const { edge, toServer, dialogs, heir } = this.#options;
    this.#responses.n++;
    if (heir.active && heir.response(packet, scan)) return;
    if (packet.orphan && dialogs === 'shared' && this.#passOver(packet, scan)) return;
    if (!this.#leadsOn(scan)) {
      if (!heir.takes(scan)) edge.drops['next-via'].n++;
      return;
    }
    const named = readWayParameter(edge, scan, this.#token, this.#back);
    const message = edge.edit.beginScan(scan).popVia(scan).apply();
    if (!message) {
      edge.drops['bad-response'].n++;
      return;
    }
    if (named && !packet.orphan && this.#back.listener === SERVICE_SIDE)
      toServer(message, this.#back.address, this.#back.port);
    else toServer(message);
    const entry = entryOf(edge, -packet.callKey, false);
    const step = noteResponse(edge, scan, entry);
    if (step === Step.confirmed) {
      this.#noteAnswerer(packet, scan, entry);
      if (entry < 0) this.#announce(packet);
    }
    noteClientResponse(edge, scan, packet.callKey, entry, step, message);
  }

  /** The party of a call that the server has made may hang up without our Route: the owner of the slot sends it on then. */
  #announce({ slot, callKey }: Packet): void {
    const { announce, world } = this.#options.edge;
    const { slots, self } = world.tables;
    const owner = slots[slot]!;
    if (owner !== self && owner !== 0) announce?.(owner, callKey);
  }

  /**
   * The first answer that makes a dialog may come by another way than its request went: on a new connection, or from behind a NAT that has forgotten
   * the old port. Only this one moves its party: whoever repeats it moves nobody.
   */
  #noteAnswerer(packet: Packet, scan: Scan, entry: number): void {
    const { edge } = this.#options;
    const named = this.#named;
    if (!readNamedWay(edge, scan, named)) return;
    const entrance = edge.doors.entranceOf(packet);
    if (!entrance) return;
    const now = this.#flow;
    sourceFlow(packet, edge.world.tables, entrance, now);
    if (sameFlow(named, now) || !(named.nat || (named.connection !== 0 && now.connection !== 0))) return;
    now.target = named.target;
    now.nat = named.nat;
    noteMove(edge, packet.callKey, entry, scan.bytes.toString('latin1', scan.toTagStart, scan.toTagEnd), now);
  }

  /**
   * The response to a request that a proxy had passed on before it died with its member: no other server knows the transaction, so it goes past
   * all of that host to whoever had sent the request to the farm (RFC 3261 16.7, as a stateless element). False when its Vias do not lead there.
   */
  #passOver(packet: Packet, scan: Scan): boolean {
    const { edge } = this.#options;
    edge.edit.beginScan(scan);
    if (!cutToCaller(edge, scan, this.#token, this.#back)) return false;
    const message = edge.edit.apply();
    if (!message) return false;
    if (!edge.egress.send(this.#back, message)) edge.drops['flow-lost'].n++;
    const entry = entryOf(edge, packet.callKey, false);
    noteOrphanResponse(edge, scan, entry, noteResponse(edge, scan, entry), message);
    return true;
  }

  /** Below our Via stands one that names a host (RFC 4475 3.3.10). */
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

/** The request in `scan` as the server sent it: without our Via, the two Record-Route values behind it, and the hop that was counted. */
function withoutOurs({ edit }: Edge, scan: Scan): Buffer | undefined {
  edit.beginScan(scan).popVia(scan);
  let from = scan.viaLineEnd;
  for (let left = recordsRoute(scan) ? VALUES_OF_PASS : 0; left > 0; left--, from = line.lineEnd)
    if (nextHeader(scan.bytes, from, scan.headersEnd, line) && line.name === HeaderName.RECORD_ROUTE)
      edit.delete(line.lineStart, line.lineEnd);
  if (scan.maxForwards >= 0) edit.setMaxForwards(scan, scan.maxForwards + 1);
  return edit.apply();
}

/** The question of RFC 3263 that a URI asks. `port` 0 = none given. */
function questionOf(bytes: Buffer, uri: Uri): { host: string; port: number; transport: string | undefined } {
  const { maddrStart, maddrEnd, hostStart, hostEnd, transportStart, transportEnd, port } = uri;
  const host =
    maddrStart >= 0 ? bytes.toString('latin1', maddrStart, maddrEnd) : bytes.toString('latin1', hostStart, hostEnd);
  const transport =
    transportStart < 0 ? undefined : bytes.toString('latin1', transportStart, transportEnd).toLowerCase();
  return { host, port, transport };
}
