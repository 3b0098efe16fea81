// Two keys of the store. members/<id>: the record that a member publishes about itself, bound to its lease.
// numbers/<n>: the holder of a member number.

import { parseEndpoint } from '../base/endpoint.ts';
import { isInteger, isList, isObject, isOneOf, isText } from '../base/guards.ts';
import { SEAT_ROLES, type SeatRole, type SeatState } from '../ownership/view.ts';
import { advertisedIn } from '../packet/advertised.ts';
import { isListenerKind, LISTENER_KINDS, type ListenerKind } from '../packet/transport-kind.ts';

/** `away`: the member lives without a seat: a drain has reached its deadline, or an order has taken the seat. */
const STATES = ['active', 'draining', 'away'] as const satisfies readonly (SeatState | 'away')[];
export type MemberRecordState = (typeof STATES)[number];

export const MAX_NUMBER = 65_535;
export const MAX_INCARNATION = 16_777_215;
const MAX_LISTENERS = 64;
const MAX_KEYS = 8;
const MAX_KIND = 16;
/** A domain name of 253 octets, a port and a transport. */
const MAX_TOLD = 280;

export interface ListenerRecord {
  readonly name: string;
  readonly transport: ListenerKind;
  /** `ip:port`. */
  readonly bind: string;
  /** `ip:port`. */
  readonly advertise: string;
  /**
   * Address announced to clients where `ip:port` is not enough: `host:port`, with `;transport=` if it differs from the
   * listener's (advertised.ts).
   */
  readonly told?: string;
  /** Clients come through a proxy that sends their addresses: answers go to the port that it sends. Left out: no. */
  readonly proxied?: boolean;
  /** Transparent port of this listener, `ip:port`: takes packets with the client's source (relay.mode transparent). */
  readonly transparent?: string;
}

export interface MemberRecord {
  readonly v: 1;
  readonly id: string;
  /** 1-65535. */
  readonly number: number;
  /** 1-16777215, rises with each start. */
  readonly incarnation: number;
  readonly role: SeatRole;
  readonly state: MemberRecordState;
  /** 0-1000. */
  readonly weight: number;
  /** Address of the relay link, `ip:port`. */
  readonly relay: string;
  readonly listeners: readonly ListenerRecord[];
  /** Version of sipfarm, and the lowest and highest version of the protocol between members that it supports. */
  readonly versions: { readonly sipfarm: string; readonly min: number; readonly max: number };
  /** Names of the member's farm keys (ownership/keyring.ts), the minting key first. key-check.ts compares them. */
  readonly keys?: readonly string[];
  /** ISO 8601; for people. */
  readonly startedAt: string;
  /** Name of the machine; with `relay` it distinguishes a restarted member from a second one with the same id. */
  readonly host: string;
  /** Random, one per process: distinguishes its own record from another's. */
  readonly claim: string;
}

/** The fields that the node supplies; membership adds the rest. */
export type MemberRecordParts = Pick<
  MemberRecord,
  'role' | 'weight' | 'relay' | 'listeners' | 'versions' | 'keys' | 'startedAt'
>;

/** The value of numbers/<n>. */
export interface NumberRecord {
  readonly v: 1;
  readonly member: string;
  /** The last incarnation given with this number. It keeps rising when the number goes to another member. */
  readonly incarnation: number;
  /** ISO 8601, written by the member's own wall clock every few hours. */
  readonly lastSeen: string;
}

/** Returns the record of member `id`; undefined when `value` has a wrong shape, breaks a bound, or has another id. */
export function parseMemberRecord(id: string, value: unknown): MemberRecord | undefined {
  if (!isObject(value)) return undefined;
  const {
    v,
    id: named,
    number,
    incarnation,
    role,
    state,
    weight,
    relay,
    listeners,
    versions,
    keys,
    startedAt,
    host,
    claim,
  } = value;
  if (v !== 1 || named !== id || !isMemberId(id)) return undefined;
  if (!isInteger(number, 1, MAX_NUMBER) || !isInteger(incarnation, 1, MAX_INCARNATION)) return undefined;
  if (!isOneOf(role, SEAT_ROLES) || !isOneOf(state, STATES) || !isInteger(weight, 0, 1000)) return undefined;
  if (!isEndpoint(relay) || !isText(startedAt, 40) || !isText(host, 255) || !isText(claim, 64)) return undefined;
  if (!isList(listeners, MAX_LISTENERS) || !isObject(versions)) return undefined;
  const { sipfarm, min, max } = versions;
  if (!isText(sipfarm, 64) || !isInteger(min, 0, 65_535) || !isInteger(max, 0, 65_535)) return undefined;
  if (keys !== undefined && !isKeyNames(keys)) return undefined;
  // A later version may have listeners of kinds that this one lacks: they do not cost the record.
  const parsed = listeners.filter((each) => !isOfLaterKind(each)).map(parseListener);
  if (!parsed.every((listener) => listener !== undefined)) return undefined;
  return {
    v,
    id,
    number,
    incarnation,
    role,
    state,
    weight,
    relay,
    listeners: parsed,
    versions: { sipfarm, min, max },
    ...(keys && { keys }),
    startedAt,
    host,
    claim,
  };
}

function isKeyNames(value: unknown): value is readonly string[] {
  return isList(value, MAX_KEYS) && value.every((name) => typeof name === 'string' && /^[0-9a-f]{16}$/.test(name));
}

function isOfLaterKind(value: unknown): boolean {
  if (!isObject(value)) return false;
  const { transport } = value;
  return isText(transport, MAX_KIND) && !isListenerKind(transport);
}

function parseListener(value: unknown): ListenerRecord | undefined {
  if (!isObject(value)) return undefined;
  const { name, transport, bind, advertise, told, proxied, transparent } = value;
  if (!isText(name, 64) || !isOneOf(transport, LISTENER_KINDS) || !isEndpoint(bind) || !isEndpoint(advertise)) {
    return undefined;
  }
  if (transparent !== undefined && !isEndpoint(transparent)) return undefined;
  return {
    name,
    transport,
    bind,
    advertise,
    // A value in a format of a later version is left out; the record stays valid.
    ...(isText(told, MAX_TOLD) && advertisedIn({ transport, advertise, told }) && { told }),
    ...(proxied === true && { proxied }),
    ...(transparent !== undefined && { transparent }),
  };
}

/** Returns the number record; undefined when `value` has a wrong shape or breaks a bound. */
export function parseNumberRecord(value: unknown): NumberRecord | undefined {
  if (!isObject(value)) return undefined;
  const { v, member, incarnation, lastSeen } = value;
  if (v !== 1 || !isText(member, 64) || !isInteger(incarnation, 0, MAX_INCARNATION)) return undefined;
  if (!isText(lastSeen, 40) || Number.isNaN(Date.parse(lastSeen))) return undefined;
  return { v, member, incarnation, lastSeen };
}

/** Returns true for 1 to 64 letters, digits, `.`, `_` and `-`: the characters allowed in a key of the store. */
export function isMemberId(id: unknown): id is string {
  return typeof id === 'string' && /^[A-Za-z0-9._-]{1,64}$/.test(id);
}

function isEndpoint(value: unknown): value is string {
  return isText(value, 64) && (parseEndpoint(value)?.port ?? 0) > 0;
}
