// RTP through the relay in user space, and through rtpengine in user space beside it: many streams, one packet of 172
// octets at a time (G.711, 20 ms), from a sender outside to a sink inside. Round after round, each column in each
// round. The measured program has one core.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatEndpoint } from '../src/base/endpoint.ts';
import { type Cores, compile, cpuSeconds, onCore, Worker } from './machine.ts';
import { type RtpOptions, type RtpStand, startRtpengine } from './rtpengine.ts';
import { figure, type Row, ratios } from './statistics.ts';

export interface RtpBenchOptions {
  readonly cores: Cores | undefined;
  readonly rounds: number;
  /** Milliseconds of one measurement. */
  readonly ms: number;
  readonly progress: (text: string) => void;
}

/** Streams of the rows. Each packet of a round goes to the next one. */
const STREAMS = [200, 2000] as const;
/** Packets under way at most: so few that no queue overflows. */
const WINDOW = 256;
const USER = 'user space';
const RTPENGINE = 'rtpengine';
/** A process that had less of its core than this was not what set the pace. */
const SATURATED = 0.9;

interface Sample {
  readonly perSecond: number;
  /** Microseconds of processor time per packet. */
  readonly cpu: number;
  readonly busy: number;
  readonly lost: number;
}

interface Stand extends RtpStand {
  readonly name: string;
  readonly load: Worker;
  readonly outside: string;
  readonly samples: Sample[];
}

/** Addresses by process id, so that two benches do not meet. */
function addressOf(index: number): string {
  return `127.${210 + index}.${(process.pid >> 8) & 0xff}.${process.pid & 0xff || 1}`;
}

async function startUserRelay({ outside, inside, from, to, streams, core }: RtpOptions): Promise<RtpStand> {
  const script = join(import.meta.dirname, 'rtp-relay.ts');
  const args = [script, outside, inside, formatEndpoint(from), formatEndpoint(to), String(streams)];
  const worker = new Worker(onCore(core, { file: process.execPath, args }));
  try {
    return { pid: worker.pid, ports: JSON.parse(await worker.line()) as number[], stop: () => worker.stop() };
  } catch (error) {
    await worker.stop();
    throw error;
  }
}

async function measure({ pid, ports, load, outside }: Stand, ms: number): Promise<Sample> {
  const before = cpuSeconds(pid);
  load.write(`run to=${outside} ms=${ms} window=${WINDOW} ports=${ports.join()}`);
  const { received, lost, seconds } = JSON.parse(await load.line(ms + 30_000)) as {
    readonly received: number;
    readonly lost: number;
    readonly seconds: number;
  };
  if (received === 0) throw new Error('no packet of RTP comes through');
  const cpu = cpuSeconds(pid) - before;
  return { perSecond: received / seconds, cpu: (cpu / received) * 1e6, busy: cpu / seconds, lost: lost / received };
}

function rowsOf(stands: readonly Stand[], streams: number, notes: string[]): Row[] {
  const group = `rtp, ${streams.toLocaleString('en')} streams`;
  const rows = stands.flatMap(({ name, samples }): Row[] => [
    { group, name, unit: 'packets/s', ...figure(samples.map(({ perSecond }) => perSecond)) },
    { group: `${group}, cpu`, name, unit: 'us/packet', ...figure(samples.map(({ cpu }) => cpu)) },
  ]);
  for (const { name, samples } of stands) {
    const [busy, lost] = [figure(samples.map((one) => one.busy)).median, figure(samples.map((one) => one.lost)).median];
    if (busy < SATURATED)
      notes.push(`${group}, ${name}: only ${Math.round(busy * 100)} % of its core; the rate is a lower bound`);
    if (lost > 0.001) notes.push(`${group}, ${name}: ${(lost * 100).toFixed(1)} % lost`);
  }
  const [own, other] = [USER, RTPENGINE].map((name) => stands.find((each) => each.name === name)?.samples);
  if (!own || !other) return rows;
  const values = ratios(
    other.map(({ cpu }) => cpu),
    own.map(({ cpu }) => cpu),
  );
  return [
    ...rows,
    { group: `${group}, ratio by cpu`, name: `${USER} / ${RTPENGINE}`, unit: 'ratio', ...figure(values) },
  ];
}

/** Starts the columns that can be here, with generators of their own. */
async function startStands(streams: number, program: string, cores: Cores | undefined): Promise<Stand[]> {
  const stands: Stand[] = [];
  for (const [index, name] of [USER, RTPENGINE].entries()) {
    const [outside, inside, sender, sink] = [0, 1, 2, 3].map((each) => addressOf(4 * index + each)) as [
      string,
      string,
      string,
      string,
    ];
    const [from, to] = [sender, sink].map((address) => ({ address, port: 7000 })) as [
      RtpOptions['from'],
      RtpOptions['to'],
    ];
    const options = { outside, inside, from, to, streams, core: cores?.measured };
    const stand = await (name === USER ? startUserRelay(options) : startRtpengine(options));
    if (!stand) continue;
    const load = new Worker(onCore(cores?.load, { file: program, args: [from, to].map(formatEndpoint) }));
    await load.line();
    stands.push({ ...stand, name, load, outside, samples: [] });
  }
  return stands;
}

export async function runRtp(options: RtpBenchOptions): Promise<{ rows: Row[]; notes: string[] }> {
  const { cores, rounds, ms, progress } = options;
  const folder = mkdtempSync(join(tmpdir(), 'sipfarm-bench-rtp-'));
  const notes: string[] = [];
  const rows: Row[] = [];
  try {
    const program = join(folder, 'rtp');
    if (!compile(join(import.meta.dirname, 'c', 'rtp.c'), program))
      return { rows, notes: ['left out: rtp (no C compiler)'] };
    for (const streams of STREAMS) {
      progress(`starting ${streams} streams of RTP`);
      const stands = await startStands(streams, program, cores);
      try {
        if (stands.length === 1) notes.push(`left out: ${RTPENGINE} (not there)`);
        for (let round = -1; round < rounds; round++)
          for (const stand of stands) {
            progress(
              `${round < 0 ? 'warming up' : `round ${round + 1} of ${rounds}`}: ${streams} streams, ${stand.name}`,
            );
            const sample = await measure(stand, ms);
            if (round >= 0) stand.samples.push(sample);
          }
        rows.push(...rowsOf(stands, streams, notes));
      } finally {
        for (const { stop, load } of stands) {
          await stop();
          await load.stop();
        }
      }
    }
    return { rows, notes };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
