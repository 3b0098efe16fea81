// Whether members can understand each other: they need one farm key in common. Told by the names of keys in their records.
import { SipfarmError } from '../base/errors.ts';

/** The part of a record about its member's keys. */
export interface KeyHolder {
  readonly id: string;
  /** Names of keys (ownership/keyring.ts). Left out by older versions. */
  readonly keys?: readonly string[];
}

/** Members that an error names. */
const MOST_NAMED = 5;

/** True when the two have a key in common, or one of them does not say which it has. */
export function sharesKey(one: KeyHolder, other: KeyHolder): boolean {
  if (!one.keys?.length || !other.keys?.length) return true;
  return other.keys.some((key) => one.keys!.includes(key));
}

/**
 * Throws SF_KEY_MISMATCH when `living` members say which keys they have, and `self` has none in common with any of them. While keys are
 * rotated the lists overlap: one member with a common key is enough. `living` may hold the record of `self`.
 */
export function checkKeys(self: KeyHolder, living: readonly KeyHolder[]): void {
  const others = living.filter(({ id, keys }) => id !== self.id && keys?.length);
  if (others.length === 0 || others.some((other) => sharesKey(self, other))) return;
  const more = others.length - MOST_NAMED;
  const names = others.slice(0, MOST_NAMED).map(({ id, keys }) => `${id} (${keys!.join(', ')})`);
  throw new SipfarmError(
    'SF_KEY_MISMATCH',
    `${self.id} (${self.keys?.join(', ')}) has no farm key in common with the members that live: ` +
      `${names.join(', ')}${more > 0 ? ` and ${more} more` : ''}. Give it the key they have, or stop them before the farm gets another key`,
  );
}
