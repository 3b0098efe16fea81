// Measures packets per second through a real member and through other forwarders. Each round measures every column, so
// that a slow phase of the machine affects all of them. The column has one core, generator and sink have the other.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { keyring } from '../src/ownership/keyring.ts';
import { buildOwnerTables } from '../src/ownership/owner-tables.ts';
import { CallHash, hashCallId } from '../src/ownership/slots.ts';
import { Scan, scan } from '../src/sip/scan.ts';
import { benchView, OWN, type Place, SECRET } from './farm.ts';
import {
  COLUMNS,
  type Column,
  endpointOf,
  type Forwarder,
  placeOf,
  startForwarder,
  type Workshop,
} from './forwarders.ts';
import { frameOf } from './frames.ts';
import { Load, type LoadResult, type LoadRun, SOCKET } from './load.ts';
import { type Cores, compile, cpuSeconds } from './machine.ts';
import { invite, writeMessages } from './messages.ts';
import { figure, type Row, ratios, type Unit } from './statistics.ts';

export type MacroRow = 'ingress' | 'owner' | 'full';

export const MACRO_ROWS: Readonly<Record<MacroRow, string>> = {
  ingress: 'client datagram to relay frame',
  owner: 'relay frame to upstream',
  full: 'request to the SIP server and its response back to the client',
};

export interface MacroOptions {
  readonly cores: Cores | undefined;
  readonly rounds: number;
  /** Milliseconds of one measurement. */
  readonly ms: number;
  /** Ends a measurement after so many packets. For a test that only checks that each row runs. */
  readonly packets?: number;
  readonly rows?: readonly MacroRow[];
  readonly columns?: readonly Column[];
  /** Packets a second at which delay is measured; 0: not measured. */
  readonly latencyRate: number;
  /** Records a profile of this one column, a member, after the warm-up. */
  readonly onProfile?: (json: string) => void;
  /** False: the generator in JavaScript even with a compiler. */
  readonly compiled?: boolean;
  readonly progress: (text: string) => void;
}

export interface MacroResult {
  readonly rows: Row[];
  /** Notes for the reader of the figures. */
  readonly notes: string[];
}

const DIFFERENT = 4096;
const SETS = { relayed: 0, owned: 1, frames: 2 } as const;
const REFERENCES: readonly Column[] = ['bare', 'c', 'kamailio'];
/** With a smaller share of its core than this, the process was not the bottleneck. */
const SATURATED = 0.9;
/** The row of packets from the client's socket directly to the server's. */
const NOBODY = 'no forwarder';
const WARM_UP_MS = 1500;

/** INVITEs whose slot `owner` owns in the view of two. */
async function invitesOf(owner: number, place: Place): Promise<Buffer[]> {
  const tables = await buildOwnerTables(benchView(2), OWN, 1);
  const found: Buffer[] = [];
  const message = new Scan();
  const hash = new CallHash();
  for (let index = 1; found.length < DIFFERENT; index++) {
    const bytes = invite(index, endpointOf(place, 'client'), endpointOf(place, 'front'));
    const fault = scan(bytes, 0, bytes.length, false, message);
    if (fault !== null) throw new Error(`the INVITE of the bench is refused: ${fault}`);
    hashCallId(tables.slotKey, bytes, message.callIdStart, message.callIdEnd, hash);
    if (tables.slots[hash.slot] === owner) found.push(bytes);
  }
  return found;
}

function runOf(row: MacroRow, { column, place, isMember }: Forwarder): Omit<LoadRun, 'ms'> {
  const front = endpointOf(place, 'front');
  switch (row) {
    case 'ingress':
      return { from: SOCKET.client, to: front, count: isMember ? SOCKET.peer : SOCKET.server, set: SETS.relayed };
    case 'owner': {
      if (column === 'transparent')
        return { from: SOCKET.client, to: endpointOf(place, 'hatch'), count: SOCKET.server, set: SETS.owned };
      const to = isMember ? endpointOf(place, 'relay') : front;
      return { from: SOCKET.peer, to, count: SOCKET.server, set: SETS.frames, sign: true };
    }
    case 'full':
      return { from: SOCKET.client, to: front, count: SOCKET.client, reflect: SOCKET.server, set: SETS.owned };
  }
}

/** Kamailio cannot read frames of the relay link: it has no row `owner`. */
function has(row: MacroRow, column: Column): boolean {
  return !(row === 'owner' && column === 'kamailio');
}

interface Stand {
  readonly forwarder: Forwarder;
  readonly load: Load;
}

async function startLoad(
  place: Place,
  program: string | undefined,
  options: MacroOptions,
  folder: string,
): Promise<Load> {
  const [relayed, owned] = [await invitesOf(OWN + 1, place), await invitesOf(OWN, place)];
  const sets = [relayed, owned, owned.map((message) => frameOf(message, place))].map((messages, index) => {
    const file = join(folder, `${place.address}-${index}`);
    writeMessages(file, messages);
    return file;
  });
  const key = Buffer.from(Uint8Array.from(new Uint8Array(keyring([SECRET]).primary.relay.buffer)));
  const sockets = [endpointOf(place, 'client'), endpointOf(place, 'peer'), endpointOf(place, 'server')];
  return Load.start({ program, core: options.cores?.load, sockets, sets, key });
}

/** Sends a few packets until they come through: a forwarder may report too early that it is ready, or not at all. */
async function awaitFirst({ forwarder, load }: Stand): Promise<void> {
  const end = performance.now() + 10_000;
  while (performance.now() < end) {
    const { received } = await load.run({ ...runOf('ingress', forwarder), ms: 1000, packets: 8 });
    if (received > 0) return;
  }
  throw new Error(`nothing comes through ${COLUMNS[forwarder.column]}`);
}

interface Sample {
  readonly perSecond: number;
  /** Microseconds of processor time per packet. */
  readonly cpu: number;
  /** Share of its core that it had. */
  readonly busy: number;
  readonly lost: number;
}

async function measure({ forwarder, load }: Stand, run: LoadRun): Promise<Sample> {
  const before = cpuSeconds(forwarder.pid);
  const { received, seconds, lost } = await load.run(run);
  const cpu = cpuSeconds(forwarder.pid) - before;
  return {
    perSecond: received / seconds,
    cpu: (cpu / received) * 1e6,
    busy: cpu / seconds,
    lost: lost / (received + lost),
  };
}

/** Sample lists by row and column. */
class Samples {
  readonly #lists = new Map<string, Sample[]>();

  list(row: MacroRow, column: Column): Sample[] {
    const key = `${row} ${column}`;
    const list = this.#lists.get(key) ?? [];
    this.#lists.set(key, list);
    return list;
  }
}

function rowsOf(samples: Samples, rows: readonly MacroRow[], columns: readonly Column[]): MacroResult {
  const result: Row[] = [];
  const notes: string[] = [];
  const add = (group: string, name: string, unit: Unit, values: readonly number[]): void => {
    const usable = values.filter(Number.isFinite);
    if (usable.length > 0) result.push({ group, name, unit, ...figure(usable) });
  };
  for (const row of rows) {
    const there = columns.filter((column) => samples.list(row, column).length > 0);
    for (const column of there) {
      const list = samples.list(row, column);
      add(
        row,
        COLUMNS[column],
        row === 'full' ? 'requests/s' : 'packets/s',
        list.map(({ perSecond }) => perSecond),
      );
      const busy = figure(list.map((one) => one.busy)).median;
      if (busy < SATURATED)
        notes.push(
          `${row}, ${COLUMNS[column]}: only ${Math.round(busy * 100)} % of its core; the rate is a lower bound, ` +
            'the processor time counts',
        );
      const lost = figure(list.map((one) => one.lost)).median;
      if (lost > 0.001) notes.push(`${row}, ${COLUMNS[column]}: ${(lost * 100).toFixed(1)} % lost`);
    }
    for (const column of there)
      add(
        `${row} cpu`,
        COLUMNS[column],
        row === 'full' ? 'us/request' : 'us/packet',
        samples.list(row, column).map(({ cpu }) => cpu),
      );
    for (const column of there.filter((each) => !REFERENCES.includes(each)))
      for (const reference of there.filter((each) => REFERENCES.includes(each))) {
        const [own, other] = [samples.list(row, column), samples.list(row, reference)];
        const rate = (list: readonly Sample[]): number[] => list.map(({ perSecond }) => perSecond);
        const cpu = (list: readonly Sample[]): number[] => list.map((one) => one.cpu);
        add(`${row} ratio`, `${column} / ${reference}`, 'ratio', ratios(rate(own), rate(other)));
        add(`${row} ratio by cpu`, `${column} / ${reference}`, 'ratio', ratios(cpu(other), cpu(own)));
      }
  }
  return { rows: result, notes };
}

/** Measures the delay of the ingress path at a fixed rate, and that of the bare loopback for comparison. */
async function measureLatency(stands: readonly Stand[], options: MacroOptions): Promise<MacroResult> {
  const results = new Map<string, LoadResult[]>();
  const keep = (name: string, result: LoadResult): void => {
    results.set(name, [...(results.get(name) ?? []), result]);
  };
  const rate = options.latencyRate;
  for (let round = 0; round < options.rounds; round++) {
    options.progress(`delay at ${rate} packets/s, round ${round + 1} of ${options.rounds}`);
    const [first] = stands;
    if (first) {
      const to = endpointOf(first.forwarder.place, 'server');
      keep(
        'no forwarder',
        await first.load.run({
          from: SOCKET.client,
          to,
          count: SOCKET.server,
          set: SETS.relayed,
          ms: options.ms,
          rate,
        }),
      );
    }
    for (const { forwarder, load } of stands)
      keep(COLUMNS[forwarder.column], await load.run({ ...runOf('ingress', forwarder), ms: options.ms, rate }));
  }
  const rows: Row[] = [];
  const notes: string[] = [];
  const add = (what: string, name: string, values: readonly number[]): void => {
    rows.push({ group: `${what} at ${rate.toLocaleString('en')} packets/s`, name, unit: 'us', ...figure(values) });
  };
  const direct = results.get(NOBODY) ?? [];
  for (const [name, list] of results) {
    add(
      'delay p50',
      name,
      list.map(({ p50 }) => p50),
    );
    add(
      'delay p99',
      name,
      list.map(({ p99 }) => p99),
    );
    if (name !== NOBODY)
      add(
        'delay added, p99',
        name,
        list.map(({ p99 }, round) => p99 - direct[round]!.p99),
      );
    const missing = 1 - figure(list.map(({ sent, received }) => received / sent)).median;
    if (missing > 0.001)
      notes.push(
        `delay, ${name}: ${(missing * 100).toFixed(1)} % did not arrive in time; the delay is that of a full queue`,
      );
  }
  return { rows, notes };
}

/** Runs all columns that this machine supports. */
export async function runMacro(options: MacroOptions): Promise<MacroResult> {
  const folder = mkdtempSync(join(tmpdir(), 'sipfarm-bench-'));
  const notes: string[] = [];
  const stands: Stand[] = [];
  try {
    const [loadProgram, forwardProgram] = ['load', 'forward'].map((name) => {
      const to = join(folder, name);
      return options.compiled !== false && compile(join(import.meta.dirname, 'c', `${name}.c`), to) ? to : undefined;
    });
    if (!loadProgram) notes.push('no C compiler: generator and sink are Node and may be slower than what they load');
    if (!options.cores)
      notes.push('not bound to cores (taskset, two cores): generator and forwarder get in each other’s way');
    const shop: Workshop = { folder, cores: options.cores, forwardProgram };
    for (const column of options.columns ?? (Object.keys(COLUMNS) as Column[])) {
      options.progress(`starting ${COLUMNS[column]}`);
      const load = await startLoad(placeOf(column), loadProgram, options, folder);
      const forwarder = await startForwarder(column, shop);
      if (typeof forwarder === 'string') {
        await load.stop();
        notes.push(`left out: ${COLUMNS[column]} (${forwarder})`);
        continue;
      }
      const stand = { forwarder, load };
      stands.push(stand);
      await awaitFirst(stand);
    }
    const rows = options.rows ?? (Object.keys(MACRO_ROWS) as MacroRow[]);
    const samples = new Samples();
    const limit = options.packets === undefined ? {} : { packets: options.packets };
    const profiled = options.onProfile && stands[0]?.forwarder;
    for (let round = options.packets === undefined ? -1 : 0; round < options.rounds; round++) {
      if (round === 0) await profiled?.profile();
      for (const row of rows)
        for (const stand of stands) {
          const { column } = stand.forwarder;
          if (!has(row, column)) continue;
          const name = `${row}, ${COLUMNS[column]}`;
          options.progress(round < 0 ? `warming up: ${name}` : `round ${round + 1} of ${options.rounds}: ${name}`);
          const ms = round < 0 ? Math.min(WARM_UP_MS, 2 * options.ms) : options.ms;
          const sample = await measure(stand, { ...runOf(row, stand.forwarder), ms, ...limit });
          if (round >= 0) samples.list(row, column).push(sample);
        }
    }
    if (profiled) options.onProfile?.(await profiled.profile());
    const columns = stands.map(({ forwarder }) => forwarder.column);
    const result = rowsOf(samples, rows, columns);
    const delays = options.latencyRate > 0 ? await measureLatency(stands, options) : { rows: [], notes: [] };
    return { rows: [...result.rows, ...delays.rows], notes: [...notes, ...result.notes, ...delays.notes] };
  } finally {
    for (const { forwarder, load } of stands) {
      await forwarder.stop();
      await load.stop();
    }
    rmSync(folder, { recursive: true, force: true });
  }
}
