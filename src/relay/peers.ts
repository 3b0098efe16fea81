// The other members for the relay link: where each one listens, which incarnation it runs, and what its probes report.
import { randomInt } from 'node:crypto';
import type { Endpoint } from '../base/endpoint.ts';
import type { Cell, CellFamily } from '../metrics/counters.ts';
import { isMember, type SeatRole } from '../ownership/view.ts';
import { ipOverhead } from './datagram-link.ts';
import { ENVELOPE_VERSION, type EnvelopeVersion, type Frame, FrameKind, OLDEST_ENVELOPE_VERSION } from './envelope.ts';
import { SequenceWindow } from './sequence-window.ts';
import { type Targets, type TransparentPort, targetsOf } from './transparent-link.ts';

/** Another member, by its record in the store. */
export interface PeerInfo {
  readonly number: number;
  readonly incarnation: number;
  readonly id: string;
  /** Endpoint of its relay link, UDP and TCP. */
  readonly relay: Endpoint;
  /** Its transparent ports (relay.mode transparent). */
  readonly transparentPorts?: readonly TransparentPort[];
  /** Addresses of its host in its record; IP literals. */
  readonly addresses?: readonly string[];
  /** The highest frame version that it reads; this build's by default. */
  readonly speaks?: number;
}

/** The fields of a member's seat in the view that frames need. */
export interface PeerSeat {
  readonly number: number;
  readonly incarnation: number;
  /** Left out for a member. */
  readonly role?: SeatRole;
}

/** `heldSince` of a peer before its first probe: it may hold calls of any age. */
const HELD_UNKNOWN = 1;

/** Only answers to the last four questions to a peer count. */
export const QUESTIONS = 4;

export class Peer {
  // Fields that every frame reads stand in this object: in a large farm each further object costs one more cache miss.
  readonly number: number;
  /** Endpoint of its relay link. */
  relay: Endpoint;
  /** Octets of the IP and UDP headers in front of a frame to `relay`. */
  overhead: number;
  readonly sent: Cell;
  /** Its transparent ports by listener code. */
  targets: Targets;

  /** Its record in the store. */
  info: PeerInfo;
  /**
   * Version of the frames to it, and the lowest version accepted from it in datagrams: an older frame may have been
   * captured before its upgrade.
   */
  version: EnvelopeVersion;
  /**
   * Its incarnation by its record, its seat, its answers and refusals, or a frame on its connection, whichever came
   * last.
   */
  incarnation: number;
  /** Frames to it with sequence numbers up to this one were bound to another incarnation of it. */
  boundSince: number;
  readonly window: SequenceWindow;
  readonly received: Cell;
  /** `clock.now()` of the last refusal sent to it; at most one a second. */
  refusedAt = Number.NEGATIVE_INFINITY;
  /** `clock.now()` of the last refusal 'other-incarnation' sent to it, which carries this member's incarnation. */
  correctedAt = Number.NEGATIVE_INFINITY;
  /** `clock.now()` of the last extra probe to it, sent because a datagram named an unproven incarnation. */
  challengedAt = Number.NEGATIVE_INFINITY;

  // Set by probes (prober.ts).
  reachable = true;
  /** Its connection has been closed for silence since its last answer. */
  doubted = false;
  /** `clock.now()` of its last answer, or of the time it was added or restarted. */
  heardAt: number;
  /** `clock.now()` at which its latest answered question was sent. */
  provenAt = Number.NEGATIVE_INFINITY;
  heldSince = HELD_UNKNOWN;
  /** The members it cannot reach. */
  readonly misses = new Set<number>();
  /** Number of the last question. Starts at random: an answer to an earlier process must not count for this one. */
  question = randomInt(2 ** 32);
  /** `clock.now()` of the last four questions. */
  readonly askedAt = new Float64Array(QUESTIONS);
  /** Highest sequence number accepted from it when each of the last four questions was sent; -1 once answered. */
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

  /** Takes its changed record; values set by its frames stay. */
  recorded(info: PeerInfo): void {
    this.info = info;
    this.version = versionOf(info);
    this.relay = info.relay;
    this.overhead = ipOverhead(info.relay.address);
    this.targets = targetsOf(info.transparentPorts ?? []);
  }

  /** Counts the peer as reachable and as a holder of calls of any age, until it answers or stays silent. */
  presume(now: number): void {
    this.reachable = true;
    this.heardAt = now;
    this.heldSince = HELD_UNKNOWN;
  }

  /** Resets the values that its former process reported. Answers to earlier questions no longer count. */
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

/** Why a frame with a good MAC is refused because of its sender. */
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

  /**
   * Returns the numbers of the seats with role member; empty before the first view. Only these report others as
   * unreachable and can be reported.
   */
  members(): readonly number[] {
    return this.#members;
  }

  /** Takes the records of all members except `self`. A peer whose record is gone stays as long as it has a seat. */
  setRecords(records: readonly PeerInfo[], self: number): void {
    this.#records = records.filter((record) => record.number !== self);
    for (const info of this.#records) {
      const peer = this.#peers.get(info.number);
      if (!peer || peer.info.id !== info.id) {
        this.#peers.set(info.number, new Peer(info, this.#relayed, this.#now, this.#sequence()));
        continue;
      }
      // An unchanged record may be older than the peer's answers.
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
      // A seat that has not changed, or is older than the record, may be from before a restart.
      if (peer && incarnation !== before?.get(number) && incarnation > peer.info.incarnation)
        this.believe(peer, incarnation);
    }
    this.#members = seats.filter(isMember).map(({ number }) => number);
    this.#forgetTheGone();
  }

  /**
   * Handles the refusal of frame `sequence` by `incarnation` of the peer. That incarnation, even a lower one, is stored
   * only if the frame was bound to the stored incarnation. So a replayed refusal has no effect.
   */
  corrected(peer: Peer, incarnation: number, sequence: number): void {
    if (this.isOfNow(peer, sequence)) this.believe(peer, incarnation);
  }

  /** A frame of this number has been sent, and was bound to what is known of the peer now. */
  isOfNow(peer: Peer, sequence: number): boolean {
    return sequence > peer.boundSince && sequence <= this.#sequence();
  }

  /**
   * Handles the answer to `question`: stores the incarnation of `frame`. Resets the window when a sequence number
   * accepted before the question is not below the answer's: the running process cannot have sent it.
   */
  answered(peer: Peer, question: number, { senderIncarnation, sequence }: Readonly<Frame>): void {
    this.believe(peer, senderIncarnation);
    const slot = question % QUESTIONS;
    if (sequence <= peer.topAsked[slot]!) peer.window.reset();
    // A second copy of the answer must not reset the window: datagrams accepted since then would be accepted again.
    peer.topAsked[slot] = -1;
  }

  /** Stores the incarnation that the peer runs now; a change resets the peer. */
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
   * Checks the sender of a frame with a good MAC. Returns null when the frame may be taken.
   *
   * A higher incarnation than the stored one is stored if the frame is `fresh`: it came on a connection, where no
   * replay is possible. A datagram of such an incarnation may be from before a restored backup, so the peer must answer
   * a probe first.
   *
   * A sender without a seat is refused if its epoch is older than `ownEpoch`: it has not read the view that ended its
   * seat. A sender with the current view (banned, handed over, or joining again) is accepted: it passes on packets that
   * the balancer still sends to it.
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
