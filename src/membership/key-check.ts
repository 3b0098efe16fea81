// Checks, by the key names in their records, that members have a farm key in common: without one they cannot
// communicate.
import { SipfarmError } from '../base/errors.ts';

/** The part of a record about its member's keys. */
export interface KeyHolder {
  readonly id: string;
  /** Names of keys (ownership/keyring.ts). Left out by older versions. */
  readonly keys?: readonly string[];
}

/** Maximum of members that an error names. */
const MOST_NAMED = 5;

/** Returns true when the two have a key in common, or one of them lists no keys. */
export function sharesKey(one: KeyHolder, other: KeyHolder): boolean {
  if (!one.keys?.length || !other.keys?.length) return true;
  return other.keys.some((key) => one.keys!.includes(key));
}

/**
 * Throws SF_KEY_MISMATCH when other members of `living` list keys, and `self` has none in common with any of them.
 * During key rotation the lists overlap: one member with a common key is enough. `living` may contain the record of
 * `self`.
 */
export function checkKeys(self: KeyHolder, living: readonly KeyHolder[]): void {
  const others = living.filter(({ id, keys }) => id !== self.id && keys?.length);
  if (others.length === 0 || others.some((other) => sharesKey(self, other))) return;
  const more = others.length - MOST_NAMED;
  const names = others.slice(0, MOST_NAMED).map(({ id, keys }) => `${id} (${keys!.join(', ')})`);
  throw new SipfarmError(
    'SF_KEY_MISMATCH',
    `${self.id} (${self.keys?.join(', ')}) has no farm key in common with the living members: ` +
      `${names.join(', ')}${more > 0 ? ` and ${more} more` : ''}. Give it their key, or stop them before the farm ` +
      'gets another key',
  );
}
