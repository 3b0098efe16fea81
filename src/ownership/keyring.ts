// Derives all keys from the farm key. Each purpose has its own key, so that a token can never pass as a frame.
// Two farm keys are valid during rotation.
import { createHash, hkdfSync } from 'node:crypto';
import { SipfarmError } from '../base/errors.ts';
import { type SipKey, sipKey } from '../base/siphash.ts';

export interface FarmKey {
  /**
   * 0-15, derived from the key itself, so that it does not depend on the order of a member's list. Two keys may share
   * one.
   */
  readonly id: number;
  readonly token: SipKey;
  readonly relay: SipKey;
  /** 32 octets for TLS-PSK on the stream part of the relay link. */
  readonly psk: Buffer;
  /** Key of the hash that makes the branch of a forwarded request. That hash is no MAC; no member verifies it. */
  readonly branch: SipKey;
}

/**
 * Returns 16 hexadecimal digits that name a key without revealing it.
 * They distinguish two valid keys with the same 4-bit token id.
 */
export function keyName(key: FarmKey): string {
  return createHash('sha256').update('sipfarm psk name').update(key.psk).digest('hex').slice(0, 16);
}

export interface Keyring {
  /** The first key of the list. It signs. */
  readonly primary: FarmKey;
  /** Every valid key, the primary first. Each verifies. */
  readonly all: readonly FarmKey[];
}

/**
 * Derives the farm's keys from secrets of 32 octets in hexadecimal (HKDF-SHA256, RFC 5869).
 * Throws SF_KEY_INVALID without showing the secret, and SF_KEYS_MISSING for an empty list.
 */
export function keyring(secrets: readonly string[]): Keyring {
  const all = secrets.map((secret, index) => {
    if (!/^[0-9a-fA-F]{64}$/.test(secret))
      throw new SipfarmError(
        'SF_KEY_INVALID',
        `farm key ${index + 1} is not 64 hexadecimal digits; make one with: openssl rand -hex 32`,
      );
    const derive = (purpose: string, octets: number): Buffer =>
      Buffer.from(hkdfSync('sha256', Buffer.from(secret, 'hex'), 'sipfarm v1', purpose, octets));
    return {
      id: derive('id', 1)[0]! & 15,
      token: sipKey(derive('token', 16)),
      relay: sipKey(derive('relay', 16)),
      psk: derive('psk', 32),
      branch: sipKey(derive('branch', 16)),
    };
  });
  const [primary] = all;
  if (!primary) throw new SipfarmError('SF_KEYS_MISSING', 'no farm key given');
  return { primary, all };
}
