// The caller's side of one call, or the subscriber's side of one subscription.
import type { Place } from './place.ts';
import { soon } from './place.ts';
import { firstLine, fresh, headerOf, isRequest, statusOf, uriOf, valuesOf } from './wire.ts';

/** How a request looks where it does not show the place it comes from. */
export interface Looks {
  /** Host and port of the Via. */
  readonly sentBy?: string;
  /** Host and port of the Contact; left out: `sentBy`. */
  readonly contact?: string;
  /** False: the Via has no rport (RFC 3581). */
  readonly rport?: boolean;
  /** The sender is a proxy: Via of the client behind it, and its own Record-Route. */
  readonly below?: string;
  readonly recordRoute?: string;
  /** A Route that the first request brings along. */
  readonly route?: string;
  readonly headers?: readonly string[];
}

export class Call {
  readonly id: string;
  #cseq = 0;
  #to: string;
  #uri: string;
  #routes: readonly string[] = [];
  #hasDialog = false;

  constructor(user = 'bob', id = fresh('call')) {
    this.id = id;
    this.#uri = `sip:${user}@example.com`;
    this.#to = `<${this.#uri}>`;
  }

  /** The route set, as Route values in the order of the caller. */
  get routes(): readonly string[] {
    return this.#routes;
  }

  /** A request, new but for ACK and CANCEL, which have the CSeq of the one before. */
  text(place: Place, method: string, looks: Looks = {}, via = this.via(place, looks), uri = this.#uri): string {
    if (method !== 'ACK' && method !== 'CANCEL') this.#cseq++;
    const contact = looks.contact ?? looks.sentBy ?? place.at;
    return [
      `${method} ${uri} SIP/2.0`,
      `Via: ${via}`,
      'Max-Forwards: 70',
      ...(looks.route && !this.#hasDialog ? [`Route: ${looks.route}`] : []),
      ...this.#routes.map((route) => `Route: ${route}`),
      ...(looks.recordRoute ? [`Record-Route: ${looks.recordRoute}`] : []),
      ...(looks.headers ?? []),
      `From: <sip:alice@example.com>;tag=${this.id}`,
      `To: ${this.#to}`,
      `Call-ID: ${this.id}`,
      `CSeq: ${this.#cseq} ${method}`,
      `Contact: <sip:alice@${contact}${place.transport === 'TCP' ? ';transport=tcp' : ''}>`,
      'Content-Length: 0',
      '\r\n',
    ].join('\r\n');
  }

  via(place: Place, { sentBy = place.at, rport = true, below }: Looks = {}): string {
    const own = `SIP/2.0/${place.transport} ${sentBy};branch=${fresh('z9hG4bKcall')}${rport ? ';rport' : ''}`;
    return below ? `${own}, ${below}` : own;
  }

  /** Sends a request and returns it. Throws unless the answer is 200. The 200 of an INVITE gets an ACK. */
  async say(place: Place, method: string, looks: Looks = {}): Promise<string> {
    const text = this.text(place, method, looks);
    const final = await place.ask(text);
    if (statusOf(final) !== 200) throw new Error(`${method}: ${firstLine(final)}`);
    if (method === 'INVITE') this.acknowledge(place, final, looks);
    return text;
  }

  /** Takes the dialog from the 200 of an INVITE, and sends ACK. */
  acknowledge(place: Place, final: string, looks: Looks = {}): void {
    const isProxy = looks.recordRoute !== undefined;
    if (!this.#hasDialog)
      this.#routes = valuesOf(final, 'Record-Route')
        .reverse()
        .slice(isProxy ? 1 : 0);
    this.#hasDialog = true;
    this.#to = headerOf(final, 'To');
    this.#uri = uriOf(headerOf(final, 'Contact'));
    place.send(this.text(place, 'ACK', looks));
  }

  /** Subscribes, and takes the dialog from the first NOTIFY (RFC 6665 4.4.1). */
  async subscribe(place: Place, looks: Looks = {}): Promise<void> {
    await this.say(place, 'SUBSCRIBE', { ...looks, headers: ['Event: presence', 'Expires: 600'] });
    const isNotify = (message: string): boolean =>
      isRequest(message) && message.startsWith('NOTIFY ') && headerOf(message, 'Call-ID') === this.id;
    const notify = await soon('NOTIFY', () => place.got.find(isNotify));
    this.#hasDialog = true;
    this.#routes = valuesOf(notify, 'Record-Route');
    this.#to = headerOf(notify, 'From');
    this.#uri = uriOf(headerOf(notify, 'Contact'));
  }

  /** Subscribes anew within the dialog; no seconds end it. */
  async refresh(place: Place, seconds: number): Promise<void> {
    await this.say(place, 'SUBSCRIBE', { headers: ['Event: presence', `Expires: ${seconds}`] });
  }
}
