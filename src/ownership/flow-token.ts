// Writes and reads flow tokens: a flow, or a way, signed by the farm.
import { readAddress, writeAddress } from '../base/address-octets.ts';
import type { Flow, Way } from '../packet/flow.ts';
import type { Keyring } from './keyring.ts';
import { type Token, TokenKind, writeToken } from './token.ts';

/** Octets after the flow in the token of a way: the 31-bit target, with the NAT bit on top. */
const PLACE_OCTETS = 4;
const STREAM_OCTETS = 5;
const IPV4_OCTETS = 7;
const IPV6_OCTETS = 19;
const NAT_BIT = 0x80;

const value = new Uint8Array(IPV6_OCTETS + PLACE_OCTETS);

/** Writes listener and remote party into `value`. Returns the number of octets. */
function writeRemote(flow: Readonly<Flow>): number {
  value[0] = flow.listener;
  if (flow.connection !== 0) {
    value[1] = flow.connection >>> 24;
    value[2] = flow.connection >>> 16;
    value[3] = flow.connection >>> 8;
    value[4] = flow.connection;
    return STREAM_OCTETS;
  }
  value[1] = flow.port >>> 8;
  value[2] = flow.port;
  return 3 + writeAddress(flow.address, value, 3);
}

function writeValue(keys: Keyring, flow: Readonly<Flow>, octets: number, to: Uint8Array, at: number): number {
  const kind = flow.connection !== 0 ? TokenKind.streamFlow : TokenKind.datagramFlow;
  return writeToken(keys, kind, flow.member, flow.incarnation, value, octets, to, at);
}

/** Writes the token of the bare flow into `to` at `at`. Returns the offset after it. At most 2 + 55 characters. */
export function writeFlowToken(keys: Keyring, flow: Readonly<Flow>, to: Uint8Array, at: number): number {
  return writeValue(keys, flow, writeRemote(flow), to, at);
}

/**
 * Writes the token of the way into `to` at `at`. Returns the offset after it. At most 2 + 61 characters.
 * `readFlow` reads it as the flow. A target of -1 is written as 0.
 */
export function writeWayToken(keys: Keyring, way: Readonly<Way>, to: Uint8Array, at: number): number {
  const end = writeRemote(way);
  const target = Math.max(way.target, 0);
  value[end] = (target >>> 24) | (way.nat ? NAT_BIT : 0);
  value[end + 1] = target >>> 16;
  value[end + 2] = target >>> 8;
  value[end + 3] = target;
  return writeValue(keys, way, end + PLACE_OCTETS, to, at);
}

/**
 * Fills `out` from a valid token. Returns false when it is no flow token, or its value has a length that no flow has.
 */
export function readFlow(token: Token, out: Flow): boolean {
  const octets = token.valueEnd - token.valueStart;
  return readRemote(token, octets, out) || readRemote(token, octets - PLACE_OCTETS, out);
}

/** Fills `out` like `readFlow`, with the party's place. A bare flow has target -1 and no NAT. */
export function readWay(token: Token, out: Way): boolean {
  const octets = token.valueEnd - token.valueStart;
  const bare = readRemote(token, octets, out);
  if (!bare && !readRemote(token, octets - PLACE_OCTETS, out)) return false;
  out.target = -1;
  out.nat = false;
  if (bare) return true;
  const from = token.octets;
  const at = token.valueEnd - PLACE_OCTETS;
  out.nat = (from[at]! & NAT_BIT) !== 0;
  out.target = ((from[at]! & ~NAT_BIT) << 24) | (from[at + 1]! << 16) | (from[at + 2]! << 8) | from[at + 3]!;
  return true;
}

/**
 * Reads the first `octets` octets of the token's value as a flow. Returns false and changes nothing when they are none.
 */
function readRemote(token: Token, octets: number, out: Flow): boolean {
  const from = token.octets;
  const at = token.valueStart;
  if (token.kind === TokenKind.streamFlow && octets === STREAM_OCTETS) {
    const connection = ((from[at + 1]! << 24) | (from[at + 2]! << 16) | (from[at + 3]! << 8) | from[at + 4]!) >>> 0;
    if (connection === 0) return false;
    out.connection = connection;
    out.address = '';
    out.port = 0;
  } else if (token.kind === TokenKind.datagramFlow && (octets === IPV4_OCTETS || octets === IPV6_OCTETS)) {
    out.connection = 0;
    out.port = (from[at + 1]! << 8) | from[at + 2]!;
    out.address = readAddress(from, at + 3, octets - 3);
  } else return false;
  out.member = token.member;
  out.incarnation = token.incarnation;
  out.listener = from[at]!;
  return true;
}
