// Where a request of the SIP server goes next: what its Route and its Request-URI say, and the way to its party that is known, brought before the table
// of onward.ts.
import { SIP_PORT } from '../../base/endpoint.ts';
import { emptyWay, sameFlow, type Way } from '../../ownership/flow.ts';
import type { Scan } from '../../sip/scan.ts';
import { parseUri, Scheme, Uri } from '../../sip/uri.ts';
import { takeTargetFlow } from './contact-flow.ts';
import { callKey, type Edge } from './edge.ts';
import type { ForbiddenTargets } from './forbidden-targets.ts';
import { type FlowState, type Hop, ONWARD, type Onward } from './onward.ts';
import { RouteReading, takeOutwardRoutes } from './own-routes.ts';
import { isHidden, targetHash } from './place.ts';

/** RFC 7118 5: clients that cannot be connected to name such a host in their Contact. */
const NO_HOST = /\.invalid\.?$/i;

/** One instance, filled anew per request by `read`. */
export class NextHop {
  readonly #edge: Edge;
  readonly #forbidden: ForbiddenTargets;
  readonly #routes = new RouteReading();
  readonly #next = new Uri();
  readonly #named: Way = emptyWay();
  /** The Request-URI. */
  readonly target = new Uri();
  /** The way to the party that is known; undefined when none is. */
  way: Readonly<Way> | undefined;
  state: FlowState = 'none';
  /** The URI of the hop: the first Route value that is left, else the Request-URI. */
  uri: Uri = this.target;
  /** It is a SIP URI that can be read. */
  readable = false;

  constructor(edge: Edge, forbidden: ForbiddenTargets) {
    this.#edge = edge;
    this.#forbidden = forbidden;
  }

  /** The member that the dialog of the request names; 0 = nobody. */
  get owner(): number {
    return this.#routes.owner;
  }

  /**
   * Takes off the request what is the farm's, in `edge.edit`, which has begun over it. `known`: the way to the party where the request does not name one;
   * `lost`: the connection of that one is gone.
   */
  read(scan: Scan, known: Readonly<Way> | undefined, lost: boolean): Onward {
    const { bytes } = scan;
    const routes = this.#routes;
    takeOutwardRoutes(this.#edge, scan, routes);
    if (routes.excess) {
      this.way = undefined;
      this.readable = false;
      return 'locate';
    }
    const routable = parseUri(bytes, scan.uriStart, scan.uriEnd, this.target);
    const inTarget = routable && takeTargetFlow(this.#edge, scan, this.target, this.#named);
    const named = routes.hasFlow ? routes.way : inTarget ? this.#named : known;
    this.way = this.#moved(scan) ?? named;
    this.state = this.#stateOf(this.way, lost ? known : undefined);
    const routed = routes.nextStart >= 0;
    this.uri = routed ? this.#next : this.target;
    this.readable = routed ? parseUri(bytes, routes.nextStart, routes.nextEnd, this.#next) : routable;
    this.readable &&= this.uri.scheme === Scheme.SIP;
    return ONWARD[this.state][this.#hopOf(bytes)];
  }

  /** The way to the party that the request is for, when that has moved. */
  #moved(scan: Scan): Readonly<Way> | undefined {
    const { ways } = this.#edge;
    if (!ways.some || scan.toTagStart < 0) return undefined;
    return ways.find(callKey(this.#edge, scan), scan.bytes.toString('latin1', scan.toTagStart, scan.toTagEnd));
  }

  #stateOf(way: Readonly<Way> | undefined, lost: Readonly<Way> | undefined): FlowState {
    if (!way) return 'none';
    if (way.connection === 0) return 'datagram';
    return (lost && sameFlow(way, lost)) || this.#edge.egress.isGone(way) ? 'gone' : 'stream';
  }

  /** The kind of the hop, seen from the way. */
  #hopOf(bytes: Buffer): Hop {
    const { way, uri } = this;
    const { nextStart, nextIsOurs } = this.#routes;
    if (!way) return nextStart >= 0 ? 'route' : 'same';
    if (!this.readable || way.nat) return 'unreachable';
    if (nextIsOurs) return 'route';
    const host = bytes.toString('latin1', uri.hostStart, uri.hostEnd);
    const port = uri.port || SIP_PORT;
    if (this.#edge.names.has(bytes, uri) || !this.#isReachable(host, port)) return 'unreachable';
    if (nextStart >= 0) return 'route';
    if (way.target <= 0 || way.target === targetHash(bytes, uri)) return 'same';
    if (host === way.address && port === way.port) return 'same';
    // A private address that was not named when the flow was made: whose network it is in nobody tells.
    return isHidden(host, way.address) ? 'unreachable' : 'refreshed';
  }

  /** Something may listen there that SIP messages may reach. */
  #isReachable(host: string, port: number): boolean {
    return !NO_HOST.test(host) && !this.#forbidden.has(host, port);
  }
}
