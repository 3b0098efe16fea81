// What this member does with the calls of members that are gone (calls/adoption.ts): what rings goes on ringing or is answered, what cannot go
// on is ended, and whatever comes for it meanwhile finds somebody who knows it.
//
//    dialogs: shared   a proxy's call needs little: answers find their way by their Vias, dialogs go on at the server here. What is left is
//                      what the proxy did hop by hop: CANCEL, the ACK of an error, the end of the ringing.
//    dialogs: own      the call is over: callers get 500, callees CANCEL, both ends of a dialog BYE. But not before the grace is over: in it
//                      all that comes waits, and goes on to the member if it is back.
import type { Clock } from '../../base/clock.ts';
import type { Guard } from '../../base/guard.ts';
import type { Adoption, AdoptionOutcome, LeftCall, Heir as Successor } from '../../calls/adoption.ts';
import type { CallRecord } from '../../calls/call-record.ts';
import { lifeOfRecord } from '../../calls/dialog-life.ts';
import type { Answers } from '../../relay/answers.ts';
import { Method, type Scan } from '../../sip/scan.ts';
import type { Packet } from '../../transport/packet.ts';
import type { Edge } from './edge.ts';
import { InheritedCalls, isOfCaller, topBranch } from './inherited-calls.ts';
import { partyTag } from './leg-messages.ts';
import { copyOf, Parked } from './parked.ts';
import { hasEnded, rememberParties } from './parties.ts';
import { type Reach, Voice } from './voice.ts';

export interface HeirOptions {
  readonly edge: Edge;
  readonly answers: Answers;
  readonly clock: Clock;
  readonly dialogs: 'own' | 'shared';
  readonly ringingSeconds: () => number;
  /** Sends a packet on its way once more, from the owner lookup on. */
  readonly again: (packet: Packet) => void;
  readonly reach: Reach;
  readonly guard: Guard;
}

/** Seconds after which a caller whose call could not go on may try again. */
const RETRY_AFTER = ['Retry-After: 5'];
/** What waits for the reading of records, and for no member. */
const NOBODY = 0;
/** Calls that are remembered before they are adopted. */
const MAX_REMEMBERED = 5000;
/** Adopted calls whose member is remembered; the one adopted first is forgotten for a new one. */
const MAX_ORIGINS = 200_000;

export class Heir implements Successor {
  readonly #options: HeirOptions;
  readonly #parked = new Parked();
  readonly #voice: Voice;
  readonly #calls: InheritedCalls;
  /** Calls that are being adopted because their caller has cancelled them. */
  readonly #cancelling = new Set<number>();
  /** Tag of the party that has sent a BYE, by the key of the Call-ID. */
  readonly #hungUp = new Map<number, string>();
  /** The member that a call which goes on here was adopted from. */
  readonly #origins = new Map<number, number>();
  /** Calls without an outgoing leg in their record, from whose callee something has come all the same. */
  readonly #alive = new Set<number>();
  /** Calls in whose dialog something has come, and whose record may say that they ring. */
  readonly #established = new Set<number>();
  #adoption: Adoption | undefined;

  constructor(options: HeirOptions) {
    this.#options = options;
    this.#voice = new Voice(options.edge, options.clock, options.reach, options.guard);
    this.#calls = new InheritedCalls({ ...options, voice: this.#voice });
  }

  /** Where calls of members that are gone are found. */
  set adoption(adoption: Adoption) {
    this.#adoption = adoption;
  }

  /** False while there is nothing to inherit: then no packet is shown here. */
  get active(): boolean {
    return this.#calls.size > 0 || this.#adoption?.watching === true;
  }

  /** Forgets all calls, and says no more: they are others' now, or this member stops. */
  clear(): void {
    this.#voice.close();
    this.#calls.clear();
    this.#cancelling.clear();
    this.#hungUp.clear();
    this.#alive.clear();
    this.#established.clear();
    this.#origins.clear();
  }

  // What the packet path asks.

  /** A request of a client. True when it goes no further. */
  request(packet: Packet, scan: Scan): boolean {
    const adoption = this.#adoption;
    if (!adoption) return false;
    const key = packet.callKey;
    if (packet.orphan) {
      if (this.#waits(packet.owner)) return this.#park(packet);
      if (scan.toTagStart < 0) return false;
      if (this.#options.dialogs === 'shared') this.#heard(packet.owner, key, scan);
      if (scan.method === Method.BYE) this.#noteHungUp(key, scan);
      adoption.wantDialog(packet.owner, key);
      return false;
    }
    const { method } = scan;
    const call = this.#calls.get(key);
    if (method === Method.ACK) return call !== undefined && this.#calls.request(call, packet, scan);
    if (method !== Method.CANCEL && (method !== Method.INVITE || scan.toTagStart >= 0)) return false;
    if (call) return this.#calls.request(call, packet, scan);
    const left = adoption.left(key);
    if (left) return isOfCaller(left.record, scan) && this.#left(left, packet, scan);
    // For a moment nobody knows whether this call rings already.
    return adoption.reading && !this.#options.edge.calls.has(key) && this.#parked.park(NOBODY, packet);
  }

  /** A response of a client that names a member that is gone. True when it goes no further. */
  response(packet: Packet, scan: Scan): boolean {
    const adoption = this.#adoption;
    if (!adoption || !packet.orphan) return false;
    if (this.#waits(packet.owner)) return this.#park(packet);
    const { dialogs } = this.#options;
    const key = packet.callKey;
    const call = this.#calls.get(key);
    if (scan.method === Method.CANCEL) return call !== undefined && this.#voice.cancelHeard(topBranch(scan));
    if (scan.method !== Method.INVITE) return false;
    if (call) return dialogs === 'own' ? this.#calls.lateAnswer(call, scan) : this.#calls.answer(call, scan);
    const left = dialogs === 'shared' ? adoption.left(key) : undefined;
    if (!left) return false;
    if (scan.status < 200) {
      if (this.#alive.size < MAX_REMEMBERED) this.#alive.add(key);
    } else {
      // Whatever ends the ringing is decided by whoever has the call.
      const copy = copyOf(packet);
      adoption.take(left, () => this.#options.again(copy));
      return true;
    }
    return false;
  }

  /** A response to a request of ours, below which nobody stands. True when it was one. */
  takes(scan: Scan): boolean {
    return scan.status >= 200 && this.#voice.heard(topBranch(scan));
  }

  /** A request in a dialog of that member passes on to the server here. It tells of the call what its record may not have been told any more. */
  #heard(owner: number, key: number, scan: Scan): void {
    const { method } = scan;
    // The two that early dialogs have, too (RFC 3262, RFC 3311).
    if (method === Method.PRACK || method === Method.UPDATE) return;
    const { edge } = this.#options;
    const call = this.#calls.get(key);
    const rings = call?.end === 'none' && isOfParties(call.record, scan) ? call : undefined;
    if (method === Method.BYE) {
      const from = fromTag(scan);
      this.#adoption?.endDialog(owner, key, (record) => isParty(record, from));
      if (!rings) return;
      this.#calls.end(rings, 'failed');
      edge.calls.giveUp(rings.entry);
      return;
    }
    if (rings) {
      this.#calls.answered(rings);
      this.#confirm(rings.entry);
    } else if (this.#established.size < MAX_REMEMBERED) this.#established.add(key);
  }

  /** A dialog of that member, which is gone, has begun in the call table here. */
  beganFor(owner: number, entry: number): void {
    this.#noteOrigin(owner, entry);
  }

  /** A call that rings by its record is a dialog already. */
  #confirm(entry: number): void {
    const { edge, clock } = this.#options;
    edge.calls.onResponse(entry, Method.INVITE, 200, 0, clock.now());
    edge.journal?.confirmed(entry);
  }

  // What adoption tells.

  onDecided(owner: number): void {
    if (!this.#adoption?.watching) {
      this.#alive.clear();
      this.#hungUp.clear();
      this.#established.clear();
    }
    for (const packet of this.#parked.release(owner)) this.#options.again(packet);
  }

  onRead(): void {
    this.onDecided(NOBODY);
  }

  onAdopted(entry: number, record: CallRecord, owner: number): AdoptionOutcome {
    const { edge, dialogs, clock } = this.#options;
    const { epoch } = edge.world.tables;
    const confirmed = record.state === 'confirmed';
    const isDialog = confirmed || this.#established.delete(Math.abs(entry));
    const goesOn = dialogs === 'shared' && (isDialog || (record.method === 'INVITE' && this.#canRing(entry, record)));
    if (goesOn && (this.#hasHungUp(entry, record) || hasEnded(edge, entry, record))) {
      edge.journal?.over(entry);
      return 'over-already';
    }
    if (goesOn) {
      this.#noteOrigin(owner, entry);
      edge.calls.restore(entry, record.method === 'SUBSCRIBE', confirmed, lifeOfRecord(record), clock.now(), epoch);
      rememberParties(edge, entry, record);
      if (!isDialog) this.#calls.take(entry, record);
      else if (!confirmed) this.#confirm(entry);
      return isDialog ? 'dialog' : 'ringing';
    }
    if (!confirmed) return this.#endRinging(entry, record);
    edge.journal?.over(entry);
    return this.#endDialog(entry, record);
  }

  onSeated(owner: number): void {
    const { edge } = this.#options;
    for (const [entry, origin] of this.#origins) {
      if (origin !== owner) continue;
      this.#origins.delete(entry);
      // What rings yet stays: its caller's CANCEL comes here.
      if (this.#calls.get(Math.abs(entry))?.end === 'none') continue;
      edge.calls.giveUp(entry);
      edge.journal?.over(entry);
    }
  }

  /** A dialog names the member that it began at: when that has a seat again, its end is not heard of here. */
  #noteOrigin(owner: number, entry: number): void {
    if (this.#origins.size >= MAX_ORIGINS) this.#origins.delete(this.#origins.keys().next().value ?? 0);
    this.#origins.set(entry, owner);
  }

  // What nobody has adopted yet.

  /** `dialogs: own`: that member may come back, and what is its own waits for it. */
  #waits(owner: number): boolean {
    return this.#options.dialogs === 'own' && this.#adoption?.inGrace(owner) === true;
  }

  /** Keeps the packet until its member is decided on. When there is no room it is lost, and sent again: an answer would end the dialog. */
  #park(packet: Packet): true {
    if (!this.#parked.park(packet.owner, packet)) this.#options.edge.drops['owner-gone'].n++;
    return true;
  }

  /** INVITE or CANCEL of the caller. */
  #left(left: LeftCall, packet: Packet, scan: Scan): boolean {
    const { dialogs, answers } = this.#options;
    const adoption = this.#adoption!;
    if (this.#waits(left.owner)) return this.#parked.park(left.owner, packet);
    if (scan.method === Method.CANCEL) {
      this.#cancelling.add(packet.callKey);
      const copy = copyOf(packet);
      adoption.take(left, (won) => {
        this.#cancelling.delete(copy.callKey);
        if (won) this.#options.again(copy);
      });
      return true;
    }
    const { record } = left;
    const rings = record.legs.some(({ from }) => from === 'server') || this.#alive.has(packet.callKey);
    if (rings || (dialogs === 'own' && record.state === 'early')) {
      answers.answer(packet, scan, 100);
      return true;
    }
    // It had gone nowhere: the server here takes it as a new one.
    adoption.supersede(left);
    return false;
  }

  // What cannot go on.

  /** Its callee has been asked, so an answer may come. */
  #canRing(entry: number, record: CallRecord): boolean {
    if (record.legs.some(({ from }) => from === 'server')) return true;
    return this.#alive.delete(Math.abs(entry));
  }

  /** A call of a `dialogs: own` server, or one that had not left the server yet: there is no going on. */
  #endRinging(entry: number, record: CallRecord): AdoptionOutcome {
    const call = this.#calls.take(entry, record);
    const cancelled = this.#cancelling.delete(Math.abs(entry));
    // The client of a SUBSCRIBE asks again, and whoever then owns its slot answers.
    if (record.method !== 'INVITE') this.#calls.end(call, 'told');
    else if (cancelled) this.#calls.giveUp(call, 487, []);
    else this.#calls.giveUp(call, 500, RETRY_AFTER);
    return cancelled || !record.legs.some(({ from }) => from === 'client') ? 'cancelled' : 'refused';
  }

  #noteHungUp(key: number, scan: Scan): void {
    if (this.#hungUp.size >= MAX_REMEMBERED) this.#hungUp.delete(this.#hungUp.keys().next().value ?? 0);
    this.#hungUp.set(key, fromTag(scan));
  }

  /** One of the two parties has sent a BYE. */
  #hasHungUp(entry: number, record: CallRecord): boolean {
    const tag = this.#hungUp.get(Math.abs(entry));
    this.#hungUp.delete(Math.abs(entry));
    return tag !== undefined && isParty(record, tag);
  }

  /** Tells each party that the dialog is over, but for one that has said so itself. */
  #endDialog(entry: number, record: CallRecord): AdoptionOutcome {
    const hungUp = this.#hungUp.get(Math.abs(entry));
    this.#hungUp.delete(Math.abs(entry));
    for (const leg of record.legs) {
      if (leg.answer === undefined || partyTag(leg) === hungUp) continue;
      if (record.method === 'INVITE') this.#voice.bye(leg);
      else this.#voice.lastNotify(leg);
    }
    return 'ended';
  }
}

function fromTag(scan: Scan): string {
  return scan.bytes.toString('latin1', scan.fromTagStart, scan.fromTagEnd);
}

function isParty(record: CallRecord, tag: string): boolean {
  return record.legs.some((leg) => partyTag(leg) === tag);
}

/** The request has the tag of a party; the other's may not be known yet. */
function isOfParties(record: CallRecord, scan: Scan): boolean {
  return (
    isParty(record, fromTag(scan)) || isParty(record, scan.bytes.toString('latin1', scan.toTagStart, scan.toTagEnd))
  );
}
