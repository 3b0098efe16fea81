// The store's keys calls/<owner>/pending/<key> and calls/<owner>/dialog/<key>: what another member needs to go on with a call when its owner is
// gone. A call without a record was never written, or is over.
//
// The owner's number stands in the key: it alone writes there, what a dead member leaves behind is one prefix, and to adopt a call is to move
// its record, by one transaction that fails when somebody else was faster. What still rings stands apart from dialogs, because it cannot wait.
import { isInteger, isList, isObject, isOneOf, isText } from '../../base/guards.ts';
import type { Way } from '../../packet/flow.ts';

/** trying: no answer yet; early: it rings (a provisional answer with a To tag); confirmed: a dialog. */
export const RECORD_STATES = ['trying', 'early', 'confirmed'] as const;
export type CallRecordState = (typeof RECORD_STATES)[number];

/** Methods whose dialogs are recorded. */
export const RECORD_METHODS = ['INVITE', 'SUBSCRIBE'] as const;
export type RecordMethod = (typeof RECORD_METHODS)[number];

/**
 * One side of a call: a request that opened it, between the farm and somebody outside. A proxy's call has one of each kind under one Call-ID,
 * and one more `server` for each branch; a back-to-back user agent's two sides have a Call-ID, and so a record, each.
 */
export interface Leg {
  /** `client`: somebody outside sent it to the SIP server. `server`: the SIP server sent it to somebody outside. */
  readonly from: 'client' | 'server';
  /** The way to that somebody. */
  readonly flow: Readonly<Way>;
  /** It has moved since: `flow` is where it is now, whatever the messages name. Left out: it has not. */
  readonly moved?: true;
  /**
   * The request as it stood outside (`client`: as it came, source stamped into its Via; `server`: as it left, under our Via): start line and
   * the headers that identify and route, no body. `client`: all Via; `server`: the top Via only, the rest travels in the responses. Once
   * confirmed, no Via.
   */
  readonly request: string;
  /** Its 2xx as it stood outside, the same headers without Via; left out until there is one. */
  readonly answer?: string;
}

export interface CallRecord {
  readonly v: 1;
  readonly state: CallRecordState;
  readonly method: RecordMethod;
  readonly callId: string;
  /** The incarnation of the owner when it wrote this, and the epoch in which the call became its own. */
  readonly incarnation: number;
  readonly epoch: number;
  /** ISO 8601, the owner's wall clock; for people. */
  readonly since: string;
  readonly legs: readonly Leg[];
}

/** A proxy that forks wider than this has its further branches left out: they end with their own timers. */
export const MAX_LEGS = 8;
/** Characters of the text of one message. Longer ones are not recorded. */
export const MAX_LEG_TEXT = 8192;
/** A Call-ID longer than this is not recorded. */
export const MAX_CALL_ID = 512;

const MAX_EPOCH = 0xffffffff;

/** What is in front of all records of member number `owner`, or of those of one kind. */
export function recordPrefix(owner: number, kind?: 'pending' | 'dialog'): string {
  return kind ? `calls/${owner}/${kind}/` : `calls/${owner}/`;
}

/** The store's key of a call: `entry` is its key in the call table, negative for a call that the server made. */
export function recordKey(owner: number, state: CallRecordState, entry: number): string {
  return `${recordPrefix(owner, state === 'confirmed' ? 'dialog' : 'pending')}${entry.toString(36)}`;
}

/** The owner and the entry that a store's key names; undefined when it is no record's. */
export function parseRecordKey(key: string): { readonly owner: number; readonly entry: number } | undefined {
  const match = /^calls\/([1-9]\d{0,4})\/(?:pending|dialog)\/(-?[0-9a-z]{1,11})$/.exec(key);
  if (!match) return undefined;
  const entry = Number.parseInt(match[2]!, 36);
  return Number.isSafeInteger(entry) ? { owner: Number(match[1]), entry } : undefined;
}

/** undefined when `value` has another shape or breaks a bound. Unknown fields are left out. */
export function parseCallRecord(value: unknown): CallRecord | undefined {
  if (!isObject(value)) return undefined;
  const { v, state, method, callId, incarnation, epoch, since, legs } = value;
  if (v !== 1 || !isOneOf(state, RECORD_STATES) || !isOneOf(method, RECORD_METHODS)) return undefined;
  if (!isText(callId, MAX_CALL_ID) || !isText(since, 40) || !isList(legs, MAX_LEGS)) return undefined;
  if (!isInteger(incarnation, 1, 16_777_215) || !isInteger(epoch, 0, MAX_EPOCH)) return undefined;
  const parsed = legs.map(parseLeg);
  if (parsed.length === 0 || !parsed.every((leg) => leg !== undefined)) return undefined;
  return { v, state, method, callId, incarnation, epoch, since, legs: parsed };
}

function parseLeg(value: unknown): Leg | undefined {
  if (!isObject(value)) return undefined;
  const { from, flow, moved, request, answer } = value;
  if (!isOneOf(from, ['client', 'server']) || !isText(request, MAX_LEG_TEXT)) return undefined;
  if (answer !== undefined && !isText(answer, MAX_LEG_TEXT)) return undefined;
  const way = parseFlow(flow);
  return way && { from, flow: way, ...(moved === true && { moved }), request, ...(answer !== undefined && { answer }) };
}

/** A record of a version before 0.1.1 says nothing of the party's place. */
function parseFlow(value: unknown): Way | undefined {
  if (!isObject(value)) return undefined;
  const { member, incarnation, listener, connection, address, port, target = -1, nat = false } = value;
  if (!isInteger(member, 1, 65_535) || !isInteger(incarnation, 0, 16_777_215) || !isInteger(listener, 0, 255)) {
    return undefined;
  }
  if (!isInteger(connection, 0, 0xffffffff) || !isInteger(port, 0, 65_535)) return undefined;
  if (address !== '' && !isText(address, 64)) return undefined;
  if (!isInteger(target, -1, 0x7fffffff) || typeof nat !== 'boolean') return undefined;
  return { member, incarnation, listener, connection, address, port, target, nat };
}
