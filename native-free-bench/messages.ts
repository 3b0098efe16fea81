// The messages of the bench: INVITEs of one size that differ in Call-ID and branch, as files for the load generator.
import { writeFileSync } from 'node:fs';
import { type Endpoint, formatEndpoint } from '../src/base/endpoint.ts';

/** Octets of every INVITE. The performance targets hold for this size. */
export const INVITE_OCTETS = 600;
/** Octets at the end of each message that the load generator overwrites with its number. */
export const NUMBER_OCTETS = 8;

/** Returns an INVITE of INVITE_OCTETS octets. `index` makes its Call-ID, From tag and branch. */
export function invite(index: number, client: Endpoint, target: Endpoint): Buffer {
  const id = index.toString(16).padStart(8, '0');
  const at = formatEndpoint(client);
  const head = (bodyOctets: number): string =>
    [
      `INVITE sip:bob@${formatEndpoint(target)} SIP/2.0`,
      `Via: SIP/2.0/UDP ${at};branch=z9hG4bK-bench-${id}`,
      'Max-Forwards: 70',
      `From: "Alice" <sip:alice@${at}>;tag=a${id}`,
      `To: <sip:bob@${formatEndpoint(target)}>`,
      `Call-ID: ${id}-8c1e-4b6f-93d7@${client.address}`,
      'CSeq: 1 INVITE',
      `Contact: <sip:alice@${at}>`,
      'Content-Type: application/sdp',
      `Content-Length: ${bodyOctets}`,
      '',
      '',
    ].join('\r\n');
  const body = [
    'v=0',
    `o=alice 2890844526 2890844526 IN IP4 ${client.address}`,
    's=-',
    `c=IN IP4 ${client.address}`,
    't=0 0',
    'm=audio 49170 RTP/AVP 0',
    'a=',
  ].join('\r\n');
  const bodyOctets = INVITE_OCTETS - head(100).length;
  return Buffer.from(head(bodyOctets) + body.padEnd(bodyOctets, '0').slice(0, bodyOctets), 'latin1');
}

/** Messages as the load generator reads them: length in 4 octets, little endian, then the octets. */
export function writeMessages(file: string, messages: readonly Buffer[]): void {
  const pieces = messages.flatMap((message) => {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(message.length);
    return [length, message];
  });
  writeFileSync(file, Buffer.concat(pieces));
}
