// The store's keys calls/<owner>/pending/<key> and calls/<owner>/dialog/<key>: the data that another member needs to
// continue a call when its owner is gone. A call without a record was never written, or is over.
//
// The owner's number is part of the key. So only the owner writes there, and all records of a dead member have one
// prefix. Adoption moves a record, in one transaction that fails when another member was faster. Pending calls have
// keys of their own, because they cannot wait as long as dialogs.
import { isInteger, isList, isObject, isOneOf, isText } from '../../base/guards.ts';
import type { Way } from '../../packet/flow.ts';
import { type MediaRecord, parseMediaRecord } from './media-record.ts';

/** trying: no answer yet; early: it rings (a provisional answer with a To tag); confirmed: a dialog. */
export const RECORD_STATES = ['trying', 'early', 'confirmed'] as const;
export type CallRecordState = (typeof RECORD_STATES)[number];

/** Methods whose dialogs are recorded. */
export const RECORD_METHODS = ['INVITE', 'SUBSCRIBE'] as const;
export type RecordMethod = (typeof RECORD_METHODS)[number];

/**
 * One side of a call: a request that opened it, between the farm and an outside party. A proxy's call has a `client`
 * leg and a `server` leg per branch under one Call-ID. The two sides of a back-to-back user agent have different
 * Call-IDs, and so a record each.
 */
export interface Leg {
  /** `client`: an outside party sent it to the SIP server. `server`: the SIP server sent it to an outside party. */
  readonly from: 'client' | 'server';
  /** Flow to this leg's outside party. */
  readonly flow: Readonly<Way>;
  /** The party has moved: `flow` is its new flow, even if the stored messages name the old one. Left out: not moved. */
  readonly moved?: true;
  /**
   * The request in its form outside the farm: start line and the headers that identify and route, no body.
   * `client`: as received, with the source written into its Via; all Via headers.
   * `server`: as sent, with this farm's Via; only the top Via, because the responses carry the rest.
   * Without Via once the call is confirmed.
   */
  readonly request: string;
  /** Its 2xx in its form outside the farm, the same headers without Via; left out until there is one. */
  readonly answer?: string;
  /**
   * Added to CSeq numbers, because members have sent requests of their own in the dialog: to those of requests to the
   * party, and to those of requests of the party to the SIP server. Left out: nothing.
   */
  readonly shift?: CseqShift;
}

/** Towards the party, and from the party towards the SIP server. */
export type CseqShift = readonly [number, number];

export interface CallRecord {
  readonly v: 1;
  readonly state: CallRecordState;
  readonly method: RecordMethod;
  readonly callId: string;
  /** Incarnation of the owner that wrote the record, and epoch in which it became the owner of the call. */
  readonly incarnation: number;
  readonly epoch: number;
  /** ISO 8601, the owner's wall clock; for people. */
  readonly since: string;
  readonly legs: readonly Leg[];
  /** Left out: the owner relays no media of the call. */
  readonly media?: MediaRecord;
}

/** Maximum of legs. Further branches of a forking proxy are not recorded; they end by their own timers. */
export const MAX_LEGS = 8;
/** Maximum characters of the text of one message. Longer messages are not recorded. */
export const MAX_LEG_TEXT = 8192;
/** A Call-ID longer than this is not recorded. */
export const MAX_CALL_ID = 512;

const MAX_EPOCH = 0xffffffff;
/** RFC 3261 8.1.1.5. */
export const MAX_CSEQ = 2 ** 31 - 1;

/** Returns the prefix of the keys of all records of member number `owner`, or of those of one kind. */
export function recordPrefix(owner: number, kind?: 'pending' | 'dialog'): string {
  return kind ? `calls/${owner}/${kind}/` : `calls/${owner}/`;
}

/** Returns the store's key of a call. `entry`: its key in the call table, negative for a call that the server made. */
export function recordKey(owner: number, state: CallRecordState, entry: number): string {
  return `${recordPrefix(owner, state === 'confirmed' ? 'dialog' : 'pending')}${entry.toString(36)}`;
}

/** Returns owner and entry of a record's key in the store; undefined for other keys. */
export function parseRecordKey(key: string): { readonly owner: number; readonly entry: number } | undefined {
  const match = /^calls\/([1-9]\d{0,4})\/(?:pending|dialog)\/(-?[0-9a-z]{1,11})$/.exec(key);
  if (!match) return undefined;
  const entry = Number.parseInt(match[2]!, 36);
  return Number.isSafeInteger(entry) ? { owner: Number(match[1]), entry } : undefined;
}

/**
 * Returns the record; undefined when `value` has a wrong shape or breaks a bound. Unknown fields are left out, and
 * media of a wrong shape: the call goes on without it.
 */
export function parseCallRecord(value: unknown): CallRecord | undefined {
  if (!isObject(value)) return undefined;
  const { v, state, method, callId, incarnation, epoch, since, legs, media } = value;
  if (v !== 1 || !isOneOf(state, RECORD_STATES) || !isOneOf(method, RECORD_METHODS)) return undefined;
  if (!isText(callId, MAX_CALL_ID) || !isText(since, 40) || !isList(legs, MAX_LEGS)) return undefined;
  if (!isInteger(incarnation, 1, 16_777_215) || !isInteger(epoch, 0, MAX_EPOCH)) return undefined;
  const parsed = legs.map(parseLeg);
  if (parsed.length === 0 || !parsed.every((leg) => leg !== undefined)) return undefined;
  const relayed = parseMediaRecord(media);
  return { v, state, method, callId, incarnation, epoch, since, legs: parsed, ...(relayed && { media: relayed }) };
}

function parseLeg(value: unknown): Leg | undefined {
  if (!isObject(value)) return undefined;
  const { from, flow, moved, request, answer, shift } = value;
  if (!isOneOf(from, ['client', 'server']) || !isText(request, MAX_LEG_TEXT)) return undefined;
  if (answer !== undefined && !isText(answer, MAX_LEG_TEXT)) return undefined;
  const way = parseFlow(flow);
  if (!way) return undefined;
  return {
    ...{ from, flow: way, ...(moved === true && { moved }), request },
    ...(answer !== undefined && { answer }),
    ...(isShift(shift) && { shift }),
  };
}

function isShift(value: unknown): value is CseqShift {
  return isList(value, 2) && value.length === 2 && value.every((each) => isInteger(each, 0, MAX_CSEQ));
}

/** Returns the flow; undefined when `value` is none. Records before version 0.1.1 have neither `target` nor `nat`. */
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
