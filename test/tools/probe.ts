// A balancer's health check by SIP inside a namespace. Sends OPTIONS COUNT times, one after the other, and prints
// {"statuses":[...], "sent":n}: status 0 means no answer, sent counts datagrams. Usage: node probe.ts LOCAL-ADDRESS
// ADDRESS HOST COUNT [TRIES]. ADDRESS is the target of the datagrams (port 5060), HOST the host in the Request-URI. The
// Call-IDs are the same in each run.
import dgram from 'node:dgram';

const [local = '', address = '', host = '', count = '', givenTries = '10'] = process.argv.slice(2);
/** Milliseconds between two tries, and the number of tries (RFC 3261 17.1.2.2 would continue longer). */
const AGAIN_MS = 500;
const TRIES = Number(givenTries);

const socket = dgram.createSocket('udp4');
const statuses: number[] = [];
let sent = 0;

function ask(): void {
  const i = statuses.length;
  if (i === Number(count)) {
    process.stdout.write(JSON.stringify({ statuses, sent }));
    socket.close();
    return;
  }
  const lines = [
    `OPTIONS sip:${host}:5060 SIP/2.0`,
    `Via: SIP/2.0/UDP ${local}:${socket.address().port};branch=z9hG4bK-${process.pid}-${i};rport`,
    'Max-Forwards: 70',
    `From: <sip:balancer@${local}>;tag=${i}`,
    `To: <sip:${host}>`,
    `Call-ID: probe-${i}`,
    `CSeq: ${i + 1} OPTIONS`,
    'Content-Length: 0',
  ];
  const text = `${lines.join('\r\n')}\r\n\r\n`;
  let tries = 0;
  const send = (): void => {
    if (tries++ >= TRIES) {
      done(0);
      return;
    }
    sent++;
    socket.send(text, 5060, address);
  };
  const timer = setInterval(send, AGAIN_MS);
  const done = (status: number): void => {
    clearInterval(timer);
    socket.off('message', take);
    statuses.push(status);
    ask();
  };
  const take = (bytes: Buffer): void => {
    const answer = bytes.toString('latin1');
    // A late answer to the previous request does not count for this one.
    if (answer.includes(`\r\nCSeq: ${i + 1} OPTIONS\r\n`)) done(Number(/^SIP\/2\.0 (\d{3}) /.exec(answer)?.[1] ?? 0));
  };
  socket.on('message', take);
  send();
}

socket.bind(0, local, ask);
