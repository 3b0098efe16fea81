// The state that the hot path reads. Cold code replaces its parts.
import type { Clock } from '../base/clock.ts';
import type { CallTable } from '../calls/table/call-table.ts';
import type { Keyring } from '../ownership/keyring.ts';
import type { LookupState } from '../ownership/owner-lookup.ts';
import { aloneTables, type OwnerTables, ownerTablesBuilding } from '../ownership/owner-tables.ts';
import type { MemberLife, View } from '../ownership/view.ts';

/** Before the first view the member has no seed. It would own every packet, but its listeners are not open yet. */
const NO_SEED = '00'.repeat(16);

export class RoutingState implements LookupState {
  keys: Keyring;
  /** Every incarnation of this process: tokens of all of them are honoured. */
  readonly incarnations = new Set<number>();
  identity: MemberLife = { number: 0, incarnation: 0 };
  tables: OwnerTables = aloneTables(0, 0, NO_SEED);
  heldSince: (member: number) => number = () => 0;
  newer: () => number = () => 0;
  readonly #calls: CallTable;
  readonly #clock: Clock;
  readonly #outsideFarm: boolean;
  /** Epoch of the first view with the seat of this incarnation; infinite before it. */
  #seatedSince = 0;
  #building = false;
  /** A view that came during a build. */
  #next: { readonly view: View; readonly onBuilt: () => void } | undefined;

  /** `outsideFarm`: this node's role is not `member`. */
  constructor(keys: Keyring, calls: CallTable, clock: Clock, outsideFarm = false) {
    this.keys = keys;
    this.#outsideFarm = outsideFarm;
    this.#calls = calls;
    this.#clock = clock;
  }

  holds(callKey: number): boolean {
    return this.#calls.has(callKey);
  }

  regained(callKey: number): boolean {
    return this.#calls.epochOf(callKey) < this.#seatedSince;
  }

  /** Takes the number and incarnation of a join. */
  become(identity: MemberLife): void {
    const { number, incarnation } = identity;
    if (incarnation !== this.identity.incarnation) this.#seatedSince = Number.POSITIVE_INFINITY;
    this.identity = identity;
    this.incarnations.add(incarnation);
    this.tables =
      this.tables.epoch === 0
        ? aloneTables(number, incarnation, NO_SEED)
        : { ...this.tables, self: number, incarnation };
  }

  /**
   * Builds the tables of `view` in slices and calls `onBuilt` when they are in force; until then the old ones are. Of
   * several views during a build only the last is built.
   */
  takeView(view: View, onBuilt: () => void): void {
    this.#next = { view, onBuilt };
    if (!this.#building) this.#build();
  }

  #build(): void {
    const next = this.#next;
    if (!next) return;
    this.#next = undefined;
    const { number, incarnation } = this.identity;
    const building = ownerTablesBuilding(next.view, number, incarnation, this.#outsideFarm);
    this.#building = true;
    const slice = (): void => {
      const { done, value } = building.next();
      if (!done) {
        this.#clock.after(0, slice);
        return;
      }
      this.#building = false;
      // The member may have joined anew during the build. One assignment shows the hot path the whole table.
      this.tables = { ...value, self: this.identity.number, incarnation: this.identity.incarnation };
      this.#noteSeat();
      next.onBuilt();
      this.#build();
    };
    slice();
  }

  #noteSeat(): void {
    const { seats, self, incarnation, epoch } = this.tables;
    if (seats.get(self)?.incarnation === incarnation) this.#seatedSince = Math.min(this.#seatedSince, epoch);
  }
}
