// Reads call records from the store, page by page, so that neither the store nor the reader holds all of them at once.
import type { Entry, Store } from '../../store/store.ts';
import { type CallRecord, parseCallRecord, parseRecordKey } from './call-record.ts';

/** Records of a page: a few hundred KB. */
const PAGE_KEYS = 200;

export interface StoredRecord {
  readonly owner: number;
  readonly entry: number;
  readonly key: string;
  readonly revision: bigint;
  readonly record: CallRecord;
}

/**
 * Yields the records whose keys start with `prefix`, in pages, ordered by key. Leaves out other entries. Rejects as
 * Store.page does.
 */
export async function* recordPages(store: Store, prefix: string): AsyncGenerator<readonly StoredRecord[], void, void> {
  for (let after = ''; ; ) {
    const page = await store.page(prefix, after, PAGE_KEYS);
    yield page.flatMap((entry) => storedRecord(entry) ?? []);
    const last = page.at(-1);
    if (!last || page.length < PAGE_KEYS) return;
    after = last.key;
  }
}

/** Returns the record of an entry of the store; undefined when it is none. */
export function storedRecord({ key, value, revision }: Entry): StoredRecord | undefined {
  const place = parseRecordKey(key);
  const record = place && parseCallRecord(value);
  return record && { ...place, key, revision, record };
}
