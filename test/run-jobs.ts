// Runs jobs of test files, some processes at a time, and yields the events of each job once it has ended.
import { relative } from 'node:path';
import { run } from 'node:test';
import type { TestEvent } from 'node:test/reporters';
import { limitFiles } from './file-limit.ts';
import { type Job, root } from './jobs.ts';

/** Time after which a test or suite without its own limit counts as hanging, ms. */
const TEST_TIMEOUT = 6 * 60_000;
/** Time after which a process of test files counts as hanging, ms. */
const PROCESS_TIMEOUT = 10 * 60_000;
/** Number of the slowest files that a summary lists. */
const SLOWEST = 12;
/** Farms of fake members make much garbage: with a young generation of 128 MiB they take a sixth less time. */
const NODE_OPTIONS: string[] = ['--max-semi-space-size=128'];
const FOLDER = `${root}/test/folder.ts`;

/** Result of all jobs of a run. */
export class Tally {
  tests = 0;
  passed = 0;
  failed = 0;
  skipped = 0;
  /** Jobs that have no test or did not succeed. */
  readonly broken: string[] = [];
  /** Time of each file in ms, without the start of its process where it shares one. */
  readonly files = new Map<string, number>();

  get good(): boolean {
    return this.tests > 0 && this.failed === 0 && this.broken.length === 0;
  }

  /** Returns the lines of the summary. */
  lines(): string[] {
    const slowest = [...this.files].sort(([, a], [, b]) => b - a).slice(0, SLOWEST);
    const { tests, passed, failed, skipped } = this;
    return [
      'the slowest files:',
      ...slowest.map(([file, ms]) => `${(ms / 1000).toFixed(1).padStart(8)} s  ${file}`),
      `${tests} tests: ${passed} passed, ${failed} failed, ${skipped} skipped`,
      ...this.broken.map((name) => `failed: ${name}`),
    ];
  }
}

/** Runs one job; returns its events without its summary, which `tally` gets. */
async function runJob({ name, files }: Job, tally: Tally, tell: (text: string) => void): Promise<TestEvent[]> {
  const [first = '', ...more] = files;
  const shares = more.length > 0;
  const argv = shares ? [name, ...files] : [];
  const startedAt = performance.now();
  const tests = run({
    ...{ files: [shares ? FOLDER : first], argv, execArgv: NODE_OPTIONS, cwd: root },
    ...{ concurrency: 1, timeout: TEST_TIMEOUT },
  });
  limitFiles(tests, PROCESS_TIMEOUT, tell, undefined, () => first);
  const events: TestEvent[] = [];
  let good = false;
  for await (const event of tests as AsyncIterable<TestEvent>) {
    if (event.type === 'test:summary') {
      // There is one summary of the file, then one without a file for the whole run.
      if (event.data.file !== undefined) continue;
      const { counts, success } = event.data;
      tally.tests += counts.tests;
      tally.passed += counts.passed;
      tally.skipped += counts.skipped;
      good = success && counts.tests > 0;
      continue;
    }
    if (event.type === 'test:diagnostic' && event.data.file === undefined) continue;
    if (event.type === 'test:fail') {
      good = false;
      // A suite fails with its tests; only the tests are counted.
      if (event.data.details.type !== 'suite') tally.failed++;
    }
    if (event.type === 'test:complete' && shares && event.data.file === FOLDER && event.data.nesting === 1)
      tally.files.set(event.data.name, event.data.details.duration_ms);
    events.push(event);
  }
  if (!shares) tally.files.set(relative(root, first), performance.now() - startedAt);
  if (!good) tally.broken.push(name);
  tell(`${good ? 'passed' : 'FAILED'}: ${name} (${((performance.now() - startedAt) / 1000).toFixed(1)} s)`);
  return events;
}

/**
 * Runs the jobs in their order, `lanes` at a time, and yields the events of each when it has ended. A job waits while
 * its `alone` forbids it; jobs behind it may begin before it. Results go to `tally`.
 */
export async function* runJobs(jobs: readonly Job[], lanes: number, tally: Tally, tell: (text: string) => void) {
  const waiting = [...jobs];
  const running = new Map<Job, Promise<{ job: Job; events: TestEvent[] }>>();
  const mayBegin = ({ alone }: Job): boolean => !alone || [...running.keys()].every((other) => !other.alone);
  const waits = (): number => [...running.keys()].filter((job) => job.waits).length;
  for (;;) {
    while (running.size < lanes + Math.min(1, waits())) {
      const next = waiting.findIndex(mayBegin);
      if (next < 0) break;
      const [job] = waiting.splice(next, 1);
      running.set(
        job!,
        runJob(job!, tally, tell).then((events) => ({ job: job!, events })),
      );
    }
    if (running.size === 0) return;
    const { job, events } = await Promise.race(running.values());
    running.delete(job);
    yield* events;
  }
}
