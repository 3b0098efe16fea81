// Writes the addresses of a media relay into a session description. Splices octets: all others stay as they are.
import { isIpv6 } from '../base/endpoint.ts';
import type { Piece } from '../sip/edit.ts';
import { isHeldByAddress, type Sdp, type SdpAddress, type SdpStream } from './sdp.ts';

/** Collects splices of the message that holds the description (sip/edit.ts). */
export interface Splices {
  insert(at: number, piece: Piece): unknown;
  replace(start: number, end: number, piece: Piece): unknown;
  delete(start: number, end: number): unknown;
}

/** Where the other party shall send one stream. */
interface StreamPorts {
  readonly port: number;
  /** Port for RTCP; `port` itself with rtcp-mux. */
  readonly rtcpPort: number;
}

export interface RelayedOptions {
  /** IP literal of the relay, without brackets. */
  readonly address: string;
  /** The ports of each stream, by its place in the description; undefined leaves the stream as it is. */
  readonly ports: readonly (StreamPorts | undefined)[];
  /** Whether the address of o= is replaced. */
  readonly origin: 'keep' | 'replace';
  /** Address for o=; left out: `address`. A session keeps the one that it began with (RFC 3264 8). */
  readonly originAddress?: string;
  /** Added to the version in o=: the changes that its reader got from members. Left out: 0. */
  readonly raised?: number;
  /** True: a stream without ports is rejected. Left out: it stays as it is. */
  readonly rejects?: boolean;
  /** `first`: the relay's candidates are put in front of the others. `remove`: all lines of ICE go (RFC 8839). */
  readonly ice: 'first' | 'remove';
}

/** Priority of a host candidate, the highest type, of the only address (RFC 8445 5.1.2), for component 1. */
const CANDIDATE_PRIORITY = 126 * 2 ** 24 + 65_535 * 2 ** 8 + 255;

/**
 * Adds to `edit` the splices that make `sdp` name the relay. Streams without ports, rejected ones and those over other
 * protocols than UDP keep their address. A stream on hold by an address of zeros keeps that, too.
 */
export function relaySdp(edit: Splices, sdp: Sdp, options: RelayedOptions): void {
  const { address, ports, origin, originAddress = address, raised = 0, rejects = false, ice } = options;
  const text = addressText(address);
  const replace = (at: SdpAddress): void => void edit.replace(at.start, at.end, text);
  if (origin === 'replace' && sdp.origin) edit.replace(sdp.origin.start, sdp.origin.end, addressText(originAddress));
  if (raised > 0 && sdp.version) {
    const { start, end, value } = sdp.version;
    edit.replace(start, end, String(value + BigInt(raised)));
  }
  const rejected = (stream: SdpStream, i: number): boolean => rejects && !ports[i] && stream.kind !== 'other';
  // The session's address is replaced where it holds for no stream that keeps its own place.
  const shared = sdp.streams.filter((stream, i) => !stream.connection && stream.port !== 0 && !rejected(stream, i));
  const moves = (stream: SdpStream): boolean => ports[sdp.streams.indexOf(stream)] !== undefined && stream.port !== 0;
  const held = sdp.streams.some((stream) => !stream.connection && isHeldByAddress(stream));
  const whole = sdp.connection !== undefined && !held && shared.every(moves);
  if (whole && shared.length > 0) replace(sdp.connection);
  for (const [i, stream] of sdp.streams.entries()) {
    const its = ports[i];
    if (rejected(stream, i)) edit.replace(stream.portStart, stream.portEnd, '0');
    if (!its || stream.port === 0) continue;
    edit.replace(stream.portStart, stream.portEnd, String(its.port));
    if (!isHeldByAddress(stream)) {
      if (stream.connection) replace(stream.connection);
      else if (!whole) edit.insert(stream.connectionAt, lineAt(sdp, stream.connectionAt, `c=IN ${text}`));
    }
    if (stream.rtcp) {
      edit.replace(stream.rtcp.portStart, stream.rtcp.portEnd, String(its.rtcpPort));
      if (stream.rtcp.address) replace(stream.rtcp.address);
    }
    if (ice === 'first' && stream.candidatesAt >= 0)
      edit.insert(stream.candidatesAt, candidates(sdp, address, its, stream.rtcpCandidates));
  }
  if (ice === 'remove')
    for (let i = 0; i < sdp.iceLines.length; i += 2) edit.delete(sdp.iceLines[i]!, sdp.iceLines[i + 1]!);
}

function addressText(address: string): string {
  return `IP${isIpv6(address) ? 6 : 4} ${address}`;
}

/** Returns `text` as a line that is inserted at `at`. */
function lineAt({ cut, end, eol }: Sdp, at: number, text: string): string {
  return cut && at === end ? eol + text : text + eol;
}

/** Returns the candidate lines of the relay (RFC 8839 5.1), for RTCP too where the party has a component 2. */
function candidates({ eol }: Sdp, address: string, { port, rtcpPort }: StreamPorts, rtcp: boolean): string {
  const line = (component: number, at: number): string =>
    `a=candidate:sipfarm ${component} UDP ${CANDIDATE_PRIORITY - component + 1} ${address} ${at} typ host${eol}`;
  return rtcp && rtcpPort !== port ? line(1, port) + line(2, rtcpPort) : line(1, port);
}
