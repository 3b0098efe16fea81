// A program of the laboratory: UDP sockets and paths in the kernel of one host. The test controls it through a Unix
// socket, because the file system is the same in all network namespaces.
import dgram from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { pino } from 'pino';
import { systemClock } from '../../src/base/clock.ts';
import type { Endpoint } from '../../src/base/endpoint.ts';
import { kernelHost } from '../../src/media/kernel/host.ts';
import type { KernelPath } from '../../src/media/kernel/kernel-path.ts';
import { KernelPaths, type PathHandle } from '../../src/media/kernel/kernel-paths.ts';
import { NftShell } from '../../src/media/kernel/nft.ts';
import { until } from '../fake/until.ts';

/** A datagram as a socket has received it. */
export interface Received {
  readonly at: string;
  readonly from: string;
  readonly text: string;
}

const text = ({ address, port }: Endpoint): string => `${address} ${port}`;
const sockets = new Map<string, dgram.Socket>();
const received: Received[] = [];
const handles = new Map<string, PathHandle>();
const failed: string[] = [];
let paths: KernelPaths | undefined;

const OPS = {
  async bind({ at }: { at: Endpoint }): Promise<void> {
    const socket = dgram.createSocket(at.address.includes(':') ? 'udp6' : 'udp4');
    socket.on('message', (bytes, from) =>
      received.push({ at: text(at), from: text(from), text: bytes.toString('latin1') }),
    );
    socket.bind(at.port, at.address);
    await once(socket, 'listening');
    sockets.set(text(at), socket);
  },
  async send({ from, to, texts }: { from: Endpoint; to: Endpoint; texts: readonly string[] }): Promise<void> {
    for (const each of texts)
      await new Promise((resolve) =>
        sockets.get(text(from))?.send(Buffer.from(each, 'latin1'), to.port, to.address, resolve),
      );
  },
  received: () => received,
  async start({ member, addresses }: { member: string; addresses: readonly string[] }): Promise<string> {
    const clock = systemClock;
    const log = pino({ enabled: false });
    const openNft = (): NftShell => new NftShell(clock);
    const started = await KernelPaths.start({
      member,
      capacity: 1024,
      dscp: 46,
      addresses,
      host: kernelHost(clock),
      clock,
      log,
      openNft,
    });
    if (typeof started === 'string') return started;
    paths = started;
    return '';
  },
  add({ name, path }: { name: string; path: KernelPath }): string {
    const handle = paths?.add(path, (reason) => failed.push(`${name}: ${reason}`));
    if (handle === undefined || typeof handle === 'string') return handle ?? 'not started';
    handles.set(name, handle);
    return '';
  },
  remove: ({ name }: { name: string }) => handles.get(name)?.remove(),
  counts: ({ name }: { name: string }) => handles.get(name)?.counts,
  failed: () => failed,
  stop: () => paths?.stop(),
} as const;
export type Op = keyof typeof OPS;

/** Connects to this program, as soon as it listens at `path`. Returns the function that sends it a request. */
export async function connect(path: string): Promise<(op: Op, options?: object) => Promise<unknown>> {
  let socket = new net.Socket();
  await until(async () => {
    socket = net.connect(path);
    return once(socket, 'connect').then(
      () => true,
      () => false,
    );
  });
  const waiting: ((result: unknown) => void)[] = [];
  createInterface(socket).on('line', (line) => waiting.shift()?.(JSON.parse(line)));
  return (op, options = {}) => {
    socket.write(`${JSON.stringify([op, options])}\n`);
    return new Promise((resolve) => void waiting.push(resolve));
  };
}

if (import.meta.main) {
  const server = net.createServer((socket) => {
    let last: Promise<unknown> = Promise.resolve();
    createInterface(socket).on('line', (line) => {
      const [op, options] = JSON.parse(line) as [Op, never];
      last = last.then(async () => socket.write(`${JSON.stringify((await OPS[op](options)) ?? null)}\n`));
    });
  });
  server.listen(process.argv[2]);
}
