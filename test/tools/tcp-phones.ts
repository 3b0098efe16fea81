// Phones by TCP inside the client's namespace: each opens a connection to the VIP, registers over it (RFC 3261 10) and
// answers calls on this connection. Writes lines of JSON to stdout: {"registered":n} once all are registered,
// {"answered":n,"ended":n,"faults":[...]} at SIGTERM. Usage: node tcp-phones.ts VIP PORT LOCAL-ADDRESS COUNT
import net from 'node:net';
import { splitStream } from './sip-stream.ts';

const [host = '', port = '', local = '', count = ''] = process.argv.slice(2);
const faults: string[] = [];
let registered = 0;
let answered = 0;
let ended = 0;

const say = (value: object): boolean => process.stdout.write(`${JSON.stringify(value)}\n`);

/** Returns all complete lines of a header, in order. */
function headerLines(head: string, name: string): string[] {
  return head.split('\r\n').filter((line) => line.toLowerCase().startsWith(`${name.toLowerCase()}:`));
}

/** Returns an answer to `head`; `tag` is added to To when it has none. */
function answer(head: string, status: string, tag: string, extra: readonly string[] = []): string {
  const [to = ''] = headerLines(head, 'To');
  const lines = [
    `SIP/2.0 ${status}`,
    ...headerLines(head, 'Via'),
    ...headerLines(head, 'Record-Route'),
    ...headerLines(head, 'From'),
    to.includes(';tag=') ? to : `${to};tag=${tag}`,
    ...headerLines(head, 'Call-ID'),
    ...headerLines(head, 'CSeq'),
    ...extra,
    'Content-Length: 0',
  ];
  return `${lines.join('\r\n')}\r\n\r\n`;
}

function phone(i: number): void {
  const user = `phone${i}`;
  const socket = net.connect({ host, port: Number(port), localAddress: local });
  const contact = (): string => `Contact: <sip:${user}@${local}:${socket.localPort};transport=tcp>`;

  const take = (head: string): void => {
    const method = head.slice(0, head.indexOf(' '));
    if (method === 'SIP/2.0') {
      if (!head.startsWith('SIP/2.0 200 ')) {
        faults.push(`${user}: ${head.slice(0, head.indexOf('\r\n'))}`);
        return;
      }
      registered += 1;
      if (registered === Number(count)) say({ registered });
    } else if (method === 'INVITE') {
      const uri = head.slice(7, head.indexOf(' ', 7));
      if (uri !== `sip:${user}@${local}:${socket.localPort};transport=tcp`) faults.push(`${user}: INVITE for ${uri}`);
      socket.write(answer(head, '180 Ringing', user, [contact()]));
      socket.write(answer(head, '200 OK', user, [contact()]));
    } else if (method === 'ACK') {
      answered += 1;
    } else if (method === 'BYE') {
      ended += 1;
      socket.write(answer(head, '200 OK', user));
    } else {
      socket.write(answer(head, '501 Not Implemented', user));
    }
  };

  socket.setEncoding('latin1');
  socket.on('connect', () => {
    const lines = [
      `REGISTER sip:${host}:${port} SIP/2.0`,
      `Via: SIP/2.0/TCP ${local}:${socket.localPort};branch=z9hG4bK-${process.pid}-${i};rport`,
      'Max-Forwards: 70',
      `From: <sip:${user}@${host}:${port}>;tag=${process.pid}r${i}`,
      `To: <sip:${user}@${host}:${port}>`,
      `Call-ID: register-${process.pid}-${i}`,
      'CSeq: 1 REGISTER',
      contact(),
      // Half of the phones do not support Path.
      ...(i % 2 === 0 ? ['Supported: path'] : []),
      'Expires: 600',
      'Content-Length: 0',
    ];
    socket.write(`${lines.join('\r\n')}\r\n\r\n`);
  });
  socket.on('data', splitStream(take));
  socket.on('error', (error) => faults.push(`${user}: ${error.message}`));
  socket.on('close', () => faults.push(`${user}: the connection was closed`));
}

for (let i = 0; i < Number(count); i++) phone(i);
process.on('SIGTERM', () => {
  say({ answered, ended, faults });
  process.exit(0);
});
