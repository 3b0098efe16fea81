// Sends requests and answers in place of a dead server: CANCEL, ACK, BYE, the last NOTIFY, answers to callers. Over UDP
// everything except ACK is repeated, as that server's transactions would have done.
import type { Clock } from '../../base/clock.ts';
import type { Guard } from '../../base/guard.ts';
import type { Leg } from '../../calls/records/call-record.ts';
import type { Flow, Way } from '../../packet/flow.ts';
import { Repeats } from '../../transaction/retransmit.ts';
import type { OwnVia, OwnVias, Reach } from '../inserted/own-vias.ts';
import type { ServiceContext } from '../shared/context.ts';
import { ackOfAnswer, ackOfError, byeOf, cancelOf, lastNotifyOf } from './leg-requests.ts';

export class Surrogate {
  readonly #context: ServiceContext;
  readonly #repeats: Repeats;
  readonly #reach: Reach;
  readonly #guard: Guard;
  readonly #vias: OwnVias;
  /** Number of `close` calls. A request that still waits for its flow when the number changes is not sent. */
  #closings = 0;

  constructor(context: ServiceContext, clock: Clock, reach: Reach, vias: OwnVias, guard: Guard) {
    this.#context = context;
    this.#reach = reach;
    this.#vias = vias;
    this.#guard = guard;
    this.#repeats = new Repeats(clock, (flow, message) => this.send(flow, message));
  }

  /** Sends the message once. A message that finds no flow is counted as `flow-lost`. */
  send(flow: Readonly<Flow>, message: Buffer): void {
    const { egress, drops } = this.#context;
    if (!egress.send(flow, message)) drops['flow-lost'].n++;
  }

  /** Sends the CANCEL of the leg's INVITE, which left under `branch`; repeats it until `cancelAnswered`. */
  cancel(leg: Leg, branch: string): void {
    const cancel = cancelOf(leg);
    if (cancel) this.#repeats.request(`CANCEL ${branch}`, leg.flow, cancel);
  }

  /** Stops the CANCEL of that branch: a response has come. Returns false when no CANCEL is being repeated. */
  cancelAnswered(branch: string): boolean {
    return this.#repeats.stop(`CANCEL ${branch}`);
  }

  /** Sends the ACK of an error, whose To value is `to`. */
  ackError(leg: Leg, to: string): void {
    const ack = ackOfError(leg, to);
    if (ack) this.send(leg.flow, ack);
  }

  /** Sends the ACK of the leg's 2xx. */
  ackAnswer(leg: Leg): void {
    this.#inDialog(
      leg,
      ({ value }) => ackOfAnswer(leg, value),
      (flow, _via, ack) => this.send(flow, ack),
    );
  }

  /** Sends the answer to the caller of the call `key`, over UDP three times more until `answerAcknowledged`. */
  answer(key: number, flow: Readonly<Flow>, answer: Buffer): void {
    this.#repeats.answer(`answer ${key}`, flow, answer);
  }

  answerAcknowledged(key: number): void {
    this.#repeats.stop(`answer ${key}`);
  }

  /** Sends BYE to the leg's party until a final response arrives, for 32 s at most. */
  bye(leg: Leg): void {
    this.#request(leg, ({ value }) => byeOf(leg, value));
  }

  /**
   * Sends the leg's subscriber a NOTIFY that ends the subscription, until a final response arrives, for 32 s at most.
   */
  lastNotify(leg: Leg): void {
    this.#request(leg, ({ value, sentBy }) => lastNotifyOf(leg, value, `<sip:${sentBy}>`));
  }

  /**
   * Takes a final response to a request that this member sent under `branch`. Returns false when there is no such
   * request.
   */
  takeResponse(branch: string): boolean {
    return this.#repeats.stop(branch);
  }

  /** Stops all repetitions and drops requests that wait for their flow. The object stays usable. */
  close(): void {
    this.#closings++;
    this.#repeats.close();
  }

  #request(leg: Leg, make: (via: OwnVia) => Buffer | undefined): void {
    this.#inDialog(leg, make, (flow, { branch }, message) => this.#repeats.request(branch, flow, message));
  }

  /**
   * Builds a request to the leg's party and sends it by the flow that leads there now. Counts `flow-lost` when there is
   * none.
   */
  #inDialog(
    leg: Leg,
    make: (via: OwnVia) => Buffer | undefined,
    send: (flow: Readonly<Way>, via: OwnVia, message: Buffer) => void,
  ): void {
    // Nothing awaits this promise: an unhandled rejection would end the process.
    void this.#sendInDialog(leg, make, send).catch((error: unknown) => this.#guard.caught('records', error));
  }

  async #sendInDialog(
    leg: Leg,
    make: (via: OwnVia) => Buffer | undefined,
    send: (flow: Readonly<Way>, via: OwnVia, message: Buffer) => void,
  ): Promise<void> {
    const draft = this.#vias.byFlow(leg.flow);
    const asked = draft && make(draft);
    if (!asked) return;
    const closings = this.#closings;
    const flow = await this.#reach(asked, leg.flow);
    if (closings !== this.#closings) return;
    const via = flow && (flow === leg.flow ? draft : this.#vias.byFlow(flow));
    const message = via && make(via);
    if (message) send(flow, via, message);
    else this.#context.drops['flow-lost'].n++;
  }
}
