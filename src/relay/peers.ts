// The other members as the relay link knows them: where they are, which incarnation they run, and what their probes tell.
import { randomInt } from 'node:crypto';
import type { Endpoint } from '../base/endpoint.ts';
import type { Cell, CellFamily } from '../metrics/counters.ts';
import { isMember, type SeatRole } from '../ownership/view.ts';
import { ipOverhead } from './datagram-link.ts';
import { ENVELOPE_VERSION, type EnvelopeVersion, type Frame, FrameKind, OLDEST_ENVELOPE_VERSION } from './envelope.ts';
import { SequenceWindow } from './sequence-window.ts';
import { type Targets, type TransparentPort, targetsOf } from './transparent-link.ts';

/** Another member, as its record in the store tells it. */
export interface PeerInfo {
  readonly number: number;
  readonly incarnation: number;
  readonly id: string;
  /** Where its relay link listens, UDP and TCP. */
  readonly relay: Endpoint;
  /** Where it takes packets as they came (relay.mode transparent). */
  readonly transparentPorts?: readonly TransparentPort[];
  /** Addresses of its host that it tells of; IP literals. */
  readonly addresses?: readonly string[];
  /** The highest version of the envelope that it understands; this build's by default. */
  readonly speaks?: number;
}

/** A member's place in the view, as far as frames need it. */
export interface PeerSeat {
  readonly number: number;
  readonly incarnation: number;
  /** Left out for a member. */
  readonly role?: SeatRole;
}

/** What `heldSince` is before a peer has spoken: it may hold calls of any age. */
export const HELD_UNKNOWN = 1;

/** Only an answer to one of so many last questions counts. */
export const QUESTIONS = 4;

export class Peer {
  // What each frame asks stands together and at hand: in a large farm every further object is one more wait for memory.
  readonly number: number;
  /** Where its relay link listens. */
  relay: Endpoint;
  /** Headers in front of a frame to there. */
  overhead: number;
  readonly sent: Cell;
  /** Its hatches by listener code. */
  targets: Targets;

  /** The record as it stands in the store. */
  info: PeerInfo;
  /** Version of the frames to it, and the lowest that is taken from it: an older one may have been captured before it was upgraded. */
  version: EnvelopeVersion;
  /** By its record, its seat, or what it has answered since: whichever came last. No other frame changes it. */
  incarnation: number;
  /** Frames of this member with numbers up to this one were bound to another incarnation of it. */
  boundSince: number;
  readonly window: SequenceWindow;
  readonly received: Cell;
  /** `clock.now()` of its last refusal; one a second is enough. */
  refusedAt = Number.NEGATIVE_INFINITY;
  /** `clock.now()` when it was last sent word of this member's incarnation. */
  correctedAt = Number.NEGATIVE_INFINITY;
  /** `clock.now()` when it was last asked out of turn, for a start of it that nobody has told of. */
  challengedAt = Number.NEGATIVE_INFINITY;

  // What probes tell (prober.ts).
  reachable = true;
  /** Its connection has been given up since it was last heard. */
  doubted = false;
  /** `clock.now()` of the last answer, or of the moment it became known. */
  heardAt: number;
  /** When the youngest question was asked that it has answered. */
  provenAt = Number.NEGATIVE_INFINITY;
  heldSince = HELD_UNKNOWN;
  /** The members it cannot reach. */
  readonly misses = new Set<number>();
  /** Number of the last question, and when the last four were asked. Begins anywhere: an answer to an earlier process proves nothing to this one. */
  question = randomInt(2 ** 32);
  readonly askedAt = new Float64Array(QUESTIONS);
  /** The highest sequence number that had been taken from it when they were asked; -1 once they are answered. */
  readonly topAsked = new Float64Array(QUESTIONS).fill(-1);

  /** `sequence`: number of the last frame that this member has sent. */
  constructor(info: PeerInfo, relayed: CellFamily<'direction' | 'peer'>, now: () => number, sequence: number) {
    this.number = info.number;
    this.relay = info.relay;
    this.overhead = ipOverhead(info.relay.address);
    this.sent = relayed.cell({ direction: 'out', peer: info.id });
    this.targets = targetsOf(info.transparentPorts ?? []);
    this.info = info;
    this.version = versionOf(info);
    this.incarnation = info.incarnation;
    this.boundSince = sequence;
    this.received = relayed.cell({ direction: 'in', peer: info.id });
    this.heardAt = now();
    this.window = new SequenceWindow(() => now() - this.heardAt);
  }

  /** Its record is another one now; what frames told of it stays. */
  recorded(info: PeerInfo): void {
    this.info = info;
    this.version = versionOf(info);
    this.relay = info.relay;
    this.overhead = ipOverhead(info.relay.address);
    this.targets = targetsOf(info.transparentPorts ?? []);
  }

  /** Takes it for there, and for the holder of calls of any age, until it answers or stays silent. */
  presume(now: number): void {
    this.reachable = true;
    this.heardAt = now;
    this.heldSince = HELD_UNKNOWN;
  }

  /** The member has started anew: nothing it said before counts, nor what it answers to questions of before. */
  restarted(incarnation: number, now: number, sequence: number): void {
    this.incarnation = incarnation;
    this.boundSince = sequence;
    this.question = (this.question + QUESTIONS) >>> 0;
    this.window.reset();
    this.heardAt = now;
    this.heldSince = HELD_UNKNOWN;
    this.misses.clear();
  }
}

function versionOf({ speaks = ENVELOPE_VERSION }: PeerInfo): EnvelopeVersion {
  return speaks >= ENVELOPE_VERSION ? ENVELOPE_VERSION : OLDEST_ENVELOPE_VERSION;
}

function needsSeat(kind: FrameKind): boolean {
  return kind !== FrameKind.probe && kind !== FrameKind.refusal;
}

/** Why a frame with a good MAC is not taken from its sender. */
export type SenderFault = 'version' | 'unknown-sender' | 'old-incarnation' | 'unproven' | 'no-seat';

/** The table of peers. Changed by cold code, read per frame. */
export class Peers {
  readonly #relayed: CellFamily<'direction' | 'peer'>;
  readonly #now: () => number;
  readonly #sequence: () => number;
  readonly #peers = new Map<number, Peer>();
  #records: readonly PeerInfo[] = [];
  #seats: ReadonlyMap<number, number> | undefined;
  #members: readonly number[] = [];

  /** `sequence`: number of the last frame that this member has sent. */
  constructor(relayed: CellFamily<'direction' | 'peer'>, now: () => number, sequence: () => number) {
    this.#relayed = relayed;
    this.#now = now;
    this.#sequence = sequence;
  }

  get(number: number): Peer | undefined {
    return this.#peers.get(number);
  }

  all(): Iterable<Peer> {
    return this.#peers.values();
  }

  /** Numbers of the seats that belong to members; empty before the first view. Nodes that are not in the farm neither accuse nor are accused. */
  members(): readonly number[] {
    return this.#members;
  }

  /** Takes the records of all members; `self` is left out. A member whose record is gone stays known as long as it has a seat. */
  setRecords(records: readonly PeerInfo[], self: number): void {
    this.#records = records.filter((record) => record.number !== self);
    for (const info of this.#records) {
      const peer = this.#peers.get(info.number);
      if (!peer || peer.info.id !== info.id) {
        this.#peers.set(info.number, new Peer(info, this.#relayed, this.#now, this.#sequence()));
        continue;
      }
      // A record that has not changed may lag behind what the peer has answered.
      if (info.incarnation !== peer.info.incarnation && info.incarnation !== peer.incarnation)
        this.believe(peer, info.incarnation);
      peer.recorded(info);
    }
    this.#forgetTheGone();
  }

  setSeats(seats: readonly PeerSeat[]): void {
    const before = this.#seats;
    this.#seats = new Map(seats.map(({ number, incarnation }) => [number, incarnation]));
    for (const { number, incarnation } of seats) {
      const peer = this.#peers.get(number);
      // A seat that has not changed, or that is older than the record, may lag behind a restart.
      if (peer && incarnation !== before?.get(number) && incarnation > peer.info.incarnation)
        this.believe(peer, incarnation);
    }
    this.#members = seats.filter(isMember).map(({ number }) => number);
    this.#forgetTheGone();
  }

  /**
   * A peer has said that it does not take the frame with number `sequence`, and that it is `incarnation`. That is true now, also when it is a
   * lower one, when the frame is bound to what is known of it: so nobody can say it again later.
   */
  corrected(peer: Peer, incarnation: number, sequence: number): void {
    if (this.isOfNow(peer, sequence)) this.believe(peer, incarnation);
  }

  /** A frame of this number has been sent, and was bound to what is known of the peer now. */
  isOfNow(peer: Peer, sequence: number): boolean {
    return sequence > peer.boundSince && sequence <= this.#sequence();
  }

  /**
   * A peer has answered `question` by `frame`: its incarnation is what it is now, and its number is where it is now. All numbers that were taken
   * from it before it was asked are below that one, or it has not sent them.
   */
  answered(peer: Peer, question: number, { senderIncarnation, sequence }: Readonly<Frame>): void {
    this.believe(peer, senderIncarnation);
    const slot = question % QUESTIONS;
    if (sequence <= peer.topAsked[slot]!) peer.window.reset();
    // Not by a second copy of the answer: what has been taken since would be taken again.
    peer.topAsked[slot] = -1;
  }

  /** `incarnation` is what the peer is now. */
  believe(peer: Peer, incarnation: number): void {
    if (incarnation !== peer.incarnation) peer.restarted(incarnation, this.#now(), this.#sequence());
  }

  #forgetTheGone(): void {
    const recorded = new Set(this.#records.map(({ number }) => number));
    for (const number of this.#peers.keys())
      if (!recorded.has(number) && !this.#seats?.has(number)) this.#peers.delete(number);
  }

  /** The sender has no seat, and decides by a view that is older than `ownEpoch`. */
  isSeatless({ sender, epoch }: Readonly<Frame>, ownEpoch: number): boolean {
    return epoch < ownEpoch && this.#seats !== undefined && !this.#seats.has(sender);
  }

  /**
   * Judges the sender of a frame with a good MAC. An incarnation younger than the known one is believed if the frame is `fresh`: it came by a
   * connection, where nothing of earlier can be repeated. In a datagram it may be of before a restored backup, so the peer must answer first.
   * A member without a seat whose epoch is older than `ownEpoch` does not know that it has none: its packets are refused. One that knows (it
   * is banned, has handed over, or joins anew) brings what the balancer gives it until the balancer has noticed, by the view in force.
   */
  check(frame: Readonly<Frame>, fresh: boolean, ownEpoch: number): SenderFault | null {
    const { sender: number, senderIncarnation: incarnation } = frame;
    const peer = this.#peers.get(number);
    if (!peer) return 'unknown-sender';
    if (!fresh && frame.version < peer.version) return 'version';
    if (incarnation < peer.incarnation) return 'old-incarnation';
    if (incarnation > peer.incarnation && !fresh) return 'unproven';
    if (needsSeat(frame.kind) && this.isSeatless(frame, ownEpoch)) return 'no-seat';
    if (incarnation > peer.incarnation) this.believe(peer, incarnation);
    return null;
  }
}
