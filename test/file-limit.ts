// Ends test files that hang. The time limits of node:test fail a test, but its work goes on, and so does the process of
// its file, which no limit of `run` ends.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { relative } from 'node:path';
import type { run } from 'node:test';
import { type Clock, systemClock, type Timer } from '../src/base/clock.ts';

/** Time to clean up between SIGTERM and SIGKILL, ms. */
const GRACE = 5000;

interface RunningFile {
  readonly path: string;
  readonly timer: Timer;
  /** Tests that have begun and not ended, or that reached their own limit, as `name (line)`. */
  readonly tests: Set<string>;
}

/**
 * Ends every file of `tests` that takes longer than `ms`, and reports it with its hanging tests; the run goes on and
 * counts it as failed. Where processes cannot be found (no /proc) the whole run ends with exit code 1. `tests` runs one
 * file at a time. A file may import others: their tests count as its own. `argument` returns an argument of the
 * process of a file that no other process of this run has.
 */
export function limitFiles(
  tests: ReturnType<typeof run>,
  ms: number,
  tell: (text: string) => void,
  after: Clock['after'] = systemClock.after,
  argument: (file: string) => string = (file) => file,
): void {
  let running: RunningFile | undefined;

  const end = (ended: RunningFile): void => {
    const { path } = ended;
    const hanging = [...ended.tests].join(', ') || 'no test: in its imports or after its tests';
    tell(`${path} takes longer than ${ms / 1000} s and is ended. It hangs in: ${hanging}`);
    if (!existsSync('/proc/self/stat')) process.exit(1);
    for (const pid of processesOf(argument(path))) signal(pid, 'SIGTERM');
    after(GRACE, () => {
      if (running === ended) for (const pid of processesOf(argument(path))) signal(pid, 'SIGKILL');
    });
  };
  const named = (name: string, file: string, line: number | undefined): string =>
    file === running?.path ? `${name} (line ${line})` : `${name} (${relative(process.cwd(), file)}:${line})`;

  // A file is itself a test, named like its path.
  tests.on('test:dequeue', ({ name, file, line }) => {
    if (file === undefined) return;
    if (name === file) {
      const started: RunningFile = { path: file, timer: after(ms, () => end(started)), tests: new Set() };
      running = started;
    } else running?.tests.add(named(name, file, line));
  });
  tests.on('test:complete', ({ name, file, line, details }) => {
    if (file === undefined) return;
    if (name === file) {
      running?.timer.cancel();
      running = undefined;
    } else if (failureType(details) !== 'testTimeoutFailure') running?.tests.delete(named(name, file, line));
  });
}

function failureType(details: object): unknown {
  return (details as { error?: { failureType?: unknown } }).error?.failureType;
}

/** Returns the children of this process that have `argument` among their arguments. */
function processesOf(argument: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => read(`/proc/${pid}/status`).includes(`\nPPid:\t${process.pid}\n`))
    .filter((pid) => read(`/proc/${pid}/cmdline`).split('\0').includes(argument))
    .map(Number);
}

/** Returns the text, or '' when the process has ended. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function signal(pid: number, name: 'SIGTERM' | 'SIGKILL'): void {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended by itself.
  }
}
