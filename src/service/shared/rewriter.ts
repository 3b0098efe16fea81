// Rewrites one message on its way through the service. Owns everything that a rewrite fills: the splices, the farm's
// header lines on top, the value of the branch. `begin` clears all of it, and `finish` assembles the message. Each
// direction of the service has a rewriter of its own.
import type { Keyring } from '../../ownership/keyring.ts';
import { TokenKind } from '../../ownership/token.ts';
import type { Way } from '../../packet/flow.ts';
import { Edit, type Piece } from '../../sip/edit.ts';
import { Method, Scan } from '../../sip/scan.ts';
import { Direction, writeBranchValue } from './branch.ts';
import { type SentBy, TopHeaders } from './top-headers.ts';

/** Octets of the largest UDP datagram over IPv4. A larger message is answered 513. */
export const MAX_DATAGRAM = 65_507;

export class Rewriter {
  readonly #edit = new Edit();
  readonly #branchValue = new Uint8Array(8);
  /** The message of this rewrite. */
  #scan = new Scan();
  /** Octets of the new message behind its last header line: the empty line and the body. Valid until `begin`. */
  tail = 0;
  /** Lines of the farm that `finish` puts on top. */
  readonly top = new TopHeaders();

  /** Clears the previous rewrite and starts one of the message in `scan`, which must stay unchanged until `finish`. */
  begin(scan: Scan): this {
    this.#scan = scan;
    this.tail = scan.end - scan.headersEnd;
    this.#edit.beginScan(scan);
    this.top.reset();
    return this;
  }

  /** Deletes `[start, end)`. Overlapping ranges are deleted once. */
  delete(start: number, end: number): void {
    this.#edit.delete(start, end);
  }

  /** Inserts `piece` before the octet at `at`. Pieces at one offset keep their order. */
  insert(at: number, piece: Piece): void {
    this.#edit.insert(at, piece);
  }

  /** Replaces `[start, end)` by `piece`. */
  replace(start: number, end: number, piece: Piece): void {
    this.#edit.replace(start, end, piece);
  }

  /** Sets the length of the body, after splices in it. */
  setContentLength(octets: number): void {
    this.tail = this.#scan.bodyStart - this.#scan.headersEnd + octets;
    this.#edit.setContentLength(this.#scan, octets);
  }

  /** Deletes the top Via value. */
  popVia(): this {
    this.#edit.popVia(this.#scan);
    return this;
  }

  /** Writes the true source into the sender's Via (RFC 3261 18.2.1, RFC 3581 4). */
  stampVia(address: string, port: number): void {
    this.#edit.stampVia(this.#scan, address, port);
  }

  /**
   * Puts the farm's Via on top. Its branch is a hash of the request. `back` and `mark` are those of `TopHeaders.via`.
   */
  pushVia(
    keys: Keyring,
    direction: Direction,
    sentBy: SentBy,
    member: number,
    back: Way | undefined,
    mark?: Uint8Array,
  ): void {
    const kind = direction === Direction.inward ? TokenKind.inward : TokenKind.outward;
    writeBranchValue(keys.primary.branch, this.#scan, direction, this.#branchValue);
    this.top.via(keys, kind, sentBy, member, this.#branchValue, back, mark);
  }

  /**
   * Lowers Max-Forwards by one. Sets it to 70 when it is missing or not a number (RFC 3261 16.6 item 3, RFC 4475
   * 3.1.2.4).
   */
  countHop(): void {
    const { maxForwards, maxForwardsStart, maxForwardsEnd } = this.#scan;
    if (maxForwardsStart < 0) this.top.maxForwards();
    else this.#edit.replace(maxForwardsStart, maxForwardsEnd, maxForwards < 0 ? '70' : String(maxForwards - 1));
  }

  /** Returns the new message; undefined when it would exceed `most` octets, or a splice was not possible. */
  finish(most?: number): Buffer | undefined {
    const { block, length } = this.top;
    if (length > 0) this.#edit.insert(this.#scan.headersStart, block.subarray(0, length));
    return this.#edit.apply(most);
  }
}

/**
 * Returns whether the request gets a Record-Route: it opens a dialog (RFC 3261 12.1, RFC 3515 2.4.4), or is a NOTIFY.
 * The first NOTIFY makes the dialog of a subscription, so every NOTIFY gets one (RFC 6665 4.3).
 */
export function recordsRoute(scan: Scan): boolean {
  const { method } = scan;
  if (method === Method.NOTIFY) return true;
  return scan.toTagStart < 0 && (method === Method.INVITE || method === Method.SUBSCRIBE || method === Method.REFER);
}
