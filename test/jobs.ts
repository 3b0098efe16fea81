// Which test files run in one process, and which processes may run at the same time.
import { globSync } from 'node:fs';
import { dirname, join, sep } from 'node:path';

/** The test files of one process. */
export interface Job {
  readonly name: string;
  /** Absolute paths. Several files run through test/folder.ts. */
  readonly files: readonly string[];
  /** Two such jobs never run at the same time: they look for free ports. */
  readonly alone?: boolean;
  /** It mostly waits for processes that it has started, so one more job runs beside it. */
  readonly waits?: boolean;
}

export const root = join(import.meta.dirname, '..');

/** Parts of the suite and their files. Tests of `unit` need nothing but Node.js and the installed packages. */
const FILES = {
  unit: ['test/unit/**/*.test.ts'],
  program: ['test/program/**/*.test.ts'],
  /** The files with the longest waits begin first. */
  lab: ['test/lab/{farm,doctor,balancer-files,moves}.test.ts', 'test/lab/**/*.test.ts', 'test/faults/short.test.ts'],
  integration: ['test/integration/**/*.test.ts'],
} as const;
export type Part = keyof typeof FILES;
export const isPart = (name: string): name is Part => Object.hasOwn(FILES, name);

/** Unit test files that need a process of their own, with the reason. */
export const OWN_PROCESS: ReadonlyMap<string, string> = new Map([]);

/** Rooms with few files that take long. They begin first. */
const LONG_ROOMS: readonly string[] = ['model', 'process'];
/** Rooms whose tests start processes. */
const WAITING_ROOMS: readonly string[] = ['process', 'cli', 'admin', 'doctor'];

/** Files in one process at most. A greater folder takes several processes, so that both cores have work to the end. */
const MOST = 12;

/** Returns the room of a unit test: the folder below test/unit. */
const roomOf = (file: string): string => file.split(sep)[2]!;

/**
 * Returns the job of one file. Tests of test/program look for free ports and start programs on them, so another one
 * must not take these ports meanwhile.
 */
function own(file: string): Job {
  const job = { name: file, files: [join(root, file)] };
  return dirname(file) === join('test', 'program') ? { ...job, alone: true } : job;
}

function unitJobs(files: readonly string[]): Job[] {
  const rooms = Map.groupBy(
    files.filter((file) => !OWN_PROCESS.has(file)),
    roomOf,
  );
  const jobs = [...rooms].flatMap(([room, all]) => {
    const processes = Math.ceil(all.length / MOST);
    return Array.from({ length: processes }, (_, i) => ({
      name: processes === 1 ? `unit/${room}` : `unit/${room} (${i + 1} of ${processes})`,
      files: all.filter((_file, k) => k % processes === i).map((file) => join(root, file)),
      waits: WAITING_ROOMS.includes(room),
    }));
  });
  const alone = files.filter((file) => OWN_PROCESS.has(file)).map(own);
  // The longest jobs begin first, so that none of them is left for one core alone at the end.
  const length = ({ name, files }: Job): number =>
    LONG_ROOMS.some((room) => name === `unit/${room}`) ? MOST + 1 : files.length;
  return [...jobs, ...alone].sort((a, b) => length(b) - length(a));
}

/** Returns the jobs of a part, for the files whose path contains one of `wanted`; no entry means all. */
export function jobsOf(part: Part, wanted: readonly string[]): Job[] {
  const all = FILES[part].flatMap((pattern) => globSync(pattern, { cwd: root }).sort());
  const files = [...new Set(all)].filter((file) => wanted.length === 0 || wanted.some((text) => file.includes(text)));
  return part === 'unit' ? unitJobs(files) : files.map(own);
}
