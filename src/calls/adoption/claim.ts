// Claims a record in one transaction: deletes it under the dead member's number, if it is still the one that was read,
// and writes it under this member's number. The member whose transaction succeeds owns the call. When the store's
// answer was lost, the keys are read to find the outcome.
import { SipfarmError } from '../../base/errors.ts';
import type { Store, Write } from '../../store/store.ts';
import { type CallRecord, parseCallRecord, recordKey } from '../records/call-record.ts';
import type { StoredRecord } from '../records/record-pages.ts';

export interface ClaimOptions {
  readonly store: Store;
  /** Returns this member's current values. */
  readonly self: () => { readonly number: number; readonly incarnation: number; readonly epoch: number };
  /** False while this member may not adopt. */
  readonly mayAdopt: () => boolean;
  /** Returns the record as the member has it once it has adopted the call. Left out: without media. */
  readonly asTaken?: (record: CallRecord) => CallRecord;
}

/** A confirmed call that goes back to its owner. */
export interface GivenBack {
  readonly entry: number;
  readonly record: CallRecord;
}

/** Records of one commit, as in a sweep. */
const GIVEN_AT_ONCE = 40;

export class Claim {
  readonly #options: ClaimOptions;

  constructor(options: ClaimOptions) {
    this.#options = options;
  }

  /**
   * Claims one record. `inDoubt`: an earlier claim had no answer. Rejects as the store does, and with
   * SF_STORE_UNREACHABLE while this member may not adopt.
   */
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

  /** Claims all records or none. Resolves to undefined when the outcome is in doubt; never rejects. */
  async together(left: readonly StoredRecord[]): Promise<boolean | undefined> {
    if (!this.#options.mayAdopt()) return false;
    return this.#options.store.commit(left.flatMap((each) => this.#writes(each))).catch(() => undefined);
  }

  /** Returns the record as it is written under this member's number: the ports of its media are not its own. */
  own({ record }: StoredRecord): CallRecord {
    const { self, asTaken = withoutMedia } = this.#options;
    const { incarnation, epoch } = self();
    return { ...asTaken(record), incarnation, epoch };
  }

  /**
   * Writes the records under the number of `owner`, where none of the call is there. Never rejects: a call without a
   * record goes on at its owner as one that was never recorded.
   */
  async giveBack(owner: number, given: readonly GivenBack[]): Promise<void> {
    for (let at = 0; at < given.length; at += GIVEN_AT_ONCE) {
      const writes = given.slice(at, at + GIVEN_AT_ONCE).map(({ entry, record }) => {
        return { key: recordKey(owner, 'confirmed', entry), value: record, expect: 0n };
      });
      const done = await this.#options.store.commit(writes).catch(() => undefined);
      // One record is there already: the others are written one by one.
      if (done === false) for (const write of writes) await this.#options.store.commit([write]).catch(() => undefined);
    }
  }

  /** Deletes the dead member's record if it is unchanged. Never rejects: the next sweep finds a record that stayed. */
  async abandon({ key, revision }: StoredRecord): Promise<void> {
    await this.#options.store.commit([{ key, value: undefined, expect: revision }]).catch(() => {});
  }

  /** Deletes a claimed record that cannot be kept. Never rejects. */
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

function withoutMedia({ media: _, ...record }: CallRecord): CallRecord {
  return record;
}
