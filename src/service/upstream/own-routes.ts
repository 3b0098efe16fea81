// Takes the Route values that led to this farm off a request (RFC 3261 16.4), and tells what they said: the flow to use, and where to go next.
import { type Flow, readFlow } from '../../ownership/flow.ts';
import { readToken, Token } from '../../ownership/token.ts';
import { HeaderName } from '../../sip/header-name.ts';
import { findHeader, HeaderLine, MAX_VALUES } from '../../sip/headers.ts';
import { NameAddr, parseNameAddr } from '../../sip/name-addr.ts';
import type { Scan } from '../../sip/scan.ts';
import { parseUri, Uri } from '../../sip/uri.ts';
import type { Edge } from './edge.ts';

/** What a request's Route header said. One instance, filled anew per request. */
export class RouteReading {
  /** A flow token was among our own values; `flow` is it. */
  hasFlow = false;
  readonly flow: Flow = { member: 0, incarnation: 0, listener: 0, connection: 0, address: '', port: 0 };
  /** The first Route value that is not ours: where to send next; -1 = none is left. Offsets of the URI; empty when the value cannot be read. */
  nextStart = -1;
  nextEnd = -1;
  /** Where what is left of the Route values begins: `readdressRoutes` goes on there. */
  restStart = -1;
  /** More than MAX_VALUES had to be looked at: what else stands here is of no use, and the request is answered 400. */
  excess = false;
}

/** Values that the farm leaves per crossing: its side towards the one it came from, and that towards where it went. */
const CROSSING = 2;

const line = new HeaderLine();
const value = new NameAddr();
const uri = new Uri();
const token = new Token();

/**
 * Deletes our leading Route values in `edge.edit` and fills `out`. Values behind a foreign one stay, ours or not. `inward`: only up to the
 * first that names the side of the server: what follows is for the way out again, when the server does not record-route itself. `gone`: they
 * are those of a member that is gone, whose side of the server is not known; it is the second.
 */
export function takeOwnRoutes(edge: Edge, scan: Scan, inward: boolean, out: RouteReading, gone = false): void {
  out.hasFlow = false;
  out.nextStart = -1;
  out.nextEnd = -1;
  out.restStart = -1;
  out.excess = false;
  if (scan.routeStart < 0) return;
  const { bytes } = scan;
  let passed = 0;
  let seen = 0;
  for (let from = scan.headersStart; findHeader(scan, HeaderName.ROUTE, from, line); from = line.lineEnd) {
    const { valueStart, valueEnd, lineStart, lineEnd } = line;
    for (let at = valueStart; at < valueEnd; at = value.next) {
      if (++seen > MAX_VALUES) {
        out.excess = true;
        return;
      }
      const readable = parseNameAddr(bytes, at, valueEnd, value);
      if (readable && parseUri(bytes, value.uriStart, value.uriEnd, uri) && isOurs(edge, bytes, out)) {
        if (!inward) continue;
        passed++;
        if (gone ? passed < CROSSING : endpointText(bytes, uri) !== edge.serverEndpoint) continue;
        out.restStart = value.next < valueEnd ? value.next : lineEnd;
        if (value.next < valueEnd) edge.edit.delete(valueStart, value.next);
        else edge.edit.delete(lineStart, lineEnd);
        return;
      }
      out.nextStart = value.uriStart;
      out.nextEnd = readable ? value.uriEnd : value.uriStart;
      out.restStart = at;
      if (at > valueStart) edge.edit.delete(valueStart, at);
      return;
    }
    edge.edit.delete(lineStart, lineEnd);
  }
}

/**
 * A dialog whose member is gone goes on at the server behind this one: in the Route values that `takeOwnRoutes` has left, those that lead out
 * again by way of the dead member get this member's address. Their tokens stay as they are.
 */
export function readdressRoutes(edge: Edge, scan: Scan, reading: RouteReading): void {
  const { bytes } = scan;
  if (reading.restStart < 0) return;
  let seen = 0;
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
      if (edge.ownEndpoints.has(endpointText(bytes, uri))) continue;
      edge.edit.replace(hostStart(uri), uri.paramsStart, edge.serverHostPort);
    }
  }
}

function isOurs(edge: Edge, bytes: Buffer, out: RouteReading): boolean {
  if (uri.userStart >= 0 && readToken(edge.world.keys, bytes, uri.userStart, uri.userEnd, token) === 'valid') {
    if (!out.hasFlow && readFlow(token, out.flow)) out.hasFlow = true;
    return true;
  }
  return edge.ownEndpoints.has(endpointText(bytes, uri));
}

/** Where the host of the URI begins, the bracket of an IPv6 literal included. */
function hostStart(of: Uri): number {
  return of.hostIsIpv6 ? of.hostStart - 1 : of.hostStart;
}

/** `host:port` in lower case, the port 5060 when none is given. */
function endpointText(bytes: Buffer, of: Uri): string {
  return `${bytes.toString('latin1', of.hostStart, of.hostEnd).toLowerCase()}:${of.port || 5060}`;
}
