// The relayed media of a call in its record: the parties, and per stream the ports of both legs with the places that
// they lead to. A restarted member takes these ports back before it hands out others. The media room writes and reads
// it (media/party.ts); here are its bounds.
import { isInteger, isList, isObject, isText } from '../../base/guards.ts';
import { MAX_PACKED } from './description-text.ts';

/** Start of the name of a party by its tag. */
export const BY_TAG = 't';
/** Parties in a record: as many as a record has legs. */
export const MAX_RECORDED_PARTIES = 8;
/** Streams of a party in a record, by the place of their m= lines. */
export const MAX_RECORDED_STREAMS = 8;
/** Names of a party in a record: its tag, or the branch of its INVITE and the tags of the answers to it. */
export const MAX_RECORDED_NAMES = 4;
/** A party with a longer name is not recorded. */
export const MAX_PARTY_NAME = 128;

const MAX_ADDRESS = 64;
/** Bound of what is added to a version in o=. */
const MAX_RAISED = 2 ** 40;

/** Address and port of an RTP or RTCP port. */
export interface PlaceRecord {
  readonly address: string;
  readonly port: number;
}

/** Where a party expects RTP. */
export interface TargetRecord extends PlaceRecord {
  /** Where it expects RTCP. Left out: at the next port, or at `port` itself when this side has a=rtcp-mux. */
  readonly rtcp?: PlaceRecord;
  /** Address that its signalling came from. Left out: unknown. */
  readonly signalling?: string;
}

export interface StreamRecord {
  /** Ports for RTP and RTCP of the outer leg, then of the inner leg. With rtcp-mux both are one. */
  readonly ports: readonly [number, number, number, number];
  /** Addresses of the two legs in descriptions: outer, inner. */
  readonly shown: readonly [string, string];
  /** RTP in clear. */
  readonly clear: boolean;
  /** The last descriptions had a=rtcp-mux: that of the client, that of the SIP server. */
  readonly mux: readonly [boolean, boolean];
  /** The last descriptions put the stream on hold: that of the client, that of the SIP server. Left out: neither. */
  readonly held?: readonly [boolean, boolean];
  /** Targets of the outer and of the inner leg; null = nothing is sent there. */
  readonly targets: readonly [TargetRecord | null, TargetRecord | null];
  /** Inner leg of the stream that this one is joined to. Left out: none. */
  readonly joined?: PlaceRecord;
}

export interface PartyRecord {
  readonly names: readonly string[];
  /** Network of the inner legs: 0 outside, 1 inside. */
  readonly facing: 0 | 1;
  /** Its descriptions pass unchanged. Left out: they do not. */
  readonly direct?: true;
  /** The ports are those of a member that is gone. Left out: they are the owner's. */
  readonly lost?: true;
  /** The owner has ports of its own that the readers of descriptions do not have yet. Left out: they have them. */
  readonly untold?: true;
  /**
   * The last descriptions, packed: that for the party, then that of the party for the SIP server. null: none, too long,
   * or its reader is another party of the call. Left out: both are null.
   */
  readonly descriptions?: readonly [string | null, string | null];
  /** Added to the versions in o= for the two readers. Left out: nothing. */
  readonly raised?: readonly [number, number];
  /** The versions in o= for the two readers also rise without a change. Left out: they do not. */
  readonly restless?: readonly [boolean, boolean];
  /** Addresses in o= for the two readers, where they are replaced. Left out: those of the owner. */
  readonly origins?: readonly [string, string];
  /** By the place of the m= line. null: none. A number: the stream of that earlier m= line (RFC 9143). */
  readonly streams: readonly (StreamRecord | number | null)[];
}

/** The media of one call, by party. */
export type MediaRecord = readonly PartyRecord[];

/**
 * Octets of a party without its names and descriptions, of a name without its text, and of a stream with the longest
 * addresses.
 */
const PARTY_OCTETS = 320;
const NAME_OCTETS = 3;
const STREAM_OCTETS = 900;

/** Returns an estimate of the octets in JSON that is rather too high. */
export function mediaOctets(media: MediaRecord | undefined): number {
  let octets = 0;
  for (const { names, streams, descriptions = [] } of media ?? []) {
    octets += PARTY_OCTETS + streams.length * STREAM_OCTETS;
    for (const packed of descriptions) octets += packed?.length ?? 0;
    for (const name of names) octets += NAME_OCTETS + name.length;
  }
  return octets;
}

/** Returns the media; undefined when `value` has a wrong shape or breaks a bound. Unknown fields are left out. */
export function parseMediaRecord(value: unknown): MediaRecord | undefined {
  if (!isList(value, MAX_RECORDED_PARTIES) || value.length === 0) return undefined;
  const parties = value.map(parseParty);
  return parties.every((party) => party !== undefined) ? parties : undefined;
}

function parseParty(value: unknown): PartyRecord | undefined {
  if (!isObject(value)) return undefined;
  const { names, facing, direct, lost, untold, descriptions, raised, restless, origins, streams } = value;
  if (!isList(names, MAX_RECORDED_NAMES) || names.length === 0) return undefined;
  if (!names.every((name) => isText(name, MAX_PARTY_NAME)) || !isInteger(facing, 0, 1)) return undefined;
  if (!isList(streams, MAX_RECORDED_STREAMS)) return undefined;
  const parsed = streams.map((stream, at) => {
    if (stream === null) return null;
    if (typeof stream !== 'number') return parseStream(stream);
    const twin = isInteger(stream, 0, at - 1) ? streams[stream] : undefined;
    return isObject(twin) ? stream : undefined;
  });
  if (!parsed.every((stream) => stream !== undefined)) return undefined;
  const packed = (each: unknown): boolean => each === null || isText(each, MAX_PACKED);
  return {
    names: names as string[],
    facing: facing as 0 | 1,
    ...(direct === true && { direct }),
    ...(lost === true && { lost }),
    ...(untold === true && { untold }),
    ...(isPairOf<string | null>(descriptions, packed) && { descriptions }),
    ...(isPairOf<number>(raised, (each) => isInteger(each, 0, MAX_RAISED)) && { raised }),
    ...(isPairOf<boolean>(restless, (each) => typeof each === 'boolean') && { restless }),
    ...(isPairOf<string>(origins, (each) => isText(each, MAX_ADDRESS)) && { origins }),
    streams: parsed,
  };
}

function parseStream(value: unknown): StreamRecord | undefined {
  if (!isObject(value)) return undefined;
  const { ports, shown, clear, mux, held, targets, joined } = value;
  if (!isFour(ports) || !isPair(shown) || !isPair(mux) || !isPair(targets) || typeof clear !== 'boolean')
    return undefined;
  const [outer, outerRtcp, inner, innerRtcp] = ports;
  if (!isLeg(outer, outerRtcp) || !isLeg(inner, innerRtcp)) return undefined;
  if ((outer === outerRtcp) !== (inner === innerRtcp)) return undefined;
  if (!shown.every((address) => isText(address, MAX_ADDRESS))) return undefined;
  if (!mux.every((each) => typeof each === 'boolean')) return undefined;
  const [outside, inside] = targets.map((target) => (target === null ? null : parseTarget(target)));
  const other = joined === undefined ? undefined : parsePlace(joined);
  if (outside === undefined || inside === undefined || (joined !== undefined && !other)) return undefined;
  return {
    ports: ports as [number, number, number, number],
    shown: shown as [string, string],
    clear,
    mux: mux as [boolean, boolean],
    ...(isPairOf<boolean>(held, (each) => typeof each === 'boolean') && { held }),
    targets: [outside, inside],
    ...(other && { joined: other }),
  };
}

function parseTarget(value: unknown): TargetRecord | undefined {
  const place = parsePlace(value);
  if (!place || !isObject(value)) return undefined;
  const { rtcp, signalling } = value;
  const other = rtcp === undefined ? undefined : parsePlace(rtcp);
  if (rtcp !== undefined && !other) return undefined;
  if (signalling !== undefined && !isText(signalling, MAX_ADDRESS)) return undefined;
  return { ...place, ...(other && { rtcp: other }), ...(signalling !== undefined && { signalling }) };
}

function parsePlace(value: unknown): PlaceRecord | undefined {
  if (!isObject(value)) return undefined;
  const { address, port } = value;
  return isText(address, MAX_ADDRESS) && isInteger(port, 0, 65_535) ? { address, port } : undefined;
}

/** Returns true for one port, or an even one and the next (RFC 3550 11). */
function isLeg(port: unknown, rtcpPort: unknown): boolean {
  if (!isInteger(port, 1, 65_535)) return false;
  return rtcpPort === port || (port % 2 === 0 && rtcpPort === port + 1);
}

function isPair(value: unknown): value is readonly [unknown, unknown] {
  return isList(value, 2) && value.length === 2;
}

function isPairOf<T>(value: unknown, fits: (each: unknown) => boolean): value is readonly [T, T] {
  return isPair(value) && value.every(fits);
}

function isFour(value: unknown): value is readonly unknown[] {
  return isList(value, 4) && value.length === 4;
}
