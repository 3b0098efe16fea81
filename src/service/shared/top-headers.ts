// Writes the header lines that the service puts on top of a request: Via, Record-Route, Path. They are written as bytes
// into one block and inserted in one splice.

import { formatPlace } from '../../base/endpoint.ts';
import { writeFlowToken, writeWayToken } from '../../ownership/flow-token.ts';
import type { Keyring } from '../../ownership/keyring.ts';
import { MAGIC_COOKIE, mintToken, TokenKind, writeToken } from '../../ownership/token.ts';
import type { Advertised } from '../../packet/advertised.ts';
import type { Way } from '../../packet/flow.ts';
import { TRANSPORT_KINDS } from '../../packet/transport-kind.ts';

/** Via parameter with the flow that the response returns by. It is signed, so that nobody can redirect a response. */
export const FLOW_PARAMETER = Buffer.from(';sf=');

/** Via parameter with the loop mark (branch.ts). */
export const LOOP_PARAMETER = Buffer.from(';lp=');

const RECORD_ROUTE = Buffer.from('Record-Route: <sip:');
const PATH = Buffer.from('Path: <sip:');
const SUPPORTED_PATH = Buffer.from('Supported: path\r\n');
const MAX_FORWARDS = Buffer.from('Max-Forwards: 70\r\n');
const CRLF = Buffer.from('\r\n');
/**
 * Call state lives in the SIP server, not in this process. A restart of this process must change neither branch nor
 * route.
 */
const NO_INCARNATION = 0;

/** Sent-by of one endpoint: its advertised address in the form of Via and of URIs. */
export class SentBy {
  readonly via: Buffer;
  readonly afterUser: Buffer;
  #ownerRoute: Buffer = CRLF;
  #keys: Keyring | undefined;
  #member = -1;

  constructor(advertise: Advertised) {
    const { viaName, uriParameter } = TRANSPORT_KINDS[advertise.transport];
    const place = formatPlace(advertise);
    this.via = Buffer.from(`Via: SIP/2.0/${viaName} ${place};branch=${MAGIC_COOKIE}`);
    this.afterUser = Buffer.from(`@${place}${uriParameter};lr>\r\n`);
  }

  /**
   * Returns the Record-Route line that names the owner of a dialog. It depends only on keys and member, so it is
   * cached.
   */
  ownerRoute(keys: Keyring, member: number): Buffer {
    if (keys !== this.#keys || member !== this.#member) {
      const token = mintToken(keys, TokenKind.dialog, member, NO_INCARNATION);
      this.#ownerRoute = Buffer.concat([RECORD_ROUTE, Buffer.from(token), this.afterUser]);
      this.#keys = keys;
      this.#member = member;
    }
    return this.#ownerRoute;
  }
}

/**
 * Room for one Via, two Record-Route and one Path line. Each has at most 200 octets with the longest IPv6 tokens, and a
 * domain name of 253.
 */
const BLOCK_OCTETS = 2048;

export class TopHeaders {
  readonly block = Buffer.alloc(BLOCK_OCTETS);
  length = 0;

  reset(): void {
    this.length = 0;
  }

  #put(bytes: Uint8Array): void {
    this.block.set(bytes, this.length);
    this.length += bytes.length;
  }

  /**
   * Appends a Via. `branchValue`: the 8 octets from branch.ts. `back`: flow of the response; left out when the receiver
   * does not need it. A `back` with a target is also the party's new flow, once its request is accepted. `mark`: the
   * parameter with the loop mark.
   */
  via(
    keys: Keyring,
    kind: typeof TokenKind.outward | typeof TokenKind.inward,
    sentBy: SentBy,
    member: number,
    branchValue: Uint8Array,
    back: Way | undefined,
    mark?: Uint8Array,
  ): void {
    this.#put(sentBy.via);
    this.length = writeToken(keys, kind, member, NO_INCARNATION, branchValue, 8, this.block, this.length);
    if (back) {
      this.#put(FLOW_PARAMETER);
      const write = back.target >= 0 ? writeWayToken : writeFlowToken;
      this.length = write(keys, back, this.block, this.length);
    }
    if (mark) this.#put(mark);
    this.#put(CRLF);
  }

  /** Appends a Record-Route whose user part names the owner of the dialog (RFC 3261 16.6 item 4). */
  recordRouteOwner(keys: Keyring, sentBy: SentBy, member: number): void {
    this.#put(sentBy.ownerRoute(keys, member));
  }

  /** Appends a Record-Route whose user part is the flow to the client (RFC 5626 5.3). */
  recordRouteWay(keys: Keyring, sentBy: SentBy, way: Way): void {
    this.#put(RECORD_ROUTE);
    this.length = writeWayToken(keys, way, this.block, this.length);
    this.#put(sentBy.afterUser);
  }

  /** Appends a Path with the flow to the client (RFC 3327 5.2, RFC 5626 5.1). */
  path(keys: Keyring, sentBy: SentBy, way: Way): void {
    this.#put(PATH);
    this.length = writeWayToken(keys, way, this.block, this.length);
    this.#put(sentBy.afterUser);
  }

  /** Appends a Supported line with the option tag `path`, in addition to the client's own Supported lines. */
  supportedPath(): void {
    this.#put(SUPPORTED_PATH);
  }

  maxForwards(): void {
    this.#put(MAX_FORWARDS);
  }
}
