// Sends the stateless answers of a member: small, once, to the source of the request, limited per source.
import { randomBytes } from 'node:crypto';
import type { Endpoint } from '../base/endpoint.ts';
import type { RateLimit } from '../base/rate-limit.ts';
import { sourcePrefix } from '../base/source.ts';
import type { Cell, CellFamily } from '../metrics/counters.ts';
import type { Keyring } from '../ownership/keyring.ts';
import type { OwnerTables } from '../ownership/owner-tables.ts';
import { mintToken, TokenKind } from '../ownership/token.ts';
import { emptyFlow } from '../packet/flow.ts';
import type { Packet } from '../packet/packet.ts';
import type { DropReason, ReplyStatus } from '../packet/verdict.ts';
import { buildReply } from '../sip/reply.ts';
import { Method, type Scan } from '../sip/scan.ts';
import type { Transport } from '../transport/transport.ts';
import type { Egress } from './egress.ts';
import type { RemoteListeners } from './remote-listeners.ts';
import { returnFlow } from './return-flow.ts';

/** Limits of error answers over UDP per source prefix. */
export interface ErrorLimits {
  /** For requests that break the grammar. */
  readonly faults: RateLimit;
  /** For valid requests that are refused. A separate limit: a carrier's trunk is one prefix and needs the answers. */
  readonly refusals: RateLimit;
}

export interface StatelessRepliesOptions {
  readonly routing: { readonly keys: Keyring; readonly tables: OwnerTables };
  readonly transport: Transport;
  /** Left out: only this node's own listeners exist. */
  readonly remoteListeners?: RemoteListeners;
  readonly egress: Egress;
  /** Monotonic milliseconds. */
  readonly now: () => number;
  readonly limits: ErrorLimits;
  readonly answered: CellFamily<'status'>;
  /** Counters of dropped packets, by reason. */
  readonly drops: Readonly<Record<DropReason, Cell>>;
}

const NO_HEADERS: readonly string[] = [];

/** Header of a 500 or 503: the client may try again after this number of seconds. */
export const RETRY_AFTER: readonly string[] = ['Retry-After: 5'];

/**
 * To tag of final replies. It is no token: the SIP server may pass the reply on, and the ACK must then reach the
 * server.
 */
const FINAL_TAG = randomBytes(8).toString('hex');

/**
 * Returns the reply to a request of this farm's SIP server that goes no further. It has no size limit, because the
 * request is not from outside. Only the top Via gets `source` (RFC 3261 18.2.1, RFC 3581 4). Returns null for an ACK, a
 * response, or a request without a readable Via.
 */
export function finalReply(scan: Scan, status: ReplyStatus, source: Endpoint): Buffer | null {
  return buildReply(scan, status, '', FINAL_TAG, source, NO_HEADERS, Number.POSITIVE_INFINITY);
}

export class StatelessReplies {
  readonly #options: StatelessRepliesOptions;
  readonly #flow = emptyFlow();
  /** May be replaced when the settings change. */
  limits: ErrorLimits;
  #tag = '';
  #tagKeys: Keyring | undefined;

  constructor(options: StatelessRepliesOptions) {
    this.#options = options;
    this.limits = options.limits;
  }

  /** Returns a To tag by which every member recognises that its ACK needs no owner (RFC 3261 8.2.7). */
  toTag(): string {
    const { keys, tables } = this.#options.routing;
    if (this.#tagKeys !== keys) {
      this.#tag = mintToken(keys, TokenKind.reply, tables.self, 0);
      this.#tagKeys = keys;
    }
    return this.#tag;
  }

  /**
   * Answers a request from outside the farm. Errors are limited per source prefix; an ACK is never answered. `headers`:
   * lines without CRLF. `listed`: the operator has listed the source, so no rate limit and no size limit applies.
   */
  answer(packet: Packet, scan: Scan, status: ReplyStatus, headers = NO_HEADERS, listed = false): void {
    const { drops, egress, routing, transport, remoteListeners, answered } = this.#options;
    if (scan.method === Method.ACK) {
      drops['bad-ack'].n++;
      return;
    }
    // No limit on a connection: its source is proven.
    if (status >= 300 && !listed && packet.connection === 0 && !this.#allowed(packet.address, status)) {
      drops['rate-limit'].n++;
      return;
    }
    // The source of a datagram may be forged, so the answer is never larger than the request.
    const maxOctets = listed || packet.connection !== 0 ? Number.POSITIVE_INFINITY : scan.end - scan.start;
    const reply = buildReply(scan, status, '', this.toTag(), packet, headers, maxOctets);
    if (!reply) {
      drops.amplification.n++;
      return;
    }
    const traits = remoteListeners ? remoteListeners.traitsOf(packet) : transport.listeners[packet.listener];
    if (!traits) return;
    returnFlow(scan, packet, routing.tables, traits, this.#flow);
    answered.cell({ status: String(status) }).n++;
    if (!egress.send(this.#flow, reply)) drops['flow-lost'].n++;
  }

  #allowed(address: string, status: ReplyStatus): boolean {
    const limit = status === 400 || status === 501 || status === 505 ? this.limits.faults : this.limits.refusals;
    return limit.allow(sourcePrefix(address), this.#options.now());
  }
}
