// The flow that our own Via carries in its parameter `sf`: where the response to the request under it goes; with the sender's place where that has moved.
import { readWay, type Way, writeWayToken } from '../../ownership/flow.ts';
import type { Keyring } from '../../ownership/keyring.ts';
import { readToken, type Token } from '../../ownership/token.ts';
import type { Scan } from '../../sip/scan.ts';
import type { Edge } from './edge.ts';
import { FLOW_PARAMETER } from './stamp.ts';

/** Reads the flow that our own top Via carries. False when it carries none, or none of ours. */
export function readWayParameter(edge: Edge, scan: Scan, token: Token, way: Way): boolean {
  // Behind sent-by: an element may have put the parameters in another order.
  return readWayBetween(edge, scan.bytes, scan.sentByEnd, scan.viaEnd, token, way);
}

/** The same of the parameters in `all[from..to)`. */
export function readWayBetween(edge: Edge, all: Buffer, from: number, to: number, token: Token, way: Way): boolean {
  const bytes = all.subarray(0, to);
  const at = bytes.indexOf(FLOW_PARAMETER, from);
  if (at < 0) return false;
  const start = at + FLOW_PARAMETER.length;
  let end = start;
  while (end < to && bytes[end] !== 0x3b) end++;
  return readToken(edge.world.keys, bytes, start, end, token) === 'valid' && readWay(token, way);
}

const text = Buffer.alloc(128);

/** The way as a parameter of a URI. */
export function wayParameter(keys: Keyring, way: Readonly<Way>): string {
  return `${FLOW_PARAMETER.toString('latin1')}${text.toString('latin1', 0, writeWayToken(keys, way, text, 0))}`;
}
