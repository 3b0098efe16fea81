// rtpengine in user space as the bench needs it: a daemon on one core, and calls by its ng protocol (bencode over UDP).
import dgram from 'node:dgram';
import { once } from 'node:events';
import type { Endpoint } from '../src/base/endpoint.ts';
import { formatEndpoint } from '../src/base/endpoint.ts';
import { find, onCore, Worker } from './machine.ts';

/** Milliseconds until an answer, and tries: the daemon takes a moment until it listens. */
const ANSWER_MS = 500;
const TRIES = 20;

type Value = string | readonly string[];

function bencode(value: Value | Readonly<Record<string, Value>>): string {
  if (typeof value === 'string') return `${Buffer.byteLength(value)}:${value}`;
  if (Array.isArray(value)) return `l${value.map((each: string) => bencode(each)).join('')}e`;
  const entries = Object.entries(value as Readonly<Record<string, Value>>);
  return `d${entries.map(([key, each]) => bencode(key) + bencode(each)).join('')}e`;
}

/** The text value of `key` in a bencoded dictionary. */
function textOf(answer: string, key: string): string {
  const match = new RegExp(`${key.length}:${key}(\\d+):`).exec(answer);
  if (!match) throw new Error(`rtpengine answers: ${answer.slice(0, 200)}`);
  const start = match.index + match[0].length;
  return answer.slice(start, start + Number(match[1]));
}

function sdpOf({ address, port }: Endpoint): string {
  const lines = [
    'v=0',
    `o=- 1 1 IN IP4 ${address}`,
    's=-',
    `c=IN IP4 ${address}`,
    't=0 0',
    `m=audio ${port} RTP/AVP 0`,
  ];
  return `${lines.join('\r\n')}\r\n`;
}

export interface RtpStand {
  readonly pid: number;
  /** Outside ports of the streams. */
  readonly ports: readonly number[];
  stop(): Promise<void>;
}

export interface RtpOptions {
  readonly outside: string;
  readonly inside: string;
  readonly from: Endpoint;
  readonly to: Endpoint;
  readonly streams: number;
  readonly core: number | undefined;
}

/** Starts it with that many calls. Undefined when it is not installed. */
export async function startRtpengine(options: RtpOptions): Promise<RtpStand | undefined> {
  const file = find('rtpengine');
  if (!file) return undefined;
  const { outside, inside, core } = options;
  const control = { address: outside, port: 2223 };
  const words = [
    '--config-file=none',
    '--table=-1',
    '--foreground',
    '--log-stderr',
    '--log-level=1',
    '--num-threads=1',
  ];
  const ports = ['--port-min=20000', '--port-max=29999', `--listen-ng=${formatEndpoint(control)}`];
  const args = [...words, ...ports, `--interface=out/${outside}`, `--interface=in/${inside}`];
  const worker = new Worker(onCore(core, { file, args }));
  const socket = dgram.createSocket('udp4').bind();
  await once(socket, 'listening');
  const request = async (values: Readonly<Record<string, Value>>): Promise<string> => {
    const cookie = Math.random().toString(36).slice(2);
    for (let tries = 0; tries < TRIES; tries++) {
      socket.send(`${cookie} ${bencode(values)}`, control.port, control.address);
      const signal = AbortSignal.timeout(ANSWER_MS);
      try {
        const [bytes] = (await once(socket, 'message', { signal })) as [Buffer];
        const text = bytes.toString('latin1');
        if (text.startsWith(cookie)) return text;
      } catch {}
    }
    throw new Error('rtpengine does not answer');
  };
  try {
    const found: number[] = [];
    for (let i = 0; i < options.streams; i++) {
      const call = { 'call-id': `bench-${i}`, 'from-tag': 'a', flags: ['trust-address'] };
      await request({ ...call, command: 'offer', sdp: sdpOf(options.from), direction: ['out', 'in'] });
      const answer = await request({ ...call, command: 'answer', sdp: sdpOf(options.to), 'to-tag': 'b' });
      found.push(Number(/m=audio (\d+)/.exec(textOf(answer, 'sdp'))![1]));
    }
    return { pid: worker.pid, ports: found, stop: () => worker.terminate() };
  } catch (error) {
    await worker.terminate();
    throw error;
  } finally {
    socket.close();
  }
}
