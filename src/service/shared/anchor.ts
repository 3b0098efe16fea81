// Anchors media: writes the addresses of the media relay into the session descriptions that pass. Descriptions stand in
// INVITE, ACK, PRACK, UPDATE and their responses (RFC 3261 13.2.1, RFC 3262 5, RFC 3311 5). In doubt a description stays
// as it is, and is counted.
import { isPrivate } from '../../base/private-address.ts';
import { type CallMedia, NO_PORTS, type PartyName } from '../../media/call-media.ts';
import type { Cell } from '../../metrics/counters.ts';
import { findSdp } from '../../sdp/body.ts';
import { type RelayedOptions, relaySdp, type Splices } from '../../sdp/relayed-sdp.ts';
import { readSdp, type Sdp, type SdpDoubt } from '../../sdp/sdp.ts';
import type { Piece } from '../../sip/edit.ts';
import { Method, type Scan } from '../../sip/scan.ts';
import type { Rewriter } from './rewriter.ts';

/** never: descriptions pass unchanged. nat: those of calls with a client behind a NAT are anchored. always: all are. */
export type AnchorRule = 'never' | 'nat' | 'always';

/** relayed: the addresses of the relay are in it. direct: the rule leaves it alone. no-ports: the call was refused. */
type Outcome = 'relayed' | 'direct' | 'no-ports' | SdpDoubt;

export interface AnchorOptions extends Pick<RelayedOptions, 'origin' | 'ice'> {
  readonly media: CallMedia;
  readonly rule: () => AnchorRule;
  readonly outcomes: Readonly<Record<Outcome, Cell>>;
}

export class Anchor {
  readonly #options: AnchorOptions;
  readonly #splices = new BodySplices();

  constructor(options: AnchorOptions) {
    this.#options = options;
  }

  /**
   * Handles the description of a client, for the SIP server. `source`: address of its signalling; '' when a proxy sent
   * it. `nat`: the client is behind a NAT. Returns false when no ports are left.
   */
  fromClient(scan: Scan, call: number, name: PartyName, source: string, nat: boolean, rewriter: Rewriter): boolean {
    const sdp = this.#read(scan);
    if (!sdp) return true;
    const { media, outcomes } = this.#options;
    const hidden = nat || (source !== '' && sdp.streams.some((each) => isHiddenIn(each.target?.address, source)));
    if (!this.#anchors(call, name, hidden)) {
      outcomes.direct.n++;
      return true;
    }
    return this.#relay(scan, sdp, rewriter, media.fromClient(call, name, sdp, source));
  }

  /**
   * Handles a description of the SIP server, for a client. `nat`: the client is behind a NAT. Returns false when no
   * ports are left.
   */
  toClient(scan: Scan, call: number, name: PartyName, nat: boolean, rewriter: Rewriter): boolean {
    const sdp = this.#read(scan);
    if (!sdp) return true;
    const { media, outcomes } = this.#options;
    // The client cannot reach an inner leg, so a call whose other party is anchored is anchored here, too.
    if (!this.#anchors(call, name, nat || media.namesInner(sdp))) {
      outcomes.direct.n++;
      return true;
    }
    return this.#relay(scan, sdp, rewriter, media.toClient(call, name, sdp));
  }

  #anchors(call: number, name: PartyName, needs: boolean): boolean {
    const rule = this.#options.rule();
    return this.#options.media.find(call, name) !== undefined || rule === 'always' || (rule === 'nat' && needs);
  }

  /** Returns the description in the message; undefined when there is none to handle. */
  #read(scan: Scan): Sdp | undefined {
    const { bytes, method, contentTypeStart, contentTypeEnd, bodyStart, end } = scan;
    if (contentTypeStart < 0 || bodyStart >= end || !mayDescribe(method)) return undefined;
    const at = findSdp(bytes.toString('latin1', contentTypeStart, contentTypeEnd), bytes, bodyStart, end);
    if (!at) return undefined;
    const sdp = readSdp(bytes, at.start, at.end);
    if (typeof sdp !== 'string') return sdp;
    this.#options.outcomes[sdp].n++;
    return undefined;
  }

  #relay(scan: Scan, sdp: Sdp, rewriter: Rewriter, places: ReturnType<CallMedia['toClient']>): boolean {
    const { outcomes, origin, ice } = this.#options;
    if (places === NO_PORTS) {
      outcomes['no-ports'].n++;
      return false;
    }
    const splices = this.#splices.begin(rewriter);
    relaySdp(splices, sdp, { ...places, origin, ice });
    if (splices.grown !== 0) rewriter.setContentLength(scan.end - scan.bodyStart + splices.grown);
    outcomes.relayed.n++;
    return true;
  }
}

/** Passes splices on, and counts by how many octets the body grows. */
class BodySplices implements Splices {
  #rewriter: Rewriter | undefined;
  grown = 0;

  begin(rewriter: Rewriter): this {
    this.#rewriter = rewriter;
    this.grown = 0;
    return this;
  }

  insert(at: number, piece: Piece): void {
    this.replace(at, at, piece);
  }

  replace(start: number, end: number, piece: Piece): void {
    this.grown += piece.length - (end - start);
    this.#rewriter?.replace(start, end, piece);
  }

  delete(start: number, end: number): void {
    this.replace(start, end, '');
  }
}

function isHiddenIn(address: string | undefined, source: string): boolean {
  return address !== undefined && address !== source && isPrivate(address) && !isPrivate(source);
}

/** Returns true for methods whose requests and responses carry offers and answers. */
function mayDescribe(method: Method): boolean {
  return method === Method.INVITE || method === Method.ACK || method === Method.PRACK || method === Method.UPDATE;
}
