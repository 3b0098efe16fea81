// A record-routing proxy behind each member, each of which can serve every dialog (`dialogs: shared`), and phones that
// are called through it.
import type { FakeFarm, FakeServer, UdpPhone } from '../../fake/farm.ts';
import { compose, Message, request, respond, uriOf } from '../../fake/sip.ts';

const T1_MS = 500;
const T2_MS = 4000;
const TIMER_H_MS = 64 * T1_MS;

/** Returns the message with the headers that `change` returns, and with another start line if one is given. */
function rewritten(
  message: Message,
  change: (headers: (readonly [string, string])[]) => (readonly [string, string])[],
  startLine = message.startLine,
): string {
  const headers = change([...message.headers]).filter(([name]) => name.toLowerCase() !== 'content-length');
  return compose(
    startLine,
    headers.map(([name, value]) => `${name}: ${value}`),
    message.body,
  );
}

interface Branch {
  readonly branch: string;
  readonly sent: Message;
  final: number;
}

interface Transaction {
  readonly request: Message;
  readonly branches: Branch[];
  answered: boolean;
}

/** A minimal transaction-stateful proxy (RFC 3261 16). An instance does not have the transactions of another one. */
export class ProxyServer {
  readonly server: FakeServer;
  /** Targets of calls: one branch for each URI. Empty: the proxy answers 100 and waits. */
  targets: string[] = [];
  /** False: no 100. */
  trying = true;
  /** Responses without a transaction at this proxy. */
  readonly strays: Message[] = [];
  readonly #transactions = new Map<string, Transaction>();
  #branches = 0;

  constructor(server: FakeServer, targets: readonly string[]) {
    this.server = server;
    this.targets = [...targets];
    server.script = (message) => this.#request(message);
    server.onResponse = (message) => this.#response(message);
  }

  get #self(): string {
    return `${this.server.at.address}:${this.server.at.port}`;
  }

  #request(message: Message): void {
    const { method } = message;
    if (method === 'CANCEL') this.#cancel(message);
    else if (method === 'ACK' && message.all('Route').length === 0) return;
    else if (message.toTag !== '') this.#inDialog(message);
    else this.#start(message);
  }

  #start(message: Message): void {
    if (this.#transactions.has(message.branch)) return;
    const transaction: Transaction = { request: message, branches: [], answered: false };
    this.#transactions.set(message.branch, transaction);
    if (this.trying) this.server.send(respond(message, 100));
    for (const target of this.targets) {
      const lines: [string, string][] = [['Record-Route', `<sip:${this.#self};lr>`]];
      this.#pass(message, transaction, `${message.method} ${target} SIP/2.0`, lines);
    }
  }

  #inDialog(message: Message): void {
    const transaction: Transaction = { request: message, branches: [], answered: false };
    this.#transactions.set(message.branch, transaction);
    this.#pass(message, transaction, message.startLine, []);
  }

  /** Forwards the request: removes Route values of all instances, adds its own Via and `lines`. */
  #pass(message: Message, transaction: Transaction, startLine: string, lines: [string, string][]): void {
    const branch = `z9hG4bKproxy-${this.#self}-${++this.#branches}`;
    const routes = message.all('Route');
    while (/^<sip:10\.0\.0\.\d+:5070;lr>$/.test(routes[0] ?? '')) routes.shift();
    const text = rewritten(
      message,
      (headers) => [
        ['Via', `SIP/2.0/UDP ${this.#self};branch=${branch}`],
        ...lines,
        ...routes.map((route) => ['Route', route] as const),
        ...headers.filter(([name]) => name !== 'Route'),
      ],
      startLine,
    );
    transaction.branches.push({ branch, sent: new Message(text), final: 0 });
    // An INVITE goes out through the member; an in-dialog request follows its Route.
    const [, address, port] = /@([\d.]+):(\d+)/.exec(routes[0] ?? '') ?? [];
    this.server.send(text, address === undefined ? this.server.edge : { address, port: Number(port) });
  }

  #cancel(message: Message): void {
    const transaction = this.#transactions.get(message.branch);
    this.server.send(respond(message, transaction ? 200 : 481, { toTag: 'proxy' }));
    for (const branch of transaction?.branches ?? []) if (branch.final === 0) this.#hop(branch.sent, 'CANCEL', '');
  }

  /** Sends a hop-by-hop request for the transaction of `sent`: CANCEL, or the ACK of an error. */
  #hop(sent: Message, method: string, toTag: string): void {
    const keep = (headers: (readonly [string, string])[]): (readonly [string, string])[] => {
      const [top] = headers.filter(([name]) => name === 'Via');
      const rest = headers.filter(([name]) => ['Route', 'From', 'To', 'Call-ID', 'CSeq'].includes(name));
      return [top!, ...rest].map(([name, value]): readonly [string, string] => {
        if (name === 'CSeq') return [name, value.replace(/\S+$/, method)];
        return [name, name === 'To' && toTag !== '' ? `${value};tag=${toTag}` : value];
      });
    };
    this.server.send(rewritten(sent, keep, `${method} ${sent.uri} SIP/2.0`));
  }

  #response(message: Message): void {
    const found = [...this.#transactions.values()].find(({ branches }) =>
      branches.some(({ branch }) => branch === message.branch),
    );
    const branch = found?.branches.find((each) => each.branch === message.branch);
    if (!found || !branch) {
      this.strays.push(message);
      return;
    }
    if (message.method === 'CANCEL' || message.status === 100) return;
    if (message.status >= 300 && message.method === 'INVITE') this.#hop(branch.sent, 'ACK', message.toTag);
    if (message.status >= 200) branch.final = message.status;
    if (message.status >= 300 && found.branches.some(({ final }) => final === 0)) return;
    let first = true;
    this.server.send(
      rewritten(message, (headers) =>
        headers.filter(([name]) => {
          const drop = first && name === 'Via';
          if (drop) first = false;
          return !drop;
        }),
      ),
    );
  }
}

/** Puts a proxy behind every member; all have the same `targets`. */
export function proxies(farm: FakeFarm, targets: readonly string[]): ProxyServer[] {
  return farm.members.map(({ server }) => new ProxyServer(server, targets));
}

/** A phone that is called: rings until `answer`. */
export class Callee {
  readonly phone: UdpPhone;
  /** Methods of the received requests, without retransmissions. */
  readonly seen: string[] = [];
  invite: Message | undefined;
  state: 'idle' | 'ringing' | 'answered' | 'confirmed' | 'cancelled' | 'over' = 'idle';
  /** False: it sends no 180. */
  tells = true;
  readonly tag: string;
  /** Number of ACKs for errors. */
  acked = 0;
  readonly #farm: FakeFarm;
  #response = '';
  readonly #final = new Map<string, number>();
  readonly #known = new Set<string>();

  constructor(farm: FakeFarm, phone: UdpPhone, tag = 'bob') {
    this.#farm = farm;
    this.phone = phone;
    this.tag = tag;
    phone.onMessage = (message) => this.#take(message);
  }

  get uri(): string {
    return `sip:bob@${this.phone.at.address}:${this.phone.at.port}`;
  }

  /** Returns the final status of a request that it sent. */
  final(method: string): number {
    return this.#final.get(method) ?? 0;
  }

  /** Ends the call so that another INVITE may come. */
  expectAnother(): void {
    this.state = 'idle';
    this.invite = undefined;
  }

  ring(): void {
    this.phone.send(respond(this.invite!, 180, { toTag: this.tag, headers: [`Contact: <${this.uri}>`] }));
  }

  answer(...headers: readonly string[]): void {
    this.state = 'answered';
    const contact = `Contact: <${this.uri}>`;
    this.#response = respond(this.invite!, 200, { toTag: this.tag, headers: [contact, ...headers] });
    this.#repeat('answered', T1_MS, TIMER_H_MS);
  }

  refuse(status: number): void {
    this.state = 'cancelled';
    this.#response = respond(this.invite!, status, { toTag: this.tag });
    this.#repeat('cancelled', T1_MS, TIMER_H_MS);
  }

  /** Sends a request in the dialog, along the route set of its INVITE. */
  send(method: string): void {
    const invite = this.invite!;
    const { address, port } = this.phone.at;
    this.phone.send(
      request({
        method,
        uri: uriOf(invite.one('Contact')),
        via: `SIP/2.0/UDP ${address}:${port};branch=z9hG4bKcallee-${this.tag}-${method}`,
        callId: invite.callId,
        fromTag: this.tag,
        toTag: /;tag=(.*)/.exec(invite.one('From'))?.[1] ?? '',
        headers: invite.all('Record-Route').map((route) => `Route: ${route}`),
      }),
    );
  }

  #repeat(state: Callee['state'], interval: number, left: number): void {
    if (left <= 0 || this.state !== state) return;
    this.phone.send(this.#response);
    this.#farm.clock.after(interval, () => this.#repeat(state, Math.min(interval * 2, T2_MS), left - interval));
  }

  #take(message: Message): void {
    const { method, status } = message;
    if (status !== 0) {
      if (status >= 200) this.#final.set(method, status);
      return;
    }
    const key = `${method} ${message.branch}`;
    if (!this.#known.has(key)) this.seen.push(method);
    this.#known.add(key);
    if (method === 'INVITE' && message.toTag !== '') {
      if (this.state === 'over') this.phone.send(respond(message, 481));
      else this.phone.send(respond(message, 200, { headers: [`Contact: <${this.uri}>`] }));
    } else if (method === 'INVITE') {
      this.invite ??= message;
      if (this.state === 'idle') this.state = 'ringing';
      if (this.tells && this.state === 'ringing') this.ring();
    } else if (method === 'ACK') {
      if (this.state === 'cancelled') this.acked++;
      if (this.state === 'answered') this.state = 'confirmed';
      else if (this.state === 'cancelled') this.state = 'over';
    } else if (method === 'CANCEL') {
      const matches = message.branch === this.invite?.branch;
      this.phone.send(respond(message, matches ? 200 : 481, { toTag: this.tag }));
      if (matches && this.state === 'ringing') this.refuse(487);
    } else {
      if (method === 'BYE') this.state = 'over';
      this.phone.send(respond(message, 200));
    }
  }
}
