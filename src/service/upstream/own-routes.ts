// Takes the Route values that led to this farm off a request (RFC 3261 16.4), and reads what they said: the flow to use, and where to go next.
import { emptyWay, readWay, type Way } from '../../ownership/flow.ts';
import { readToken, Token, TokenKind } from '../../ownership/token.ts';
import { HeaderName } from '../../sip/header-name.ts';
import { findHeader, HeaderLine, MAX_VALUES } from '../../sip/headers.ts';
import { NameAddr, parseNameAddr } from '../../sip/name-addr.ts';
import type { Scan } from '../../sip/scan.ts';
import { parseUri, Uri } from '../../sip/uri.ts';
import { Transport } from '../../sip/via.ts';
import type { Edge } from './edge.ts';

/** What a request's Route header said. One instance, filled anew per request. */
export class RouteReading {
  /** A flow token was among the values taken; `way` is it. */
  hasFlow = false;
  readonly way: Way = emptyWay();
  /** The member that the first dialog token among the values taken names; 0 = there is none. */
  owner = 0;
  /** The first value that stays: where to send next; -1 = none is left. Offsets of the URI; empty when the value cannot be read. */
  nextStart = -1;
  nextEnd = -1;
  /** That value is the farm's all the same: of another pass of the request through the farm. */
  nextIsOurs = false;
  /** Where what is left of the Route values begins: `readdressRoutes` goes on there. */
  restStart = -1;
  /** More than MAX_VALUES had to be looked at: the rest of this is of no use, and the request is answered 400. */
  excess = false;
}

/** The owner of a Route value: not the farm; the farm's by name or address alone; one that the farm has put on, which faces clients or the SIP server. */
const Owner = { foreign: 0, plain: 1, client: 2, server: 3 } as const;
type Owner = (typeof Owner)[keyof typeof Owner];

/**
 * How far the taking of one pass's values has come. Each pass of a dialog-forming request through the farm leaves two: that towards where it came
 * from, and that towards where it went (RFC 5658). A request in the dialog meets them in the order of its direction.
 */
const Pass = { before: 0, within: 1, through: 2 } as const;
type Pass = (typeof Pass)[keyof typeof Pass];

/** The fate of a value: -1, it stays and with it the rest; else it is taken, and the pass is so far. */
type Taking = Readonly<Record<Pass, Readonly<Record<Owner, Pass | -1>>>>;

/** Inward: up to the first value that faces the server. Values behind it are for another pass, or for the way out when the server does not record-route. */
const INWARD: Taking = {
  [Pass.before]: { 0: -1, 1: Pass.before, 2: Pass.before, 3: Pass.through },
  [Pass.within]: { 0: -1, 1: -1, 2: -1, 3: -1 },
  [Pass.through]: { 0: -1, 1: -1, 2: -1, 3: -1 },
};

/**
 * Outward: one value that faces the server, one that faces clients. Where another that faces the server follows, the pass before had its way
 * here without a server between that wants to see the request: that pass is taken, too. A value that faces clients begins a pass inward.
 */
const OUTWARD: Taking = {
  [Pass.before]: { 0: -1, 1: Pass.before, 2: Pass.through, 3: Pass.within },
  [Pass.within]: { 0: -1, 1: Pass.within, 2: Pass.through, 3: Pass.within },
  [Pass.through]: { 0: -1, 1: Pass.through, 2: -1, 3: Pass.within },
};

/** Values that the farm leaves per pass. */
export const VALUES_OF_PASS = 2;

const line = new HeaderLine();
const value = new NameAddr();
const uri = new Uri();
const token = new Token();

/**
 * Deletes those values of a client's request in `edge.edit` that its pass inward has to take, and fills `out`. `gone`: they are those of a member
 * that is gone, whose side of the server is not known; it is the second.
 */
export function takeInwardRoutes(edge: Edge, scan: Scan, out: RouteReading, gone = false): void {
  take(edge, scan, INWARD, gone, out);
}

/** The same for a request of the SIP server, outward. */
export function takeOutwardRoutes(edge: Edge, scan: Scan, out: RouteReading): void {
  take(edge, scan, OUTWARD, false, out);
}

function take(edge: Edge, scan: Scan, taking: Taking, gone: boolean, out: RouteReading): void {
  out.hasFlow = false;
  out.owner = 0;
  out.nextStart = -1;
  out.nextEnd = -1;
  out.nextIsOurs = false;
  out.restStart = -1;
  out.excess = false;
  if (scan.routeStart < 0) return;
  const { bytes } = scan;
  let pass: Pass = Pass.before;
  let tokens = 0;
  let seen = 0;
  for (let from = scan.headersStart; findHeader(scan, HeaderName.ROUTE, from, line); from = line.lineEnd) {
    const { valueStart, valueEnd, lineStart, lineEnd } = line;
    for (let at = valueStart; at < valueEnd; at = value.next) {
      if (++seen > MAX_VALUES) {
        out.excess = true;
        return;
      }
      const readable = parseNameAddr(bytes, at, valueEnd, value);
      let owner: Owner =
        readable && parseUri(bytes, value.uriStart, value.uriEnd, uri) ? ownerOf(edge, bytes) : Owner.foreign;
      if (owner >= Owner.client && ++tokens === VALUES_OF_PASS && gone) owner = Owner.server;
      const next = taking[pass][owner];
      if (next >= 0) {
        if (owner >= Owner.client) readFlowOf(owner, out);
        if (owner >= Owner.client && out.owner === 0 && token.kind === TokenKind.dialog) out.owner = token.member;
        pass = next as Pass;
        continue;
      }
      out.nextStart = value.uriStart;
      out.nextEnd = readable ? value.uriEnd : value.uriStart;
      out.nextIsOurs = owner !== Owner.foreign;
      out.restStart = at;
      if (at > valueStart) edge.edit.delete(valueStart, at);
      return;
    }
    edge.edit.delete(lineStart, lineEnd);
  }
}

/** The flow of the value in `token`. Each pass has its own: that of an earlier one does not count any more. */
function readFlowOf(owner: Owner, out: RouteReading): void {
  if (readWay(token, out.way)) out.hasFlow = true;
  else if (owner === Owner.server) out.hasFlow = false;
}

/**
 * A dialog whose member is gone goes on at the server behind this one: in the Route values that `takeInwardRoutes` has left, those that lead out, or in
 * again, by way of the member `gone` get this member's address on the same side. Their tokens stay as they are. Which side a value faces is told by its
 * place: nobody has the addresses of a member that is gone.
 */
export function readdressRoutes(edge: Edge, scan: Scan, reading: RouteReading, gone: number): void {
  const { bytes } = scan;
  if (reading.restStart < 0) return;
  let seen = 0;
  let tokens = 0;
  for (let from = scan.headersStart; findHeader(scan, HeaderName.ROUTE, from, line); from = line.lineEnd) {
    if (line.lineEnd <= reading.restStart) continue;
    for (let at = Math.max(line.valueStart, reading.restStart); at < line.valueEnd; at = value.next) {
      if (++seen > MAX_VALUES) {
        reading.excess = true;
        return;
      }
      if (!parseNameAddr(bytes, at, line.valueEnd, value) || !parseUri(bytes, value.uriStart, value.uriEnd, uri))
        continue;
      if (uri.userStart < 0 || readToken(edge.world.keys, bytes, uri.userStart, uri.userEnd, token) !== 'valid')
        continue;
      // A pass outward meets the side of the server first, a pass inward that of the clients, and they take turns: server, client, client, server.
      const facesServer = (++tokens & VALUES_OF_PASS) === 0;
      if (edge.names.isOwn(bytes, uri)) continue;
      // The flow that a value of the server's side may carry is of any member.
      const place = facesServer ? edge.serverHostPort : token.member === gone ? clientHostPort(edge) : undefined;
      if (place !== undefined) edge.edit.replace(hostStart(uri), uri.paramsStart, place);
    }
  }
}

/**
 * Fills `way` with the flow that the Record-Route of a client's answer names for the party: it stands in the value of the farm that faces the server.
 * False when there is none.
 */
export function readNamedWay(edge: Edge, scan: Scan, way: Way): boolean {
  const { bytes } = scan;
  let seen = 0;
  for (let from = scan.headersStart; findHeader(scan, HeaderName.RECORD_ROUTE, from, line); from = line.lineEnd)
    for (let at = line.valueStart; at < line.valueEnd; at = value.next) {
      if (++seen > MAX_VALUES) return false;
      if (!parseNameAddr(bytes, at, line.valueEnd, value) || !parseUri(bytes, value.uriStart, value.uriEnd, uri))
        continue;
      if (ownerOf(edge, bytes) === Owner.server) return readWay(token, way);
    }
  return false;
}

/** The owner of the value in `uri`; a token of the farm is then in `token`. */
function ownerOf(edge: Edge, bytes: Buffer): Owner {
  if (uri.userStart >= 0 && readToken(edge.world.keys, bytes, uri.userStart, uri.userEnd, token) === 'valid')
    return edge.names.facesServer(bytes, uri) ? Owner.server : Owner.client;
  return edge.names.has(bytes, uri) ? Owner.plain : Owner.foreign;
}

/** This member's place towards clients of the transport and the address family in `uri`; undefined when it has no such listener. */
function clientHostPort({ transport, listenerHostPorts }: Edge): string | undefined {
  const told = uri.transport === Transport.TCP ? 'tcp' : uri.transport === Transport.TLS ? 'tls' : 'udp';
  const index = transport.listeners.findIndex(
    ({ advertise, local }) => advertise.transport === told && local.address.includes(':') === uri.hostIsIpv6,
  );
  return listenerHostPorts[index];
}

/** Where the host of the URI begins, the bracket of an IPv6 literal included. */
function hostStart(of: Uri): number {
  return of.hostIsIpv6 ? of.hostStart - 1 : of.hostStart;
}
