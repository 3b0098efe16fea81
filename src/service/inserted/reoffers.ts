// Offers the media of adopted calls anew: each reader of ports that are lost gets a re-INVITE with its last description
// and ports of this member. The two parties of a call get theirs independently. The calls begin at a constant rate, so
// that the calls of a large member neither flood this one nor its clients.
import type { Timer } from '../../base/clock.ts';
import type { CallRecord, Leg } from '../../calls/records/call-record.ts';
import { contactOf, partyTag, peerTag, slice } from '../../calls/records/leg-reader.ts';
import { isByOpener, type Reoffer, reoffersOf } from '../../calls/records/reoffers.ts';
import { type Cell, type CellFamily, cellsBy } from '../../metrics/counters.ts';
import { isText } from '../../sip/octets.ts';
import { Method, Scan, scan as scanMessage } from '../../sip/scan.ts';
import type { ServiceContext } from '../shared/context.ts';
import type { Receiver } from '../shared/shifts.ts';
import { inTransaction, type RequestParts, reinviteLines, toParty, toServer } from './dialog-request.ts';
import { InviteClient } from './invite-client.ts';
import type { InsertingOptions } from './own-vias.ts';
import { MAX_ATTEMPTS, pauseOf, REOFFER_OUTCOMES, type ReofferOutcome, resultOf } from './reoffer-result.ts';

export interface ReoffersOptions extends InsertingOptions {
  readonly outcomes: CellFamily<'outcome'>;
}

/** Calls that begin per step: 400 a second, half of what a sweep adopts. */
const STEP_MS = 50;
const CALLS_PER_STEP = 20;
/** Re-INVITEs without a final response at one time. */
const MAX_RUNNING = 2000;
/** Calls that wait. */
const MAX_QUEUED = 50_000;

/** One re-INVITE, until its last copy of a response may have come. */
interface Running {
  readonly callKey: number;
  readonly to: Receiver;
  readonly receiver: string;
  readonly sender: string;
  readonly callId: string;
  readonly client: InviteClient;
  /** Address that its last response came from. */
  source: string;
}

export class Reoffers {
  readonly #options: ReoffersOptions;
  readonly #outcomes: Readonly<Record<ReofferOutcome, Cell>>;
  readonly #queue = new Set<number>();
  /** By branch. */
  readonly #running = new Map<string, Running>();
  /** Those without a final response, by the key of their Call-ID, and their number. */
  readonly #ofCalls = new Map<number, readonly Running[]>();
  #waiting = 0;
  /** Re-INVITEs without a result, by the entry of their call. */
  readonly #left = new Map<number, number>();
  /** Attempts that wait for their time. */
  readonly #pauses = new Set<Timer>();
  #stepper: Timer | undefined;
  /** Number of `clear` calls. */
  #clearings = 0;

  constructor(options: ReoffersOptions) {
    this.#options = options;
    this.#outcomes = cellsBy(options.outcomes, 'outcome', Object.keys(REOFFER_OUTCOMES) as ReofferOutcome[]);
  }

  /** Queues the call `entry`. Its record here has the shifts of CSeq, and the anchor has its streams. */
  begin(entry: number): void {
    if (this.#queue.size >= MAX_QUEUED) return;
    this.#queue.add(entry);
    this.#stepper ??= this.#options.clock.every(STEP_MS, () => this.#step());
  }

  /**
   * Takes a response that has no Via but this member's. `source`: address that it came from. Returns true when it
   * answers a re-INVITE of this object.
   */
  takes(response: Scan, source: string): boolean {
    const { bytes, branchStart, branchEnd, callIdStart, callIdEnd } = response;
    const running = branchStart < 0 ? undefined : this.#running.get(bytes.toString('latin1', branchStart, branchEnd));
    if (!running || !isText(bytes, callIdStart, callIdEnd, running.callId)) return false;
    running.source = source;
    // The CANCEL of an INVITE has its branch, too.
    if (response.method === Method.INVITE) running.client.take(response);
    return true;
  }

  /** Returns true when a re-INVITE is under way to the receiver of this request, which brings an offer, too. */
  collides(callKey: number, to: Receiver, request: Scan): boolean {
    if (this.#waiting === 0 || (request.method !== Method.INVITE && request.method !== Method.UPDATE)) return false;
    const ofCall = this.#ofCalls.get(callKey) ?? [];
    return ofCall.some((each) => each.to === to && each.client.waits && isOfDialog(each, request));
  }

  /** Forgets all calls and sends nothing more: other members own them now, or this member stops. */
  clear(): void {
    this.#clearings++;
    this.#queue.clear();
    this.#left.clear();
    for (const { client } of this.#running.values()) client.close();
    this.#running.clear();
    this.#ofCalls.clear();
    this.#waiting = 0;
    for (const pause of this.#pauses) pause.cancel();
    this.#pauses.clear();
    this.#stepper?.cancel();
    this.#stepper = undefined;
  }

  #step(): void {
    let begun = 0;
    for (const entry of this.#queue) {
      if (begun >= CALLS_PER_STEP || this.#waiting >= MAX_RUNNING) return;
      this.#queue.delete(entry);
      begun++;
      this.#beginCall(entry);
    }
    if (this.#queue.size > 0) return;
    this.#stepper?.cancel();
    this.#stepper = undefined;
  }

  #beginCall(entry: number): void {
    const record = this.#options.context.journal?.recordOf(entry);
    const reoffers = record ? reoffersOf(record) : [];
    this.#left.set(entry, reoffers.length);
    for (const reoffer of reoffers) this.#attempt(entry, reoffer, 0);
    this.#settle(entry, reoffers.length === 0);
  }

  #attempt(entry: number, reoffer: Reoffer, attempt: number): void {
    // Nothing awaits this promise: an unhandled rejection would end the process.
    void this.#send(entry, reoffer, attempt)
      .then((outcome) => outcome && this.#finish(entry, outcome))
      .catch((error: unknown) => {
        this.#options.guard.caught('records', error);
        this.#finish(entry, 'no-way');
      });
  }

  /** Sends the re-INVITE. Resolves to the outcome when it cannot be sent. */
  async #send(entry: number, reoffer: Reoffer, attempt: number): Promise<ReofferOutcome | undefined> {
    const { context, vias, reach } = this.#options;
    const { to, name, reader } = reoffer;
    const record = context.journal?.recordOf(entry);
    const leg = record?.legs[reoffer.leg];
    // The call is over.
    if (!record || !leg) return 'gone';
    const shift = leg.shift?.[to === 'party' ? 0 : 1] ?? 0;
    if (shift === 0) return 'no-way';
    const body = context.anchor?.offer(Math.abs(entry), name, reader);
    if (body === undefined) return 'no-offer';
    const lines = [...reinviteLines(leg, to), 'Content-Type: application/sdp'];
    const parts = (via: string): RequestParts => ({
      ...{ method: 'INVITE', via, lines, body },
      // The last of the numbers that the shift leaves free.
      cseq: (last) => last + shift - (MAX_ATTEMPTS - attempt) + 1,
    });
    const clearings = this.#clearings;
    if (to === 'server') {
      const via = vias.toServer();
      const message = this.#toServer(leg, parts(via.value));
      if (!message) return 'no-way';
      this.#run(entry, record, leg, reoffer, attempt, via.branch, message, undefined);
      return undefined;
    }
    const draft = vias.byFlow(leg.flow);
    const asked = draft && toParty(leg, parts(draft.value));
    const flow = asked && (await reach(asked, leg.flow));
    if (clearings !== this.#clearings) return undefined;
    const via = flow && vias.byFlow(flow);
    const message = via && toParty(leg, parts(via.value));
    if (!message) return 'no-way';
    this.#run(entry, record, leg, reoffer, attempt, via.branch, message, flow);
    return undefined;
  }

  #toServer(leg: Leg, parts: RequestParts): Buffer | undefined {
    const message = toServer(leg, parts);
    return message && this.#options.inward(message);
  }

  #run(
    entry: number,
    { callId }: CallRecord,
    leg: Leg,
    reoffer: Reoffer,
    attempt: number,
    branch: string,
    message: Buffer,
    flow: Parameters<ServiceContext['egress']['send']>[0] | undefined,
  ): void {
    const { context, clock, vias, toServer: sendToServer } = this.#options;
    const { to } = reoffer;
    const invite = new Scan();
    if (scanMessage(message, 0, message.length, false, invite) !== null) {
      this.#finish(entry, 'no-way');
      return;
    }
    const send = (each: Buffer): void => {
      if (!flow) sendToServer(each);
      else if (!context.egress.send(flow, each)) context.drops['flow-lost'].n++;
    };
    const ackOf = (response: Scan): Buffer | undefined => {
      const via = flow ? vias.byFlow(flow) : vias.toServer();
      if (!via) return undefined;
      const target =
        response.contactStart < 0 ? {} : { target: slice(response, response.contactStart, response.contactEnd) };
      const parts = { method: 'ACK', via: via.value, cseq: () => invite.cseq, ...target };
      return flow ? toParty(leg, parts) : this.#toServer(leg, parts);
    };
    const [party, peer] = [partyTag(leg), peerTag(leg)];
    const client = new InviteClient({
      ...{ clock, invite: message, unreliable: !flow || flow.connection === 0, send, ackOf },
      ackOfError: (value) => inTransaction(invite, 'ACK', value),
      cancel: () => inTransaction(invite, 'CANCEL'),
      onFinal: (status, response) => {
        this.#unhold(running);
        this.#onFinal(entry, leg, reoffer, attempt, status, response, running.source);
      },
      onOver: () => this.#running.delete(branch),
    });
    const [receiver, sender] = to === 'party' ? [party, peer] : [peer, party];
    const running: Running = { callKey: Math.abs(entry), to, receiver, sender, callId, client, source: '' };
    this.#running.set(branch, running);
    this.#ofCalls.set(running.callKey, [...(this.#ofCalls.get(running.callKey) ?? []), running]);
    this.#waiting++;
  }

  /** Requests of the parties may pass again. */
  #unhold(running: Running): void {
    this.#waiting--;
    const left = (this.#ofCalls.get(running.callKey) ?? []).filter((each) => each !== running);
    if (left.length === 0) this.#ofCalls.delete(running.callKey);
    else this.#ofCalls.set(running.callKey, left);
  }

  #onFinal(
    entry: number,
    leg: Leg,
    reoffer: Reoffer,
    attempt: number,
    status: number,
    response: Scan | undefined,
    source: string,
  ): void {
    const { context, clock } = this.#options;
    const { to, name, reader } = reoffer;
    const result = resultOf(status, attempt);
    if (result !== 'again') {
      if (result === 'answered' && response) {
        context.anchor?.answered(response, Math.abs(entry), name, reader, source);
        this.#noteTarget(entry, leg, reoffer, response);
      }
      this.#finish(entry, result);
      return;
    }
    const pause = clock.after(pauseOf(isByOpener(leg, to), entry + attempt * 7919), () => {
      this.#pauses.delete(pause);
      this.#attempt(entry, reoffer, attempt + 1);
    });
    this.#pauses.add(pause);
  }

  /** Records a new Contact of the leg's party (RFC 3261 12.2.1.2). */
  #noteTarget(entry: number, leg: Leg, { leg: index, to }: Reoffer, { bytes, contactStart, contactEnd }: Scan): void {
    if (to !== 'party' || contactStart < 0) return;
    const contact = bytes.toString('latin1', contactStart, contactEnd);
    if (contact !== contactOf(leg)) this.#options.context.journal?.retargeted(entry, index, contact);
  }

  #finish(entry: number, outcome: ReofferOutcome): void {
    const left = this.#left.get(entry);
    if (left === undefined) return;
    this.#outcomes[outcome].n++;
    this.#left.set(entry, left - 1);
    this.#settle(entry, left === 1);
  }

  /** Ends the work for the call when all its readers have a result. */
  #settle(entry: number, done: boolean): void {
    if (!done) return;
    this.#left.delete(entry);
    this.#options.context.anchor?.told(Math.abs(entry));
  }
}

function isOfDialog({ receiver, sender }: Running, request: Scan): boolean {
  const { bytes, fromTagStart, fromTagEnd, toTagStart, toTagEnd } = request;
  return (
    toTagStart >= 0 &&
    isText(bytes, toTagStart, toTagEnd, receiver) &&
    fromTagStart >= 0 &&
    isText(bytes, fromTagStart, fromTagEnd, sender)
  );
}
