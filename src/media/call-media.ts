// The parties of calls whose media is relayed. Each party, a client, has one relayed stream per m= line. Pure above the
// seam of the relay.
//
//    description           its place becomes                          the reader gets
//    of a client           the target of the party's outer leg        the ports of the inner leg
//    for a client          the target of the inner leg; or, when it   the ports of the outer leg
//                          names an inner leg of this member, the two
//                          parties are joined
//
// Every description is handled alike, offer or answer, in any order (RFC 3264). A repeated one changes nothing. A SIP
// server that passes on the description of one client to another names an inner leg: the packets of the two clients
// then pass once, from outer leg to outer leg.
import type { MediaRecord, StreamRecord } from '../calls/records/media-record.ts';
import type { Sdp, SdpStream } from '../sdp/sdp.ts';
import { type LegPorts, type LegTarget, type MediaRelay, type RelayStream, Side } from './media-relay.ts';
import {
  AwaitedStreams,
  NOWHERE,
  newStream,
  Party,
  type PartyName,
  type PartyStream,
  placeText,
  portsOf,
  recordedTarget,
  recordOfParties,
  sameTarget,
} from './party.ts';

/** Parties of one Call-ID: a proxy behind this member may fork a call to so many clients at once. */
const MAX_PARTIES = 64;

/** Ports to write into the description, by the place of the stream; undefined leaves the stream as it is. */
export interface RelayedPlaces {
  readonly address: string;
  readonly ports: readonly (LegPorts | undefined)[];
}

export interface CallMediaOptions {
  readonly relay: MediaRelay;
  /** Returns the addresses for descriptions, by side. */
  readonly addresses: () => readonly [string, string];
  /** Returns the side at which media for this address leaves. */
  readonly sideOf: (address: string) => Side;
  /** Called when a description has changed the media of a call, by the key of its Call-ID (`record`). */
  readonly onChanged?: (call: number) => void;
}

/** Receives the closed streams of a party that has ended. */
export type OnEnded = (call: number, name: PartyName, streams: readonly RelayStream[]) => void;

/** A description that cannot be relayed: the ports are used up, or the call has too many parties. */
export const NO_PORTS = 'no-ports';

export class CallMedia {
  readonly #options: CallMediaOptions;
  readonly #calls = new Map<number, Party[]>();
  /** Streams by the place of their inner leg, `address port`. */
  readonly #inner = new Map<string, PartyStream>();
  readonly #awaited = new AwaitedStreams();
  /** Calls whose media has changed since the last report. */
  readonly #changed = new Set<number>();

  readonly #onEnded: OnEnded;

  constructor(options: CallMediaOptions, onEnded: OnEnded = () => {}) {
    this.#options = options;
    this.#onEnded = onEnded;
  }

  /** Keys of the calls with parties. */
  get calls(): Iterable<number> {
    return this.#calls.keys();
  }

  /** Returns the party with this name; undefined when there is none. */
  find(call: number, name: PartyName): Party | undefined {
    return this.#calls.get(call)?.find(({ names }) => names.includes(name));
  }

  parties(call: number): readonly Party[] {
    return this.#calls.get(call) ?? [];
  }

  /** Adds a name to the party `name`, if there is one: the tag of its first response. Each fork adds one. */
  rename(call: number, name: PartyName, also: PartyName): void {
    const party = this.find(call, name);
    if (!party || party.names.includes(also) || party.names.length >= MAX_PARTIES) return;
    party.names.push(also);
    this.#changed.add(call);
    this.#report();
  }

  /** Notes that the descriptions of this party pass unchanged. */
  leave(call: number, name: PartyName): void {
    const party = this.#party(call, name, Side.inside);
    if (party) party.direct = true;
  }

  /** Returns true when a stream of the description names an inner leg of this member. */
  namesInner(sdp: Sdp): boolean {
    return sdp.streams.some((stream) => this.#inner.has(placeOf(stream)));
  }

  /**
   * Takes the description of a client. `signalling`: address that its signalling came from; '' = unknown. Returns the
   * places for the SIP server.
   */
  fromClient(call: number, name: PartyName, sdp: Sdp, signalling: string): RelayedPlaces | typeof NO_PORTS {
    const party = this.#party(call, name, Side.inside);
    return party ? this.#take(party, sdp, Side.outside, signalling) : NO_PORTS;
  }

  /** Takes a description of the SIP server for a client. Returns the places for that client. */
  toClient(call: number, name: PartyName, sdp: Sdp): RelayedPlaces | typeof NO_PORTS {
    const target = sdp.streams.find(({ port }) => port !== 0)?.target?.address;
    const facing = target === undefined || this.namesInner(sdp) ? Side.inside : this.#options.sideOf(target);
    const party = this.#party(call, name, facing);
    return party ? this.#take(party, sdp, Side.inside, '') : NO_PORTS;
  }

  /**
   * Keeps where the streams of the party lead, before an offer within the dialog changes it. The request with the offer
   * comes from `side` and has this CSeq number; a repeated one changes nothing.
   */
  offered(call: number, name: PartyName, side: Side, cseq: number): void {
    const party = this.find(call, name);
    if (!party || (party.offer?.cseq === cseq && party.offer.side === side)) return;
    const streams = [...new Set(party.streams)].filter((stream) => stream !== undefined);
    const before = streams.map((stream) => ({ stream, target: stream.targets[side], joined: stream.joined }));
    party.offer = { cseq, side, before };
  }

  /** The request with this offer was refused: the session stays as it was before (RFC 3261 14.1). */
  refused(call: number, name: PartyName, side: Side, cseq: number): void {
    const party = this.find(call, name);
    if (!party?.offer || party.offer.cseq !== cseq || party.offer.side !== side) return;
    for (const { stream, target, joined } of party.offer.before) {
      if (!party.streams.includes(stream)) continue;
      // The other party may have ended meanwhile.
      const other = joined && this.#inner.get(joined.places[Side.inside]);
      if (side === Side.inside && stream.joined !== other) {
        this.#join(stream, other);
        if (other && !other.joined) this.#join(other, stream);
      }
      this.#aim(stream, side, target);
    }
    party.offer = undefined;
    this.#report();
  }

  /** Closes the streams of the party with this name. */
  endParty(call: number, name: PartyName): void {
    const party = this.find(call, name);
    if (party) this.#end(party);
    this.#report();
  }

  /** Closes the streams of all parties of the call. */
  endCall(call: number): void {
    for (const party of [...this.parties(call)]) this.#end(party);
    this.#changed.delete(call);
    this.#report();
  }

  #end(party: Party): void {
    const { call, names, direct } = party;
    const streams = [...new Set(party.streams)].filter((stream) => stream !== undefined);
    for (const stream of streams) this.#close(party, stream);
    const parties = this.#calls.get(call)!;
    parties.splice(parties.indexOf(party), 1);
    if (parties.length === 0) this.#calls.delete(call);
    if (direct) return;
    const relayed = streams.map((stream) => stream.relayed);
    this.#onEnded(call, names.at(-1)!, relayed);
  }

  #party(call: number, name: PartyName, facing: Side): Party | undefined {
    const known = this.find(call, name);
    if (known) return known;
    const parties = this.#calls.get(call) ?? [];
    if (parties.length >= MAX_PARTIES) return undefined;
    const party = new Party(call, name, facing);
    parties.push(party);
    this.#calls.set(call, parties);
    return party;
  }

  /** Returns the media of the call for its record; undefined when there is none. */
  record(call: number): MediaRecord | undefined {
    const parties = this.#calls.get(call);
    return parties && recordOfParties(parties);
  }

  /**
   * Opens the streams of a record on their ports again, with their targets. Parties that are known stay as they are.
   * Returns the streams whose ports are not free: they have no media until they are described again.
   */
  restore(call: number, record: MediaRecord): readonly StreamRecord[] {
    const failed: StreamRecord[] = [];
    for (const { names, facing, direct = false, streams } of record) {
      if (names.some((name) => this.find(call, name))) continue;
      const party = this.#party(call, names[0]!, facing);
      if (!party) break;
      party.names.push(...names.slice(1));
      party.direct = direct;
      for (const [i, each] of streams.entries()) {
        if (typeof each === 'number') party.streams[i] = party.streams[each];
        else party.streams[i] = each ? this.#reopen(party, each) : undefined;
        if (each && typeof each === 'object' && !party.streams[i]) failed.push(each);
      }
    }
    // The record is as it was read.
    this.#changed.clear();
    return failed;
  }

  #reopen(party: Party, record: StreamRecord): PartyStream | undefined {
    const { shown, clear, mux, joined } = record;
    const [outer] = portsOf(record);
    const options = { clear, single: outer.port === outer.rtcpPort, facing: party.facing, ofNewCall: false };
    const relayed = this.#options.relay.reopen(options, portsOf(record));
    if (!relayed) return undefined;
    const stream = newStream(party.call, relayed, clear, shown);
    for (const side of [Side.outside, Side.inside]) {
      stream.mux[side] = mux[side];
      this.#aim(stream, side, recordedTarget(record, side));
    }
    const place = stream.places[Side.inside];
    this.#inner.set(place, stream);
    const other = joined && this.#inner.get(placeText(joined));
    if (other) this.#join(stream, other);
    else if (joined) this.#awaited.add(stream, placeText(joined));
    for (const waiting of this.#awaited.of(place)) this.#join(waiting, stream);
    return stream;
  }

  #report(): void {
    for (const call of this.#changed) this.#options.onChanged?.(call);
    this.#changed.clear();
  }

  /** Takes a description that came from `side`. */
  #take(party: Party, sdp: Sdp, side: Side, signalling: string): RelayedPlaces | typeof NO_PORTS {
    const places = this.#place(party, sdp, side, signalling);
    this.#report();
    return places;
  }

  #place(party: Party, sdp: Sdp, side: Side, signalling: string): RelayedPlaces | typeof NO_PORTS {
    const far = side === Side.outside ? Side.inside : Side.outside;
    const ports: (LegPorts | undefined)[] = [];
    const opened: PartyStream[] = [];
    const isNew = party.streams.length === 0;
    if (party.direct) this.#changed.add(party.call);
    party.direct = false;
    for (const [i, each] of sdp.streams.entries()) {
      if (each.port === 0 || each.kind === 'other') {
        // Rejected for good, or not by UDP (RFC 3264 6 and 8.2).
        this.#close(party, party.streams[i]);
        continue;
      }
      // A request that is sent again by another way names this party's outer leg already.
      if (side === Side.inside && placeOf(each) === party.streams[i]?.places[Side.outside]) continue;
      const stream = this.#stream(party, sdp, i, isNew, opened);
      if (!stream) {
        for (const one of opened) this.#close(party, one);
        return NO_PORTS;
      }
      this.#settle(stream, each, side);
      if (side === Side.outside) this.#aim(stream, Side.outside, targetOf(each, signalling));
      else this.#face(stream, each);
      ports[i] = stream.relayed.ports[far];
    }
    const address = this.#options.addresses()[far === Side.outside ? Side.outside : party.facing];
    return { address, ports };
  }

  /** Returns the party's stream for the m= line `i`; opens it where there is none. Returns undefined without ports. */
  #stream(party: Party, sdp: Sdp, i: number, isNew: boolean, opened: PartyStream[]): PartyStream | undefined {
    const each = sdp.streams[i]!;
    const known = party.streams[i];
    if (known && !(known.muxed && !each.mux)) return known;
    if (known) this.#close(party, known);
    const place = placeOf(each);
    const twin = sdp.streams.findIndex((other, at) => at < i && placeOf(other) === place && party.streams[at]);
    const stream = twin >= 0 ? party.streams[twin]! : this.#open(party, each, isNew);
    if (stream && twin < 0) opened.push(stream);
    party.streams[i] = stream;
    return stream;
  }

  #open(party: Party, { kind, muxOnly: single }: SdpStream, ofNewCall: boolean): PartyStream | undefined {
    const { relay, addresses } = this.#options;
    const facing = party.facing;
    const relayed = relay.open({ clear: kind === 'rtp', single, facing, ofNewCall });
    if (!relayed) return undefined;
    const stream = newStream(party.call, relayed, kind === 'rtp', [addresses()[Side.outside], addresses()[facing]]);
    this.#inner.set(stream.places[Side.inside], stream);
    this.#changed.add(party.call);
    return stream;
  }

  /** Notes a=rtcp-mux. Once both sides have it, one port is enough (RFC 5761 5.1.1). */
  #settle(stream: PartyStream, { mux }: SdpStream, side: Side): void {
    if (stream.mux[side] !== mux) this.#changed.add(stream.call);
    stream.mux[side] = mux;
    if (stream.muxed || !stream.mux[0] || !stream.mux[1]) return;
    stream.muxed = true;
    stream.relayed.mux();
  }

  /** Directs what the party sends: to the place that the server names, or to the party whose inner leg it names. */
  #face(stream: PartyStream, each: SdpStream): void {
    // A server that sends the description of a party back to it joins the stream to itself: an echo.
    const joined = this.#inner.get(placeOf(each));
    const before = stream.joined;
    this.#awaited.delete(stream);
    if (before && before !== joined && before.joined === stream) this.#join(before, undefined);
    if (joined || before) this.#join(stream, joined);
    if (joined && !joined.joined) this.#join(joined, stream);
    this.#aim(stream, Side.inside, joined ? NOWHERE : targetOf(each, ''));
  }

  /** Sets the target of a leg. The relay gets one that is repeated, too: it may open the latch. */
  #aim(stream: PartyStream, side: Side, target: LegTarget): void {
    if (!sameTarget(stream.targets[side], target)) this.#changed.add(stream.call);
    stream.targets[side] = target;
    stream.relayed.expect(side, target);
  }

  #join(stream: PartyStream, other: PartyStream | undefined): void {
    this.#awaited.delete(stream);
    if (stream.joined !== other) this.#changed.add(stream.call);
    stream.joined?.joiners.delete(stream);
    other?.joiners.add(stream);
    stream.joined = other;
    stream.relayed.join(other?.relayed);
  }

  #close(party: Party, stream: PartyStream | undefined): void {
    if (!stream) return;
    this.#changed.add(stream.call);
    this.#awaited.delete(stream);
    for (const [i, each] of party.streams.entries()) if (each === stream) party.streams[i] = undefined;
    this.#inner.delete(stream.places[Side.inside]);
    stream.joined?.joiners.delete(stream);
    for (const other of [...stream.joiners]) this.#join(other, undefined);
    stream.relayed.close();
  }
}

/** Returns `address port` of the stream's RTP. */
function placeOf({ target, port }: SdpStream): string {
  return `${target?.address ?? ''} ${port}`;
}

/** Returns where the stream's party expects packets: RTCP at the next port, at a=rtcp, or at the same with a=rtcp-mux. */
function targetOf({ target, port, rtcp, mux }: SdpStream, signalling: string): LegTarget {
  if (!target) return NOWHERE;
  const { address } = target;
  const rtp = { address, port, signalling };
  if (mux) return { rtp, rtcp: rtp };
  const to = rtcp ? { address: rtcp.address?.address ?? address, port: rtcp.port } : { address, port: port + 1 };
  return { rtp, rtcp: { ...to, signalling } };
}
