// What this member does with the calls of members that are gone (calls/adoption.ts): what rings goes on ringing or is answered, what cannot go
// on is ended, and whatever comes for it meanwhile finds somebody who knows it.
//
//    dialogs: shared   a proxy's call needs little: answers find their way by their Vias, dialogs go on at the server here. What is left is
//                      what the proxy did hop by hop: CANCEL, the ACK of an error, the end of the ringing.
//    dialogs: own      the call is over: callers get 500, callees CANCEL, both ends of a dialog BYE. But not before the grace is over: in it
//                      all that comes waits, and goes on to the member if it is back.
import type { Clock, Timer } from '../../base/clock.ts';
import type { Adoption, AdoptionOutcome, LeftCall, Heir as Successor } from '../../calls/adoption.ts';
import type { CallRecord, Leg } from '../../calls/call-record.ts';
import { legText, type Sighting } from '../../calls/leg-text.ts';
import type { Flow } from '../../ownership/flow.ts';
import { mintToken, TokenKind } from '../../ownership/token.ts';
import type { Answers } from '../../relay/answers.ts';
import { Method, type Scan } from '../../sip/scan.ts';
import type { Packet } from '../../transport/packet.ts';
import { type Edge, sideOfFlow } from './edge.ts';
import {
  ackOfAnswer,
  ackOfError,
  answerTo,
  branchOf,
  byeOf,
  cancelOf,
  isOfRequest,
  lastNotifyOf,
  partyTag,
} from './leg-messages.ts';
import { copyOf, Parked } from './parked.ts';
import { Repeats } from './repeats.ts';

export interface HeirOptions {
  readonly edge: Edge;
  readonly answers: Answers;
  readonly clock: Clock;
  readonly dialogs: 'own' | 'shared';
  readonly ringingSeconds: () => number;
  /** Sends a packet on its way once more, from the owner lookup on. */
  readonly again: (packet: Packet) => void;
}

/** An outgoing branch of an inherited call. */
interface Branch {
  leg: Leg;
  readonly branch: string;
  /** held: it has failed, and the caller does not hear of it. */
  state: 'ringing' | 'answered' | 'failed' | 'held';
  /** To value of its error. */
  to: string;
}

/** An adopted call that rang. */
interface Inherited {
  readonly entry: number;
  readonly record: CallRecord;
  readonly branches: readonly Branch[];
  /** Monotonic milliseconds of the adoption, then of the end of the ringing. */
  since: number;
  /** How the ringing has ended: by the last error of a callee, passed on, or by an answer of ours. */
  end: 'none' | 'passed' | 'told';
  cancelled: boolean;
  /** What we have told the caller. */
  last?: Buffer;
}

/** Seconds after which a caller whose call could not go on may try again. */
const RETRY_AFTER = ['Retry-After: 5'];
const TICK_MS = 1000;
/** 64*T1: as long come retransmissions of what is over. */
const LINGER_MS = 32_000;
/** What waits for the reading of records, and for no member. */
const NOBODY = 0;
/** Calls that are remembered before they are adopted. */
const MAX_REMEMBERED = 5000;
/** Adopted calls whose member is remembered, for each member. */
const MAX_OF_ORIGIN = 200_000;

export class Heir implements Successor {
  readonly #options: HeirOptions;
  readonly #parked = new Parked();
  readonly #repeats: Repeats;
  /** By the key of the Call-ID. */
  readonly #calls = new Map<number, Inherited>();
  /** Calls that are being adopted because their caller has cancelled them. */
  readonly #cancelling = new Set<number>();
  /** Tag of the party that has sent a BYE, by the key of the Call-ID. */
  readonly #hungUp = new Map<number, string>();
  /** Calls that go on here, by the number of the member they were adopted from. */
  readonly #origins = new Map<number, Set<number>>();
  /** Calls without an outgoing leg in their record, from whose callee something has come all the same. */
  readonly #alive = new Set<number>();
  #adoption: Adoption | undefined;
  #ticker: Timer | undefined;
  #branches = 0;

  constructor(options: HeirOptions) {
    this.#options = options;
    const { egress, drops } = options.edge;
    this.#repeats = new Repeats(options.clock, (flow, message) => {
      if (!egress.send(flow, message)) drops['flow-lost'].n++;
    });
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
    this.#ticker?.cancel();
    this.#ticker = undefined;
    this.#repeats.close();
    this.#calls.clear();
    this.#alive.clear();
    this.#origins.clear();
  }

  // What the packet path asks.

  /** A request of a client. True when it goes no further. */
  request(packet: Packet, scan: Scan): boolean {
    const adoption = this.#adoption;
    if (!adoption) return false;
    const { dialogs } = this.#options;
    const key = packet.callKey;
    if (packet.orphan) {
      if (dialogs === 'own' && adoption.inGrace(packet.owner)) return this.#parked.park(packet.owner, packet);
      if (scan.toTagStart < 0) return false;
      if (scan.method === Method.BYE) this.#noteHungUp(key, scan);
      adoption.wantDialog(packet.owner, key);
      return false;
    }
    if (scan.method === Method.ACK) return this.#ack(key);
    if (scan.method !== Method.CANCEL && (scan.method !== Method.INVITE || scan.toTagStart >= 0)) return false;
    const call = this.#calls.get(key);
    if (call) return isOfCaller(call.record, scan) && this.#known(call, packet, scan);
    const left = adoption.left(key);
    if (left) return isOfCaller(left.record, scan) && this.#left(left, packet, scan);
    // For a moment nobody knows whether this call rings already.
    return adoption.reading && !this.#options.edge.calls.has(key) && this.#parked.park(NOBODY, packet);
  }

  /** A response of a client that names a member that is gone. True when it goes no further. */
  response(packet: Packet, scan: Scan): boolean {
    const adoption = this.#adoption;
    if (!adoption || !packet.orphan) return false;
    const { dialogs } = this.#options;
    if (dialogs === 'own' && adoption.inGrace(packet.owner)) return this.#parked.park(packet.owner, packet);
    const key = packet.callKey;
    const call = this.#calls.get(key);
    if (scan.method === Method.CANCEL) return call !== undefined && this.#repeats.stop(`CANCEL ${topBranch(scan)}`);
    if (scan.method !== Method.INVITE) return false;
    if (call) return dialogs === 'own' ? this.#lateAnswer(call, scan) : this.#answer(call, scan);
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
    if (scan.status < 200) return false;
    return this.#repeats.stop(topBranch(scan));
  }

  // What adoption tells.

  onDecided(owner: number): void {
    if (!this.#adoption?.watching) this.#alive.clear();
    for (const packet of this.#parked.release(owner)) this.#options.again(packet);
  }

  onRead(): void {
    this.onDecided(NOBODY);
  }

  onAdopted(entry: number, record: CallRecord, owner: number): AdoptionOutcome {
    const { edge, dialogs, clock } = this.#options;
    const { epoch } = edge.world.tables;
    const confirmed = record.state === 'confirmed';
    const goesOn = dialogs === 'shared' && (confirmed || (record.method === 'INVITE' && this.#canRing(entry, record)));
    if (goesOn && confirmed && this.#hungUp.delete(Math.abs(entry))) {
      edge.journal?.over(entry);
      return 'over-already';
    }
    if (goesOn) {
      this.#noteOrigin(owner, entry);
      edge.calls.restore(entry, record.method === 'SUBSCRIBE', confirmed, clock.now(), epoch);
      if (!confirmed) this.#inherit(entry, record);
      return confirmed ? 'dialog' : 'ringing';
    }
    if (!confirmed) return this.#endRinging(entry, record);
    edge.journal?.over(entry);
    return this.#endDialog(entry, record);
  }

  onSeated(owner: number): void {
    const { edge } = this.#options;
    for (const entry of this.#origins.get(owner) ?? []) {
      // What rings yet stays: its caller's CANCEL comes here.
      if (this.#calls.has(Math.abs(entry))) continue;
      edge.calls.giveUp(entry);
      edge.journal?.over(entry);
    }
    this.#origins.delete(owner);
  }

  /** A dialog names the member that it began at: when that has a seat again, its end is not heard of here. */
  #noteOrigin(owner: number, entry: number): void {
    const entries = this.#origins.get(owner) ?? new Set();
    this.#origins.set(owner, entries);
    if (entries.size < MAX_OF_ORIGIN) entries.add(entry);
  }

  // Calls that ring.

  /** Its callee has been asked, so an answer may come. */
  #canRing(entry: number, record: CallRecord): boolean {
    if (record.legs.some(({ from }) => from === 'server')) return true;
    const key = Math.abs(entry);
    return this.#alive.delete(key) && !this.#cancelling.has(key);
  }

  #inherit(entry: number, record: CallRecord): Inherited {
    const outgoing = record.legs.filter(({ from }) => from === 'server');
    const call: Inherited = {
      entry,
      record,
      branches: outgoing.map((leg) => ({ leg, branch: branchOf(leg), state: 'ringing', to: '' })),
      since: this.#options.clock.now(),
      end: 'none',
      cancelled: false,
    };
    this.#calls.set(Math.abs(entry), call);
    this.#ticker ??= this.#options.clock.every(TICK_MS, () => this.#tick());
    return call;
  }

  /** A call of a `dialogs: own` server, or one that had not left the server yet: there is no going on. */
  #endRinging(entry: number, record: CallRecord): AdoptionOutcome {
    const key = Math.abs(entry);
    const call = this.#inherit(entry, record);
    const cancelled = this.#cancelling.delete(key);
    // The client of a SUBSCRIBE asks again, and whoever then owns its slot answers.
    if (record.method !== 'INVITE') this.#end(call, 'told');
    else if (cancelled) this.#giveUp(call, 487, []);
    else this.#giveUp(call, 500, RETRY_AFTER);
    return cancelled || !record.legs.some(({ from }) => from === 'client') ? 'cancelled' : 'refused';
  }

  /** INVITE or CANCEL of the caller of a call that is ours. */
  #known(call: Inherited, packet: Packet, scan: Scan): boolean {
    const { answers } = this.#options;
    if (scan.method === Method.INVITE) {
      const client = call.record.legs.find(({ from }) => from === 'client');
      if (client && call.last) this.#send(client.flow, call.last);
      else answers.answer(packet, scan, 100);
      return true;
    }
    answers.answer(packet, scan, 200);
    if (call.cancelled || call.end !== 'none') return true;
    call.cancelled = true;
    if (call.branches.length > 0) this.#cancelBranches(call);
    else this.#giveUp(call, 487, []);
    return true;
  }

  /** INVITE or CANCEL of the caller of a call that nobody has adopted yet. */
  #left(left: LeftCall, packet: Packet, scan: Scan): boolean {
    const { dialogs, answers } = this.#options;
    const adoption = this.#adoption!;
    if (dialogs === 'own' && adoption.inGrace(left.owner)) return this.#parked.park(left.owner, packet);
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

  /** The ACK of the caller, of an error: it goes to those that wait for one. */
  #ack(key: number): boolean {
    const call = this.#calls.get(key);
    if (!call) return false;
    this.#repeats.stop(`answer ${key}`);
    for (const branch of call.branches) if (branch.state === 'failed') this.#ackError(branch);
    return true;
  }

  /** A response of a callee. Errors wait for the last one, as a proxy does it (RFC 3261 16.7), and the caller's ACK is theirs. */
  #answer(call: Inherited, scan: Scan): boolean {
    const { status } = scan;
    const branch = call.branches.find((each) => each.branch === topBranch(scan));
    if (status < 200) return call.end === 'told';
    if (branch) this.#repeats.stop(`CANCEL ${branch.branch}`);
    if (status < 300) {
      // A 2xx always goes on (RFC 3261 16.7 item 5): its caller will have to end the call itself.
      if (call.end === 'none') this.#calls.delete(Math.abs(call.entry));
      return false;
    }
    if (!branch) return call.end === 'told';
    const held =
      branch.state === 'held' ||
      call.end === 'told' ||
      call.branches.some((each) => each !== branch && each.state === 'ringing');
    branch.state = held ? 'held' : 'failed';
    branch.to = scan.bytes.toString('latin1', scan.toStart, scan.toEnd);
    if (held) this.#ackError(branch);
    else if (call.end === 'none') this.#end(call, 'passed');
    return held;
  }

  /** A response to an INVITE of a server that is gone: a callee that has answered all the same is told that the call is over. */
  #lateAnswer(call: Inherited, scan: Scan): boolean {
    const branch = call.branches.find((each) => each.branch === topBranch(scan));
    if (!branch || scan.status < 200) return branch !== undefined;
    this.#repeats.stop(`CANCEL ${branch.branch}`);
    if (scan.status >= 300) {
      branch.to = scan.bytes.toString('latin1', scan.toStart, scan.toEnd);
      this.#ackError(branch);
      return true;
    }
    const answer = legText(sightingOf(scan), 'none');
    if (answer === undefined) return true;
    const again = branch.state === 'answered';
    branch.state = 'answered';
    branch.leg = { ...branch.leg, answer };
    const via = this.#via(branch.leg.flow);
    const ack = via && ackOfAnswer(branch.leg, via.value);
    if (ack) this.#send(branch.leg.flow, ack);
    if (!again) this.#sayOnce(branch.leg, byeOf);
    return true;
  }

  #ackError({ leg, to }: Branch): void {
    const ack = ackOfError(leg, to);
    if (ack) this.#send(leg.flow, ack);
  }

  #cancelBranches(call: Inherited): void {
    for (const { leg, branch, state } of call.branches) {
      const cancel = state === 'ringing' ? cancelOf(leg) : undefined;
      if (cancel) this.#repeats.request(`CANCEL ${branch}`, leg.flow, cancel);
    }
  }

  #end(call: Inherited, end: 'passed' | 'told'): void {
    call.end = end;
    call.since = this.#options.clock.now();
    this.#options.edge.journal?.over(call.entry);
  }

  /** Ends what has rung too long, and forgets what has long been over. */
  #tick(): void {
    const { clock, ringingSeconds } = this.#options;
    for (const [key, call] of this.#calls) {
      const age = clock.now() - call.since;
      if (call.end !== 'none') {
        if (age > LINGER_MS) this.#calls.delete(key);
      } else if (age > ringingSeconds() * 1000) this.#giveUp(call, 408, []);
    }
    if (this.#calls.size > 0) return;
    this.#ticker?.cancel();
    this.#ticker = undefined;
  }

  /** Tells the caller how the call ends, and the callees that it does. */
  #giveUp(call: Inherited, status: number, headers: readonly string[]): void {
    this.#cancelBranches(call);
    this.#end(call, 'told');
    for (const leg of call.record.legs) {
      const answer = answerTo(leg, status, this.#options.answers.toTag(), headers);
      if (!answer) continue;
      call.last = answer;
      this.#repeats.answer(`answer ${Math.abs(call.entry)}`, leg.flow, answer);
    }
  }

  // Dialogs.

  #noteHungUp(key: number, scan: Scan): void {
    if (this.#hungUp.size >= MAX_REMEMBERED) this.#hungUp.delete(this.#hungUp.keys().next().value ?? 0);
    this.#hungUp.set(key, scan.bytes.toString('latin1', scan.fromTagStart, scan.fromTagEnd));
  }

  /** Tells each party that the dialog is over, but for one that has said so itself. */
  #endDialog(entry: number, record: CallRecord): AdoptionOutcome {
    const key = Math.abs(entry);
    const hungUp = this.#hungUp.get(key);
    this.#hungUp.delete(key);
    for (const leg of record.legs) {
      if (leg.answer === undefined || partyTag(leg) === hungUp) continue;
      if (record.method === 'INVITE') this.#sayOnce(leg, byeOf);
      else this.#sayOnce(leg, (each, via) => lastNotifyOf(each, via, `<sip:${this.#via(each.flow)?.sentBy}>`));
    }
    return 'ended';
  }

  /** Sends a request of its own transaction to the party of the leg, until it is answered. */
  #sayOnce(leg: Leg, make: (leg: Leg, via: string) => Buffer | undefined): void {
    const via = this.#via(leg.flow);
    const message = via && make(leg, via.value);
    if (message) this.#repeats.request(via.branch, leg.flow, message);
  }

  #send(flow: Readonly<Flow>, message: Buffer): void {
    const { edge } = this.#options;
    if (!edge.egress.send(flow, message)) edge.drops['flow-lost'].n++;
  }

  /** A Via of ours for a transaction of our own; undefined when there is no such listener. */
  #via(flow: Readonly<Flow>): { readonly value: string; readonly branch: string; readonly sentBy: string } | undefined {
    const { edge } = this.#options;
    const side = sideOfFlow(edge, flow);
    if (!side) return undefined;
    const { keys, tables } = edge.world;
    const unique = Buffer.alloc(8);
    unique.writeUInt32BE(tables.incarnation, 0);
    unique.writeUInt32BE(++this.#branches >>> 0, 4);
    const value = `${side.via.toString('latin1').slice('Via: '.length)}${mintToken(keys, TokenKind.edge, tables.self, 0, unique)}`;
    const [sentBy = '', branch = ''] = value.slice(value.indexOf(' ') + 1).split(';branch=');
    return { value, branch, sentBy };
  }
}

/** The INVITE, or its CANCEL, is of the caller that the record knows. */
function isOfCaller(record: CallRecord, scan: Scan): boolean {
  const client = record.legs.find(({ from }) => from === 'client');
  return client !== undefined && isOfRequest(client, scan);
}

function topBranch(scan: Scan): string {
  return scan.bytes.toString('latin1', scan.branchStart, scan.branchEnd);
}

/** The message of `scan`, with octets of its own. */
function sightingOf(scan: Scan): Sighting {
  const { start, headersStart, headersEnd } = scan;
  return {
    message: Buffer.from(scan.bytes.subarray(start, headersEnd)),
    startLineEnd: headersStart - start,
    headersStart: headersStart - start,
    headersEnd: headersEnd - start,
  };
}
