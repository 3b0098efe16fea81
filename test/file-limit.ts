// Ends test files that hang. The time limits of node:test fail a test, but its work goes on, and so does the process of
// its file, which no limit of `run` ends.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import type { run } from 'node:test';
import { type Clock, systemClock, type Timer } from '../src/base/clock.ts';

/** Time to clean up between SIGTERM and SIGKILL, ms. */
const GRACE = 5000;

interface RunningFile {
  readonly timer: Timer;
  /** Tests that have begun and not ended, or that reached their own limit, as `name (line)`. */
  readonly tests: Set<string>;
}

/**
 * Ends every file of `tests` that takes longer than `ms`, and reports it with its hanging tests; the run goes on and
 * counts it as failed. Where processes cannot be found (no /proc) the whole run ends with exit code 1.
 */
export function limitFiles(
  tests: ReturnType<typeof run>,
  ms: number,
  tell: (text: string) => void,
  after: Clock['after'] = systemClock.after,
): void {
  const running = new Map<string, RunningFile>();

  const end = (file: string): void => {
    const hanging = [...(running.get(file)?.tests ?? [])];
    tell(
      `${file} takes longer than ${ms / 1000} s and is ended. It hangs in: ${hanging.join(', ') || 'what no test tells of'}`,
    );
    if (!existsSync('/proc/self/stat')) process.exit(1);
    for (const pid of processesOf(file)) signal(pid, 'SIGTERM');
    after(GRACE, () => {
      if (running.has(file)) for (const pid of processesOf(file)) signal(pid, 'SIGKILL');
    });
  };

  // A file is itself a test, named like its path.
  tests.on('test:dequeue', ({ name, file, line }) => {
    if (file === undefined) return;
    if (name === file) running.set(file, { timer: after(ms, () => end(file)), tests: new Set() });
    else running.get(file)?.tests.add(`${name} (line ${line})`);
  });
  tests.on('test:complete', ({ name, file, line, details }) => {
    if (file === undefined) return;
    if (name === file) {
      running.get(file)?.timer.cancel();
      running.delete(file);
    } else if (failureType(details) !== 'testTimeoutFailure') running.get(file)?.tests.delete(`${name} (line ${line})`);
  });
}

function failureType(details: object): unknown {
  return (details as { error?: { failureType?: unknown } }).error?.failureType;
}

/** Returns the children of this process that have `file` among their arguments. */
function processesOf(file: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => read(`/proc/${pid}/status`).includes(`\nPPid:\t${process.pid}\n`))
    .filter((pid) => read(`/proc/${pid}/cmdline`).split('\0').includes(file))
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
