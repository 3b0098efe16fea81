// Removes the Route values that led to this farm from a request (RFC 3261 16.4). Reads from them the flow to use, and
// from the rest where the request goes next.
import { isIpv6 } from '../../base/endpoint.ts';
import { readWay } from '../../ownership/flow-token.ts';
import { readToken, Token, TokenKind } from '../../ownership/token.ts';
import { emptyWay, type Way } from '../../packet/flow.ts';
import { HeaderName } from '../../sip/header-name.ts';
import { findHeader, HeaderLine, MAX_VALUES } from '../../sip/headers.ts';
import { NameAddr, parseNameAddr } from '../../sip/name-addr.ts';
import type { Scan } from '../../sip/scan.ts';
import { parseUri, Uri } from '../../sip/uri.ts';
import { Transport } from '../../sip/via.ts';
import type { ServiceContext } from './context.ts';
import type { Rewriter } from './rewriter.ts';

/** Result of reading a request's Route header. One instance, filled anew per request. */
export class RouteReading {
  /** A removed value contained a flow token; `way` is its flow. */
  hasFlow = false;
  readonly way: Way = emptyWay();
  /** Member in the first dialog token among the values taken; 0 = none. */
  owner = 0;
  /**
   * URI offsets of the first value that stays: the next hop; -1 = none is left. Empty range: the value cannot be read.
   */
  nextStart = -1;
  nextEnd = -1;
  /** The next value is the farm's own, from another pass of the request through the farm. */
  nextIsOurs = false;
  /** Offset of the first value that stays; `readdressRoutes` starts there. */
  restStart = -1;
  /**
   * The header has more than MAX_VALUES values. The other fields are then not valid, and the request is answered 400.
   */
  excess = false;
}

/**
 * Owner of a Route value. foreign: not the farm. plain: the farm by name or address only. client: has a token of the
 * farm and an address that faces clients. server: has a token and the address that faces the SIP server.
 */
const Owner = { foreign: 0, plain: 1, client: 2, server: 3 } as const;
type Owner = (typeof Owner)[keyof typeof Owner];

/**
 * Progress through the values of one pass. Each pass of a dialog-forming request through the farm leaves two values:
 * one towards its origin, one towards its destination (RFC 5658). An in-dialog request meets them in the order of its
 * direction.
 */
const Pass = { before: 0, within: 1, through: 2 } as const;
type Pass = (typeof Pass)[keyof typeof Pass];

/**
 * Fate of a value. -1: it stays, with all values after it. Otherwise it is removed, and the number is the new progress.
 */
type Taking = Readonly<Record<Pass, Readonly<Record<Owner, Pass | -1>>>>;

/**
 * Inward: removes values up to and including the first that faces the server. Later values belong to another pass, or
 * to the way out when the server does not record-route.
 */
const INWARD: Taking = {
  [Pass.before]: { 0: -1, 1: Pass.before, 2: Pass.before, 3: Pass.through },
  [Pass.within]: { 0: -1, 1: -1, 2: -1, 3: -1 },
  [Pass.through]: { 0: -1, 1: -1, 2: -1, 3: -1 },
};

/**
 * Outward: removes one value that faces the server, then one that faces clients. If another value that faces the server
 * follows, no element between the two passes has record-routed; that pass is removed, too. A value that faces clients
 * begins a pass inward, and stays.
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
 * Deletes the values of one inward pass from a client's request, by `rewriter`, and fills `out`. `gone`: the values are
 * a dead member's, whose address towards its server is not available. Then the second value with a token counts as the
 * one that faces the server.
 */
export function takeInwardRoutes(
  context: ServiceContext,
  scan: Scan,
  rewriter: Rewriter,
  out: RouteReading,
  gone = false,
): void {
  take(context, scan, rewriter, INWARD, gone, out);
}

/** Deletes the values of the outward passes from a request of the SIP server, by `rewriter`, and fills `out`. */
export function takeOutwardRoutes(context: ServiceContext, scan: Scan, rewriter: Rewriter, out: RouteReading): void {
  take(context, scan, rewriter, OUTWARD, false, out);
}

function take(
  context: ServiceContext,
  scan: Scan,
  rewriter: Rewriter,
  taking: Taking,
  gone: boolean,
  out: RouteReading,
): void {
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
        readable && parseUri(bytes, value.uriStart, value.uriEnd, uri) ? ownerOf(context, bytes) : Owner.foreign;
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
      if (at > valueStart) rewriter.delete(valueStart, at);
      return;
    }
    rewriter.delete(lineStart, lineEnd);
  }
}

/**
 * Reads the flow from `token`. Each pass has its own flow: a value that faces the server discards an earlier pass's
 * flow.
 */
function readFlowOf(owner: Owner, out: RouteReading): void {
  if (readWay(token, out.way)) out.hasFlow = true;
  else if (owner === Owner.server) out.hasFlow = false;
}

/**
 * Puts this member's address into Route values of the member `gone`, whose dialog goes on at the SIP server of this
 * member. Applies to the values that `takeInwardRoutes` has left, towards the server and towards clients; their tokens
 * stay unchanged. The position of a value decides which way it faces, because the dead member's addresses are not
 * available.
 */
export function readdressRoutes(
  context: ServiceContext,
  scan: Scan,
  rewriter: Rewriter,
  reading: RouteReading,
  gone: number,
): void {
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
      if (uri.userStart < 0 || readToken(context.routing.keys, bytes, uri.userStart, uri.userEnd, token) !== 'valid')
        continue;
      // A pass outward has the value that faces the server first, a pass inward the one that faces clients. The order
      // of four values is server, client, client, server.
      const facesServer = (++tokens & VALUES_OF_PASS) === 0;
      if (context.names.isOwn(bytes, uri)) continue;
      // A value that faces the server may carry a flow of any member, so its member is not compared.
      const place = facesServer ? context.serverHostPort : token.member === gone ? clientHostPort(context) : undefined;
      if (place !== undefined) rewriter.replace(hostStart(uri), uri.paramsStart, place);
    }
  }
}

/**
 * Fills `way` with the party's flow from the Record-Route of a client's answer: it is in the farm's value that faces
 * the server. Returns false when there is no such value.
 */
export function readNamedWay(context: ServiceContext, scan: Scan, way: Way): boolean {
  const { bytes } = scan;
  let seen = 0;
  for (let from = scan.headersStart; findHeader(scan, HeaderName.RECORD_ROUTE, from, line); from = line.lineEnd)
    for (let at = line.valueStart; at < line.valueEnd; at = value.next) {
      if (++seen > MAX_VALUES) return false;
      if (!parseNameAddr(bytes, at, line.valueEnd, value) || !parseUri(bytes, value.uriStart, value.uriEnd, uri))
        continue;
      if (ownerOf(context, bytes) === Owner.server) return readWay(token, way);
    }
  return false;
}

/** Returns the owner of the value in `uri`. Fills `token` when the value has a valid token of the farm. */
function ownerOf(context: ServiceContext, bytes: Buffer): Owner {
  if (uri.userStart >= 0 && readToken(context.routing.keys, bytes, uri.userStart, uri.userEnd, token) === 'valid')
    return context.names.facesServer(bytes, uri) ? Owner.server : Owner.client;
  return context.names.has(bytes, uri) ? Owner.plain : Owner.foreign;
}

/**
 * Returns this member's host and port towards clients, for the transport and address family in `uri`; undefined when it
 * has no such listener.
 */
function clientHostPort({ transport, listenerHostPorts }: ServiceContext): string | undefined {
  const told = uri.transport === Transport.TCP ? 'tcp' : uri.transport === Transport.TLS ? 'tls' : 'udp';
  const index = transport.listeners.findIndex(
    ({ advertise, local }) => advertise.transport === told && isIpv6(local.address) === uri.hostIsIpv6,
  );
  return listenerHostPorts[index];
}

/** Returns where the host of the URI begins, including the bracket of an IPv6 literal. */
function hostStart(of: Uri): number {
  return of.hostIsIpv6 ? of.hostStart - 1 : of.hostStart;
}
