// The load generator for hosts without a C compiler: the line protocol of c/load.c over dgram. It may be slower than
// the program that it loads.
import dgram from 'node:dgram';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setImmediate as turn, setTimeout as wait } from 'node:timers/promises';
import { parseEndpoint } from '../src/base/endpoint.ts';
import { digest, siphash, sipKey } from '../src/base/siphash.ts';
import { NUMBER_OCTETS } from './messages.ts';

/** Head of a relay frame over IPv4: bound incarnation (fits an octet in the bench), sequence and MAC. */
const BOUND_AT = 71 - 40 + 15;
const SEQUENCE_AT = 71 - 40 + 18;
const MAC_AT = 71 - 40 + 32;
const BUFFER_BYTES = 4 * 1024 * 1024;
const LOST_MS = 200;
const QUIET_MS = 20;
/** Packets sent in one turn of the event loop. */
const BURST = 32;

const [socketsText = '', setsText = '', keyText = ''] = process.argv.slice(2);
const key = sipKey(Buffer.from(keyText, 'hex'));

function readSet(file: string): Buffer[] {
  const bytes = readFileSync(file);
  const messages: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 4 + bytes.readUInt32LE(at);
    messages.push(bytes.subarray(at + 4, end));
    at = end;
  }
  return messages;
}

async function open(text: string): Promise<dgram.Socket> {
  const { address, port } = parseEndpoint(text)!;
  const socket = dgram.createSocket('udp4');
  await new Promise<void>((resolve) => socket.bind(port, address, resolve));
  socket.setRecvBufferSize(BUFFER_BYTES);
  return socket;
}

const sets = setsText.split(',').map(readSet);
const sockets = await Promise.all(socketsText.split(',').map(open));
/** Frames of a restarted generator must not count as a replay. */
let sequence = Math.floor(performance.timeOrigin);
let number = 0;
let heardAt = performance.now();
const sentAt = new Float64Array(65_536);

/** Passes arriving packets to the run in progress. */
let arrived: (socket: number, bytes: Buffer, remote: dgram.RemoteInfo) => void = () => {};
for (const [index, socket] of sockets.entries())
  socket.on('message', (bytes, remote) => {
    heardAt = performance.now();
    arrived(index, bytes, remote);
  });

function sign(frame: Buffer): void {
  frame.writeUIntBE(++sequence, SEQUENCE_AT, 6);
  frame.fill(0, MAC_AT, MAC_AT + 8);
  frame[MAC_AT + 7] = frame[BOUND_AT]!;
  siphash(key, frame, 0, frame.length);
  frame.writeUInt32BE(digest.high, MAC_AT);
  frame.writeUInt32BE(digest.low, MAC_AT + 4);
}

const KEPT = /^(?:Via|Record-Route|From|To|Call-ID|CSeq):/;
function answerTo(request: Buffer): Buffer {
  const head = request.toString('latin1', 0, request.indexOf('\r\n\r\n'));
  const lines = head.split('\r\n').filter((line) => KEPT.test(line));
  const tagged = lines.map((line) => (line.startsWith('To:') ? `${line};tag=server` : line));
  return Buffer.from(`SIP/2.0 200 OK\r\n${tagged.join('\r\n')}\r\nContent-Length: 0\r\n\r\n`, 'latin1');
}

async function run(line: string): Promise<void> {
  const fields = new Map(line.split(' ').map((word) => word.split('=') as [string, string]));
  const option = (name: string, otherwise: number): number => Number(fields.get(name) ?? otherwise);
  const to = parseEndpoint(fields.get('to') ?? '')!;
  const [count, mirror, least] = [option('count', 0), option('reflect', -1), option('least', 200)];
  const from = sockets[option('from', 0)]!;
  const set = sets[option('set', 0)]!;
  const [window, rate, packets] = [option('window', 128), option('rate', 0), option('packets', 0)];
  const signed = option('sign', 0) === 1;
  const delays: number[] = [];
  let [sent, received, lost, way] = [0, 0, 0, 0];
  const begin = performance.now();
  const end = begin + option('ms', 1000);
  let last = begin;
  arrived = (socket, bytes, remote) => {
    if (bytes.length < least) return;
    if (socket === mirror) sockets[mirror]!.send(answerTo(bytes), remote.port, remote.address);
    if (socket !== count) return;
    last = performance.now();
    received++;
    if (way > 0) way--;
    const value = Number.parseInt(bytes.toString('latin1', bytes.length - NUMBER_OCTETS), 16);
    if (rate > 0 && value >= 0) delays.push((last - sentAt[value % sentAt.length]!) * 1000);
  };
  const sendOne = (): void => {
    const message = Buffer.from(set[number % set.length]!);
    message.write(number.toString(16).padStart(NUMBER_OCTETS, '0'), message.length - NUMBER_OCTETS, 'latin1');
    if (signed) sign(message);
    sentAt[number % sentAt.length] = performance.now();
    number++;
    from.send(message, to.port, to.address);
    sent++;
    way++;
  };
  for (let now = begin; now < end; now = performance.now()) {
    const due = rate > 0 ? Math.floor(((now - begin) * rate) / 1000) - sent : window - way;
    const left = packets > 0 ? Math.min(due, packets - sent) : due;
    for (let i = Math.min(left, BURST); i > 0; i--) sendOne();
    if (packets > 0 && sent >= packets && (way === 0 || now - heardAt > 500)) break;
    if (rate === 0 && way >= window && now - heardAt > LOST_MS) {
      lost += way;
      way = 0;
    }
    await turn();
  }
  const seconds = ((packets > 0 ? last : performance.now()) - begin) / 1000;
  do await wait(QUIET_MS);
  while (performance.now() - heardAt < QUIET_MS);
  arrived = () => {};
  delays.sort((a, b) => a - b);
  const share = (part: number): number => delays[Math.floor(part * (delays.length - 1))] ?? 0;
  const result = { sent, received, lost, seconds, p50: share(0.5), p99: share(0.99), max: share(1) };
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

process.stdout.write('ready\n');
for await (const line of createInterface({ input: process.stdin })) await run(line);
process.exit();
