// A run of the fuzzer: farm after farm, each of another variant, up to the number of inputs. It ends early when a guard
// has caught a throw, a call fails, or anything else throws, and then writes the inputs of the last batch to a file. A
// seed gives the same inputs again, except for random tags in messages of the farm.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { ENTRANCES, type FuzzEntrance, FuzzFarm } from './fuzz-farm.ts';
import type { SlowInput } from './slow.ts';
import { VARIANTS } from './variants.ts';

const BATCH = 100;
/** Batches between two calls that must work. */
const CALL_EVERY = 8;
/** Batches between two runs of the one-second timers. */
const PASS_EVERY = 50;

export interface FuzzOptions {
  readonly seed: number;
  readonly inputs: number;
  /** Inputs for one farm. */
  readonly perFarm: number;
  /** Milliseconds after which the run ends early, between two batches. */
  readonly mostMs?: number;
  /** Handles the report after each farm. */
  readonly onFarm?: (report: FuzzReport) => void;
}

export interface FuzzReport {
  readonly seed: number;
  inputs: number;
  readonly counts: Record<FuzzEntrance, number>;
  /** Packets in signed relay frames that members have accepted. */
  taken: number;
  calls: number;
  farms: number;
  seconds: number;
  /** Time of the slowest input's handler, in microseconds. */
  slowest: SlowInput | undefined;
  /** Octets of the heap after a collection: half way through each farm, at its end, and after its stop. */
  readonly heaps: { readonly half: number; readonly end: number; readonly after: number }[];
  /** Greatest memory of the process in octets. */
  residentMost: number;
}

export async function fuzz(options: FuzzOptions): Promise<FuzzReport> {
  const { seed, inputs, perFarm, mostMs = Number.POSITIVE_INFINITY } = options;
  const began = performance.now();
  const report: FuzzReport = {
    seed,
    inputs: 0,
    counts: Object.fromEntries(ENTRANCES.map((entrance) => [entrance, 0])) as Record<FuzzEntrance, number>,
    taken: 0,
    calls: 0,
    farms: 0,
    seconds: 0,
    slowest: undefined,
    heaps: [],
    residentMost: 0,
  };
  while (report.inputs < inputs && performance.now() - began < mostMs) {
    const left = Math.min(perFarm, inputs - report.inputs);
    await oneFarm(options, report, left, () => performance.now() - began >= mostMs);
    report.seconds = (performance.now() - began) / 1000;
    options.onFarm?.(report);
  }
  return report;
}

async function oneFarm({ seed }: FuzzOptions, report: FuzzReport, inputs: number, over: () => boolean): Promise<void> {
  const number = report.farms++;
  const variant = number % VARIANTS;
  const under = await FuzzFarm.start(seed * 1000 + number, variant);
  const thrown: unknown[] = [];
  const note = (error: unknown): void => void thrown.push(error);
  process.on('uncaughtException', note);
  process.on('unhandledRejection', note);
  let given = 0;
  let half = 0;
  try {
    for (let batch = 1; given < inputs && !over(); batch++) {
      const count = Math.min(BATCH, inputs - given);
      await under.feed(count);
      given += count;
      if (batch % CALL_EVERY === 0) await under.call(batch % (4 * CALL_EVERY) === 0 ? 'tcp' : 'udp');
      if (batch % PASS_EVERY === 0) await under.pass(1000);
      // The member is killed after a fifth of the inputs, comes back, and is killed again, so that its tokens name a
      // member of each sort.
      if (batch % Math.ceil(inputs / BATCH / 5) === 0) await under.turn();
      if (half === 0 && given >= inputs / 2) half = heap();
      report.residentMost = Math.max(report.residentMost, process.memoryUsage.rss());
      if (under.faults.length > 0) throw new Error(`a guard has caught ${JSON.stringify(under.faults)}`);
      if (thrown.length > 0) throw thrown[0];
    }
    await under.endLasting();
  } catch (cause) {
    const at = `seed ${seed}, farm ${number} (variant ${variant}), input ${given}`;
    throw new Error(`${at}: the inputs of its batch are in ${keep(under)}`, { cause });
  } finally {
    process.off('uncaughtException', note);
    process.off('unhandledRejection', note);
    report.inputs += given;
    report.calls += under.calls;
    report.taken += under.taken;
    for (const entrance of ENTRANCES) report.counts[entrance] += under.counts[entrance];
  }
  const end = heap();
  const slow = await under.slowest();
  if (slow && slow.microseconds > (report.slowest?.microseconds ?? 0)) report.slowest = slow;
  await under.stop();
  report.heaps.push({ half, end, after: heap() });
}

/** Writes the last batch to a file and returns its path. */
function keep({ batch }: FuzzFarm): string {
  const path = join(mkdtempSync(join(tmpdir(), 'sipfarm-fuzz-')), 'batch.json');
  writeFileSync(
    path,
    JSON.stringify(
      batch.map(({ where, bytes }) => ({ where, base64: bytes.toString('base64') })),
      null,
      1,
    ),
  );
  return path;
}

let collect: (() => void) | undefined;

function heap(): number {
  setFlagsFromString('--expose-gc');
  collect ??= runInNewContext('gc') as () => void;
  collect();
  return process.memoryUsage().heapUsed;
}

/** Returns the report as text. */
export function told(report: FuzzReport): string {
  const { inputs, seconds, counts, taken, calls, farms, slowest, heaps, residentMost, seed } = report;
  const megabytes = (octets: number): string => `${(octets / 1e6).toFixed(0)} MB`;
  const last = heaps.at(-1);
  return [
    `seed ${seed}: ${inputs} inputs in ${seconds.toFixed(0)} s over ${farms} farms, ${calls} calls worked`,
    `${ENTRANCES.map((entrance) => `${entrance} ${counts[entrance]}`).join(', ')}; ${taken} relayed packets taken`,
    `heap of the last farm ${megabytes(last?.half ?? 0)} half way, ${megabytes(last?.end ?? 0)} at its end; after it ${megabytes(last?.after ?? 0)}, after the first ${megabytes(heaps[0]?.after ?? 0)}; process ${megabytes(residentMost)} at most`,
    `slowest input ${slowest?.microseconds.toFixed(0)} microseconds: ${slowest?.bytes.length} octets at ${slowest?.where}, ${JSON.stringify(slowest?.bytes.toString('latin1', 0, 100))}`,
  ].join('\n');
}
