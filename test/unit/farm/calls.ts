// Both ends of calls for the tests of this folder: a user agent server behind each member, and a caller that
// retransmits by RFC 3261 17.
import {
  FakeFarm,
  type FakeServer,
  type FarmOptions,
  type Phone,
  type TcpPhone,
  type UdpPhone,
} from '../../fake/farm.ts';
import { Message, request, respond, uriOf } from '../../fake/sip.ts';

const T1_MS = 500;
const T2_MS = 4000;
const TIMER_B_MS = 64 * T1_MS;

const farms: FakeFarm[] = [];

/** Starts a farm that `stopFarms` stops. */
export async function start(options: FarmOptions): Promise<FakeFarm> {
  const farm = await FakeFarm.start(options);
  farms.push(farm);
  return farm;
}

/** Stops all farms that `start` has started: `afterEach(stopFarms)` in each test file. */
export async function stopFarms(): Promise<void> {
  for (const farm of farms.splice(0)) await farm.stop();
}

interface Dialog {
  readonly invite: Message;
  readonly toTag: string;
  /** Last response to the INVITE. */
  response: string;
  state: 'ringing' | 'answered' | 'confirmed' | 'refused' | 'over';
}

/**
 * A user agent server that has dialogs and answers 481 to requests without a dialog, so that misrouted requests show.
 */
export class CallServer {
  readonly server: FakeServer;
  readonly dialogs: Map<string, Dialog>;
  /** True: a call rings until `answer`. */
  rings = false;
  /** Call-IDs of ACKs without a dialog at this server. */
  readonly strayAcks: string[] = [];
  readonly #farm: FakeFarm;

  /** `dialogs`: shared between servers that can all serve any dialog. */
  constructor(farm: FakeFarm, server: FakeServer, dialogs = new Map<string, Dialog>()) {
    this.#farm = farm;
    this.server = server;
    this.dialogs = dialogs;
    this.takeOver();
  }

  /** Makes this object handle the server's requests from now on. */
  takeOver(): void {
    this.server.script = (message) => this.#take(message);
  }

  answer(callId: string): void {
    const dialog = this.dialogs.get(callId);
    if (dialog?.state !== 'ringing') throw new Error(`${callId} does not ring here`);
    dialog.state = 'answered';
    dialog.response = respond(dialog.invite, 200, { toTag: dialog.toTag, headers: [this.#contact] });
    this.#repeat(dialog, T1_MS, TIMER_B_MS);
  }

  get #contact(): string {
    const { address, port } = this.server.at;
    return `Contact: <sip:bob@${address}:${port}>`;
  }

  /** Sends a request of the callee in the dialog, along the route set of the INVITE. */
  inDialog(callId: string, method: string): void {
    const { invite, toTag } = this.dialogs.get(callId)!;
    const { address, port } = this.server.at;
    this.server.send(
      request({
        method,
        uri: uriOf(invite.one('Contact')),
        via: `SIP/2.0/UDP ${address}:${port};branch=z9hG4bKserver-${method}-${callId}`,
        callId,
        fromTag: toTag,
        toTag: /;tag=(.*)/.exec(invite.one('From'))?.[1] ?? '',
        cseq: 100,
        headers: invite.all('Record-Route').map((route) => `Route: ${route}`),
      }),
    );
  }

  #repeat(dialog: Dialog, interval: number, left: number): void {
    if (left <= 0 || (dialog.state !== 'answered' && dialog.state !== 'refused')) return;
    this.server.send(dialog.response);
    this.#farm.clock.after(interval, () => this.#repeat(dialog, Math.min(interval * 2, T2_MS), left - interval));
  }

  #take(message: Message): void {
    const dialog = this.dialogs.get(message.callId);
    const { method } = message;
    if (method === 'INVITE' && message.toTag === '') this.#invite(message, dialog);
    else if (method === 'ACK') this.#ack(message, dialog);
    else if (method === 'CANCEL') this.#cancel(message, dialog);
    else if (!dialog || message.toTag !== dialog.toTag) this.server.send(respond(message, 481, { toTag: 'none' }));
    else {
      if (method === 'BYE') dialog.state = 'over';
      this.server.send(respond(message, 200, { headers: method === 'INVITE' ? [this.#contact] : [] }));
    }
  }

  #invite(invite: Message, known: Dialog | undefined): void {
    if (known) {
      this.server.send(known.response);
      return;
    }
    const toTag = `bob-${invite.callId}`;
    const dialog: Dialog = { invite, toTag, response: respond(invite, 180, { toTag }), state: 'ringing' };
    this.dialogs.set(invite.callId, dialog);
    this.server.send(dialog.response);
    if (!this.rings) this.answer(invite.callId);
  }

  #ack(message: Message, dialog: Dialog | undefined): void {
    if (dialog?.toTag !== message.toTag) this.strayAcks.push(message.callId);
    else if (dialog.state === 'answered') dialog.state = 'confirmed';
    else if (dialog.state === 'refused') dialog.state = 'over';
  }

  #cancel(message: Message, dialog: Dialog | undefined): void {
    const matches = dialog?.invite.branch === message.branch;
    this.server.send(respond(message, matches ? 200 : 481, { toTag: dialog?.toTag ?? 'none' }));
    if (!matches || dialog?.state !== 'ringing') return;
    dialog.state = 'refused';
    dialog.response = respond(dialog.invite, 487, { toTag: dialog.toTag });
    this.#repeat(dialog, T1_MS, TIMER_B_MS);
  }
}

/** Puts a call server behind every member of the farm. */
export function serve(farm: FakeFarm, { shared = false, rings = false } = {}): CallServer[] {
  const dialogs = new Map<string, Dialog>();
  return farm.members.map(({ server }) => {
    const made = new CallServer(farm, server, shared ? dialogs : undefined);
    made.rings = rings;
    return made;
  });
}

let calls = 0;

/** Requests outside of a dialog. */
const isEarly = (method: string): boolean => method === 'INVITE' || method === 'CANCEL';

/** One call from a phone. Its messages go one by one to the members that the balancer picks. */
export class Call {
  readonly callId: string;
  readonly fromTag: string;
  /** Final status by method; 408 without a response in time. */
  readonly final = new Map<string, number>();
  ringing = false;
  /** URI parameters of its Contact, such as `;transport=tls`. */
  contactTransport = '';
  toTag = '';
  #routes: readonly string[] = [];
  #target = 'sip:bob@example.org';
  #phone: Phone;
  readonly #farm: FakeFarm;
  #inviteVia: string;
  #cseq = 1;
  #invite = '';
  /** After a provisional response the INVITE is not sent again (RFC 3261 17.1.1.2). */
  #proceeding = false;
  #inDialog = false;
  readonly #reliable: boolean;

  constructor(farm: FakeFarm, phone: UdpPhone | TcpPhone, callId = `made-${++calls}`) {
    this.#farm = farm;
    this.#phone = phone;
    this.callId = callId;
    this.fromTag = `alice-${callId}`;
    this.#reliable = phone.transport !== 'UDP';
    this.#inviteVia = this.#via();
    this.#listen(phone);
  }

  /** Makes the caller use this connection from now on. */
  moveTo(phone: UdpPhone | TcpPhone): void {
    this.#phone = phone;
    this.#listen(phone);
  }

  #listen(phone: UdpPhone | TcpPhone): void {
    const before = phone.onMessage;
    phone.onMessage = (message) => (message.callId === this.callId ? this.#take(message) : before(message));
  }

  get status(): number {
    return this.final.get('INVITE') ?? 0;
  }

  invite(): void {
    const { address, port } = this.#phone.at;
    const contact = `Contact: <sip:alice@${address}:${port}${this.contactTransport}>`;
    this.#send('INVITE', this.#inviteVia, this.#cseq, [contact], 'v=0\r\n');
  }

  /** Sends a new INVITE with the same Call-ID after an error (RFC 3261 8.1.3.5). */
  tryAgain(): void {
    this.#inviteVia = this.#via();
    this.#cseq++;
    this.toTag = '';
    this.#proceeding = false;
    this.final.delete('INVITE');
    this.invite();
  }

  /** Sends the same INVITE again, like a client without an answer. */
  inviteAgain(): void {
    this.#phone.send(this.#invite);
  }

  /** Sends the ACK of the 2xx again, in its own transaction (RFC 3261 13.2.2.4). */
  ackAgain(): void {
    this.#phone.send(this.#text('ACK', this.#via(), this.#cseq));
  }

  /** Sends a CANCEL with a foreign branch, as a stranger can. */
  cancelAsAnother(): void {
    this.#send('CANCEL', this.#via(), this.#cseq);
  }

  /** Sends an INVITE in the dialog once; its final status replaces the status of the first INVITE. */
  reinvite(): void {
    const { address, port } = this.#phone.at;
    this.final.delete('INVITE');
    this.refresh('INVITE', 2, `<sip:alice@${address}:${port}>`);
  }

  /** Sends a request in the dialog once that names this Contact. */
  refresh(method: string, cseq: number, contact: string): void {
    this.#inDialog = true;
    this.#phone.send(this.#text(method, this.#via(), cseq, [`Contact: ${contact}`], 'v=0\r\n', false));
  }

  cancel(): void {
    this.#send('CANCEL', this.#inviteVia, this.#cseq);
  }

  /** Sends a request in the dialog. */
  send(method: string): void {
    this.#send(method, this.#via(), this.#cseq + 1);
  }

  bye(): void {
    this.send('BYE');
  }

  /** Sends a BYE of a stranger who has the dialog's route and Call-ID but not its tag. */
  byeAs(fromTag: string): void {
    this.#phone.send(this.#text('BYE', this.#via(), this.#cseq + 1).replace(/^(From:.*;tag=).*$/m, `$1${fromTag}`));
  }

  #via(): string {
    const { at, transport } = this.#phone;
    return `SIP/2.0/${transport} ${at.address}:${at.port};branch=z9hG4bKcall-${++calls}`;
  }

  #text(
    method: string,
    via: string,
    cseq: number,
    headers: readonly string[] = [],
    body = '',
    early = isEarly(method),
  ): string {
    const { callId, fromTag } = this;
    return request({
      method,
      uri: early ? 'sip:bob@example.org' : this.#target,
      via,
      callId,
      fromTag,
      ...(!early && { toTag: this.toTag }),
      cseq,
      headers: [...(early ? [] : this.#routes.map((route) => `Route: ${route}`)), ...headers],
      body,
    });
  }

  #send(method: string, via: string, cseq: number, headers: readonly string[] = [], body = ''): void {
    const text = this.#text(method, via, cseq, headers, body);
    if (method === 'INVITE') this.#invite = text;
    const again = (interval: number, left: number): void => {
      if (this.final.has(method) || (method === 'INVITE' && this.#proceeding)) return;
      if (left <= 0) {
        this.final.set(method, 408);
        return;
      }
      this.#phone.send(text);
      const next = method === 'INVITE' ? interval * 2 : Math.min(interval * 2, T2_MS);
      if (!this.#reliable) this.#farm.clock.after(interval, () => again(next, left - interval));
    };
    again(T1_MS, TIMER_B_MS);
  }

  #take(message: Message): void {
    const { status, method } = message;
    if (status === 0) {
      this.#phone.send(respond(message, 200));
      return;
    }
    if (method === 'INVITE') {
      if (message.toTag !== '') this.toTag = message.toTag;
      this.ringing ||= status > 100;
      this.#proceeding = true;
    }
    if (status < 200) return;
    if (!this.final.has(method)) this.final.set(method, status);
    if (method !== 'INVITE') return;
    if (status < 300) {
      // A re-INVITE changes no route set (RFC 3261 12.2.1.2).
      if (!this.#inDialog) this.#routes = message.all('Record-Route').reverse();
      this.#target = uriOf(message.one('Contact'));
      this.#phone.send(this.#text('ACK', this.#via(), this.#cseq));
    } else {
      const ack = new Message(this.#text('ACK', this.#inviteVia, this.#cseq));
      this.#phone.send(ack.text.replace(/^ACK \S+/, 'ACK sip:bob@example.org').replace(/^Route:.*\r\n/gm, ''));
    }
  }
}

/** Starts `count` calls of the phone and returns them after their INVITEs have passed. */
export async function invited(farm: FakeFarm, phone: UdpPhone | TcpPhone, count: number): Promise<Call[]> {
  const calls = Array.from({ length: count }, () => new Call(farm, phone));
  for (const call of calls) void call.invite();
  await farm.settle();
  return calls;
}
