// To adopt is one transaction: the record under the dead member's number is deleted, if it is still the one that was read, and put under this
// member's own. Whoever wins it has the call. An answer of the store that got lost is made up for by looking what stands there.
import { SipfarmError } from '../../base/errors.ts';
import type { Store, Write } from '../../store/store.ts';
import { type CallRecord, parseCallRecord, recordKey } from '../records/call-record.ts';
import type { StoredRecord } from '../records/record-pages.ts';

export interface ClaimOptions {
  readonly store: Store;
  /** This member as of now. */
  readonly self: () => { readonly number: number; readonly incarnation: number; readonly epoch: number };
  /** False while this member may adopt nothing. */
  readonly mayAdopt: () => boolean;
}

export class Claim {
  readonly #options: ClaimOptions;

  constructor(options: ClaimOptions) {
    this.#options = options;
  }

  /** Claims one. `unsure`: it was tried before, and the answer was lost. Rejects as the store does, and while nothing may be adopted. */
  async one(left: StoredRecord, inDoubt: boolean): Promise<'won' | 'by-another'> {
    const { store, mayAdopt, self } = this.#options;
    if (inDoubt) {
      const own = parseCallRecord((await store.get(this.#ownKey(left)))?.value);
      if (own?.incarnation === self().incarnation && own.callId === left.record.callId) return 'won';
      if ((await store.get(left.key))?.revision !== left.revision) return 'by-another';
    }
    if (!mayAdopt()) throw new SipfarmError('SF_STORE_UNREACHABLE', 'this member is isolated');
    return (await store.commit(this.#writes(left))) ? 'won' : 'by-another';
  }

  /** Claims all or none; undefined when that is not known. */
  async together(left: readonly StoredRecord[]): Promise<boolean | undefined> {
    if (!this.#options.mayAdopt()) return false;
    return this.#options.store.commit(left.flatMap((each) => this.#writes(each))).catch(() => undefined);
  }

  /** The record as it stands under our number once it is ours. */
  own({ record }: StoredRecord): CallRecord {
    const { incarnation, epoch } = this.#options.self();
    return { ...record, incarnation, epoch };
  }

  /** Deletes what the dead member has left, if it is still what was read. Never rejects: the next sweep finds what stayed. */
  async abandon({ key, revision }: StoredRecord): Promise<void> {
    await this.#options.store.commit([{ key, value: undefined, expect: revision }]).catch(() => {});
  }

  /** Deletes what was won, when it cannot be kept. Never rejects. */
  async renounce(left: StoredRecord): Promise<void> {
    await this.#options.store.commit([{ key: this.#ownKey(left), value: undefined }]).catch(() => {});
  }

  #ownKey({ record, entry }: StoredRecord): string {
    return recordKey(this.#options.self().number, record.state, entry);
  }

  #writes(left: StoredRecord): Write[] {
    return [
      { key: left.key, value: undefined, expect: left.revision },
      { key: this.#ownKey(left), value: this.own(left), expect: 0n },
    ];
  }
}
