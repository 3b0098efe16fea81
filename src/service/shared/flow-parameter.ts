// The flow that our own Via carries in its parameter `sf`: where the response to the request under it goes; with the sender's place where that has moved.
import { readWay, writeWayToken } from '../../ownership/flow-token.ts';
import type { Keyring } from '../../ownership/keyring.ts';
import { readToken, type Token } from '../../ownership/token.ts';
import type { Way } from '../../packet/flow.ts';
import type { Scan } from '../../sip/scan.ts';
import type { Via } from '../../sip/via.ts';
import type { ServiceContext } from './context.ts';
import { FLOW_PARAMETER } from './top-headers.ts';

/** Reads the flow that our own top Via carries. False when it carries none, or none of ours. */
export function readWayParameter(context: ServiceContext, scan: Scan, token: Token, way: Way): boolean {
  return readWayOf(context, scan.bytes, scan.via, token, way);
}

/** The same of any Via in `bytes`. An element may have spelt it in another way (RFC 3261 7.3.1, 25.1), but must not change the value. */
export function readWayOf(
  context: ServiceContext,
  bytes: Buffer,
  { flowStart, flowEnd }: Via,
  token: Token,
  way: Way,
): boolean {
  return (
    flowStart >= 0 &&
    readToken(context.routing.keys, bytes, flowStart, flowEnd, token) === 'valid' &&
    readWay(token, way)
  );
}

const text = Buffer.alloc(128);

/** The way as a parameter of a URI. */
export function wayParameter(keys: Keyring, way: Readonly<Way>): string {
  return `${FLOW_PARAMETER.toString('latin1')}${text.toString('latin1', 0, writeWayToken(keys, way, text, 0))}`;
}
