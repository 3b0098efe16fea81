// Entries of the store that members write, for the tests of the parts of membership.
import type { MemberRecord, NumberRecord } from '../../../src/membership/member-record.ts';

/** Returns the record of member `id` with number `number`. */
export function memberRecord(id: string, number: number, more: Partial<MemberRecord> = {}): MemberRecord {
  return {
    v: 1,
    id,
    number,
    incarnation: 1,
    role: 'member',
    state: 'active',
    weight: 100,
    relay: `10.0.0.${number}:5064`,
    listeners: [],
    versions: { sipfarm: '0.1.0', min: 1, max: 1 },
    startedAt: '2026-01-01T00:00:00.000Z',
    host: `host-of-${id}`,
    claim: `claim-of-${id}`,
    ...more,
  };
}

/** Returns the number record of member `id`, last seen at `seen` of the wall clock. */
export function numberRecord(id: string, incarnation: number, seen: number): NumberRecord {
  return { v: 1, member: id, incarnation, lastSeen: new Date(seen).toISOString() };
}
