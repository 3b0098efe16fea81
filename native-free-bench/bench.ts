// `npm run bench`: measures everything in one run, with ratios to other programs where possible. See README.md.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { CallsOptions, CallsResult } from './calls.ts';
import type { Column } from './forwarders.ts';
import { type Cores, chooseCores, describeMachine, type Machine, onCore, Worker } from './machine.ts';
import { MACRO_ROWS, type MacroRow, runMacro } from './macro.ts';
import type { MicroOptions, MicroSamples } from './micro.ts';
import { moveToOwnNetwork } from './own-network.ts';
import { type CpuProfile, ownTimes } from './profile.ts';
import { runRtp } from './rtp.ts';
import { runRtpKernel } from './rtp-kernel.ts';
import type { ScaleOptions, ScaleResult } from './scale.ts';
import { compare, figure, type Row, showFigure, table } from './statistics.ts';

const USAGE = `npm run bench -- [--quick] [--scale] [--only PART,...] [--rounds N] [--json FILE] [--baseline FILE]
                 [--profile ROW]

  --quick           fewer and shorter rounds: under a minute
  --scale           farms of 3 to 1,000 simulated members instead
  --only PART,...   micro, macro, calls, rtp, rtp-kernel: these parts only
  --rounds N        rounds of every row
  --json FILE       writes the run to FILE, to be a baseline later
  --baseline FILE   compares with such a file (native-free-bench/baseline.json is in the repository)
  --profile ROW     profile of one row: a micro row, or ingress, owner, full; a column may follow: "ingress batch"
`;

const CALLS = 1_000_000;

export interface Run {
  readonly machine: Machine;
  readonly rows: readonly Row[];
  readonly notes: readonly string[];
}

const startedAt = performance.now();
function progress(text: string): void {
  process.stderr.write(`[${((performance.now() - startedAt) / 1000).toFixed(0).padStart(3)} s] ${text}\n`);
}

/** Runs a script of this folder in a process of its own on the measured core and returns the line it writes. */
async function aside<T>(cores: Cores | undefined, script: string, options: unknown): Promise<T> {
  const args = ['--expose-gc', join(import.meta.dirname, script), JSON.stringify(options)];
  const worker = new Worker(onCore(cores?.measured, { file: process.execPath, args }));
  try {
    return JSON.parse(await worker.line(30 * 60_000)) as T;
  } finally {
    await worker.stop();
  }
}

async function micro(cores: Cores | undefined, options: MicroOptions): Promise<Row[]> {
  progress(`small rows, ${options.rounds} rounds`);
  const samples = await aside<MicroSamples[]>(cores, 'micro.ts', options);
  return [
    ...samples.map(({ name, ns }): Row => ({ group: 'micro', name, unit: 'ns/op', ...figure(ns) })),
    ...samples.map(({ name, octets }): Row => ({ group: 'micro allocated', name, unit: 'B/op', ...figure(octets) })),
  ];
}

async function memory(cores: Cores | undefined, options: CallsOptions, what: string): Promise<Row[]> {
  progress(`${options.calls} owned calls${what}`);
  const { heap, rss } = await aside<CallsResult>(cores, 'calls.ts', options);
  const group = `memory at ${options.calls.toLocaleString('en')} owned calls`;
  return [
    { group, name: `heap and buffers${what}`, unit: 'B/call', ...figure([heap]) },
    { group, name: `RSS${what}`, unit: 'B/call', ...figure([rss]) },
  ];
}

/** Rows of one group stand together, in the order of their first row. */
function byGroup(rows: readonly Row[]): Row[] {
  const groups = Map.groupBy(rows, ({ group }) => group);
  return [...groups.values()].flat();
}

function show({ machine, rows, notes }: Run, baseline: Run | undefined): string {
  const { cpu, cores, memoryGB, kernel, node, date, commit, pinned } = machine;
  const about =
    `${date}, commit ${commit}: ${cpu}, ${cores} cores, ${memoryGB} GB, ${kernel}, Node ` +
    `${node}${pinned ? ', bound to cores' : ''}`;
  const compared = baseline && compare(rows, baseline.rows);
  const head = ['', 'unit', 'median (least-most)', ...(compared ? ['now / then', ''] : [])];
  const body: string[][] = [];
  let group = '';
  for (const [index, row] of rows.entries()) {
    if (row.group !== group) body.push([], [row.group.toUpperCase()]);
    group = row.group;
    const then = compared?.[index];
    const ratio = then ? [then.ratio?.toFixed(2) ?? '', then.verdict === 'same' ? '' : then.verdict] : [];
    body.push([`  ${row.name}`, row.unit, showFigure(row), ...ratio]);
  }
  const remarks = notes.map((note) => `note: ${note}`);
  return [about, '', table(head, body), '', ...remarks].join('\n');
}

/** Prints a profile of one row. */
async function profile(name: string, cores: Cores | undefined): Promise<void> {
  const [first = '', column = 'dgram'] = name.split(' ');
  let json = '';
  if (first in MACRO_ROWS) {
    const onProfile = (text: string): void => {
      json = text;
    };
    const [row, only] = [first as MacroRow, column as Column];
    await runMacro({ cores, rounds: 3, ms: 1500, rows: [row], columns: [only], latencyRate: 0, onProfile, progress });
  } else json = JSON.stringify(await aside(cores, 'micro.ts', { rounds: 1, ms: 3000, rows: [name], profile: true }));
  if (json === '' || json === '[]')
    throw new Error(`there is no row or column of that name, or it cannot be here: ${name}`);
  const shares = ownTimes(JSON.parse(json) as CpuProfile, 25);
  const body = shares.map(({ name: each, share }) => [each, `${(share * 100).toFixed(1)} %`]);
  process.stdout.write(`${table([`own time in ${name}`, 'share'], body)}\n`);
}

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    scale: { type: 'boolean', default: false },
    only: { type: 'string' },
    rounds: { type: 'string' },
    json: { type: 'string' },
    baseline: { type: 'string' },
    profile: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
const { quick, only, json, baseline } = values;

async function main(): Promise<void> {
  if (values.help) {
    process.stdout.write(USAGE);
    return;
  }
  if (!values.scale) moveToOwnNetwork();
  const cores = chooseCores();
  if (values.profile !== undefined) {
    await profile(values.profile, cores);
    return;
  }
  const parts = values.scale ? [] : (only?.split(',') ?? ['micro', 'calls', 'macro', 'rtp', 'rtp-kernel']);
  const rounds = Number(values.rounds ?? (quick ? 3 : 7));
  const rows: Row[] = [];
  const notes: string[] = [];
  if (parts.includes('micro'))
    rows.push(...(await micro(cores, { rounds: quick ? rounds : rounds + 2, ms: quick ? 10 : 50 })));
  if (parts.includes('calls')) {
    rows.push(...(await memory(cores, { calls: CALLS, records: 0 }, '')));
    if (quick) notes.push('the memory of recorded calls takes minutes: not with --quick');
    else {
      rows.push(...(await memory(cores, { calls: CALLS, records: 1 }, ', recorded')));
      rows.push(...(await memory(cores, { calls: CALLS, records: 2 }, ", recorded, both legs of a proxy's call")));
    }
  }
  if (values.scale) {
    progress('simulated farms, a few minutes');
    const options: ScaleOptions = quick
      ? { sizes: [3, 30, 300], rounds: 3, packets: 5000, etcdSeconds: 0, idleSeconds: 1 }
      : { sizes: [3, 30, 300, 1000], rounds: 9, packets: 20_000, etcdSeconds: 15, idleSeconds: 3 };
    const result = await aside<ScaleResult>(cores, 'scale.ts', options);
    rows.push(...result.rows);
    notes.push(...result.notes);
  }
  if (parts.includes('macro')) {
    const result = await runMacro({ cores, rounds, ms: quick ? 200 : 1000, latencyRate: 20_000, progress });
    rows.push(...result.rows);
    notes.push(...result.notes);
  }
  if (parts.includes('rtp')) {
    const result = await runRtp({ cores, rounds, ms: quick ? 200 : 1000, progress });
    rows.push(...result.rows);
    notes.push(...result.notes);
  }
  if (parts.includes('rtp-kernel')) {
    const result = await runRtpKernel({ cores, rounds: Math.min(rounds, 5), ms: quick ? 200 : 1000, progress });
    rows.push(...result.rows);
    notes.push(...result.notes);
  }
  const run: Run = { machine: describeMachine(cores !== undefined), rows: byGroup(rows), notes };
  const then = baseline === undefined ? undefined : (JSON.parse(readFileSync(baseline, 'utf8')) as Run);
  process.stdout.write(`${show(run, then)}\n`);
  if (json !== undefined) writeFileSync(json, `${JSON.stringify(run, null, 1)}\n`);
}

await main();
