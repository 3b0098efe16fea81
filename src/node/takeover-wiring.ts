// Connects adoption, which finds the calls of dead members by view and store, with the service, which continues or ends
// them.
import type { Logger } from 'pino';
import type { Clock } from '../base/clock.ts';
import type { Guard } from '../base/guard.ts';
import { Adoption, type Successor } from '../calls/adoption/adoption.ts';
import type { CallJournal } from '../calls/records/call-journal.ts';
import type { CallTable } from '../calls/table/call-table.ts';
import type { Membership } from '../membership/membership.ts';
import type { Metrics } from '../metrics/metrics.ts';
import { CallHash, hashCallIdText } from '../ownership/slots.ts';
import type { View } from '../ownership/view.ts';
import type { Succession } from '../service/service.ts';
import type { Store } from '../store/store.ts';
import type { RoutingState } from './routing-state.ts';

export interface TakeoverWiringOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  readonly routing: RoutingState;
  readonly succession: Succession;
  readonly keeper: CallJournal;
  readonly calls: CallTable;
  readonly guard: Guard;
  readonly membership: Pick<Membership, 'isolated'>;
  readonly fence: { readonly up: boolean };
  readonly metrics: Pick<Metrics, 'adopted'>;
}

export class TakeoverWiring {
  readonly #adoption: Adoption;
  readonly #routing: RoutingState;
  readonly #hash = new CallHash();

  constructor(options: TakeoverWiringOptions) {
    const { routing, succession, membership, fence, metrics } = options;
    this.#routing = routing;
    this.#adoption = new Adoption({
      ...options,
      successor: guardedSuccessor(options),
      asTaken: (record) => succession.asTaken(record),
      self: () => ({ ...routing.identity, epoch: routing.tables.epoch }),
      owns: (callId) => this.#owns(callId),
      mayAdopt: () => !membership.isolated && !fence.up && routing.tables.seats.has(routing.identity.number),
      adopted: metrics.adopted,
    });
    succession.follow(this.#adoption);
  }

  /** Takes a view whose tables are now in force. */
  takeView(view: View): void {
    this.#adoption.takeSeats(new Set(view.seats.map(({ number }) => number)));
  }

  stop(): void {
    this.#adoption.close();
  }

  #owns(callId: string): boolean {
    const { slotKey, slots, self } = this.#routing.tables;
    hashCallIdText(slotKey, callId, this.#hash);
    return slots[this.#hash.slot] === self;
  }
}

/**
 * Returns the succession behind a guard. A record holds messages of strangers: one that makes the service throw is
 * forgotten. It neither ends this member nor stops the records after it.
 */
function guardedSuccessor({ succession, guard, calls, keeper }: TakeoverWiringOptions): Successor {
  const guarded = (act: () => void): void => {
    try {
      act();
    } catch (error) {
      guard.caught('records', error);
    }
  };
  return {
    adopted(entry, record, owner) {
      try {
        return succession.adopted(entry, record, owner);
      } catch (error) {
        guard.caught('records', error);
        calls.forget(entry);
        keeper.forget(entry);
        return 'internal-error';
      }
    },
    seated: (owner) => guarded(() => succession.seated(owner)),
    decided: (owner) => guarded(() => succession.decided(owner)),
  };
}
