// Call records that a dead member has left in the store, for the tests of this folder.
import { type CallRecord, recordKey } from '../../../../src/calls/records/call-record.ts';
import { emptyWay } from '../../../../src/packet/flow.ts';
import type { Store } from '../../../../src/store/store.ts';

/** Number of the dead member. */
export const DEAD = 9;

const FLOW = { ...emptyWay(), member: DEAD, incarnation: 1, listener: 1, address: '192.0.2.7', port: 5060 };

/** Returns the record of the call `call-<entry>`. */
export function recordOf(entry: number, state: CallRecord['state']): CallRecord {
  const request = `INVITE sip:b SIP/2.0\r\nCall-ID: ${entry}\r\n`;
  const legs = [{ from: 'client', flow: FLOW, request }] as const;
  return {
    v: 1,
    state,
    method: 'INVITE',
    callId: `call-${entry}`,
    incarnation: 3,
    epoch: 1,
    since: '2026-01-01T00:00:00Z',
    legs,
  };
}

/** Writes records of DEAD into the store. */
export async function leave(store: Store, state: CallRecord['state'], ...entries: number[]): Promise<void> {
  for (const entry of entries)
    await store.commit([{ key: recordKey(DEAD, state, entry), value: recordOf(entry, state) }]);
}
