// RTP through paths in the kernel against plain routing: a sender, a router and a sink in network namespaces of their
// own. Sending, forwarding and receiving are on one core, so the rates are those of all three together.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Cores, compile, cpuSeconds, find, onCore, Worker } from './machine.ts';
import { figure, type Row, ratios } from './statistics.ts';

export interface RtpKernelOptions {
  readonly cores: Cores | undefined;
  readonly rounds: number;
  /** Milliseconds of one measurement. */
  readonly ms: number;
  readonly progress: (text: string) => void;
}

export const FROM = { address: '198.18.1.2', port: 7000 } as const;
export const ROUTER = { outside: '198.18.1.1', inside: '198.18.2.1' } as const;
export const SINK_PORT = 7000;
/** Streams of the rows: one direction of a call each. */
const STREAMS = [10, 10_000] as const;
/** Packets under way at most: so few that no queue overflows. */
const WINDOW = 256;

export const outerPort = (stream: number): number => 10_000 + stream;
/** Each stream has a far party of its own. */
export const sinkAddress = (stream: number): string => `198.19.${stream >> 8}.${stream & 0xff}`;

interface Sample {
  readonly perSecond: number;
  /** Microseconds of processor time per packet. */
  readonly cpu: number;
}

/** Makes the namespaces and links. Returns the function that removes them. */
function buildNetwork(name: (host: string) => string): () => void {
  const [a, r, b] = ['a', 'r', 'b'].map(name) as [string, string, string];
  const ip = (...args: readonly string[]): void => void execFileSync('ip', args, { stdio: 'ignore' });
  const remove = (): void => {
    for (const each of [a, r, b]) spawnSync('ip', ['netns', 'del', each]);
  };
  try {
    for (const each of [a, r, b]) {
      ip('netns', 'add', each);
      ip('-n', each, 'link', 'set', 'lo', 'up');
    }
    for (const [host, far, own, router] of [
      [a, 'outside', FROM.address, ROUTER.outside],
      [b, 'inside', '198.18.2.2', ROUTER.inside],
    ] as const) {
      ip('-n', host, 'link', 'add', 'dev', 'e', 'type', 'veth', 'peer', 'name', far, 'netns', r);
      ip('-n', host, 'addr', 'add', `${own}/24`, 'dev', 'e');
      ip('-n', host, 'link', 'set', 'dev', 'e', 'up');
      ip('-n', r, 'addr', 'add', `${router}/24`, 'dev', far);
      ip('-n', r, 'link', 'set', 'dev', far, 'up');
      ip('-n', host, 'route', 'add', 'default', 'via', router);
    }
    ip('-n', b, 'route', 'add', 'local', '198.19.0.0/16', 'dev', 'lo');
    ip('-n', r, 'route', 'add', '198.19.0.0/16', 'via', '198.18.2.2');
    ip('netns', 'exec', r, 'sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward');
    return remove;
  } catch (error) {
    remove();
    throw error;
  }
}

async function measure(
  load: Worker,
  to: string,
  step: 'port' | 'address',
  streams: number,
  ms: number,
): Promise<Sample> {
  const before = cpuSeconds(load.pid);
  load.write(`run to=${to} step=${step} streams=${streams} window=${WINDOW} ms=${ms}`);
  const { received, lost, seconds } = JSON.parse(await load.line(ms + 30_000)) as Record<string, number>;
  if (!received || !seconds || lost)
    throw new Error(`${step}: ${received} packets of RTP come through, ${lost} are lost`);
  return { perSecond: received / seconds, cpu: ((cpuSeconds(load.pid) - before) / received) * 1e6 };
}

export async function runRtpKernel(options: RtpKernelOptions): Promise<{ rows: Row[]; notes: string[] }> {
  const { cores, rounds, ms, progress } = options;
  const rows: Row[] = [];
  const folder = mkdtempSync(join(tmpdir(), 'sipfarm-bench-rtp-kernel-'));
  const name = (host: string): string => `sfbench${process.pid}-${host}`;
  let remove = (): void => {};
  const workers: Worker[] = [];
  try {
    const program = join(folder, 'rtp-kernel');
    if (!compile(join(import.meta.dirname, 'c', 'rtp-kernel.c'), program) || !find('nft') || process.getuid?.() !== 0)
      return { rows, notes: ['left out: rtp kernel (needs root, nft and a C compiler)'] };
    remove = buildNetwork(name);
    const places = [name('a'), `${FROM.address}:${FROM.port}`, name('b'), `0.0.0.0:${SINK_PORT}`];
    const load = new Worker(onCore(cores?.measured, { file: program, args: places }));
    workers.push(load);
    await load.line();
    const plainly = (streams: number): Promise<Sample> =>
      measure(load, `${sinkAddress(0)}:${SINK_PORT}`, 'address', streams, ms);
    const byPaths = (streams: number): Promise<Sample> =>
      measure(load, `${ROUTER.outside}:${outerPort(0)}`, 'port', streams, ms);
    for (const streams of STREAMS) {
      const group = `rtp kernel, ${streams.toLocaleString('en')} streams`;
      progress(`${streams} paths in the kernel`);
      const plain: Sample[] = [];
      const inKernel: Sample[] = [];
      const script = join(import.meta.dirname, 'rtp-kernel-paths.ts');
      const args = ['netns', 'exec', name('r'), process.execPath, script, `${streams}`];
      // Plain routing has no table. The paths are made anew each time.
      for (let round = -1; round < rounds; round++) {
        const before = await plainly(streams);
        const paths = new Worker(onCore(cores?.load, { file: 'ip', args }));
        workers.push(paths);
        const ready = paths.line(60_000);
        for (let waits = true; waits; ) {
          load.write(`run to=${ROUTER.outside}:${outerPort(0)} step=port streams=1 window=64 ms=100`);
          await load.line();
          waits = await Promise.race([
            ready.then(() => false),
            new Promise<boolean>((resolve) => void setImmediate(resolve, true)),
          ]);
        }
        const during = await byPaths(streams);
        if (round >= 0) {
          plain.push(before);
          inKernel.push(during);
        }
        if (round === rounds - 1) {
          paths.write('5');
          const { share, changes } = JSON.parse(await paths.line(30_000)) as { share: number; changes: number };
          const row = `${Math.round(changes)} added and removed a second`;
          rows.push({ group, name: row, unit: 'share', ...figure([share]) });
        }
        await paths.stop();
      }
      for (const [column, samples] of [
        ['plain routing', plain],
        ['kernel', inKernel],
      ] as const) {
        rows.push({ group, name: column, unit: 'packets/s', ...figure(samples.map(({ perSecond }) => perSecond)) });
        rows.push({
          group: `${group}, cpu`,
          name: column,
          unit: 'us/packet',
          ...figure(samples.map(({ cpu }) => cpu)),
        });
      }
      const values = ratios(
        plain.map(({ cpu }) => cpu),
        inKernel.map(({ cpu }) => cpu),
      );
      rows.push({ group: `${group}, ratio by cpu`, name: 'kernel / plain routing', unit: 'ratio', ...figure(values) });
    }
    return { rows, notes: [] };
  } finally {
    for (const worker of workers) await worker.stop();
    remove();
    rmSync(folder, { recursive: true, force: true });
  }
}
