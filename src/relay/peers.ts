// The other members as the relay link knows them: where they are, which incarnation they run, and what their probes tell.
import type { Endpoint } from '../base/endpoint.ts';
import type { Cell, CellFamily } from '../metrics/counters.ts';
import { isMember, type SeatRole } from '../ownership/view.ts';
import { ipOverhead } from './datagram-link.ts';
import { SequenceWindow } from './sequence-window.ts';
import { type Hatch, type Targets, targetsOf } from './transparent-link.ts';

/** Another member, as its record in the store tells it. */
export interface PeerInfo {
  readonly number: number;
  readonly incarnation: number;
  readonly id: string;
  /** Where its relay link listens, UDP and TCP. */
  readonly relay: Endpoint;
  /** Where it takes packets as they came (relay.mode transparent). */
  readonly hatches?: readonly Hatch[];
  /** Addresses of its host that it tells of; IP literals. */
  readonly addresses?: readonly string[];
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
  /** The youngest incarnation that record or frames told of. */
  incarnation: number;
  readonly window = new SequenceWindow();
  readonly received: Cell;
  /** `clock.now()` of its last refusal; one a second is enough. */
  refusedAt = Number.NEGATIVE_INFINITY;

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
  /** Number of the last question, and when the last four were asked. */
  question = 0;
  readonly askedAt = new Float64Array(4);

  constructor(info: PeerInfo, relayed: CellFamily<'direction' | 'peer'>, now: number) {
    this.number = info.number;
    this.relay = info.relay;
    this.overhead = ipOverhead(info.relay.address);
    this.sent = relayed.cell({ direction: 'out', peer: info.id });
    this.targets = targetsOf(info.hatches ?? []);
    this.info = info;
    this.incarnation = info.incarnation;
    this.received = relayed.cell({ direction: 'in', peer: info.id });
    this.heardAt = now;
  }

  /** Its record is another one now; what frames told of it stays. */
  recorded(info: PeerInfo): void {
    this.info = info;
    this.relay = info.relay;
    this.overhead = ipOverhead(info.relay.address);
    this.targets = targetsOf(info.hatches ?? []);
  }

  /** The member has started anew: nothing it said before counts. */
  restarted(incarnation: number, now: number): void {
    this.incarnation = incarnation;
    this.window.reset();
    this.heardAt = now;
    this.heldSince = HELD_UNKNOWN;
    this.misses.clear();
  }
}

/** Why a frame with a good MAC is not taken from its sender. */
export type SenderFault = 'unknown-sender' | 'old-incarnation' | 'no-seat';

/** The table of peers. Changed by cold code, read per frame. */
export class Peers {
  readonly #relayed: CellFamily<'direction' | 'peer'>;
  readonly #now: () => number;
  readonly #peers = new Map<number, Peer>();
  #records: readonly PeerInfo[] = [];
  #seats: ReadonlyMap<number, number> | undefined;
  #members: readonly number[] = [];

  constructor(relayed: CellFamily<'direction' | 'peer'>, now: () => number) {
    this.#relayed = relayed;
    this.#now = now;
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
    const now = this.#now();
    for (const info of this.#records) {
      const peer = this.#peers.get(info.number);
      if (!peer || peer.info.id !== info.id) {
        this.#peers.set(info.number, new Peer(info, this.#relayed, now));
        continue;
      }
      // A record that has not changed may lag behind what frames told of.
      if (info.incarnation !== peer.info.incarnation && info.incarnation !== peer.incarnation)
        peer.restarted(info.incarnation, now);
      peer.recorded(info);
    }
    this.#forgetTheGone();
  }

  setSeats(seats: readonly PeerSeat[]): void {
    this.#seats = new Map(seats.map(({ number, incarnation }) => [number, incarnation]));
    this.#members = seats.filter(isMember).map(({ number }) => number);
    this.#forgetTheGone();
  }

  #forgetTheGone(): void {
    const recorded = new Set(this.#records.map(({ number }) => number));
    for (const number of this.#peers.keys())
      if (!recorded.has(number) && !this.#seats?.has(number)) this.#peers.delete(number);
  }

  /**
   * Judges the sender of a frame with a good MAC. An incarnation younger than the known one is believed: the record is on its way.
   * `seatNeeded`: refuse a member without a seat whose `epoch` is older than `ownEpoch`: it does not know that it has none. One that knows (it
   * is banned, has handed over, or joins anew) brings what the balancer gives it until the balancer has noticed, by the view in force.
   */
  check(number: number, incarnation: number, seatNeeded: boolean, epoch: number, ownEpoch: number): SenderFault | null {
    const peer = this.#peers.get(number);
    if (!peer) return 'unknown-sender';
    const seat = this.#seats?.get(number);
    if (incarnation < peer.incarnation || (seat !== undefined && incarnation < seat)) return 'old-incarnation';
    if (seatNeeded && this.#seats !== undefined && seat === undefined && epoch < ownEpoch) return 'no-seat';
    if (incarnation > peer.incarnation) peer.restarted(incarnation, this.#now());
    return null;
  }
}
