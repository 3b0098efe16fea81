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
import type { Sdp, SdpStream } from '../sdp/sdp.ts';
import {
  type LegPorts,
  type LegStatistics,
  type LegTarget,
  type MediaRelay,
  type RelayStream,
  Side,
} from './media-relay.ts';

/** Parties of one Call-ID: a proxy behind this member may fork a call to so many clients at once. */
const MAX_PARTIES = 64;

/** Identifies a party within its call: its tag, or, before it has one, the transaction that invites it. */
export type PartyName = string;

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
}

/** Counts of one stream, by side. */
export type StreamStatistics = readonly [LegStatistics, LegStatistics];
/** Receives the counts of a party's streams when the party has ended. */
export type OnEnded = (call: number, name: PartyName, streams: readonly StreamStatistics[]) => void;

interface PartyStream {
  readonly relayed: RelayStream;
  /** Places of its legs in descriptions, by side: `address port`. */
  readonly places: readonly [string, string];
  /** The last descriptions had a=rtcp-mux, by side. */
  readonly mux: [boolean, boolean];
  muxed: boolean;
  /** The stream of the party whose inner leg the last description for this party has named. */
  joined: PartyStream | undefined;
  /** The streams that are joined to this one. */
  readonly joiners: Set<PartyStream>;
}

export class Party {
  readonly names: PartyName[];
  /** Network of the inner legs. */
  readonly facing: Side;
  /** Its descriptions pass unchanged. */
  direct = false;
  /** By the place of the m= line. Bundled m= lines share one (RFC 9143). */
  readonly streams: (PartyStream | undefined)[] = [];

  constructor(name: PartyName, facing: Side) {
    this.names = [name];
    this.facing = facing;
  }
}

/** A description that cannot be relayed: the ports are used up, or the call has too many parties. */
export const NO_PORTS = 'no-ports';

export class CallMedia {
  readonly #options: CallMediaOptions;
  readonly #calls = new Map<number, Party[]>();
  /** Streams by the place of their inner leg, `address port`. */
  readonly #inner = new Map<string, PartyStream>();

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
    if (party && !party.names.includes(also) && party.names.length < MAX_PARTIES) party.names.push(also);
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

  /** Closes the streams of the party with this name. */
  endParty(call: number, name: PartyName): void {
    const parties = this.#calls.get(call);
    const party = this.find(call, name);
    if (!parties || !party) return;
    const streams = [...new Set(party.streams)].filter((stream) => stream !== undefined);
    const counts = streams.map(
      ({ relayed }): StreamStatistics => [relayed.statistics(Side.outside), relayed.statistics(Side.inside)],
    );
    for (const stream of streams) this.#close(party, stream);
    parties.splice(parties.indexOf(party), 1);
    if (parties.length === 0) this.#calls.delete(call);
    if (!party.direct) this.#onEnded(call, party.names.at(-1)!, counts);
  }

  /** Closes the streams of all parties of the call. */
  endCall(call: number): void {
    for (const { names } of [...this.parties(call)]) this.endParty(call, names[0]!);
  }

  #party(call: number, name: PartyName, facing: Side): Party | undefined {
    const known = this.find(call, name);
    if (known) return known;
    const parties = this.#calls.get(call) ?? [];
    if (parties.length >= MAX_PARTIES) return undefined;
    const party = new Party(name, facing);
    parties.push(party);
    this.#calls.set(call, parties);
    return party;
  }

  /** Takes a description that came from `side`. */
  #take(party: Party, sdp: Sdp, side: Side, signalling: string): RelayedPlaces | typeof NO_PORTS {
    const far = side === Side.outside ? Side.inside : Side.outside;
    const ports: (LegPorts | undefined)[] = [];
    const opened: PartyStream[] = [];
    const isNew = party.streams.length === 0;
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
      if (side === Side.outside) stream.relayed.expect(Side.outside, targetOf(each, signalling));
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
    const places = [addresses()[Side.outside], addresses()[facing]].map(
      (address, side) => `${address} ${relayed.ports[side]!.port}`,
    ) as [string, string];
    const stream: PartyStream = {
      relayed,
      places,
      mux: [false, false],
      muxed: single,
      joined: undefined,
      joiners: new Set(),
    };
    this.#inner.set(places[Side.inside], stream);
    return stream;
  }

  /** Notes a=rtcp-mux. Once both sides have it, one port is enough (RFC 5761 5.1.1). */
  #settle(stream: PartyStream, { mux }: SdpStream, side: Side): void {
    stream.mux[side] = mux;
    if (stream.muxed || !stream.mux[0] || !stream.mux[1]) return;
    stream.muxed = true;
    stream.relayed.mux();
  }

  /** Directs what the party sends: to the place that the server names, or to the party whose inner leg it names. */
  #face(stream: PartyStream, each: SdpStream): void {
    const other = this.#inner.get(placeOf(each));
    const joined = other === stream ? undefined : other;
    const before = stream.joined;
    if (before && before !== joined && before.joined === stream) this.#join(before, undefined);
    if (joined || before) this.#join(stream, joined);
    if (joined && !joined.joined) this.#join(joined, stream);
    stream.relayed.expect(Side.inside, joined ? NOWHERE : targetOf(each, ''));
  }

  #join(stream: PartyStream, other: PartyStream | undefined): void {
    stream.joined?.joiners.delete(stream);
    other?.joiners.add(stream);
    stream.joined = other;
    stream.relayed.join(other?.relayed);
  }

  #close(party: Party, stream: PartyStream | undefined): void {
    if (!stream) return;
    for (const [i, each] of party.streams.entries()) if (each === stream) party.streams[i] = undefined;
    this.#inner.delete(stream.places[Side.inside]);
    stream.joined?.joiners.delete(stream);
    for (const other of [...stream.joiners]) this.#join(other, undefined);
    stream.relayed.close();
  }
}

const NOWHERE: LegTarget = { rtp: undefined, rtcp: undefined };

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
