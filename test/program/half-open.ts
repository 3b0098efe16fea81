// Opens many TCP connections to a member and sends the first half of a message on each. It is its own program, so that
// it has its own open files. It writes lines of JSON to stdout: {"open":n} once all are open, {"closed":n} once the
// member has closed all. Usage: node half-open.ts ADDRESS PORT COUNT LOCAL-ADDRESS...
import net from 'node:net';

const [address = '', port = '', count = '', ...locals] = process.argv.slice(2);
const wanted = Number(count);
/**
 * Connections that are opened at one time: more than the backlog of 511 would be retried by the system seconds later.
 */
const AT_ONCE = 256;
const HALF =
  'INVITE sip:phone@example.org SIP/2.0\r\nVia: SIP/2.0/TCP example.org;branch=z9hG4bKhalf\r\nFrom: <sip:half@exa';

let started = 0;
let open = 0;
let closed = 0;

const say = (value: object): boolean => process.stdout.write(`${JSON.stringify(value)}\n`);

function next(): void {
  if (started === wanted) return;
  const localAddress = locals[started % locals.length]!;
  started++;
  const socket = net.connect({ host: address, port: Number(port), localAddress });
  socket.once('connect', () => {
    socket.write(HALF, () => {
      open++;
      if (open === wanted) say({ open });
      next();
    });
  });
  socket.on('error', () => {});
  socket.once('close', () => {
    closed++;
    if (closed === wanted) say({ closed });
  });
  socket.resume();
}

for (let i = 0; i < AT_ONCE; i++) next();
