// The flow that our own Via carries in its parameter `sf`: where the response to the request under it goes.
import { type Flow, readFlow } from '../../ownership/flow.ts';
import { readToken, type Token } from '../../ownership/token.ts';
import type { Scan } from '../../sip/scan.ts';
import type { Via } from '../../sip/via.ts';
import type { Edge } from './edge.ts';

/** Reads the flow that our own top Via carries. False when it carries none, or none of ours. */
export function readFlowParameter(edge: Edge, scan: Scan, token: Token, flow: Flow): boolean {
  return readFlowOf(edge, scan.bytes, scan.via, token, flow);
}

/** The same of any Via in `bytes`. An element may have spelt it in another way (RFC 3261 7.3.1, 25.1), but must not change the value. */
export function readFlowOf(edge: Edge, bytes: Buffer, { flowStart, flowEnd }: Via, token: Token, flow: Flow): boolean {
  return (
    flowStart >= 0 && readToken(edge.world.keys, bytes, flowStart, flowEnd, token) === 'valid' && readFlow(token, flow)
  );
}
