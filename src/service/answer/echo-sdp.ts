// The answer that accepts everything that an offer sends in clear, and sends the same back (RFC 3264 6). Pure.
import { isIceAttribute, type Sdp } from '../../sdp/sdp.ts';

/** Attributes of the caller alone, beside those of ICE: keys (RFC 4568, RFC 8122, RFC 4145), sources (RFC 5576). */
const OWN = /^a=(?:crypto|fingerprint|setup|tls-id|ssrc|ssrc-group|msid)(?::|$)/;
const MEDIA = /^(m=[^ ]+ +)\d+(.*)$/;
const DIRECTIONS: Readonly<Record<string, string>> = { 'a=sendonly': 'a=recvonly', 'a=recvonly': 'a=sendonly' };

/**
 * Returns the answer to the offer `text`, whose parsed form is `sdp`. Streams that are no RTP in clear are rejected.
 * `version`: greater with each answer of a dialog (RFC 3264 8).
 */
export function echoOf(text: string, { streams, eol }: Sdp, version: number): string {
  let at = -1;
  const lines: string[] = [];
  for (const line of text.split(/\r?\n/)) {
    const media = MEDIA.exec(line);
    if (media) at++;
    if (line === '' || OWN.test(line) || isIceAttribute(line.slice(2))) continue;
    if (line.startsWith('o=')) lines.push(line.replace(/^o=.* IN /, `o=sipfarm 1 ${version} IN `));
    else if (media && streams[at]?.kind !== 'rtp') lines.push(`${media[1]}0${media[2]}`);
    else lines.push(DIRECTIONS[line] ?? line);
  }
  return lines.join(eol) + eol;
}
