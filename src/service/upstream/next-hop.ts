// Determines the next hop of a request of the SIP server. Reads Route, Request-URI and the recorded way to the party,
// and decides by the table in onward.ts.
import { SIP_PORT } from '../../base/endpoint.ts';
import { isHidden } from '../../base/private-address.ts';
import type { ForbiddenTargets } from '../../egress/forbidden-targets.ts';
import { emptyWay, sameFlow, type Way } from '../../packet/flow.ts';
import type { Scan } from '../../sip/scan.ts';
import { parseUri, Scheme, Uri } from '../../sip/uri.ts';
import { callKey, type ServiceContext } from '../shared/context.ts';
import { RouteReading, takeOutwardRoutes } from '../shared/own-routes.ts';
import { targetHash } from '../shared/place.ts';
import type { Rewriter } from '../shared/rewriter.ts';
import { takeTargetFlow } from './contact-flow.ts';
import { type FlowState, type Hop, ONWARD, type Onward } from './onward.ts';

/** Host of a Contact whose client accepts no connections (RFC 7118 5). */
const NO_HOST = /\.invalid\.?$/i;

/** Next hop of a request. One instance, filled anew per request by `read`. */
export class NextHop {
  readonly #context: ServiceContext;
  readonly #forbidden: ForbiddenTargets;
  readonly #routes = new RouteReading();
  readonly #next = new Uri();
  readonly #named: Way = emptyWay();
  /** The Request-URI. */
  readonly target = new Uri();
  /** The way to the party; undefined when none is named or recorded. */
  way: Readonly<Way> | undefined;
  state: FlowState = 'none';
  /** URI of the next hop: the first remaining Route value, else the Request-URI. */
  uri: Uri = this.target;
  /** `uri` is a readable SIP URI. */
  readable = false;

  constructor(context: ServiceContext, forbidden: ForbiddenTargets) {
    this.#context = context;
    this.#forbidden = forbidden;
  }

  /** The member that the dialog of the request names; 0 = nobody. */
  get owner(): number {
    return this.#routes.owner;
  }

  /**
   * Removes the farm's values from the request, by `rewriter`, which must have begun on it. Returns how the request
   * continues. `known`: way to the party if the request names none. `lost`: the connection of `known` is gone.
   */
  read(scan: Scan, rewriter: Rewriter, known: Readonly<Way> | undefined, lost: boolean): Onward {
    const { bytes } = scan;
    const routes = this.#routes;
    takeOutwardRoutes(this.#context, scan, rewriter, routes);
    if (routes.excess) {
      this.way = undefined;
      this.readable = false;
      return 'locate';
    }
    const routable = parseUri(bytes, scan.uriStart, scan.uriEnd, this.target);
    const inTarget = routable && takeTargetFlow(this.#context, scan, rewriter, this.target, this.#named);
    const named = routes.hasFlow ? routes.way : inTarget ? this.#named : known;
    this.way = this.#moved(scan) ?? named;
    this.state = this.#stateOf(this.way, lost ? known : undefined);
    const routed = routes.nextStart >= 0;
    this.uri = routed ? this.#next : this.target;
    this.readable = routed ? parseUri(bytes, routes.nextStart, routes.nextEnd, this.#next) : routable;
    this.readable &&= this.uri.scheme === Scheme.SIP;
    return ONWARD[this.state][this.#hopOf(bytes)];
  }

  /** Returns the new way to the request's addressee; undefined when no move is recorded. */
  #moved(scan: Scan): Readonly<Way> | undefined {
    const { ways } = this.#context;
    if (!ways.some || scan.toTagStart < 0) return undefined;
    return ways.find(callKey(this.#context, scan), scan.bytes.toString('latin1', scan.toTagStart, scan.toTagEnd));
  }

  #stateOf(way: Readonly<Way> | undefined, lost: Readonly<Way> | undefined): FlowState {
    if (!way) return 'none';
    if (way.connection === 0) return 'datagram';
    return (lost && sameFlow(way, lost)) || this.#context.egress.isGone(way) ? 'gone' : 'stream';
  }

  /** Returns the kind of the next hop, compared with the way. */
  #hopOf(bytes: Buffer): Hop {
    const { way, uri } = this;
    const { nextStart, nextIsOurs } = this.#routes;
    if (!way) return nextStart >= 0 ? 'route' : 'same';
    if (!this.readable || way.nat) return 'unreachable';
    if (nextIsOurs) return 'route';
    const host = bytes.toString('latin1', uri.hostStart, uri.hostEnd);
    const port = uri.port || SIP_PORT;
    if (this.#context.names.has(bytes, uri) || !this.#isReachable(host, port)) return 'unreachable';
    if (nextStart >= 0) return 'route';
    if (way.target <= 0 || way.target === targetHash(bytes, uri)) return 'same';
    if (host === way.address && port === way.port) return 'same';
    // A private address other than the one of the flow: it is not decidable to which network it belongs.
    return isHidden(host, way.address) ? 'unreachable' : 'refreshed';
  }

  /** Returns whether the address is no `.invalid` host and not forbidden for SIP messages. */
  #isReachable(host: string, port: number): boolean {
    return !NO_HOST.test(host) && !this.#forbidden.has(host, port);
  }
}
