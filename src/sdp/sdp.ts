// Reads a session description (RFC 8866) as far as a media relay needs it: where media goes, and where in the octets
// that is written. Pure. Everything else in the description is skipped, also what breaks the grammar.

/** Streams of one description (RFC 3264 6 keeps rejected ones for ever, so long calls collect them). */
export const MAX_STREAMS = 32;

/** Most octets of a line. A longer attribute is none that this file reads. */
const MAX_LINE = 1024;

/** Why a description stays as it is. The words are label values of metrics. */
export const SDP_DOUBTS = [
  'no-stream',
  'many-streams',
  'long-line',
  'bad-media-line',
  'bad-connection',
  'no-connection',
  'two-rtcp',
  'port-series',
  'host-name',
  'multicast',
] as const;
export type SdpDoubt = (typeof SDP_DOUBTS)[number];

/** An address in the description. */
export interface SdpAddress {
  readonly ipv6: boolean;
  /** IP literal as written. */
  readonly address: string;
  /** Offsets of the text `IP4 192.0.2.1`, without TTL. */
  readonly start: number;
  readonly end: number;
}

/**
 * The packets on a stream's ports. rtp: RTP in clear. secure: SRTP or DTLS-SRTP, whose RTP header is readable.
 * datagram: any other protocol over UDP. other: not over UDP, or unknown.
 */
type StreamKind = 'rtp' | 'secure' | 'datagram' | 'other';

export interface SdpStream {
  readonly kind: StreamKind;
  /** Port of the m= line; 0 = the stream is rejected (RFC 3264 6). */
  readonly port: number;
  readonly portStart: number;
  readonly portEnd: number;
  /** Where a c= line of this stream belongs: behind the lines m= and i= (RFC 8866 9). */
  readonly connectionAt: number;
  /** The c= line of this stream; undefined: the one of the session holds. */
  readonly connection: SdpAddress | undefined;
  /** The address that holds for the stream, its own or the session's. */
  readonly target: SdpAddress | undefined;
  /** The value of a=rtcp (RFC 3605); undefined where RTCP has the next port. */
  readonly rtcp: SdpRtcp | undefined;
  /** The stream offers or accepts one port for RTP and RTCP (RFC 5761). */
  readonly mux: boolean;
  /** The stream has no second port for RTCP: a=rtcp-mux-only (RFC 8858). */
  readonly muxOnly: boolean;
  /** The direction is not a=sendrecv, or the address is one of zeros: one party may send nothing (RFC 3264 8.4). */
  readonly held: boolean;
  /** Offset of the first a=candidate line (RFC 8839 5.1); -1 = none. */
  readonly candidatesAt: number;
  /** The candidates have a component 2, for RTCP. */
  readonly rtcpCandidates: boolean;
}

interface SdpRtcp {
  readonly port: number;
  readonly portStart: number;
  readonly portEnd: number;
  readonly address: SdpAddress | undefined;
}

export interface Sdp {
  /** Start of the description. */
  readonly start: number;
  /** The address of o=; undefined where it cannot be read. */
  readonly origin: SdpAddress | undefined;
  /** The version in o= (RFC 8866 5.2); undefined where it is no number. */
  readonly version: SdpVersion | undefined;
  /** The c= line of the session. */
  readonly connection: SdpAddress | undefined;
  readonly streams: readonly SdpStream[];
  /** The line end of the first line; CRLF for a description of one line. */
  readonly eol: '\r\n' | '\n';
  /** The last line has no line end. */
  readonly cut: boolean;
  /** End of the description. */
  readonly end: number;
  /** Lines of ICE (RFC 8839 5), candidates included: offsets of their starts and ends, one after the other. */
  readonly iceLines: readonly number[];
}

interface SdpVersion {
  readonly value: bigint;
  readonly start: number;
  readonly end: number;
}

type Draft<T> = { -readonly [K in keyof T]: T[K] };

const ADDRESS = /^IN +(IP([46]) +([^ /]+))(?:\/[\d/]+)? *$/d;
const ORIGIN = /^[^ ]+ +[^ ]+ +[^ ]+ +IN +(IP([46]) +([^ ]+)) *$/d;
const VERSION = /^[^ ]+ +[^ ]+ +(\d{1,20}) /d;
const MEDIA = /^[^ ]+ +(\d{1,5})(\/\d+)? +([^ ]+)(?: |$)/d;
const RTCP = /^rtcp:(\d{1,5})(?: +IN +(IP([46]) +([^ ]+)))? *$/d;
const ICE =
  /^(?:candidate|end-of-candidates|ice-lite|ice-mismatch|ice-options|ice-pacing|ice-pwd|ice-ufrag|remote-candidates)(?::|$)/;

/** Returns true for the text of an attribute of ICE (RFC 8839 5). */
export const isIceAttribute = (text: string): boolean => ICE.test(text);

const DIRECTION = /^(?:sendrecv|sendonly|recvonly|inactive)$/;
const RTCP_CANDIDATE = /^candidate:[^ ]+ +2 /;
/** 224.0.0.0/4 and ff00::/8 (RFC 5771, RFC 4291 2.7). */
const MULTICAST = /^(?:22[4-9]|23\d)\.|^ff[0-9a-f]{2}:/i;
const LITERAL = /^(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]*:[0-9a-f:.]*)$/i;

const LF = 0x0a;
const CR = 0x0d;
const EQUALS = 0x3d;

/**
 * Reads the description in `bytes[start..end)`: lines that end with CRLF or LF, the last one perhaps with neither.
 * Returns a word when it is doubtful where the media goes. Never throws.
 */
export function readSdp(bytes: Buffer, start: number, end: number): Sdp | SdpDoubt {
  const streams: Draft<SdpStream>[] = [];
  const iceLines: number[] = [];
  let origin: SdpAddress | undefined;
  let version: SdpVersion | undefined;
  let connection: SdpAddress | undefined;
  let held = false;
  for (let at = start, next = at; at < end; at = next) {
    const lf = bytes.indexOf(LF, at);
    next = lf < 0 || lf >= end ? end : lf + 1;
    if (next - at < 2 || bytes[at + 1] !== EQUALS) continue;
    const type = String.fromCharCode(bytes[at]!);
    const stream = streams.at(-1);
    if (type === 'i' && stream?.connectionAt === at) stream.connectionAt = next;
    if (!'ocma'.includes(type)) continue;
    let textEnd = next === lf + 1 ? lf : next;
    if (bytes[textEnd - 1] === CR) textEnd--;
    const textAt = at + 2;
    if (textEnd - textAt > MAX_LINE) {
      if (type === 'a') continue;
      return 'long-line';
    }
    const text = bytes.toString('latin1', textAt, textEnd);
    if (type === 'o') {
      origin ??= addressOf(ORIGIN.exec(text), 1, textAt);
      version ??= versionOf(text, textAt);
    } else if (type === 'c') {
      const address = addressOf(ADDRESS.exec(text), 1, textAt);
      if (!address) return 'bad-connection';
      if (MULTICAST.test(address.address)) return 'multicast';
      if (!LITERAL.test(address.address)) return 'host-name';
      // A second one is for multicast alone (RFC 8866 5.7). Readers may take either.
      if (stream ? stream.connection : connection) return 'bad-connection';
      if (stream) stream.connection = address;
      else connection = address;
    } else if (type === 'm') {
      if (streams.length === MAX_STREAMS) return 'many-streams';
      const read = streamOf(text, textAt, next, held);
      if (typeof read === 'string') return read;
      streams.push(read);
    } else if (type === 'a') {
      if (ICE.test(text)) {
        iceLines.push(at, next);
        if (stream && text.startsWith('candidate:')) {
          if (stream.candidatesAt < 0) stream.candidatesAt = at;
          stream.rtcpCandidates ||= RTCP_CANDIDATE.test(text);
        }
      } else if (DIRECTION.test(text)) {
        if (stream) stream.held = text !== 'sendrecv';
        else held = text !== 'sendrecv';
      } else if (stream && (text === 'rtcp-mux' || text === 'rtcp-mux-only')) {
        stream.mux = true;
        stream.muxOnly ||= text === 'rtcp-mux-only';
      } else if (stream) {
        const rtcp = rtcpOf(text, textAt);
        if (rtcp && stream.rtcp) return 'two-rtcp';
        stream.rtcp ??= rtcp;
      }
    }
  }
  if (streams.length === 0) return 'no-stream';
  for (const stream of streams) {
    stream.target = stream.connection ?? connection;
    stream.held ||= isHeldByAddress(stream);
    if (!stream.target && stream.port !== 0 && stream.kind !== 'other') return 'no-connection';
  }
  const lf = bytes.indexOf(LF, start);
  const eol = lf > start && lf < end && bytes[lf - 1] !== CR ? '\n' : '\r\n';
  return { start, origin, version, connection, streams, eol, cut: bytes[end - 1] !== LF, end, iceLines };
}

/** Reads the version of an o= line. Returns undefined when it is no number. */
function versionOf(text: string, textAt: number): SdpVersion | undefined {
  const match = VERSION.exec(text);
  if (!match) return undefined;
  const [start, end] = match.indices![1]!;
  return { value: BigInt(match[1]!), start: textAt + start, end: textAt + end };
}

/** Reads an m= line (RFC 8866 5.14). `next`: where the next line begins. `held`: direction of the session. */
function streamOf(text: string, textAt: number, next: number, held: boolean): Draft<SdpStream> | SdpDoubt {
  const match = MEDIA.exec(text);
  const port = Number(match?.[1]);
  if (!match || port > 0xffff) return 'bad-media-line';
  if (match[2]) return 'port-series';
  const [portStart, portEnd] = match.indices![1]!;
  return {
    kind: kindOf(match[3]!),
    port,
    portStart: textAt + portStart,
    portEnd: textAt + portEnd,
    connectionAt: next,
    connection: undefined,
    target: undefined,
    rtcp: undefined,
    mux: false,
    muxOnly: false,
    held,
    candidatesAt: -1,
    rtcpCandidates: false,
  };
}

/** Returns the kind of a transport protocol of the registry (RFC 8866 8.2.4). */
function kindOf(protocol: string): StreamKind {
  if (/^RTP\/AVPF?$/i.test(protocol)) return 'rtp';
  if (/^(?:UDP\/TLS\/)?RTP\/SAVPF?$/i.test(protocol)) return 'secure';
  return /^(?:udptl|UDP\/.+)$/i.test(protocol) ? 'datagram' : 'other';
}

/** Reads the value of an a= line as a=rtcp. Returns undefined for any other attribute. */
function rtcpOf(text: string, textAt: number): SdpRtcp | undefined {
  const match = RTCP.exec(text);
  const port = Number(match?.[1]);
  if (!match || port > 0xffff) return undefined;
  const [portStart, portEnd] = match.indices![1]!;
  const address = match[2] === undefined ? undefined : addressOf(match, 2, textAt);
  return { port, portStart: textAt + portStart, portEnd: textAt + portEnd, address };
}

/** Returns the address whose text `IPn address` is group `group` of the match, with the two groups behind it. */
function addressOf(match: RegExpExecArray | null, group: number, textAt: number): SdpAddress | undefined {
  if (!match) return undefined;
  const [start, end] = match.indices![group]!;
  return { ipv6: match[group + 1] === '6', address: match[group + 2]!, start: textAt + start, end: textAt + end };
}

/** Returns true when the stream is on hold by the old sign: an address of zeros (RFC 2543 B.5, RFC 3264 8.4). */
export function isHeldByAddress({ target }: SdpStream): boolean {
  return target !== undefined && /^[0.:]+$/.test(target.address);
}
