// Both SIP sides of a member in a test: a phone that makes calls by UDP or TCP, and a server that takes them.
import dgram from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';

/** T1 of RFC 3261 17.1.1.1. */
const T1_MS = 500;
/** Greatest number of transmissions of a request over UDP. */
const ATTEMPTS = 40;
const TCP_PATIENCE_MS = 20_000;

/** Returns the complete lines of one header. */
export function headerLines(message: string, name: string): string[] {
  const start = `${name.toLowerCase()}:`;
  return message.split('\r\n').filter((line) => line.toLowerCase().startsWith(start));
}

function headerValue(message: string, name: string): string {
  return (
    headerLines(message, name)[0]
      ?.slice(name.length + 1)
      .trim() ?? ''
  );
}

export function statusOf(message: string): number {
  return Number(/^SIP\/2\.0 (\d{3})/.exec(message)?.[1] ?? 0);
}

export async function udpSocket(address: string, port = 0): Promise<dgram.Socket> {
  const socket = dgram.createSocket('udp4');
  socket.bind(port, address);
  await once(socket, 'listening');
  return socket;
}

/** A SIP server by UDP. It answers every OPTIONS, and calls to `phone`; it only counts all other requests. */
export class SipServer {
  /** Requests by method, without the member's own OPTIONS. */
  readonly seen = new Map<string, number>();
  readonly #socket: dgram.Socket;
  #open = true;

  private constructor(socket: dgram.Socket) {
    this.#socket = socket;
    socket.on('message', (bytes, from) => this.#take(bytes.toString('latin1'), from));
  }

  static async start(address: string): Promise<SipServer> {
    return new SipServer(await udpSocket(address, 5070));
  }

  async stop(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    this.#socket.close();
    await once(this.#socket, 'close');
  }

  #take(request: string, from: dgram.RemoteInfo): void {
    const method = request.slice(0, request.indexOf(' '));
    const uri = request.slice(method.length + 1, request.indexOf(' ', method.length + 1));
    const isHealth = headerValue(request, 'Call-ID').startsWith('health-');
    if (!isHealth) this.seen.set(method, (this.seen.get(method) ?? 0) + 1);
    if (method === 'ACK' || method === 'SIP/2.0' || !(isHealth || uri.startsWith('sip:phone@'))) return;
    const { address, port } = this.#socket.address();
    const to = headerLines(request, 'To')[0] ?? '';
    const answer = [
      'SIP/2.0 200 OK',
      ...headerLines(request, 'Via'),
      ...headerLines(request, 'Record-Route'),
      ...headerLines(request, 'From'),
      to.includes(';tag=') ? to : `${to};tag=server`,
      ...headerLines(request, 'Call-ID'),
      ...headerLines(request, 'CSeq'),
      `Contact: <sip:phone@${address}:${port}>`,
      'Content-Length: 0',
      '\r\n',
    ].join('\r\n');
    this.#socket.send(answer, from.port, from.address);
  }
}

let lastCall = 0;

/** A caller. It reads each complete answer, and gives it to its request. */
export class Phone {
  readonly #transport: 'UDP' | 'TCP';
  readonly #own: string;
  readonly #host: string;
  readonly #send: (text: string) => void;
  readonly #close: () => void;
  readonly #waiting = new Map<string, (answer: string) => void>();
  /** Messages sent so far, with retransmissions. */
  sent = 0;
  #heard = '';

  private constructor(
    transport: 'UDP' | 'TCP',
    own: string,
    host: string,
    send: (text: string) => void,
    close: () => void,
  ) {
    this.#transport = transport;
    this.#own = own;
    this.#host = host;
    this.#send = (text) => {
      this.sent++;
      send(text);
    };
    this.#close = close;
  }

  static async udp(host: string, address: string): Promise<Phone> {
    const socket = await udpSocket(address);
    const send = (text: string): void => void socket.send(text, 5060, host);
    const phone = new Phone('UDP', `${address}:${socket.address().port}`, host, send, () => socket.close());
    socket.on('message', (bytes) => phone.#take(bytes.toString('latin1')));
    return phone;
  }

  static async tcp(host: string, address: string): Promise<Phone> {
    const socket = net.connect({ host, port: 5060, localAddress: address, noDelay: true });
    await once(socket, 'connect');
    const send = (text: string): void => void socket.write(text);
    const phone = new Phone('TCP', `${address}:${socket.localPort}`, host, send, () => socket.destroy());
    socket.on('error', () => {});
    socket.setEncoding('latin1').on('data', (text: string) => phone.#take(text));
    return phone;
  }

  /** Sends a request and resolves to its first final answer. */
  async request(method: string, uri: string, headers: Readonly<Record<string, string>> = {}): Promise<string> {
    const call = ++lastCall;
    const lines = {
      Via: `SIP/2.0/${this.#transport} ${this.#own};branch=z9hG4bK-${process.pid}-${call};rport`,
      'Max-Forwards': '70',
      From: `<sip:caller@${this.#own}>;tag=caller`,
      To: '<sip:phone@example.org>',
      'Call-ID': `call-${process.pid}-${call}`,
      CSeq: `${call} ${method}`,
      Contact: `<sip:caller@${this.#own}>`,
      ...headers,
      'Content-Length': '0',
    };
    const head = Object.entries(lines).map(([name, value]) => `${name}: ${value}\r\n`);
    const text = `${method} ${uri} SIP/2.0\r\n${head.join('')}\r\n`;
    if (method === 'ACK') {
      this.#send(text);
      return '';
    }
    return this.#ask(text, lines.CSeq);
  }

  /**
   * Sends an OPTIONS to the member itself and returns its status. It is answered after all earlier messages of this
   * phone, because a socket is read in order.
   */
  async probe(): Promise<number> {
    return statusOf(await this.request('OPTIONS', `sip:${this.#host}`));
  }

  /** Makes a call: INVITE, 200, ACK. */
  async call(): Promise<Call> {
    const uri = `sip:phone@${this.#host}`;
    const answer = await this.request('INVITE', uri);
    if (statusOf(answer) !== 200) throw new Error(`INVITE: ${answer}`);
    const routes = headerLines(answer, 'Record-Route').flatMap((line) => line.slice(13).split(','));
    const dialog = {
      // The route set of the caller is that of the answer in reverse order (RFC 3261 12.1.2).
      Route: routes
        .map((value) => value.trim())
        .reverse()
        .join(', '),
      To: headerValue(answer, 'To'),
      'Call-ID': headerValue(answer, 'Call-ID'),
    };
    const target = /<(.*)>/.exec(headerValue(answer, 'Contact'))?.[1] ?? '';
    await this.request('ACK', target, { ...dialog, CSeq: headerValue(answer, 'CSeq').replace('INVITE', 'ACK') });
    return {
      id: dialog['Call-ID'],
      record: headerLines(answer, 'Record-Route'),
      hangUp: async () => statusOf(await this.request('BYE', target, dialog)),
    };
  }

  close(): void {
    this.#close();
  }

  #ask(text: string, cseq: string): Promise<string> {
    return new Promise((resolve, reject) => {
      let left = ATTEMPTS;
      const late = (): void => {
        if (this.#transport === 'TCP' || --left === 0) done(undefined);
        else this.#send(text);
      };
      const timer = setInterval(late, this.#transport === 'TCP' ? TCP_PATIENCE_MS : T1_MS);
      const done = (answer: string | undefined): void => {
        clearInterval(timer);
        this.#waiting.delete(cseq);
        if (answer === undefined) reject(new Error(`no answer by ${this.#transport} to ${text}`));
        else resolve(answer);
      };
      this.#waiting.set(cseq, done);
      this.#send(text);
    });
  }

  #take(text: string): void {
    this.#heard += text;
    for (;;) {
      const end = this.#heard.indexOf('\r\n\r\n');
      if (end < 0) return;
      const answer = this.#heard.slice(0, end + 4).replace(/^(?:\r\n)+/, '');
      this.#heard = this.#heard.slice(end + 4);
      if (statusOf(answer) >= 200) this.#waiting.get(headerValue(answer, 'CSeq'))?.(answer);
    }
  }
}

export interface Call {
  readonly id: string;
  /** Record-Route lines of the answer, with the farm's tokens. */
  readonly record: readonly string[];
  /** Sends the BYE; resolves to the status of its answer. */
  readonly hangUp: () => Promise<number>;
}
