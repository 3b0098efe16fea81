// What the hot path reads, replaced part by part by cold code.
import type { CallTable } from '../calls/call-table.ts';
import type { Keyring } from '../ownership/keyring.ts';
import type { LookupWorld } from '../ownership/owner-lookup.ts';
import { aloneTables, buildOwnerTables, type OwnerTables } from '../ownership/owner-tables.ts';
import type { View } from '../ownership/view.ts';

/** Before the first view the member has no seed; it owns what it gets, and gets nothing: its listeners are not open yet. */
const NO_SEED = '00'.repeat(16);

export interface Identity {
  /** 0 before the member has joined. */
  readonly number: number;
  readonly incarnation: number;
}

export class World implements LookupWorld {
  keys: Keyring;
  /** Every incarnation this process has had: its tokens of all of them are honoured. */
  readonly incarnations = new Set<number>();
  identity: Identity = { number: 0, incarnation: 0 };
  tables: OwnerTables = aloneTables(0, 0, NO_SEED);
  heldSince: (member: number) => number = () => 0;
  readonly #calls: CallTable;

  constructor(keys: Keyring, calls: CallTable) {
    this.keys = keys;
    this.#calls = calls;
  }

  holds(callKey: number): boolean {
    return this.#calls.has(callKey);
  }

  /** The member has joined, or joined anew. */
  become(identity: Identity, view: View | undefined): void {
    this.identity = identity;
    this.incarnations.add(identity.incarnation);
    this.rebuild(view);
  }

  /** Builds the whole table; the hot path sees it with one assignment. */
  rebuild(view: View | undefined): void {
    const { number, incarnation } = this.identity;
    this.tables = view ? buildOwnerTables(view, number, incarnation) : aloneTables(number, incarnation, NO_SEED);
  }
}
