// The flow that our own Via carries in its parameter `sf`: where the response to the request under it goes.
import { type Flow, readFlow } from '../../ownership/flow.ts';
import { readToken, type Token } from '../../ownership/token.ts';
import type { Scan } from '../../sip/scan.ts';
import type { Edge } from './edge.ts';
import { FLOW_PARAMETER } from './stamp.ts';

/** Reads the flow that our own top Via carries. False when it carries none, or none of ours. */
export function readFlowParameter(edge: Edge, scan: Scan, token: Token, flow: Flow): boolean {
  // Behind sent-by: an element may have put the parameters in another order.
  return readFlowBetween(edge, scan.bytes, scan.sentByEnd, scan.viaEnd, token, flow);
}

/** The same of the parameters in `all[from..to)`. */
export function readFlowBetween(edge: Edge, all: Buffer, from: number, to: number, token: Token, flow: Flow): boolean {
  const bytes = all.subarray(0, to);
  const at = bytes.indexOf(FLOW_PARAMETER, from);
  if (at < 0) return false;
  const start = at + FLOW_PARAMETER.length;
  let end = start;
  while (end < to && bytes[end] !== 0x3b) end++;
  return readToken(edge.world.keys, bytes, start, end, token) === 'valid' && readFlow(token, flow);
}
