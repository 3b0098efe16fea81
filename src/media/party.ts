// A party of a call whose media is relayed, and its streams: in memory, and in the call's record.

import { MAX_PACKED } from '../calls/records/description-text.ts';
import {
  MAX_PARTY_NAME,
  MAX_RECORDED_NAMES,
  MAX_RECORDED_PARTIES,
  MAX_RECORDED_STREAMS,
  type MediaRecord,
  type PartyRecord,
  type PlaceRecord,
  type StreamRecord,
  type TargetRecord,
} from '../calls/records/media-record.ts';
import { Description } from './description.ts';
import type { ExpectedSource } from './latch.ts';
import { type LegPorts, type LegTarget, type RelayStream, Side } from './media-relay.ts';

/** Identifies a party within its call: its tag, or, before it has one, the transaction that invites it. */
export type PartyName = string;

export interface PartyStream {
  readonly call: number;
  readonly relayed: RelayStream;
  readonly clear: boolean;
  /** Places of its legs in descriptions, by side: `address port`. */
  readonly places: readonly [string, string];
  /** The last descriptions had a=rtcp-mux, by side. */
  readonly mux: [boolean, boolean];
  muxed: boolean;
  /** The last descriptions put the stream on hold, by side. */
  readonly held: [boolean, boolean];
  /** Monotonic time at which it was opened, ms. */
  readonly openedAt: number;
  /** By side. */
  readonly targets: [LegTarget, LegTarget];
  /** The stream of the party whose inner leg the last description for this party has named. */
  joined: PartyStream | undefined;
  /** The streams that are joined to this one. */
  readonly joiners: Set<PartyStream>;
  /** Inner leg of the stream that this one is joined to by its record, while that stream is not open yet. */
  awaits: string | undefined;
}

/**
 * Added to a version in o= that may have risen since the record was written, so that the sum exceeds it. Where the
 * versions rise with each change alone, the record has the last one.
 */
const LEAP = 65_536;

/** An offer within the dialog, and where the streams led before it. */
export interface Offer {
  readonly cseq: number;
  /** Side that the offer came from. */
  readonly side: Side;
  /** The last description of the reader at the other side before it. */
  readonly description: Description | undefined;
  readonly before: readonly {
    readonly stream: PartyStream;
    readonly target: LegTarget;
    readonly joined: PartyStream | undefined;
  }[];
}

export class Party {
  readonly call: number;
  readonly names: PartyName[];
  /** Network of the inner legs. */
  readonly facing: Side;
  /** Its descriptions pass unchanged. */
  direct = false;
  /** By the place of the m= line. Bundled m= lines share one (RFC 9143). */
  readonly streams: (PartyStream | undefined)[] = [];
  /** The last offer within the dialog. */
  offer: Offer | undefined;
  /** Its readers have the ports of another member. */
  untold = false;
  /** By the side of the reader: the last description; undefined when it is not kept. */
  readonly descriptions: [Description | undefined, Description | undefined] = [undefined, undefined];
  /** By the side of the reader: added to the versions in o=, because members have changed descriptions. */
  readonly raised: [number, number] = [0, 0];
  /** By the side of the reader: the version in o= has risen without a change. */
  readonly restless: [boolean, boolean] = [false, false];
  /** By the side of the reader: the address in o= where it is replaced; undefined: that of this member. */
  origins: readonly [string, string] | undefined;

  constructor(call: number, name: PartyName, facing: Side) {
    this.call = call;
    this.names = [name];
    this.facing = facing;
  }

  /**
   * Takes what its record has apart from the streams. From a record whose ports are lost, the next descriptions are
   * changed ones for their readers (RFC 3264 8).
   */
  take(record: PartyRecord): void {
    const { names, direct, lost, untold, descriptions, raised, restless, origins, streams } = record;
    this.names.push(...names.slice(1));
    this.direct = direct === true;
    this.untold = (lost ?? untold) === true;
    const first = streams.find((each) => typeof each === 'object' && each !== null) as StreamRecord | undefined;
    this.origins = origins ?? (lost && first?.shown);
    for (const reader of [Side.outside, Side.inside]) {
      const packed = descriptions?.[reader];
      this.descriptions[reader] = packed ? Description.unpacked(packed) : undefined;
      this.restless[reader] = restless?.[reader] ?? false;
      this.raised[reader] = (raised?.[reader] ?? 0) + (lost ? (this.restless[reader] ? LEAP : 1) : 0);
    }
  }

  /** Takes the last description for a reader. Returns true when the record changes. */
  describe(reader: Side, description: Description | undefined): boolean {
    const before = this.descriptions[reader];
    this.descriptions[reader] = description;
    if (!before || !description) return before !== description;
    const difference = description.differenceTo(before);
    if (difference !== 'version' || this.restless[reader]) return difference === 'content';
    this.restless[reader] = true;
    return true;
  }
}

export const NOWHERE: LegTarget = { rtp: undefined, rtcp: undefined };

/** Returns a stream that was just opened. `shown`: addresses of its legs in descriptions. */
export function newStream(
  call: number,
  relayed: RelayStream,
  clear: boolean,
  shown: readonly [string, string],
  openedAt = 0,
): PartyStream {
  const [outer, inner] = relayed.ports;
  return {
    call,
    relayed,
    clear,
    places: [`${shown[0]} ${outer.port}`, `${shown[1]} ${inner.port}`],
    mux: [false, false],
    held: [false, false],
    openedAt,
    muxed: outer.port === outer.rtcpPort,
    targets: [NOWHERE, NOWHERE],
    joined: undefined,
    joiners: new Set(),
    awaits: undefined,
  };
}

/** The streams whose records join them to a stream that is not open yet, by the place of its inner leg. */
export class AwaitedStreams {
  readonly #waiting = new Map<string, Set<PartyStream>>();

  add(stream: PartyStream, place: string): void {
    stream.awaits = place;
    const waiting = this.#waiting.get(place) ?? new Set();
    this.#waiting.set(place, waiting.add(stream));
  }

  /** Returns a copy. */
  of(place: string): readonly PartyStream[] {
    return [...(this.#waiting.get(place) ?? [])];
  }

  delete(stream: PartyStream): void {
    const { awaits } = stream;
    if (awaits === undefined) return;
    stream.awaits = undefined;
    const waiting = this.#waiting.get(awaits);
    waiting?.delete(stream);
    if (waiting?.size === 0) this.#waiting.delete(awaits);
  }
}

/** Returns true when both lead to the same places, and the signalling came from the same address. */
export function sameTarget(one: LegTarget, other: LegTarget): boolean {
  return sameSource(one.rtp, other.rtp) && sameSource(one.rtcp, other.rtcp);
}

/**
 * Returns the media of a call for its record; undefined when no party is anchored. Parties, names and streams beyond
 * the bounds of a record are left out.
 */
export function recordOfParties(parties: readonly Party[]): MediaRecord | undefined {
  if (parties.every(({ direct }) => direct)) return undefined;
  const fit = parties.filter(({ names }) => names.every((name) => name.length <= MAX_PARTY_NAME));
  return fit.length === 0 ? undefined : fit.slice(0, MAX_RECORDED_PARTIES).map(partyRecord);
}

/** Returns the ports of both legs, by side. */
export function portsOf({ ports }: StreamRecord): readonly [LegPorts, LegPorts] {
  const [outer, outerRtcp, inner, innerRtcp] = ports;
  return [
    { port: outer, rtcpPort: outerRtcp },
    { port: inner, rtcpPort: innerRtcp },
  ];
}

/** Returns the target of a side. */
export function recordedTarget({ targets, mux }: StreamRecord, side: Side): LegTarget {
  const target = targets[side];
  if (!target) return NOWHERE;
  const { address, port, rtcp, signalling = '' } = target;
  const rtp = { address, port, signalling };
  return { rtp, rtcp: mux[side] && !rtcp ? rtp : { ...(rtcp ?? { address, port: port + 1 }), signalling } };
}

/** Returns a place as descriptions are searched for it. */
export function placeText({ address, port }: PlaceRecord): string {
  return `${address} ${port}`;
}

function partyRecord(party: Party): PartyRecord {
  const { names, facing, direct, untold, raised, restless, origins, streams } = party;
  const recorded = streams.slice(0, MAX_RECORDED_STREAMS);
  const descriptions = [packedOf(party, Side.outside), packedOf(party, Side.inside)] as const;
  return {
    // The first name is that of the INVITE, the others are of the forks below it.
    names: [names[0]!, ...names.slice(1).slice(1 - MAX_RECORDED_NAMES)],
    facing,
    ...(direct && { direct }),
    ...(untold && { untold }),
    ...(descriptions.some((each) => each !== null) && { descriptions }),
    ...(raised.some((each) => each > 0) && { raised: [...raised] }),
    ...(restless.some((each) => each) && { restless: [...restless] }),
    ...(origins && { origins }),
    streams: Array.from(recorded, (stream, at) => {
      const first = stream ? recorded.indexOf(stream) : at;
      return first < at ? first : stream ? streamRecord(stream) : null;
    }),
  };
}

/**
 * Returns whether the record has the description for a reader. A description that another party reads is recorded with
 * that party.
 */
export function isRecorded({ call, streams }: Party, reader: Side): boolean {
  const isJoined = (stream: PartyStream | undefined): boolean =>
    stream !== undefined && [...stream.joiners].some((joiner) => joiner !== stream && joiner.call === call);
  return reader === Side.outside || !streams.some(isJoined);
}

/** Returns the last description for a reader; null when it is not recorded. */
function packedOf(party: Party, reader: Side): string | null {
  const { descriptions } = party;
  if (!isRecorded(party, reader)) return null;
  const packed = descriptions[reader]?.packed;
  return packed === undefined || packed.length > MAX_PACKED ? null : packed;
}

function streamRecord({ relayed, places, clear, mux, held, targets, joined, awaits }: PartyStream): StreamRecord {
  const [outer, inner] = relayed.ports;
  const other = joined?.places[Side.inside] ?? awaits;
  return {
    ports: [outer.port, outer.rtcpPort, inner.port, inner.rtcpPort],
    shown: [addressIn(places[0]), addressIn(places[1])],
    clear,
    mux: [...mux],
    ...(held.some((each) => each) && { held: [...held] as const }),
    targets: [targetRecord(targets[0], mux[0]), targetRecord(targets[1], mux[1])],
    ...(other !== undefined && { joined: placeIn(other) }),
  };
}

function targetRecord({ rtp, rtcp }: LegTarget, mux: boolean): TargetRecord | null {
  if (!rtp) return null;
  const { address, port, signalling } = rtp;
  const usual = rtcp?.address === address && rtcp.port === (mux ? port : port + 1);
  return {
    address,
    port,
    ...(rtcp && !usual && { rtcp: { address: rtcp.address, port: rtcp.port } }),
    ...(signalling !== '' && { signalling }),
  };
}

function sameSource(one: ExpectedSource | undefined, other: ExpectedSource | undefined): boolean {
  if (!one || !other) return one === other;
  return one.address === other.address && one.port === other.port && one.signalling === other.signalling;
}

function addressIn(place: string): string {
  return place.slice(0, place.lastIndexOf(' '));
}

function placeIn(place: string): PlaceRecord {
  return { address: addressIn(place), port: Number(place.slice(place.lastIndexOf(' ') + 1)) };
}
