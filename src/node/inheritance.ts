// How a member comes to the calls of members that are gone: adoption by the view and the store on one side, the service that acts on the other.
import type { Logger } from 'pino';
import type { Clock } from '../base/clock.ts';
import { Adoption, type RecordKeeper } from '../calls/adoption.ts';
import type { Membership } from '../membership/membership.ts';
import type { Metrics } from '../metrics/metrics.ts';
import { CallHash, hashCallId } from '../ownership/slots.ts';
import type { View } from '../ownership/view.ts';
import type { Heir } from '../service/upstream/heir.ts';
import type { Store } from '../store/store.ts';
import type { World } from './world.ts';

export interface InheritanceOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  readonly world: World;
  readonly heir: Heir;
  readonly keeper: RecordKeeper;
  readonly membership: Pick<Membership, 'isolated'>;
  readonly fence: { readonly up: boolean };
  readonly metrics: Pick<Metrics, 'adopted'>;
}

export class Inheritance {
  readonly #adoption: Adoption;
  readonly #world: World;
  readonly #hash = new CallHash();

  constructor(options: InheritanceOptions) {
    const { world, heir, membership, fence, metrics } = options;
    this.#world = world;
    this.#adoption = new Adoption({
      ...options,
      self: () => ({ ...world.identity, epoch: world.tables.epoch }),
      owns: (callId) => this.#owns(callId),
      mayAdopt: () => !membership.isolated && !fence.up && world.tables.seats.has(world.identity.number),
      adopted: metrics.adopted,
    });
    heir.adoption = this.#adoption;
  }

  /** The view whose tables have just come into force. */
  takeView(view: View): void {
    this.#adoption.takeSeats(new Set(view.seats.map(({ number }) => number)));
  }

  stop(): void {
    this.#adoption.close();
  }

  #owns(callId: string): boolean {
    const { slotKey, slots, self } = this.#world.tables;
    const octets = Buffer.from(callId, 'latin1');
    hashCallId(slotKey, octets, 0, octets.length, this.#hash);
    return slots[this.#hash.slot] === self;
  }
}
