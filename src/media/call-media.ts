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
import type { Sdp } from '../sdp/sdp.ts';
import type { Description } from './description.ts';
import { type LegPorts, type RelayStream, Side } from './media-relay.ts';
import { isRecorded, Party, type PartyName, type PartyStream, recordOfParties } from './party.ts';
import { PartyStreams, type PartyStreamsOptions, placeOf, targetOf } from './party-streams.ts';

/** Parties of one Call-ID: a proxy behind this member may fork a call to so many clients at once. */
const MAX_PARTIES = 64;

/** Ports to write into the description, by the place of the stream; undefined leaves the stream as it is. */
export interface RelayedPlaces {
  readonly address: string;
  readonly ports: readonly (LegPorts | undefined)[];
  /** Address for o= where it is replaced; left out: `address`. */
  readonly originAddress?: string;
  /** Added to the version in o=; left out: nothing. */
  readonly raised?: number;
}

export interface CallMediaOptions extends PartyStreamsOptions {
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
  readonly #streams: PartyStreams;
  /** Calls whose media has changed since the last report. */
  readonly #changed = new Set<number>();

  readonly #onEnded: OnEnded;

  constructor(options: CallMediaOptions, onEnded: OnEnded = () => {}) {
    this.#options = options;
    this.#onEnded = onEnded;
    this.#streams = new PartyStreams(options, (call) => this.#changed.add(call));
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
    return this.#streams.namesInner(sdp);
  }

  /**
   * Takes the description of a client. `signalling`: address that its signalling came from; '' = unknown. Returns the
   * places for the SIP server. `description`: kept for the record; left out: none.
   */
  fromClient(
    call: number,
    name: PartyName,
    sdp: Sdp,
    signalling: string,
    description?: Description,
  ): RelayedPlaces | typeof NO_PORTS {
    const party = this.#party(call, name, Side.inside);
    return party ? this.#take(party, sdp, Side.outside, signalling, description) : NO_PORTS;
  }

  /** Takes a description of the SIP server for a client. Returns the places for that client. */
  toClient(call: number, name: PartyName, sdp: Sdp, description?: Description): RelayedPlaces | typeof NO_PORTS {
    const target = sdp.streams.find(({ port }) => port !== 0)?.target?.address;
    const facing = target === undefined || this.namesInner(sdp) ? Side.inside : this.#options.sideOf(target);
    const party = this.#party(call, name, facing);
    return party ? this.#take(party, sdp, Side.inside, '', description) : NO_PORTS;
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
    party.offer = { cseq, side, before, description: party.descriptions[farOf(side)] };
  }

  /** The request with this offer was refused: the session stays as it was before (RFC 3261 14.1). */
  refused(call: number, name: PartyName, side: Side, cseq: number): void {
    const party = this.find(call, name);
    if (!party?.offer || party.offer.cseq !== cseq || party.offer.side !== side) return;
    for (const { stream, target, joined } of party.offer.before) {
      if (!party.streams.includes(stream)) continue;
      // The other party may have ended meanwhile.
      const other = this.#streams.living(joined);
      if (side === Side.inside && stream.joined !== other) {
        this.#streams.join(stream, other);
        if (other && !other.joined) this.#streams.join(other, stream);
      }
      this.#streams.aim(stream, side, target);
    }
    if (party.describe(farOf(side), party.offer.description)) this.#changed.add(call);
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
    for (const stream of streams) this.#streams.close(party, stream);
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

  /**
   * Returns the monotonic time of the last packet of any stream of the call, or at which the last stream was opened.
   * Streams of other calls that are joined to them count, too. Returns undefined while one is on hold, and without
   * streams.
   */
  lastPacketAt(call: number): number | undefined {
    const own = this.parties(call).flatMap((party) => party.streams.filter((stream) => stream !== undefined));
    const streams = own.flatMap((stream) => (stream.joined ? [stream, stream.joined] : [stream]));
    if (streams.length === 0 || streams.some(({ held }) => held[0] || held[1])) return undefined;
    const times = streams.flatMap(({ relayed, openedAt }) => [
      openedAt,
      relayed.statistics(Side.outside).lastAt,
      relayed.statistics(Side.inside).lastAt,
    ]);
    return Math.max(...times);
  }

  /** Returns the media of the call for its record; undefined when there is none. */
  record(call: number): MediaRecord | undefined {
    const parties = this.#calls.get(call);
    return parties && recordOfParties(parties);
  }

  /**
   * Opens the streams of a record with their targets, on their ports; where these are lost, on ports of this member.
   * Parties that are known stay as they are. Returns the streams whose ports are not free: they have no media until
   * they are described again.
   */
  restore(call: number, record: MediaRecord): readonly StreamRecord[] {
    const failed: StreamRecord[] = [];
    for (const each of record) {
      if (each.names.some((name) => this.find(call, name))) continue;
      const party = this.#party(call, each.names[0]!, each.facing);
      if (!party) break;
      party.take(each);
      failed.push(...this.#streams.restore(party, each));
    }
    // A record whose ports are not lost is as it was read.
    if (!record.some(({ lost }) => lost)) this.#changed.clear();
    else if (failed.length > 0) this.endCall(call);
    else this.#streams.joinLost((name) => this.find(call, name), record);
    this.#report();
    return failed;
  }

  /**
   * Returns the last description for a reader of the party, and the places that it gets now; undefined when there is
   * none. The streams that the party has no more are rejected.
   */
  offer(
    call: number,
    name: PartyName,
    reader: Side,
  ): { readonly text: string; readonly places: RelayedPlaces } | undefined {
    const party = this.find(call, name);
    const description = party?.descriptions[reader];
    if (!party || !description || !party.streams.some((stream) => stream)) return undefined;
    const ports = party.streams.map((stream) => stream?.relayed.ports[reader]);
    return { text: description.text, places: this.#placesFor(party, reader, ports) };
  }

  /** The readers of the call's descriptions have the ports of this member, or will not get them. */
  told(call: number): void {
    for (const party of this.parties(call)) {
      if (party.untold) this.#changed.add(call);
      party.untold = false;
    }
    this.#report();
  }

  #report(): void {
    for (const call of this.#changed) this.#options.onChanged?.(call);
    this.#changed.clear();
  }

  /** Takes a description that came from `side`. */
  #take(
    party: Party,
    sdp: Sdp,
    side: Side,
    signalling: string,
    description: Description | undefined,
  ): RelayedPlaces | typeof NO_PORTS {
    const places = this.#place(party, sdp, side, signalling);
    // A request that is sent again by another way has the places of this member already.
    const isDescribed = places !== NO_PORTS && places.ports.some((each) => each);
    if (isDescribed && party.describe(farOf(side), description) && isRecorded(party, farOf(side)))
      this.#changed.add(party.call);
    this.#report();
    return places;
  }

  #place(party: Party, sdp: Sdp, side: Side, signalling: string): RelayedPlaces | typeof NO_PORTS {
    const far = farOf(side);
    const ports: (LegPorts | undefined)[] = [];
    const opened: PartyStream[] = [];
    const isNew = party.streams.length === 0;
    if (party.direct) this.#changed.add(party.call);
    party.direct = false;
    for (const [i, each] of sdp.streams.entries()) {
      if (each.port === 0 || each.kind === 'other') {
        // Rejected for good, or not by UDP (RFC 3264 6 and 8.2).
        this.#streams.close(party, party.streams[i]);
        continue;
      }
      // A request that is sent again by another way names this party's outer leg already.
      if (side === Side.inside && placeOf(each) === party.streams[i]?.places[Side.outside]) continue;
      const stream = this.#stream(party, sdp, i, isNew, opened);
      if (!stream) {
        for (const one of opened) this.#streams.close(party, one);
        return NO_PORTS;
      }
      this.#streams.settle(stream, each, side);
      if (side === Side.outside) this.#streams.aim(stream, Side.outside, targetOf(each, signalling));
      else this.#streams.face(stream, each);
      ports[i] = stream.relayed.ports[far];
    }
    return this.#placesFor(party, far, ports);
  }

  #placesFor({ facing, raised, origins }: Party, reader: Side, ports: RelayedPlaces['ports']): RelayedPlaces {
    const address = this.#options.addresses()[reader === Side.outside ? Side.outside : facing];
    // A request that is sent again by another way has the version for its reader already.
    const raises = raised[reader] > 0 && ports.some((each) => each);
    return {
      ...{ address, ports },
      ...(raises && { raised: raised[reader] }),
      ...(origins && { originAddress: origins[reader] }),
    };
  }

  /** Returns the party's stream for the m= line `i`; opens it where there is none. Returns undefined without ports. */
  #stream(party: Party, sdp: Sdp, i: number, isNew: boolean, opened: PartyStream[]): PartyStream | undefined {
    const each = sdp.streams[i]!;
    const known = party.streams[i];
    if (known && !(known.muxed && !each.mux)) return known;
    if (known) this.#streams.close(party, known);
    const place = placeOf(each);
    const twin = sdp.streams.findIndex((other, at) => at < i && placeOf(other) === place && party.streams[at]);
    const stream = twin >= 0 ? party.streams[twin]! : this.#streams.open(party, each, isNew);
    if (stream && twin < 0) opened.push(stream);
    party.streams[i] = stream;
    return stream;
  }
}

function farOf(side: Side): Side {
  return side === Side.outside ? Side.inside : Side.outside;
}
