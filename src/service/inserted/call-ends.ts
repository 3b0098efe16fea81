// Ends a confirmed call from the middle: a BYE to each end of its dialog, in the name of the other one (RFC 3261
// 15.1.1). The numbers of these requests exceed all that the parties have used.
import { type CallRecord, type Leg, MAX_CSEQ } from '../../calls/records/call-record.ts';
import { answeredLegs, leapOf } from '../../calls/records/reoffers.ts';
import { emptyFlow } from '../../packet/flow.ts';
import { Method, type Scan } from '../../sip/scan.ts';
import { Repeats } from '../../transaction/retransmit.ts';
import type { Receiver } from '../shared/shifts.ts';
import { type RequestParts, toParty, toServer } from './dialog-request.ts';
import type { InsertingOptions } from './own-vias.ts';

export class CallEnds {
  readonly #options: InsertingOptions;
  readonly #toParties: Repeats;
  readonly #toServer: Repeats;
  /** Number of `clear` calls. */
  #clearings = 0;

  constructor(options: InsertingOptions) {
    this.#options = options;
    const { clock, context } = options;
    this.#toParties = new Repeats(clock, (flow, message) => {
      if (!context.egress.send(flow, message)) context.drops['flow-lost'].n++;
    });
    this.#toServer = new Repeats(clock, (_flow, message) => options.toServer(message));
  }

  /** Sends the BYEs, each until it is answered, for 32 s at most. The call is over from now on. */
  end(entry: number, record: CallRecord): void {
    const { context, clock, guard } = this.#options;
    const legs = answeredLegs(record.legs);
    for (const index of legs) {
      const leg = record.legs[index]!;
      // Nothing awaits this promise: an unhandled rejection would end the process.
      void this.#byeToParty(leg).catch((error: unknown) => guard.caught('timer', error));
      // Both ends of a proxy's call are clients.
      if (legs.length === 1) this.#byeToServer(leg);
    }
    const { epoch } = context.routing.tables;
    // A proxy's call has an entry for each direction.
    for (const each of [entry, -entry]) {
      if (!context.calls.isDialog(each)) continue;
      context.calls.onRequest(each, Method.BYE, { from: 0, to: 1, cseq: 0 }, clock.now(), epoch);
      context.calls.onResponse(each, Method.BYE, 200, 0, clock.now());
    }
    context.journal?.over(entry);
  }

  /** Takes a final response to a BYE of this object. Returns true when it was one. */
  takes({ bytes, branchStart, branchEnd, method }: Scan): boolean {
    if (branchStart < 0 || method !== Method.BYE) return false;
    const branch = bytes.toString('latin1', branchStart, branchEnd);
    return this.#toParties.stop(branch) || this.#toServer.stop(branch);
  }

  clear(): void {
    this.#clearings++;
    this.#toParties.close();
    this.#toServer.close();
  }

  async #byeToParty(leg: Leg): Promise<void> {
    const { vias, reach, context } = this.#options;
    const clearings = this.#clearings;
    const draft = vias.byFlow(leg.flow);
    const asked = draft && toParty(leg, byeOf(leg, 'party', draft.value));
    const flow = asked && (await reach(asked, leg.flow));
    if (clearings !== this.#clearings) return;
    const via = flow && vias.byFlow(flow);
    const bye = via && toParty(leg, byeOf(leg, 'party', via.value));
    if (bye) this.#toParties.request(via.branch, flow, bye);
    else context.drops['flow-lost'].n++;
  }

  #byeToServer(leg: Leg): void {
    const via = this.#options.vias.toServer();
    const message = toServer(leg, byeOf(leg, 'server', via.value));
    const bye = message && this.#options.inward(message);
    if (bye) this.#toServer.request(via.branch, emptyFlow(), bye);
  }
}

function byeOf(leg: Leg, to: Receiver, via: string): RequestParts {
  const shift = leg.shift?.[to === 'party' ? 0 : 1] ?? 0;
  return { method: 'BYE', via, cseq: (last) => Math.min(last + shift + leapOf(leg, to), MAX_CSEQ) };
}
