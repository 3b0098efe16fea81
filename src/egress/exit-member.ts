// Chooses the member through which a node outside the farm sends the requests of its SIP server: the owner of the
// Call-ID's slot. So INVITE, CANCEL, ACK and BYE of a call leave through one member while it is reachable. If it is
// not, the member with the next highest score of that slot is used.

import type { OwnerTables } from '../ownership/owner-tables.ts';
import { scoreIn } from '../ownership/slots.ts';
import type { ListenerKind } from '../packet/transport-kind.ts';
import type { RemoteListener, RemoteListeners } from './remote-listeners.ts';

export interface ExitChoiceOptions {
  readonly routing: { readonly tables: OwnerTables };
  readonly remoteListeners: RemoteListeners;
  /** Returns true when the member answers over the relay link. */
  readonly reachable: (member: number) => boolean;
}

/** Score weight of members with weight 0: they still carry in-dialog requests, but come after all others. */
const LEAST_WEIGHT = 0.001;

export class ExitChoice {
  readonly #options: ExitChoiceOptions;

  constructor(options: ExitChoiceOptions) {
    this.#options = options;
  }

  /**
   * Returns the listener to send by; undefined when no reachable member has a fitting one. `begins`: the request may
   * begin a call or dialog, and uses only members that take new calls. In-dialog requests may use draining members; a
   * request of a call that began before the drain uses the same member as its INVITE.
   */
  choose(slot: number, transport: ListenerKind, ipv6: boolean, begins: boolean): RemoteListener | undefined {
    const { routing, remoteListeners, reachable } = this.#options;
    const { slots, members, seats, someIdle } = routing.tables;
    const owner = slots[slot]!;
    // If all members drain, the slot's owner is a draining member: `begins` needs an active one.
    if (!someIdle || (begins && seats.get(owner)?.state === 'active')) {
      const remote = owner !== 0 && reachable(owner) ? remoteListeners.fitting(owner, transport, ipv6) : undefined;
      if (remote) return remote;
    }
    let best: RemoteListener | undefined;
    let highest = Number.NEGATIVE_INFINITY;
    for (const { number, weight, state } of members) {
      if (begins && (state !== 'active' || weight === 0)) continue;
      const score = scoreIn(slot, number, weight || LEAST_WEIGHT);
      if (score <= highest || !reachable(number)) continue;
      const remote = remoteListeners.fitting(number, transport, ipv6);
      if (!remote) continue;
      highest = score;
      best = remote;
    }
    return best;
  }

  /** True while a reachable member takes new calls. */
  get open(): boolean {
    const { routing, reachable } = this.#options;
    return routing.tables.members.some(
      ({ number, weight, state }) => state === 'active' && weight > 0 && reachable(number),
    );
  }
}
