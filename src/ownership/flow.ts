// A flow (RFC 5626 section 1): one way to reach a remote party, held at one member. A flow token is a flow, signed.
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

/** Writes the address's 4 or 16 octets at `at`; returns their number. `address` is an IP literal as every socket reports it; '' is written as 0.0.0.0. */
export function writeAddress(address: string, to: Uint8Array, at: number): number {
  if (!address.includes(':')) {
    let octet = 0;
    let out = at;
    to.fill(0, at, at + 4);
    for (let i = 0; i < address.length; i++) {
      const character = address.charCodeAt(i);
      if (character === 46) {
        to[out++] = octet;
        octet = 0;
      } else octet = octet * 10 + character - 48;
    }
    to[out] = octet;
    return 4;
  }
  const zone = address.indexOf('%');
  const [head = '', tail] = (zone < 0 ? address : address.slice(0, zone)).split('::');
  to.fill(0, at, at + 16);
  const left = writeGroups(head, to, at);
  if (tail !== undefined) {
    const room = new Uint8Array(16);
    const right = writeGroups(tail, room, 0);
    to.set(room.subarray(0, right), at + 16 - right);
  } else if (left !== 16) to.fill(0, at, at + 16);
  return 16;
}

function writeGroups(groups: string, to: Uint8Array, at: number): number {
  if (groups === '') return 0;
  let out = at;
  for (const group of groups.split(':')) {
    if (group.includes('.')) out += writeAddress(group, to, out);
    else {
      const number = Number.parseInt(group, 16);
      to[out++] = number >>> 8;
      to[out++] = number;
    }
  }
  return out - at;
}

/** The inverse of `writeAddress` for 4 or 16 octets. IPv6 comes out in RFC 5952 form, IPv4-mapped addresses as plain IPv4. */
export function readAddress(from: Uint8Array, at: number, octets: number): string {
  if (octets === 4) return `${from[at]}.${from[at + 1]}.${from[at + 2]}.${from[at + 3]}`;
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push((from[at + i]! << 8) | from[at + i + 1]!);
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) return readAddress(from, at + 12, 4);
  let best = -1;
  let bestLength = 1;
  for (let i = 0; i < 8; i++) {
    let run = 0;
    while (i + run < 8 && groups[i + run] === 0) run++;
    if (run > bestLength) {
      best = i;
      bestLength = run;
    }
  }
  const hex = groups.map((group) => group.toString(16));
  return best < 0 ? hex.join(':') : `${hex.slice(0, best).join(':')}::${hex.slice(best + bestLength).join(':')}`;
}

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
