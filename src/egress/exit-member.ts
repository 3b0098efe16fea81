// Through which member a node that is not in the farm sends what its SIP server starts: the owner of the Call-ID's slot, so that INVITE,
// CANCEL, ACK and BYE of a call leave by one member as long as it is there; when it is not, the next in the drawing of that slot.

import type { OwnerTables } from '../ownership/owner-tables.ts';
import { scoreIn } from '../ownership/slots.ts';
import type { ListenerKind } from '../packet/transport-kind.ts';
import type { RemoteListener, RemoteListeners } from './remote-listeners.ts';

export interface ExitChoiceOptions {
  readonly routing: { readonly tables: OwnerTables };
  readonly remoteListeners: RemoteListeners;
  /** The member answers over the relay link. */
  readonly reachable: (member: number) => boolean;
}

/** What takes no new calls still carries on what began by it, after all others. */
const LEAST_WEIGHT = 0.001;

export class ExitChoice {
  readonly #options: ExitChoiceOptions;

  constructor(options: ExitChoiceOptions) {
    this.#options = options;
  }

  /**
   * The listener to send by; undefined when no member that can be reached has a fitting one. `begins`: the request may begin something, and goes
   * only by members that take new calls. What belongs to something that began goes by draining ones too: by the one it began at, when that was
   * before the drain.
   */
  choose(slot: number, transport: ListenerKind, ipv6: boolean, begins: boolean): RemoteListener | undefined {
    const { routing, remoteListeners, reachable } = this.#options;
    const { slots, members, seats, someIdle } = routing.tables;
    const owner = slots[slot]!;
    // When all members drain, one that does owns the slot.
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

  /** A member takes new calls from here now. */
  get open(): boolean {
    const { routing, reachable } = this.#options;
    return routing.tables.members.some(
      ({ number, weight, state }) => state === 'active' && weight > 0 && reachable(number),
    );
  }
}
