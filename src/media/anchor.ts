// Anchors media: writes the addresses of the media relay into the session descriptions that pass. Descriptions stand in
// INVITE, ACK, PRACK, UPDATE and their responses (RFC 3261 13.2.1, RFC 3262 5, RFC 3311 5). In doubt a description
// stays as it is, and is counted.
import type { Logger } from 'pino';
import { isHidden } from '../base/private-address.ts';
import { BY_TAG, type MediaRecord } from '../calls/records/media-record.ts';
import type { Cell, CellFamily } from '../metrics/counters.ts';
import { findSdp } from '../sdp/body.ts';
import { type RelayedOptions, relaySdp, type Splices } from '../sdp/relayed-sdp.ts';
import { readSdp, SDP_DOUBTS, type Sdp } from '../sdp/sdp.ts';
import { Edit, type Piece } from '../sip/edit.ts';
import { Method, type Scan } from '../sip/scan.ts';
import type { Via } from '../sip/via.ts';
import { CallMedia, type CallMediaOptions, NO_PORTS, type RelayedPlaces } from './call-media.ts';
import { Description } from './description.ts';
import { type LegStatistics, type RelayStream, Side } from './media-relay.ts';
import type { PartyName } from './party.ts';

/** never: descriptions pass unchanged. nat: those of calls with a client behind a NAT are anchored. always: all are. */
export type AnchorRule = 'never' | 'nat' | 'always';

/** relayed: the addresses of the relay are in it. direct: the rule leaves it alone. no-ports: the call was refused. */
const OUTCOMES = ['relayed', 'direct', NO_PORTS, ...SDP_DOUBTS] as const;
type Outcome = (typeof OUTCOMES)[number];

/** The media relay of a member, its addresses, and how it writes them. */
export interface AnchorParts extends CallMediaOptions {
  /** The settings in force. */
  readonly settings: () => Pick<RelayedOptions, 'origin' | 'ice'> & { readonly anchor: AnchorRule };
  /** Keeps the last descriptions, so that another member can offer them again. Left out: it does not. */
  readonly describes?: boolean;
}

/** Builds the anchor of a member. Descriptions are counted in `outcomes`. */
export function makeAnchor(parts: AnchorParts, log: Logger, outcomes: CellFamily<'outcome'>): Anchor {
  const cells = Object.fromEntries(OUTCOMES.map((outcome) => [outcome, outcomes.cell({ outcome })]));
  return new Anchor({ ...parts, log, outcomes: cells as Record<Outcome, Cell> });
}

interface AnchorOptions extends AnchorParts {
  readonly log: Logger;
  readonly outcomes: Readonly<Record<Outcome, Cell>>;
}

/** Takes the splices of one message (service/shared/rewriter.ts). */
export interface BodyEditor {
  replace(start: number, end: number, piece: Piece): void;
  setContentLength(octets: number): void;
}

/** Calls that one sweep looks at. */
const MAX_SWEPT = 20_000;
/** Start of the name of a party that has no tag yet: by the branch of the server's request. */
const BRANCH = 'b';

/** `call` of all methods: the key of the Call-ID, positive. */
export class Anchor {
  readonly #options: AnchorOptions;
  readonly #media: CallMedia;
  /** Call-IDs by their keys, for the log. */
  readonly #callIds = new Map<number, string>();
  readonly #splices = new BodySplices();
  /** Place of the sweep in the calls. */
  #cursor: Iterator<number> | undefined;

  constructor(options: AnchorOptions) {
    this.#options = options;
    this.#media = new CallMedia(options, (call, name, streams) => void this.#ended(call, name, streams));
  }

  /**
   * Handles a client's request for the SIP server. `source`: address of the client's signalling; '' when a proxy sent
   * the request. `nat`: the client is behind a NAT. Returns false when no ports are left.
   */
  requestFromClient(scan: Scan, call: number, source: string, nat: boolean, editor: BodyEditor): boolean {
    const sdp = this.#read(scan);
    if (!sdp) return true;
    const name = fromTag(scan);
    if (isRefusable(scan)) this.#media.offered(call, name, Side.outside, scan.cseq);
    return this.#fromClient(scan, sdp, call, name, source, nat, editor);
  }

  /** Handles a response of the SIP server for the client that has sent the request. */
  responseToClient(scan: Scan, call: number, editor: BodyEditor): void {
    if (scan.status >= 300 && isRefusable(scan)) this.#media.refused(call, fromTag(scan), Side.outside, scan.cseq);
    const sdp = this.#read(scan);
    if (sdp) this.#toClient(scan, sdp, call, fromTag(scan), false, editor);
  }

  /** Handles a request of the SIP server for a client. `nat` and result are those of `requestFromClient`. */
  requestToClient(scan: Scan, call: number, nat: boolean, editor: BodyEditor): boolean {
    const sdp = this.#read(scan);
    if (!sdp) return true;
    const name = toTag(scan) ?? branchName(scan.bytes, scan.via);
    if (isRefusable(scan)) this.#media.offered(call, name, Side.inside, scan.cseq);
    return this.#toClient(scan, sdp, call, name, nat, editor);
  }

  /**
   * Handles a client's response for the SIP server. `via`: the server's Via in it. `source`: see `requestFromClient`.
   * A client that rejects the call loses its ports.
   */
  responseFromClient(scan: Scan, via: Via, call: number, source: string, editor: BodyEditor): void {
    const media = this.#media;
    const tag = toTag(scan);
    if (scan.method === Method.INVITE && media.parties(call).length > 0) {
      const invited = branchName(scan.bytes, via);
      if (scan.status >= 300) media.endParty(call, invited);
      else if (tag !== undefined) media.rename(call, invited, tag);
    }
    if (tag === undefined) return;
    if (scan.status >= 300 && isRefusable(scan)) media.refused(call, tag, Side.inside, scan.cseq);
    const sdp = this.#read(scan);
    if (sdp) this.#fromClient(scan, sdp, call, tag, source, false, editor);
  }

  /** Returns true when a stream of the description names an inner leg of this member. */
  namesInner(sdp: Sdp): boolean {
    return this.#media.namesInner(sdp);
  }

  /** Returns the media of the call for its record; undefined when none is relayed. */
  record(call: number): MediaRecord | undefined {
    return this.#media.record(call);
  }

  /** Opens the streams of a call by its record, on their ports. Logs the ports that are not free. */
  restore(call: number, callId: string, record: MediaRecord): void {
    const failed = this.#media.restore(call, record);
    if (this.#media.parties(call).length > 0) this.#callIds.set(call, callId);
    if (failed.length === 0) return;
    const ports = failed.map((stream) => stream.ports);
    this.#options.log.warn({ callId, ports }, 'media ports are not free: no media until the call describes it again');
  }

  /**
   * Returns the last description for a reader of a party (`partyOf`), with the ports of this member. outside: the party
   * reads it. inside: it is the party's own, for the SIP server. Returns undefined when there is none.
   */
  offer(call: number, name: PartyName, reader: Side): string | undefined {
    const offer = this.#media.offer(call, name, reader);
    if (!offer) return undefined;
    const bytes = Buffer.from(offer.text, 'latin1');
    const sdp = readSdp(bytes, 0, bytes.length);
    if (typeof sdp === 'string') return undefined;
    const { origin, ice } = this.#options.settings();
    const edit = new Edit().begin(bytes, 0, bytes.length);
    relaySdp(edit, sdp, { ...offer.places, origin, ice, rejects: true });
    return edit.apply()?.toString('latin1');
  }

  /** Takes the answer to such an offer. `source`: address of the reader's signalling. */
  answered(scan: Scan, call: number, name: PartyName, reader: Side, source: string): void {
    const sdp = this.#read(scan);
    if (!sdp) return;
    const description = this.#description(scan, sdp);
    if (reader === Side.outside) this.#media.fromClient(call, name, sdp, source, description);
    else this.#media.toClient(call, name, sdp, description);
  }

  /** The readers of the call's descriptions have the ports of this member, or will not get them. */
  told(call: number): void {
    this.#media.told(call);
  }

  /** Keys of the calls with parties. */
  get calls(): Iterable<number> {
    return this.#media.calls;
  }

  /** See `CallMedia.lastPacketAt`. */
  lastPacketAt(call: number): number | undefined {
    return this.#media.lastPacketAt(call);
  }

  /** Closes the streams of all calls. */
  clear(): void {
    for (const call of this.#media.calls) this.#media.endCall(call);
  }

  /** Closes the streams of calls that are over. Looks at the next 20,000 calls: some milliseconds. */
  sweep(isOver: (call: number) => boolean): void {
    const media = this.#media;
    this.#cursor ??= media.calls[Symbol.iterator]();
    for (let i = 0; i < MAX_SWEPT; i++) {
      const { value, done } = this.#cursor.next();
      if (done) {
        this.#cursor = undefined;
        return;
      }
      if (isOver(value)) media.endCall(value);
    }
  }

  #fromClient(
    scan: Scan,
    sdp: Sdp,
    call: number,
    name: PartyName,
    source: string,
    nat: boolean,
    editor: BodyEditor,
  ): boolean {
    const hidden =
      nat || (source !== '' && sdp.streams.some(({ target }) => target && isHidden(target.address, source)));
    if (!this.#anchors(call, name, hidden)) return true;
    const places = this.#media.fromClient(call, name, sdp, source, this.#description(scan, sdp));
    return this.#relay(scan, sdp, call, editor, places);
  }

  #toClient(scan: Scan, sdp: Sdp, call: number, name: PartyName, nat: boolean, editor: BodyEditor): boolean {
    const media = this.#media;
    // The client cannot reach an inner leg, so a call whose other party is anchored is anchored here, too.
    if (!media.namesInner(sdp) && !this.#anchors(call, name, nat)) return true;
    return this.#relay(scan, sdp, call, editor, media.toClient(call, name, sdp, this.#description(scan, sdp)));
  }

  #description({ bytes }: Scan, sdp: Sdp): Description | undefined {
    return this.#options.describes ? Description.of(bytes, sdp) : undefined;
  }

  /** Decides for a party at its first description, so that offer and answer are handled alike. */
  #anchors(call: number, name: PartyName, needs: boolean): boolean {
    const { outcomes } = this.#options;
    const media = this.#media;
    const { anchor: rule } = this.#options.settings();
    const known = media.find(call, name);
    const anchors = known ? !known.direct : rule === 'always' || (rule === 'nat' && needs);
    if (anchors) return true;
    outcomes.direct.n++;
    if (!known && rule !== 'never') media.leave(call, name);
    return false;
  }

  /** Returns the description in the message; undefined when there is none to handle. */
  #read(scan: Scan): Sdp | undefined {
    const { bytes, method, status, contentTypeStart, contentTypeEnd, bodyStart, end } = scan;
    // A refusal may describe what its sender supports (RFC 3261 21.4.26): that is no answer.
    if (contentTypeStart < 0 || bodyStart >= end || status >= 300 || !mayDescribe(method)) return undefined;
    const at = findSdp(bytes.toString('latin1', contentTypeStart, contentTypeEnd), bytes, bodyStart, end);
    if (!at) return undefined;
    const sdp = readSdp(bytes, at.start, at.end);
    if (typeof sdp !== 'string') return sdp;
    this.#options.outcomes[sdp].n++;
    return undefined;
  }

  #relay(scan: Scan, sdp: Sdp, call: number, editor: BodyEditor, places: RelayedPlaces | typeof NO_PORTS): boolean {
    const { outcomes, settings } = this.#options;
    const { origin, ice } = settings();
    if (places === NO_PORTS) {
      outcomes['no-ports'].n++;
      return false;
    }
    const splices = this.#splices.begin(editor);
    relaySdp(splices, sdp, { ...places, origin, ice });
    if (splices.grown !== 0) editor.setContentLength(scan.end - scan.bodyStart + splices.grown);
    outcomes.relayed.n++;
    if (!this.#callIds.has(call))
      this.#callIds.set(call, scan.bytes.toString('latin1', scan.callIdStart, scan.callIdEnd));
    return true;
  }

  /** Logs the counts of the party when they are final. Never rejects. */
  async #ended(call: number, name: PartyName, streams: readonly RelayStream[]): Promise<void> {
    const callId = this.#callIds.get(call);
    if (this.#media.parties(call).length === 0) this.#callIds.delete(call);
    await Promise.all(streams.map(({ final }) => final));
    const counts = streams.map((stream) => ({
      client: summary(stream.statistics(Side.outside)),
      server: summary(stream.statistics(Side.inside)),
    }));
    this.#options.log.info({ callId, party: name.slice(1), streams: counts }, 'media of a party has ended');
  }
}

/** Passes splices on, and counts by how many octets the body grows. */
class BodySplices implements Splices {
  #editor: BodyEditor | undefined;
  grown = 0;

  begin(editor: BodyEditor): this {
    this.#editor = editor;
    this.grown = 0;
    return this;
  }

  insert(at: number, piece: Piece): void {
    this.replace(at, at, piece);
  }

  replace(start: number, end: number, piece: Piece): void {
    this.grown += piece.length - (end - start);
    this.#editor?.replace(start, end, piece);
  }

  delete(start: number, end: number): void {
    this.replace(start, end, '');
  }
}

/** Returns the counts for the log. */
function summary({ packets, octets, foreign, lost, jitter }: LegStatistics): object {
  return { packets, octets, foreign, ...(lost >= 0 && { lost, jitter }) };
}

/** Returns true for a method whose refused offer leaves the session as it was (RFC 3261 14.1, RFC 3311 5.3). */
function isRefusable({ method }: Scan): boolean {
  return method === Method.INVITE || method === Method.UPDATE;
}

/** Returns true for methods whose requests and responses carry offers and answers. */
function mayDescribe(method: Method): boolean {
  return method === Method.INVITE || method === Method.ACK || method === Method.PRACK || method === Method.UPDATE;
}

function fromTag({ bytes, fromTagStart, fromTagEnd }: Scan): PartyName {
  return BY_TAG + bytes.toString('latin1', fromTagStart, fromTagEnd);
}

function toTag({ bytes, toTagStart, toTagEnd }: Scan): PartyName | undefined {
  return toTagStart < 0 ? undefined : BY_TAG + bytes.toString('latin1', toTagStart, toTagEnd);
}

function branchName(bytes: Buffer, { branchStart, branchEnd }: Via): PartyName {
  return BRANCH + (branchStart < 0 ? '' : bytes.toString('latin1', branchStart, branchEnd));
}
