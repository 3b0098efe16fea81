// The relayed streams of all parties: their ports, where each leg sends, and which streams of two parties are joined.
import type { MediaRecord, PartyRecord, StreamRecord } from '../calls/records/media-record.ts';
import type { Sdp, SdpStream } from '../sdp/sdp.ts';
import { type LegTarget, type MediaRelay, Side } from './media-relay.ts';
import {
  AwaitedStreams,
  NOWHERE,
  newStream,
  type Party,
  type PartyName,
  type PartyStream,
  placeText,
  portsOf,
  recordedTarget,
  sameTarget,
} from './party.ts';

export interface PartyStreamsOptions {
  readonly relay: MediaRelay;
  /** Monotonic milliseconds. Left out: 0. */
  readonly now?: () => number;
  /** Returns the addresses for descriptions, by side. */
  readonly addresses: () => readonly [string, string];
}

export class PartyStreams {
  readonly #options: PartyStreamsOptions;
  /** Receives the key of a call whose media has changed. */
  readonly #changed: (call: number) => void;
  /** Streams by the place of their inner leg, `address port`. */
  readonly #inner = new Map<string, PartyStream>();
  readonly #awaited = new AwaitedStreams();

  constructor(options: PartyStreamsOptions, changed: (call: number) => void) {
    this.#options = options;
    this.#changed = changed;
  }

  /** Returns true when a stream of the description names an inner leg of this member. */
  namesInner(sdp: Sdp): boolean {
    return sdp.streams.some((stream) => this.#inner.has(placeOf(stream)));
  }

  /** Returns the stream if it is still open. */
  living(stream: PartyStream | undefined): PartyStream | undefined {
    return stream && this.#inner.get(stream.places[Side.inside]);
  }

  /** Opens a stream with ports of this member; undefined without ports. */
  open(party: Party, { kind, muxOnly: single }: SdpStream, ofNewCall: boolean): PartyStream | undefined {
    return this.#open(party, kind === 'rtp', single, ofNewCall);
  }

  /**
   * Opens the streams of a party's record with their targets, on their ports; where these are lost, on ports of this
   * member. Returns those whose ports are not free.
   */
  restore(party: Party, { lost, streams }: PartyRecord): readonly StreamRecord[] {
    const failed: StreamRecord[] = [];
    for (const [i, each] of streams.entries()) {
      if (typeof each === 'number') party.streams[i] = party.streams[each];
      else if (!each) party.streams[i] = undefined;
      else {
        party.streams[i] = lost ? this.#replace(party, each) : this.#reopen(party, each);
        if (!party.streams[i]) failed.push(each);
      }
    }
    return failed;
  }

  /** Joins streams as their records do, by the places of inner legs at the member that is gone. */
  joinLost(find: (name: PartyName) => Party | undefined, record: MediaRecord): void {
    const now = new Map<string, PartyStream>();
    const joins: (readonly [PartyStream, string])[] = [];
    for (const { names, streams } of record)
      for (const [i, each] of streams.entries()) {
        const stream = find(names[0]!)?.streams[i];
        if (!stream || !each || typeof each === 'number') continue;
        now.set(placeText({ address: each.shown[Side.inside], port: each.ports[2] }), stream);
        if (each.joined) joins.push([stream, placeText(each.joined)]);
      }
    for (const [stream, place] of joins) this.join(stream, now.get(place));
  }

  #reopen(party: Party, record: StreamRecord): PartyStream | undefined {
    const { shown, clear, joined } = record;
    const [outer] = portsOf(record);
    const options = { clear, single: outer.port === outer.rtcpPort, facing: party.facing, ofNewCall: false };
    const relayed = this.#options.relay.reopen(options, portsOf(record));
    if (!relayed) return undefined;
    const stream = newStream(party.call, relayed, clear, shown, this.#now());
    this.#aimByRecord(stream, record);
    const place = stream.places[Side.inside];
    this.#inner.set(place, stream);
    const other = joined && this.#inner.get(placeText(joined));
    if (other) this.join(stream, other);
    else if (joined) this.#awaited.add(stream, placeText(joined));
    for (const waiting of this.#awaited.of(place)) this.join(waiting, stream);
    return stream;
  }

  #replace(party: Party, record: StreamRecord): PartyStream | undefined {
    const [outer] = portsOf(record);
    const stream = this.#open(party, record.clear, outer.port === outer.rtcpPort, false);
    if (stream) this.#aimByRecord(stream, record);
    return stream;
  }

  #open(party: Party, clear: boolean, single: boolean, ofNewCall: boolean): PartyStream | undefined {
    const { relay, addresses } = this.#options;
    const { call, facing } = party;
    const relayed = relay.open({ clear, single, facing, ofNewCall });
    if (!relayed) return undefined;
    const stream = newStream(call, relayed, clear, [addresses()[Side.outside], addresses()[facing]], this.#now());
    this.#inner.set(stream.places[Side.inside], stream);
    this.#changed(call);
    return stream;
  }

  #now(): number {
    return this.#options.now?.() ?? 0;
  }

  #aimByRecord(stream: PartyStream, record: StreamRecord): void {
    for (const side of [Side.outside, Side.inside]) {
      stream.mux[side] = record.mux[side];
      stream.held[side] = record.held?.[side] ?? false;
      this.aim(stream, side, recordedTarget(record, side));
    }
  }

  /** Notes hold, and a=rtcp-mux. Once both sides have it, one port is enough (RFC 5761 5.1.1). */
  settle(stream: PartyStream, { mux, held }: SdpStream, side: Side): void {
    if (stream.mux[side] !== mux || stream.held[side] !== held) this.#changed(stream.call);
    stream.mux[side] = mux;
    stream.held[side] = held;
    if (stream.muxed || !stream.mux[0] || !stream.mux[1]) return;
    stream.muxed = true;
    stream.relayed.mux();
  }

  /** Directs what the party sends: to the place that the server names, or to the party whose inner leg it names. */
  face(stream: PartyStream, each: SdpStream): void {
    // A server that sends the description of a party back to it joins the stream to itself: an echo.
    const joined = this.#inner.get(placeOf(each));
    const before = stream.joined;
    this.#awaited.delete(stream);
    if (before && before !== joined && before.joined === stream) this.join(before, undefined);
    if (joined || before) this.join(stream, joined);
    if (joined && !joined.joined) this.join(joined, stream);
    this.aim(stream, Side.inside, joined ? NOWHERE : targetOf(each, ''));
  }

  /** Sets the target of a leg. The relay gets one that is repeated, too: it may open the latch. */
  aim(stream: PartyStream, side: Side, target: LegTarget): void {
    if (!sameTarget(stream.targets[side], target)) this.#changed(stream.call);
    stream.targets[side] = target;
    stream.relayed.expect(side, target);
  }

  join(stream: PartyStream, other: PartyStream | undefined): void {
    this.#awaited.delete(stream);
    if (stream.joined !== other) this.#changed(stream.call);
    stream.joined?.joiners.delete(stream);
    other?.joiners.add(stream);
    stream.joined = other;
    stream.relayed.join(other?.relayed);
  }

  close(party: Party, stream: PartyStream | undefined): void {
    if (!stream) return;
    this.#changed(stream.call);
    this.#awaited.delete(stream);
    for (const [i, each] of party.streams.entries()) if (each === stream) party.streams[i] = undefined;
    this.#inner.delete(stream.places[Side.inside]);
    stream.joined?.joiners.delete(stream);
    for (const other of [...stream.joiners]) this.join(other, undefined);
    stream.relayed.close();
  }
}

/** Returns `address port` of the stream's RTP. */
export function placeOf({ target, port }: SdpStream): string {
  return `${target?.address ?? ''} ${port}`;
}

/**
 * Returns where the stream's party expects packets: RTCP at the next port, at a=rtcp, or at the same with a=rtcp-mux.
 */
export function targetOf({ target, port, rtcp, mux }: SdpStream, signalling: string): LegTarget {
  if (!target) return NOWHERE;
  const { address } = target;
  const rtp = { address, port, signalling };
  if (mux) return { rtp, rtcp: rtp };
  const to = rtcp ? { address: rtcp.address?.address ?? address, port: rtcp.port } : { address, port: port + 1 };
  return { rtp, rtcp: { ...to, signalling } };
}
