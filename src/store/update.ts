// Changes entries that others may change at the same time: reads, decides, commits, and repeats after a conflict.
import type { Store, Write } from './store.ts';

/**
 * Commits the writes that `change` returns. After a conflict it calls `change` again, `attempts` times in all. `change`
 * reads the entries anew each time, and expects the revisions that it read. Resolves to true when the commit was
 * applied or there was nothing to write. Resolves to false after the last conflict, or when `change` returns undefined.
 * Rejects as `change` and Store.commit do.
 */
export async function update(
  store: Pick<Store, 'commit'>,
  attempts: number,
  change: () => Promise<readonly Write[] | undefined>,
): Promise<boolean> {
  for (let attempt = 0; attempt < attempts; attempt++) {
    const writes = await change();
    if (!writes) return false;
    if (writes.length === 0 || (await store.commit(writes))) return true;
  }
  return false;
}
