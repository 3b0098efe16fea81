// Reads from a stored record how long its dialog lives without a message.
import { lifeBetween } from '../table/dialog-life.ts';
import type { CallRecord } from './call-record.ts';

/**
 * Returns the seconds until the next message of a confirmed call, with a margin, from the answer in its record; 0 when
 * the answer names no time (RFC 4028, RFC 6665).
 */
export function lifeOfRecord({ method, legs }: CallRecord): number {
  const bytes = Buffer.from(legs.find(({ answer }) => answer !== undefined)?.answer ?? '', 'latin1');
  return lifeBetween(bytes, bytes.indexOf('\r\n') + 2, bytes.length, method === 'SUBSCRIBE');
}
