// A client transaction of INVITE inside a dialog (RFC 3261 17.1.1, RFC 6026), for re-INVITEs of this member. The table
// decides; the class repeats the INVITE over UDP, sends ACK and CANCEL, and reports the final response once.
//
//    calling --1xx--> proceeding --32 s--> cancelling --32 s--> over
//       any of these --2xx--> accepted: an ACK per copy of the 2xx     --32 s--> over
//       any of these --3xx-6xx--> refused: an ACK per copy of the error --32 s--> over
import type { Clock, Timer } from '../../base/clock.ts';
import type { Scan } from '../../sip/scan.ts';

export type InviteState = 'calling' | 'proceeding' | 'cancelling' | 'accepted' | 'refused' | 'over';
export type InviteEvent = 'provisional' | 'accepted' | 'refused' | 'late';
/** give-up: the final response is missing. */
type InviteAction = 'none' | 'ack' | 'ack-error' | 'cancel' | 'give-up';

type Row = Readonly<Record<InviteEvent, readonly [InviteState, InviteAction]>>;

export const INVITE_CLIENT: Readonly<Record<InviteState, Row>> = {
  calling: {
    provisional: ['proceeding', 'none'],
    accepted: ['accepted', 'ack'],
    refused: ['refused', 'ack-error'],
    late: ['over', 'give-up'],
  },
  proceeding: {
    provisional: ['proceeding', 'none'],
    accepted: ['accepted', 'ack'],
    refused: ['refused', 'ack-error'],
    late: ['cancelling', 'cancel'],
  },
  cancelling: {
    provisional: ['cancelling', 'none'],
    accepted: ['accepted', 'ack'],
    refused: ['refused', 'ack-error'],
    late: ['over', 'give-up'],
  },
  accepted: {
    provisional: ['accepted', 'none'],
    accepted: ['accepted', 'ack'],
    refused: ['accepted', 'none'],
    late: ['over', 'none'],
  },
  refused: {
    provisional: ['refused', 'none'],
    accepted: ['refused', 'none'],
    refused: ['refused', 'ack-error'],
    late: ['over', 'none'],
  },
  over: {
    provisional: ['over', 'none'],
    accepted: ['over', 'none'],
    refused: ['over', 'none'],
    late: ['over', 'none'],
  },
};

const T1_MS = 500;
/** 64*T1: timers B, D and M. */
const LATE_MS = 64 * T1_MS;
/** Status of a transaction without a final response (RFC 3261 8.1.3.1). */
const NO_ANSWER = 408;

export interface InviteClientOptions {
  readonly clock: Clock;
  readonly invite: Buffer;
  /** The messages are lost now and then: the INVITE is repeated until the first response. */
  readonly unreliable: boolean;
  readonly send: (message: Buffer) => void;
  /** Returns the ACK of a 2xx. */
  readonly ackOf: (response: Scan) => Buffer | undefined;
  /** Returns the ACK of an error, whose To value is `to`. */
  readonly ackOfError: (to: string) => Buffer | undefined;
  readonly cancel: () => Buffer | undefined;
  /** Called once, with the final response; undefined and 408 without one. */
  readonly onFinal: (status: number, response: Scan | undefined) => void;
  /** Called at the end: no response is expected any more. */
  readonly onOver: () => void;
}

export class InviteClient {
  readonly #options: InviteClientOptions;
  #state: InviteState = 'calling';
  #repeat: Timer | undefined;
  #late: Timer;

  /** Sends the INVITE. */
  constructor(options: InviteClientOptions) {
    this.#options = options;
    this.#late = this.#restart();
    options.send(options.invite);
    if (options.unreliable) this.#repeatAfter(T1_MS);
  }

  /** False once there is a final response. */
  get waits(): boolean {
    return this.#state === 'calling' || this.#state === 'proceeding' || this.#state === 'cancelling';
  }

  /** Takes a response of this transaction. */
  take(response: Scan): void {
    const { status } = response;
    this.#on(status < 200 ? 'provisional' : status < 300 ? 'accepted' : 'refused', response);
  }

  /** Sends nothing more, and reports nothing. */
  close(): void {
    this.#state = 'over';
    this.#late.cancel();
    this.#repeat?.cancel();
  }

  #on(event: InviteEvent, response: Scan | undefined): void {
    const { onFinal, onOver, send, ackOf, ackOfError, cancel } = this.#options;
    const waited = this.waits;
    const [next, action] = INVITE_CLIENT[this.#state][event];
    const changed = next !== this.#state;
    this.#state = next;
    if (next !== 'calling') this.#repeat?.cancel();
    if (changed && next !== 'proceeding') {
      this.#late.cancel();
      if (next !== 'over') this.#late = this.#restart();
    }
    const message =
      action === 'ack'
        ? ackOf(response!)
        : action === 'ack-error'
          ? ackOfError(response!.bytes.toString('latin1', response!.toStart, response!.toEnd))
          : action === 'cancel'
            ? cancel()
            : undefined;
    if (message) send(message);
    if (action === 'give-up') onFinal(NO_ANSWER, undefined);
    else if (waited && !this.waits) onFinal(response!.status, response);
    if (next === 'over' && changed) onOver();
  }

  #restart(): Timer {
    return this.#options.clock.after(LATE_MS, () => this.#on('late', undefined));
  }

  /** Timer A. */
  #repeatAfter(ms: number): void {
    const { clock, send, invite } = this.#options;
    this.#repeat = clock.after(ms, () => {
      send(invite);
      this.#repeatAfter(ms * 2);
    });
  }
}
