// The party that all others call and subscribe to: answers, hangs up, and notifies. One UDP socket that sends all to
// the farm's address.
import { Place } from './place.ts';
import { answerTo, fresh, headerOf, isInDialog, methodOf, PORT, SPELLINGS, statusOf, uriOf, valuesOf } from './wire.ts';

/** A dialog at the callee, by its Call-ID. */
export interface Dialog {
  /** The request that has begun it. */
  readonly begun: string;
  /** Its copies are not among them. */
  readonly later: string[];
  target: string;
  cseq: number;
  isCancelled: boolean;
  readonly spell: ((via: string) => string) | undefined;
}

export class Callee {
  readonly dialogs = new Map<string, Dialog>();
  readonly #place: Place;
  readonly #address: string;

  private constructor(place: Place, address: string) {
    this.#place = place;
    this.#address = address;
    place.take = (request) => this.#take(request);
  }

  static async start(address: string, door: string): Promise<Callee> {
    return new Callee(await Place.udp(address, door, PORT), address);
  }

  dialog(callId: string): Dialog {
    const found = this.dialogs.get(callId);
    if (!found) throw new Error(`the callee has no ${callId}`);
    return found;
  }

  /** A request of that method has come within the dialog. */
  had(callId: string, method: string): boolean {
    return this.dialog(callId).later.some((request) => methodOf(request) === method);
  }

  /** Answers the call that rings. */
  accept(callId: string): void {
    this.#answer(this.dialog(callId).begun, '200 OK');
  }

  #answer(request: string, status: string): void {
    const spell = this.dialogs.get(headerOf(request, 'Call-ID'))?.spell;
    this.#place.send(answerTo(request, status, [`Contact: <sip:callee@${this.#address}:${PORT}>`], spell));
  }

  /**
   * A call for `ring` rings until CANCEL or acceptance. A call for `spelled-N` is answered in that spelling of the
   * Vias.
   */
  #take(request: string): void {
    const method = methodOf(request);
    const callId = headerOf(request, 'Call-ID');
    const user = /^\S+ sips?:([^@\s]*)@/.exec(request)?.[1] ?? '';
    const target = uriOf(headerOf(request, 'Contact'));
    const dialog = this.dialogs.get(callId);
    if (dialog && target && /^(?:INVITE|UPDATE|SUBSCRIBE)$/.test(method)) dialog.target = target;
    if (dialog && isInDialog(request) && !dialog.later.includes(request)) dialog.later.push(request);
    if (method === 'ACK') return;
    if ((method === 'INVITE' || method === 'SUBSCRIBE') && !isInDialog(request) && !dialog) {
      const spell = SPELLINGS[Number(/^spelled-(\d+)/.exec(user)?.[1] ?? -1)];
      this.dialogs.set(callId, { begun: request, later: [], target, cseq: 0, isCancelled: false, spell });
    }
    if (user.includes('ring') && method === 'INVITE') {
      this.#answer(request, '180 Ringing');
      return;
    }
    if (user.startsWith('eager') && method === 'SUBSCRIBE' && !isInDialog(request)) {
      // RFC 6665 4.4.1: the first NOTIFY may come before the 200.
      if (!dialog) void this.notify(callId).then(() => this.#answer(request, '200 OK'));
      return;
    }
    this.#answer(request, '200 OK');
    if (method !== 'CANCEL' || !dialog) return;
    if (!dialog.isCancelled) this.#answer(dialog.begun, '487 Request Terminated');
    dialog.isCancelled = true;
  }

  /** Status of the answer to BYE, 0 for none. */
  hangUp(callId: string): Promise<number> {
    return this.#ask(callId, 'BYE');
  }

  /** Status of the answer to NOTIFY, 0 for none. */
  notify(callId: string): Promise<number> {
    const contact = `Contact: <sip:callee@${this.#address}:${PORT}>`;
    return this.#ask(callId, 'NOTIFY', ['Event: presence', 'Subscription-State: active;expires=600', contact]);
  }

  /** Sends a request within a dialog until it has an answer, whatever that is (RFC 3261 12.2.1.1). */
  async #ask(callId: string, method: string, more: readonly string[] = []): Promise<number> {
    const dialog = this.dialog(callId);
    dialog.cseq++;
    const text = [
      `${method} ${dialog.target} SIP/2.0`,
      `Via: SIP/2.0/UDP ${this.#place.at};branch=${fresh('z9hG4bKcallee')}`,
      'Max-Forwards: 70',
      ...valuesOf(dialog.begun, 'Record-Route').map((route) => `Route: ${route}`),
      `From: ${headerOf(dialog.begun, 'To')};tag=callee`,
      `To: ${headerOf(dialog.begun, 'From')}`,
      `Call-ID: ${callId}`,
      `CSeq: ${dialog.cseq} ${method}`,
      ...more,
      'Content-Length: 0',
      '\r\n',
    ].join('\r\n');
    return statusOf(await this.#place.ask(text).catch(() => ''));
  }
}
