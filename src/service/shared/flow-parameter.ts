// Reads and writes the `sf` parameter of the farm's own Via: the flow of the response, and the sender's place if it has
// moved. The parameter is also put into URIs of clients without Path support.
import { readWay, writeWayToken } from '../../ownership/flow-token.ts';
import type { Keyring } from '../../ownership/keyring.ts';
import { readToken, type Token } from '../../ownership/token.ts';
import type { Way } from '../../packet/flow.ts';
import type { Scan } from '../../sip/scan.ts';
import type { Via } from '../../sip/via.ts';
import type { ServiceContext } from './context.ts';
import { FLOW_PARAMETER } from './top-headers.ts';

/** Reads the flow from the top Via. Returns false when it has no `sf`, or one whose token is not valid. */
export function readWayParameter(context: ServiceContext, scan: Scan, token: Token, way: Way): boolean {
  return readWayOf(context, scan.bytes, scan.via, token, way);
}

/**
 * Reads the flow from any Via in `bytes`. An element may change its spelling (RFC 3261 7.3.1, 25.1), but not its value.
 */
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

/** Returns the flow as a URI parameter. */
export function wayParameter(keys: Keyring, way: Readonly<Way>): string {
  return `${FLOW_PARAMETER.toString('latin1')}${text.toString('latin1', 0, writeWayToken(keys, way, text, 0))}`;
}
