// A small prefix as a whole, kept from its single events.
import type { Entry, PrefixWatch, Store } from './store.ts';

/**
 * Calls `onChange` with all entries of the prefix, ordered by key, as soon as they are known, after each change, and
 * after each recovery. Calls `onStale` when they may be out of date from now on.
 */
export function watchWhole(
  store: Pick<Store, 'follow'>,
  prefix: string,
  onChange: (entries: readonly Entry[]) => void,
  onStale: () => void = () => {},
): PrefixWatch {
  const table = new Map<string, Entry>();
  /** `onChange` has had the table as it is. */
  let shown = false;
  return store.follow(prefix, (event) => {
    if (event.type === 'current') {
      if (shown) return;
      shown = true;
      onChange([...table.values()].sort((a, b) => (a.key < b.key ? -1 : 1)));
      return;
    }
    shown = false;
    if (event.type === 'put') table.set(event.entry.key, event.entry);
    else if (event.type === 'delete') table.delete(event.key);
    else onStale();
  });
}
