// Callers by TLS inside the client's namespace: each opens a TLS connection to a balancer that ends it, and makes one
// call by RFC 3261 12. For user `hangup` the callee ends the call. Otherwise the caller sends a re-INVITE, and its ACK
// and a BYE on a second TLS connection along its route set. Each Record-Route of the farm must name this entrance.
// Prints one line of JSON: {"good":n,"faults":[...]}. Usage: node tls-callers.ts ADDRESS PORT NAME CERTIFICATE-FILE
// LOCAL-ADDRESS USER COUNT
import { readFileSync } from 'node:fs';
import net from 'node:net';
import tls from 'node:tls';

const [address = '', port = '', name = '', certificate = '', local = '', user = '', count = ''] = process.argv.slice(2);
const ca = readFileSync(certificate);
const faults: string[] = [];

/** A connection as a queue of messages: their heads, start line first. */
class Line {
  readonly socket: tls.TLSSocket;
  readonly #below: net.Socket;
  readonly #heads: string[] = [];
  #wanted: ((head: string) => void) | undefined;
  #pending = '';

  constructor() {
    this.#below = net.connect({ host: address, port: Number(port), localAddress: local });
    this.socket = tls.connect({ socket: this.#below, servername: name, ca });
    this.socket.setEncoding('latin1').on('data', (text: string) => this.#take(text));
    this.socket.on('error', (error) => faults.push(error.message));
  }

  /** Address and port of this side. */
  get at(): string {
    return `${local}:${this.#below.localPort}`;
  }

  /** Resolves to the next message that is not provisional. */
  async next(): Promise<string> {
    const head = this.#heads.shift() ?? (await new Promise<string>((resolve) => (this.#wanted = resolve)));
    return /^SIP\/2\.0 1/.test(head) ? this.next() : head;
  }

  #take(text: string): void {
    this.#pending += text;
    for (let end = this.#pending.indexOf('\r\n\r\n'); end >= 0; end = this.#pending.indexOf('\r\n\r\n')) {
      const head = this.#pending.slice(0, end);
      const length = Number(/^Content-Length:\s*(\d+)/im.exec(head)?.[1] ?? 0);
      if (this.#pending.length < end + 4 + length) return;
      this.#pending = this.#pending.slice(end + 4 + length);
      if (this.#wanted) this.#wanted(head);
      else this.#heads.push(head);
      this.#wanted = undefined;
    }
  }
}

const valuesOf = (head: string, header: string): string[] =>
  head
    .split('\r\n')
    .filter((line) => line.toLowerCase().startsWith(`${header.toLowerCase()}:`))
    .flatMap((line) => line.slice(header.length + 1).split(','))
    .map((value) => value.trim());

function expect(is: boolean, what: string): void {
  if (!is) throw new Error(what);
}

async function call(i: number): Promise<void> {
  const line = new Line();
  await new Promise((resolve) => line.socket.once('secureConnect', resolve));
  const callId = `tls-${process.pid}-${user}-${i}`;
  let [to, target, routes] = [`<sip:${user}@${name}>`, `sip:${user}@${name}`, [] as string[]];
  const request = (by: Line, method: string, cseq: number): void => {
    const lines = [
      `${method} ${target} SIP/2.0`,
      `Via: SIP/2.0/TLS ${by.at};branch=z9hG4bK-${callId}-${method}-${cseq}`,
      'Max-Forwards: 70',
      ...routes.map((route) => `Route: ${route}`),
      `From: <sip:caller@${name}>;tag=${callId}`,
      `To: ${to}`,
      `Call-ID: ${callId}`,
      `CSeq: ${cseq} ${method}`,
      `Contact: <sip:caller@${by.at};transport=tls>`,
      'Content-Length: 0',
    ];
    by.socket.write(`${lines.join('\r\n')}\r\n\r\n`);
  };
  const invite = async (cseq: number): Promise<string> => {
    request(line, 'INVITE', cseq);
    const answer = await line.next();
    expect(answer.startsWith('SIP/2.0 200 '), answer);
    return answer;
  };

  const ok = await invite(1);
  to = valuesOf(ok, 'To')[0] ?? '';
  target = /<(.*)>/.exec(valuesOf(ok, 'Contact')[0] ?? '')?.[1] ?? '';
  routes = valuesOf(ok, 'Record-Route').reverse();
  expect(routes[0]?.endsWith(`@${name}:${port};transport=tls;lr>`) === true, `Record-Route ${routes[0]}`);
  request(line, 'ACK', 1);
  if (user === 'hangup') {
    const bye = await line.next();
    expect(bye.startsWith('BYE '), bye);
    expect(valuesOf(bye, 'Via')[0]?.startsWith(`SIP/2.0/TLS ${name}:${port};`) === true, bye);
    const copied = ['Via', 'From', 'To', 'Call-ID', 'CSeq'].flatMap((header) =>
      valuesOf(bye, header).map((value) => `${header}: ${value}`),
    );
    line.socket.write(`${['SIP/2.0 200 OK', ...copied, 'Content-Length: 0'].join('\r\n')}\r\n\r\n`);
  } else {
    await invite(2);
    const other = new Line();
    await new Promise((resolve) => other.socket.once('secureConnect', resolve));
    // Both use one connection, because on two the BYE may overtake the ACK, which SIPp does not accept.
    request(other, 'ACK', 2);
    request(other, 'BYE', 3);
    const bye = await other.next();
    expect(bye.startsWith('SIP/2.0 200 '), bye);
    other.socket.end();
  }
  line.socket.end();
}

/** A failed call may have left a connection open, which must not keep the process alive. */
function end(good: number): void {
  process.stdout.write(`${JSON.stringify({ good, faults })}\n`, () => process.exit());
}

setTimeout(() => {
  faults.push('not done in time');
  end(-1);
}, 20_000);
const ends = await Promise.allSettled(Array.from({ length: Number(count) }, (_, i) => call(i)));
for (const each of ends) if (each.status === 'rejected') faults.push(String(each.reason));
end(ends.length - faults.length);
