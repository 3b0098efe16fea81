// Session descriptions for the tests of media sessions.
import assert from 'node:assert/strict';
import type { RelayedPlaces } from '../../../src/media/call-media.ts';
import { readSdp, type Sdp } from '../../../src/sdp/sdp.ts';

/** Returns a description with this session address and these m= sections. */
export function sdp(address: string, ...media: string[]): Sdp {
  const bytes = Buffer.from(`v=0\r\no=- 1 1 IN IP4 ${address}\r\ns=-\r\nc=IN IP4 ${address}\r\n${media.join('')}`);
  const read = readSdp(bytes, 0, bytes.length);
  assert.ok(typeof read !== 'string', String(read));
  return read;
}

/** Returns an m= section of audio with these lines. */
export const audio = (port: number, ...lines: string[]): string =>
  [`m=audio ${port} RTP/AVP 8`, ...lines].map((each) => `${each}\r\n`).join('');

/** Returns the description that the reader of these places gets. */
export const named = ({ address, ports }: RelayedPlaces): Sdp =>
  sdp(address, ...ports.map((each) => audio(each?.port ?? 0)));
