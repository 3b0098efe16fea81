// The members that had the record of a call, from the event logs of all members.

/** An event of one call in a member's log: it wrote, deleted or adopted the record. */
export interface RecordEvent {
  readonly k: number;
  /** Time of the request to etcd itself, ms: a member that stood still has the answer later. */
  readonly at: number;
  readonly what: 'written' | 'deleted' | 'adopted';
}

/** True when a member occurs twice: it went on after another one had adopted the call. */
export const hasReturned = (owners: readonly number[]): boolean => new Set(owners).size < owners.length;

/**
 * Returns the members that had the record of a call, the last one at the end. A member that adopts the call again is
 * listed by its last time. A member that writes it again without that is listed twice, and ends the list. A member that
 * deletes the record has ended or returned the call, and any member may have it afterwards.
 */
export function recordOwners(events: readonly RecordEvent[]): number[] {
  let owners: number[] = [];
  for (const { k, what } of events.toSorted((a, b) => a.at - b.at)) {
    if (what === 'adopted') owners = owners.filter((each) => each !== k);
    if (owners.at(-1) !== k) owners.push(k);
    // A returned record stays in the list, so that it is reported.
    if (hasReturned(owners)) return owners;
    if (what === 'deleted') owners = [];
  }
  return owners;
}
