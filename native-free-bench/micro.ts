// A process that measures the small rows. Its parent binds it to the measured core. Writes one line of JSON:
// nanoseconds and allocated octets per operation, by row and round.
//
//    node --expose-gc micro.ts OPTIONS      OPTIONS as JSON
import { Session } from 'node:inspector/promises';
import { setTimeout as wait } from 'node:timers/promises';
import { type MicroRow, microRows } from './micro-rows.ts';

export interface MicroOptions {
  readonly rounds: number;
  /** Milliseconds of one row in one round. */
  readonly ms: number;
  /** Exactly so many operations instead. For a test that only checks that each row runs. */
  readonly operations?: number;
  readonly rows?: readonly string[];
  /** Write the V8 profile of this one row instead, over `ms`. */
  readonly profile?: boolean;
}

export interface MicroSamples {
  readonly name: string;
  readonly what: string;
  readonly ns: number[];
  readonly octets: number[];
}

/** Operations between two reads of the heap size: so few that the young generation is not collected meanwhile. */
const HEAP_OPERATIONS = 1000;

const WARM_UP = 10_000;
/** Most operations of one measurement: the prepared input of all is in memory. */
const MOST = 200_000;

/** Lets the event loop turn once, so that due timers run, as with sockets. */
const turn = (): Promise<void> => wait(1);
/** Operations between two turns. */
const STRETCH = 2000;

/** Nanoseconds of processor time per operation, with collector and compiler threads, without other processes. */
async function timed(row: MicroRow, times: number): Promise<number> {
  let micros = 0;
  for (let done = 0; done < times; done += STRETCH) {
    await turn();
    const stretch = Math.min(STRETCH, times - done);
    row.prepare?.(stretch);
    const before = process.cpuUsage();
    row.run(stretch);
    const { user, system } = process.cpuUsage(before);
    micros += user + system;
  }
  return (micros * 1000) / times;
}

/** Octets that one operation allocates, on the heap and in buffers outside of it. NaN without --expose-gc. */
async function allocated(row: MicroRow, times: number): Promise<number> {
  if (!globalThis.gc) return Number.NaN;
  // A collection in between hides earlier allocations, so the largest of several values is nearest to the truth.
  let most = 0;
  for (let attempt = 0; attempt < 3; attempt++) {
    await turn();
    row.prepare?.(times);
    globalThis.gc();
    const before = process.memoryUsage();
    row.run(times);
    const after = process.memoryUsage();
    most = Math.max(most, after.heapUsed - before.heapUsed + after.arrayBuffers - before.arrayBuffers);
  }
  return most / times;
}

const options = JSON.parse(process.argv[2] ?? '{}') as MicroOptions;
const { operations } = options;
const rows = (await microRows()).filter(({ name }) => options.rows?.includes(name) ?? true);

async function profile(row: MicroRow): Promise<void> {
  await timed(row, WARM_UP);
  const session = new Session();
  session.connect();
  await session.post('Profiler.enable');
  await session.post('Profiler.setSamplingInterval', { interval: 200 });
  await session.post('Profiler.start');
  for (const end = performance.now() + options.ms; performance.now() < end; ) {
    await turn();
    row.prepare?.(STRETCH);
    row.run(STRETCH);
  }
  const { profile: found } = await session.post('Profiler.stop');
  process.stdout.write(`${JSON.stringify(found)}\n`);
}

async function measure(): Promise<void> {
  // Operations per round, from one short measurement of each warm row.
  const times: number[] = [];
  for (const row of rows) {
    if (operations === undefined) {
      await timed(row, WARM_UP);
      await timed(row, WARM_UP);
    }
    const enough = async () =>
      Math.min(MOST, Math.max(1000, Math.round((options.ms * 1e6) / (await timed(row, WARM_UP)))));
    times.push(operations ?? (await enough()));
  }
  const samples = rows.map(({ name, what }): MicroSamples => ({ name, what, ns: [], octets: [] }));
  for (let round = 0; round < options.rounds; round++)
    for (const [index, row] of rows.entries()) {
      samples[index]!.ns.push(await timed(row, times[index]!));
      const octets = await allocated(row, operations ?? HEAP_OPERATIONS);
      if (!Number.isNaN(octets)) samples[index]!.octets.push(octets);
    }
  process.stdout.write(`${JSON.stringify(samples)}\n`);
}

const [only] = rows;
if (options.profile && only) await profile(only);
else await measure();
process.exit();
