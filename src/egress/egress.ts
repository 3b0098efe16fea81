// Sends messages by their flow: from here, or through the member that holds the flow.

import type { OwnerTables } from '../ownership/owner-tables.ts';
import type { Flow } from '../packet/flow.ts';
import { TapSlot } from '../packet/tap.ts';
import { isReliable } from '../packet/transport-kind.ts';
import type { RelayLink } from '../relay/relay-link.ts';
import type { Transport } from '../transport/transport.ts';
import type { RemoteListeners } from './remote-listeners.ts';

export interface EgressState {
  readonly tables: OwnerTables;
  /** All incarnations of this process: connections outlive a rejoin, which gives a new incarnation. */
  readonly incarnations: ReadonlySet<number>;
}

export class Egress {
  /** The tap of this member; packet path and service use the same one. */
  readonly taps = new TapSlot();
  readonly #transport: Transport;
  readonly #link: RelayLink;
  readonly #routing: EgressState;
  readonly #remoteListeners: RemoteListeners | undefined;
  /** Index of this member's listener by code; -1 = none. */
  readonly #indexes = new Int16Array(256).fill(-1);

  constructor(transport: Transport, link: RelayLink, routing: EgressState, remoteListeners?: RemoteListeners) {
    this.#transport = transport;
    this.#link = link;
    this.#routing = routing;
    this.#remoteListeners = remoteListeners;
    for (const [index, { code }] of transport.listeners.entries()) this.#indexes[code] = index;
  }

  /** Returns the index of this member's listener of the flow; -1 = this member has none of that name. */
  listenerOf(flow: Readonly<Flow>): number {
    return this.#indexes[flow.listener]!;
  }

  /**
   * Returns true when the flow's connection is certainly gone: it was here, or at a member that no longer has a seat.
   * Only the holding member can check a connection elsewhere.
   */
  isGone(flow: Readonly<Flow>): boolean {
    if (flow.connection === 0) return false;
    const { tables, incarnations } = this.#routing;
    if (flow.member !== tables.self) return !tables.seats.has(flow.member);
    return !incarnations.has(flow.incarnation) || !this.#transport.holdsStream(flow.connection);
  }

  /**
   * Sends a whole message by `flow`. A flow without connection at a TCP listener uses the connection that this member
   * has opened to the flow's address, or a new one. Returns false when the flow is certainly gone (its connection is
   * closed, or its member is gone), or when there is no room for the message. The message is not copied.
   */
  send(flow: Readonly<Flow>, message: Buffer): boolean {
    const { tables } = this.#routing;
    const here = flow.member === tables.self;
    if (flow.connection !== 0) {
      if (here) {
        if (!this.#routing.incarnations.has(flow.incarnation)) return false;
        return this.#left(this.#transport.sendStream(flow.connection, message), flow, message);
      }
      // Only that member can check whether the connection belongs to its current incarnation.
      return tables.seats.has(flow.member) && this.#byMember(flow, message);
    }
    const elsewhere = !here && this.#remoteListeners?.elsewhere(flow.member, flow.listener) !== undefined;
    const index = this.#indexes[flow.listener]!;
    const listener = this.#transport.listeners[index];
    if (elsewhere || !listener) {
      return elsewhere && tables.seats.has(flow.member) && this.#byMember(flow, message);
    }
    if (isReliable(listener.transport)) return here && this.#connectAndSend(index, flow, message);
    const away = !here && listener.answer === 'ingress' && tables.seats.has(flow.member);
    if (away && this.#byMember(flow, message)) return true;
    // Any member may send from a shared address. Without `ingress`, or if that member is gone, the message leaves here.
    this.#transport.sendDatagram(index, message, flow.address, flow.port);
    return this.#left(true, flow, message);
  }

  #connectAndSend(index: number, flow: Readonly<Flow>, message: Buffer): boolean {
    const connection = this.#transport.connectStream(index, flow);
    return connection !== 0 && this.#left(this.#transport.sendStream(connection, message), flow, message);
  }

  /** Sends the message through the member of the flow. Returns false when there is no room. */
  #byMember(flow: Readonly<Flow>, message: Buffer): boolean {
    const sent = this.#link.egress(flow, message, 0, message.length);
    const { tap } = this.taps;
    if (tap !== null && sent) tap.seen('relayed', message, flow.member);
    return sent;
  }

  /** Shows a sent message to the tap. Returns `sent`. */
  #left(sent: boolean, flow: Readonly<Flow>, message: Buffer): boolean {
    const { tap } = this.taps;
    if (tap !== null && sent) tap.seen('to-client', message, flow);
    return sent;
  }
}
