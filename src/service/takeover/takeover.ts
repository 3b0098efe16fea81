// Takes over the calls of dead members once they are adopted (calls/adoption), and handles their packets until then.
//
//   dialogs: shared   Answers find their way by their Vias. Dialogs go on at the SIP server of this member. The rest is
//                     the proxy's hop-by-hop work: CANCEL, the ACK of an error, the end of ringing.
//   dialogs: own      The call is over. Callers receive 500, callees CANCEL, both ends of a dialog BYE. Nothing is sent
//                     before the grace is over. Packets wait until then, and go to the dead member if it comes back.
import type { Clock } from '../../base/clock.ts';
import type { Guard } from '../../base/guard.ts';
import { type Adoption, type AdoptionOutcome, type LeftCall, RECORDS } from '../../calls/adoption/adoption.ts';
import type { CallRecord } from '../../calls/records/call-record.ts';
import { partyTag } from '../../calls/records/leg-reader.ts';
import { lifeOfRecord } from '../../calls/records/record-life.ts';
import { reoffersOf, withLostPorts, withShifts } from '../../calls/records/reoffers.ts';
import { RETRY_AFTER, type StatelessReplies } from '../../egress/stateless-reply.ts';
import type { Packet } from '../../packet/packet.ts';
import { Method, type Scan } from '../../sip/scan.ts';
import type { Inserted } from '../inserted/inserted.ts';
import type { OwnVias, Reach } from '../inserted/own-vias.ts';
import type { Succession } from '../service.ts';
import type { ServiceContext } from '../shared/context.ts';
import { hasEnded, rememberParties } from '../shared/parties.ts';
import { CallNotes } from './call-notes.ts';
import { Origins } from './origins.ts';
import { copyOf, Parked } from './parked-packets.ts';
import { isOfCaller, RingingCalls, topBranch } from './ringing-calls.ts';
import { Surrogate } from './surrogate.ts';

export interface TakeoverOptions {
  readonly context: ServiceContext;
  readonly answers: StatelessReplies;
  readonly clock: Clock;
  readonly dialogs: 'own' | 'shared';
  readonly ringingSeconds: () => number;
  /** Passes a packet through the packet path again, beginning with the owner lookup. */
  readonly again: (packet: Packet) => void;
  readonly reach: Reach;
  readonly vias: OwnVias;
  readonly inserted: Inserted;
  readonly guard: Guard;
}

export class Takeover implements Succession {
  readonly #options: TakeoverOptions;
  readonly #parked = new Parked();
  readonly #surrogate: Surrogate;
  readonly #calls: RingingCalls;
  /** Calls whose adoption was triggered by their caller's CANCEL. */
  readonly #cancelling = new Set<number>();
  readonly #notes = new CallNotes();
  readonly #origins: Origins;
  #adoption: Adoption | undefined;

  constructor(options: TakeoverOptions) {
    this.#options = options;
    const { context, clock, reach, vias, guard } = options;
    this.#surrogate = new Surrogate(context, clock, reach, vias, guard);
    this.#origins = new Origins(context, clock);
    this.#calls = new RingingCalls({ ...options, surrogate: this.#surrogate });
  }

  follow(adoption: Adoption): void {
    this.#adoption = adoption;
  }

  hasEnded(entry: number, record: CallRecord): boolean {
    return hasEnded(this.#options.context, entry, record);
  }

  asTaken(record: CallRecord): CallRecord {
    const { dialogs, context, guard } = this.#options;
    try {
      if (dialogs === 'shared' && context.anchor) return withLostPorts(record);
    } catch (error) {
      // The record holds messages of strangers.
      guard.caught('records', error);
    }
    const { media: _, ...rest } = record;
    return rest;
  }

  recovered(entry: number, record: CallRecord): void {
    const { context } = this.#options;
    const unfinished = reoffersOf(record).length > 0;
    // This member stopped before all readers had its ports, and may have used the numbers of the record.
    const now = record.media?.some(({ untold }) => untold) ? withShifts(record) : record;
    for (const [index, { shift }] of now.legs.entries())
      if (shift && shift !== record.legs[index]?.shift) context.journal?.shifted(entry, index, shift);
    rememberParties(context, entry, now, unfinished);
    if (unfinished) this.#options.inserted.reoffer(entry);
  }

  /** False while there is nothing to take over. The packet path may then skip this object. */
  get active(): boolean {
    return this.#calls.size > 0 || this.#adoption?.watching === true;
  }

  /** Forgets all calls and stops sending: other members own the calls now, or this member stops. */
  clear(): void {
    this.#surrogate.close();
    this.#options.inserted.clear();
    this.#calls.clear();
    this.#cancelling.clear();
    this.#notes.clear();
    this.#origins.clear();
  }

  // Called from the packet path.

  /** Handles a client's request. Returns true when it must not be forwarded. */
  request(packet: Packet, scan: Scan): boolean {
    const adoption = this.#adoption;
    if (!adoption) return false;
    const key = packet.callKey;
    if (packet.orphan) {
      if (this.#waits(packet.owner)) return this.#park(packet);
      if (scan.toTagStart < 0) return false;
      if (this.#options.dialogs === 'shared') this.#takeResponse(packet.owner, key, scan);
      if (scan.method === Method.BYE) this.#notes.noteBye(key, fromTag(scan));
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
    // While records are being read, it is undecided whether this call already rings.
    return adoption.reading && !this.#options.context.calls.has(key) && this.#parked.park(RECORDS, packet);
  }

  /** Handles a client's response whose token names a dead member. Returns true when it must not be forwarded. */
  response(packet: Packet, scan: Scan): boolean {
    const adoption = this.#adoption;
    if (!adoption || !packet.orphan) return false;
    if (this.#waits(packet.owner)) return this.#park(packet);
    const { dialogs } = this.#options;
    const key = packet.callKey;
    const call = this.#calls.get(key);
    if (scan.method === Method.CANCEL) return call !== undefined && this.#surrogate.cancelAnswered(topBranch(scan));
    if (scan.method !== Method.INVITE) return false;
    if (call) return dialogs === 'own' ? this.#calls.lateAnswer(call, scan) : this.#calls.answer(call, scan);
    const left = dialogs === 'shared' ? adoption.left(key) : undefined;
    if (!left) return false;
    if (scan.status < 200) this.#notes.noteRinging(key);
    else {
      // A final response may end the ringing. The member that wins the adoption handles it.
      const copy = copyOf(packet);
      adoption.take(left, () => this.#options.again(copy));
      return true;
    }
    return false;
  }

  /**
   * Takes a final response to a request that this member began itself: it has no Via below. Returns true when it was
   * one.
   */
  takes(scan: Scan): boolean {
    return scan.status >= 200 && this.#surrogate.takeResponse(topBranch(scan));
  }

  /**
   * Reads the state of the call from an in-dialog request that goes to the SIP server here. The call record may be
   * older.
   */
  #takeResponse(owner: number, key: number, scan: Scan): void {
    const { method } = scan;
    // PRACK and UPDATE are no proof of a confirmed dialog: early dialogs have them, too (RFC 3262, RFC 3311).
    if (method === Method.PRACK || method === Method.UPDATE) return;
    const { context } = this.#options;
    const call = this.#calls.get(key);
    const rings = call?.end === 'none' && isOfParties(call.record, scan) ? call : undefined;
    if (method === Method.BYE) {
      const from = fromTag(scan);
      this.#adoption?.endDialog(owner, key, (record) => isParty(record, from));
      if (!rings) return;
      this.#calls.end(rings, 'failed');
      context.calls.forget(rings.entry);
      return;
    }
    if (rings) {
      this.#calls.answered(rings);
      this.#confirm(rings.entry);
    } else this.#notes.noteConfirmed(key);
  }

  /** Notes that a dialog of a dead member has begun in the call table here. */
  beganFor(owner: number, entry: number): void {
    this.#origins.note(owner, entry);
  }

  /** Marks a call that rings by its record as a confirmed dialog. */
  #confirm(entry: number): void {
    const { context, clock } = this.#options;
    context.calls.onResponse(entry, Method.INVITE, 200, 0, clock.now());
    context.journal?.confirmed(entry);
  }

  // Called by the adoption.

  decided(owner: number): void {
    if (!this.#adoption?.watching) this.#notes.clear();
    for (const packet of this.#parked.release(owner)) this.#options.again(packet);
  }

  adopted(entry: number, record: CallRecord, owner: number): AdoptionOutcome {
    const { context, dialogs, clock } = this.#options;
    const { epoch } = context.routing.tables;
    const confirmed = record.state === 'confirmed';
    const isDialog = confirmed || this.#notes.takeConfirmed(Math.abs(entry));
    const goesOn = dialogs === 'shared' && (isDialog || (record.method === 'INVITE' && this.#canRing(entry, record)));
    if (goesOn && (this.#hasHungUp(entry, record) || hasEnded(context, entry, record))) {
      context.journal?.over(entry);
      return 'over-already';
    }
    if (goesOn) {
      this.#origins.note(owner, entry);
      context.calls.restore(entry, record.method === 'SUBSCRIBE', confirmed, lifeOfRecord(record), clock.now(), epoch);
      if (record.media) context.anchor?.restore(Math.abs(entry), record.callId, record.media);
      rememberParties(context, entry, record, true);
      if (record.media) this.#options.inserted.reoffer(entry);
      if (!isDialog) this.#calls.take(entry, record);
      else if (!confirmed) this.#confirm(entry);
      return isDialog ? 'dialog' : 'ringing';
    }
    if (!confirmed) return this.#endRinging(entry, record);
    context.journal?.over(entry);
    return this.#endDialog(entry, record);
  }

  seated(owner: number): void {
    // A ringing call stays here: its caller's CANCEL still comes to this member.
    const rings = (entry: number): boolean => this.#calls.get(Math.abs(entry))?.end === 'none';
    this.#origins.seated(owner, rings, (given) => this.#adoption?.giveBack(owner, given));
  }

  // Calls that are not adopted yet.

  /** Returns whether packets of that member wait: with `dialogs: own` it may come back during the grace. */
  #waits(owner: number): boolean {
    return this.#options.dialogs === 'own' && this.#adoption?.inGrace(owner) === true;
  }

  /**
   * Parks the packet until its member is decided on. Without room it is dropped and counted, and the sender repeats it.
   * An error answer would end the dialog.
   */
  #park(packet: Packet): true {
    if (!this.#parked.park(packet.owner, packet)) this.#options.context.drops['owner-gone'].n++;
    return true;
  }

  /** Handles the caller's INVITE or CANCEL of a call that is not adopted yet. */
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
    const rings = record.legs.some(({ from }) => from === 'server') || this.#notes.isRinging(packet.callKey);
    if (rings || (dialogs === 'own' && record.state === 'early')) {
      answers.answer(packet, scan, 100);
      return true;
    }
    // No callee has seen the call: the SIP server here takes the INVITE as a new one.
    adoption.supersede(left);
    return false;
  }

  // Calls that cannot go on.

  /** Returns whether a callee has received the INVITE, so that an answer may come. */
  #canRing(entry: number, record: CallRecord): boolean {
    if (record.legs.some(({ from }) => from === 'server')) return true;
    return this.#notes.takeRinging(Math.abs(entry));
  }

  /**
   * Ends a ringing call that cannot go on: its server had `dialogs: own`, or its request had not left the server yet.
   */
  #endRinging(entry: number, record: CallRecord): AdoptionOutcome {
    const call = this.#calls.take(entry, record);
    const cancelled = this.#cancelling.delete(Math.abs(entry));
    // A SUBSCRIBE gets no answer here: its client repeats it, and the owner of its slot then answers.
    if (record.method !== 'INVITE') this.#calls.end(call, 'told');
    else if (cancelled) this.#calls.giveUp(call, 487, []);
    else this.#calls.giveUp(call, 500, RETRY_AFTER);
    return cancelled || !record.legs.some(({ from }) => from === 'client') ? 'cancelled' : 'refused';
  }

  /** Returns whether one of the two parties has sent a BYE. */
  #hasHungUp(entry: number, record: CallRecord): boolean {
    const tag = this.#notes.takeBye(Math.abs(entry));
    return tag !== undefined && isParty(record, tag);
  }

  /** Ends the dialog towards each party, except one that has itself sent a BYE. */
  #endDialog(entry: number, record: CallRecord): AdoptionOutcome {
    const hungUp = this.#notes.takeBye(Math.abs(entry));
    for (const leg of record.legs) {
      if (leg.answer === undefined || partyTag(leg) === hungUp) continue;
      if (record.method === 'INVITE') this.#surrogate.bye(leg);
      else this.#surrogate.lastNotify(leg);
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

/** Returns whether one tag of the request is that of a party. The other party's tag may not be in the record yet. */
function isOfParties(record: CallRecord, scan: Scan): boolean {
  return (
    isParty(record, fromTag(scan)) || isParty(record, scan.bytes.toString('latin1', scan.toTagStart, scan.toTagEnd))
  );
}
