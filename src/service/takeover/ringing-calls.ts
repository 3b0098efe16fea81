// Handles adopted calls that rang when their member died. A call that goes on gets the hop-by-hop work of its dead
// proxy: CANCEL, the ACK of errors, the end of ringing. A call that cannot go on is ended.
import type { Clock, Timer } from '../../base/clock.ts';
import type { CallRecord, Leg } from '../../calls/records/call-record.ts';
import { branchOfLeg, isOfTransaction } from '../../calls/records/leg-reader.ts';
import { type CapturedMessage, legText } from '../../calls/records/leg-text.ts';
import type { StatelessReplies } from '../../egress/stateless-reply.ts';
import type { Packet } from '../../packet/packet.ts';
import { Method, type Scan } from '../../sip/scan.ts';
import type { ServiceContext } from '../shared/context.ts';
import { answerTo } from './leg-requests.ts';
import type { Surrogate } from './surrogate.ts';

export interface RingingCallsOptions {
  readonly context: ServiceContext;
  readonly answers: StatelessReplies;
  readonly clock: Clock;
  readonly surrogate: Surrogate;
  readonly ringingSeconds: () => number;
}

/** An outgoing branch of an adopted call. */
interface Branch {
  leg: Leg;
  readonly branch: string;
  /** failed: its error went to the caller. held: its error was not passed on. */
  state: 'ringing' | 'answered' | 'failed' | 'held';
  /** To value of its error. */
  to: string;
}

/** An adopted call that rang. */
export interface RingingCall {
  readonly entry: number;
  readonly record: CallRecord;
  readonly branches: readonly Branch[];
  /** Monotonic milliseconds of the adoption, then of the end of the ringing. */
  since: number;
  /**
   * End of the ringing. answered: by a 2xx, or shown by an in-dialog request. failed: by a callee's last error, which
   * went to the caller, or by a BYE. told: by an answer of this member; a SUBSCRIBE gets no answer.
   */
  end: 'none' | 'answered' | 'failed' | 'told';
  cancelled: boolean;
  /** The final answer that this member has sent to the caller. */
  last?: Buffer;
}

const TICK_MS = 1000;
/** 64*T1: retransmissions of a call that is over can arrive for this long. */
const LINGER_MS = 32_000;

export class RingingCalls {
  readonly #options: RingingCallsOptions;
  /** By the key of the Call-ID. */
  readonly #calls = new Map<number, RingingCall>();
  #ticker: Timer | undefined;

  constructor(options: RingingCallsOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#calls.size;
  }

  get(callKey: number): RingingCall | undefined {
    return this.#calls.get(callKey);
  }

  clear(): void {
    this.#ticker?.cancel();
    this.#ticker = undefined;
    this.#calls.clear();
  }

  take(entry: number, record: CallRecord): RingingCall {
    const outgoing = record.legs.filter(({ from }) => from === 'server');
    const call: RingingCall = {
      entry,
      record,
      branches: outgoing.map((leg) => ({ leg, branch: branchOfLeg(leg), state: 'ringing', to: '' })),
      since: this.#options.clock.now(),
      end: 'none',
      cancelled: false,
    };
    this.#calls.set(Math.abs(entry), call);
    this.#ticker ??= this.#options.clock.every(TICK_MS, () => this.#tick());
    return call;
  }

  /**
   * Handles the caller's INVITE, ACK or CANCEL. Returns false when it does not belong to the transaction that began the
   * call.
   */
  request(call: RingingCall, packet: Packet, scan: Scan): boolean {
    if (!isOfCaller(call.record, scan)) return false;
    const { answers, surrogate } = this.#options;
    if (scan.method === Method.ACK) return this.#ack(call);
    if (scan.method === Method.INVITE) {
      const client = call.record.legs.find(({ from }) => from === 'client');
      if (client && call.last) surrogate.send(client.flow, call.last);
      else answers.answer(packet, scan, 100);
      return true;
    }
    answers.answer(packet, scan, 200);
    if (call.cancelled || call.end !== 'none') return true;
    call.cancelled = true;
    if (call.branches.length > 0) this.#cancelBranches(call);
    else this.giveUp(call, 487, []);
    return true;
  }

  /**
   * Handles a callee's response to the INVITE of a dead proxy. An error is held while another branch rings, and the
   * last one goes to the caller (RFC 3261 16.7). The caller's ACK is passed on for that one; held errors are
   * acknowledged here. Returns true when the response must not be forwarded.
   */
  answer(call: RingingCall, scan: Scan): boolean {
    const { surrogate } = this.#options;
    const { status } = scan;
    const branch = call.branches.find((each) => each.branch === topBranch(scan));
    if (status < 200) return call.end === 'told' || call.end === 'answered';
    if (branch) surrogate.cancelAnswered(branch.branch);
    if (status < 300) {
      // A 2xx is always forwarded (RFC 3261 16.7 item 5). If this member already sent another final answer, the caller
      // has to end the call itself.
      if (branch) branch.state = 'answered';
      if (call.end === 'none') this.answered(call);
      return false;
    }
    if (!branch) return call.end === 'told';
    const held =
      branch.state === 'held' ||
      call.end === 'told' ||
      call.end === 'answered' ||
      call.branches.some((each) => each !== branch && each.state === 'ringing');
    branch.state = held ? 'held' : 'failed';
    branch.to = scan.bytes.toString('latin1', scan.toStart, scan.toEnd);
    if (held) surrogate.ackError(branch.leg, branch.to);
    else if (call.end === 'none') this.end(call, 'failed');
    return held;
  }

  /**
   * Handles a response to the INVITE of a dead back-to-back user agent. A callee that answers with 2xx receives ACK and
   * BYE. Returns true when the response must not be forwarded.
   */
  lateAnswer(call: RingingCall, scan: Scan): boolean {
    const { surrogate } = this.#options;
    const branch = call.branches.find((each) => each.branch === topBranch(scan));
    if (!branch || scan.status < 200) return branch !== undefined;
    surrogate.cancelAnswered(branch.branch);
    if (scan.status >= 300) {
      branch.to = scan.bytes.toString('latin1', scan.toStart, scan.toEnd);
      surrogate.ackError(branch.leg, branch.to);
      return true;
    }
    const answer = legText(capturedMessageOf(scan), 'none');
    if (answer === undefined) return true;
    const again = branch.state === 'answered';
    branch.state = 'answered';
    branch.leg = { ...branch.leg, answer };
    surrogate.ackAnswer(branch.leg);
    if (!again) surrogate.bye(branch.leg);
    return true;
  }

  /**
   * Ends the call: sends `status` to the caller, and CANCEL on each branch that rings. `headers`: lines without CRLF.
   */
  giveUp(call: RingingCall, status: number, headers: readonly string[]): void {
    const { answers, surrogate } = this.#options;
    this.#cancelBranches(call);
    this.end(call, 'told');
    for (const leg of call.record.legs) {
      const answer = answerTo(leg, status, answers.toTag(), headers);
      if (!answer) continue;
      call.last = answer;
      surrogate.answer(Math.abs(call.entry), leg.flow, answer);
    }
  }

  /**
   * Marks the call as answered. With more than one branch, cancels every branch still `ringing` (RFC 3261 16.7 item
   * 10). The answered branch may be among them, when it is not known; CANCEL has no effect there (RFC 3261 9.2).
   */
  answered(call: RingingCall): void {
    this.#mark(call, 'answered');
    if (call.branches.length > 1) this.#cancelBranches(call);
  }

  end(call: RingingCall, end: 'failed' | 'told'): void {
    this.#mark(call, end);
    this.#options.context.journal?.over(call.entry);
  }

  #mark(call: RingingCall, end: RingingCall['end']): void {
    call.end = end;
    call.since = this.#options.clock.now();
  }

  /** Handles the caller's ACK of an error: acknowledges the error of each failed branch. */
  #ack(call: RingingCall): boolean {
    if (call.end !== 'failed' && call.end !== 'told') return false;
    const { surrogate } = this.#options;
    surrogate.answerAcknowledged(Math.abs(call.entry));
    for (const { leg, state, to } of call.branches) if (state === 'failed') surrogate.ackError(leg, to);
    return true;
  }

  #cancelBranches(call: RingingCall): void {
    for (const { leg, branch, state } of call.branches)
      if (state === 'ringing') this.#options.surrogate.cancel(leg, branch);
  }

  /** Ends calls that have rung longer than `ringingSeconds`, and forgets calls that are over for `LINGER_MS`. */
  #tick(): void {
    const { clock, ringingSeconds } = this.#options;
    for (const [key, call] of this.#calls) {
      const age = clock.now() - call.since;
      if (call.end !== 'none') {
        if (age > LINGER_MS) this.#calls.delete(key);
      } else if (age > ringingSeconds() * 1000) this.giveUp(call, 408, []);
    }
    if (this.#calls.size > 0) return;
    this.#ticker?.cancel();
    this.#ticker = undefined;
  }
}

/**
 * Returns whether the request belongs to the INVITE transaction of the record's `client` leg (INVITE, ACK or CANCEL).
 */
export function isOfCaller(record: CallRecord, scan: Scan): boolean {
  const client = record.legs.find(({ from }) => from === 'client');
  return client !== undefined && isOfTransaction(client, scan);
}

export function topBranch(scan: Scan): string {
  return scan.bytes.toString('latin1', scan.branchStart, scan.branchEnd);
}

/** Returns a copy of the message, up to the end of its headers. */
function capturedMessageOf(scan: Scan): CapturedMessage {
  const { start, headersStart, headersEnd } = scan;
  return {
    message: Buffer.from(scan.bytes.subarray(start, headersEnd)),
    startLineEnd: headersStart - start,
    headersStart: headersStart - start,
    headersEnd: headersEnd - start,
  };
}
