// Checks the bounds of a commit. They are the same for every store, so a write that one store would refuse fails in
// all.
import { SipfarmError } from '../base/errors.ts';
import { MAX_COMMIT_OCTETS, MAX_WRITES, type Write } from './store.ts';

/** A write with its value as stored octets; undefined deletes. */
export interface EncodedWrite {
  readonly write: Write;
  readonly octets: Buffer | undefined;
}

/**
 * Encodes the values of a commit. Throws SF_STORE_REFUSED for too many writes, too many octets, or two writes of one
 * key.
 */
export function encodeWrites(writes: readonly Write[]): readonly EncodedWrite[] {
  if (writes.length > MAX_WRITES) throw refused(`${writes.length} writes in one commit, at most ${MAX_WRITES}`);
  if (new Set(writes.map((write) => write.key)).size !== writes.length) throw refused('a key twice in one commit');
  const encoded = writes.map((write) => ({
    write,
    octets: write.value === undefined ? undefined : Buffer.from(JSON.stringify(write.value)),
  }));
  const total = encoded.reduce((sum, { write, octets }) => sum + write.key.length + (octets?.length ?? 0), 0);
  if (total > MAX_COMMIT_OCTETS) throw refused(`a commit of ${total} octets, at most ${MAX_COMMIT_OCTETS}`);
  return encoded;
}

function refused(message: string): SipfarmError {
  return new SipfarmError('SF_STORE_REFUSED', message);
}
