// The farm key and what is derived from it: one key per purpose, so that a token can never pass as a frame. Two keys are valid during rotation.
import { createHash, hkdfSync } from 'node:crypto';
import { SipfarmError } from '../base/errors.ts';
import { type SipKey, sipKey } from '../base/siphash.ts';

export interface FarmKey {
  /** 0-15, derived from the key itself, so that members agree on it whatever the order of their lists. Two keys may share one. */
  readonly id: number;
  readonly token: SipKey;
  readonly relay: SipKey;
  /** 32 octets for TLS-PSK on the stream side of the relay link. */
  readonly psk: Buffer;
  /** Keyed hash that makes the branch of a forwarded request; not a MAC, never checked by another member. */
  readonly branch: SipKey;
}

/** Names a key without telling it: 16 hexadecimal digits. The id of tokens has 4 bits, so two valid keys may share one; this tells them apart. */
export function keyName(key: FarmKey): string {
  return createHash('sha256').update('sipfarm psk name').update(key.psk).digest('hex').slice(0, 16);
}

export interface Keyring {
  /** The first key of the list mints. */
  readonly primary: FarmKey;
  /** Every valid key, the primary first. All verify. */
  readonly all: readonly FarmKey[];
}

/** Derives the farm's keys from 32-octet secrets in hexadecimal (HKDF-SHA256, RFC 5869). Throws SF_KEY_INVALID without showing the secret. */
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
