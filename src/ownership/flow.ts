// A flow (RFC 5626 section 1): one way to reach a remote party, held at one member. A flow token is a flow, signed.
import { readAddress, writeAddress } from '../base/address-octets.ts';
import type { Keyring } from './keyring.ts';
import { type Token, TokenKind, writeToken } from './token.ts';

export interface Flow {
  /** The member that holds the flow, and its incarnation when the flow was made. */
  member: number;
  incarnation: number;
  /** Code of the listener, the same at every member (base/listener-code.ts). */
  listener: number;
  /** The connection at that member; 0 for a datagram flow. */
  connection: number;
  /** Remote address and port of a datagram flow; informative for a connection. */
  address: string;
  port: number;
}

const value = new Uint8Array(19);

/** Writes the token of `flow` into `to` at `at`; returns the offset behind it. At most 2 + 55 characters. */
export function writeFlowToken(keys: Keyring, flow: Readonly<Flow>, to: Uint8Array, at: number): number {
  value[0] = flow.listener;
  if (flow.connection !== 0) {
    value[1] = flow.connection >>> 24;
    value[2] = flow.connection >>> 16;
    value[3] = flow.connection >>> 8;
    value[4] = flow.connection;
    return writeToken(keys, TokenKind.streamFlow, flow.member, flow.incarnation, value, 5, to, at);
  }
  value[1] = flow.port >>> 8;
  value[2] = flow.port;
  const octets = 3 + writeAddress(flow.address, value, 3);
  return writeToken(keys, TokenKind.datagramFlow, flow.member, flow.incarnation, value, octets, to, at);
}

/** Fills `out` from a valid token; false when the token is no flow token, or its value has a length no flow has. */
export function readFlow(token: Token, out: Flow): boolean {
  const from = token.octets;
  const at = token.valueStart;
  const octets = token.valueEnd - at;
  out.member = token.member;
  out.incarnation = token.incarnation;
  out.listener = from[at]!;
  if (token.kind === TokenKind.streamFlow && octets === 5) {
    out.connection = ((from[at + 1]! << 24) | (from[at + 2]! << 16) | (from[at + 3]! << 8) | from[at + 4]!) >>> 0;
    out.address = '';
    out.port = 0;
    return out.connection !== 0;
  }
  if (token.kind !== TokenKind.datagramFlow || (octets !== 7 && octets !== 19)) return false;
  out.connection = 0;
  out.port = (from[at + 1]! << 8) | from[at + 2]!;
  out.address = readAddress(from, at + 3, octets - 3);
  return true;
}
