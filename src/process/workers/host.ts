// Manages the workers of one host: starts all, restarts dead ones, sends requests to all, ends all together.
import type { Logger } from 'pino';
import type { Answer, Question } from '../../admin/admin-server.ts';
import type { Readiness } from '../../admin/status.ts';
import type { Clock, Timer } from '../../base/clock.ts';
import type { Config } from '../../config/schema.ts';
import { workerId } from '../../config/workers.ts';
import type { CellFamily } from '../../metrics/counters.ts';
import { type Child, type ChildHandlers, PING_MS, WorkerProcess, type WorkerState } from './worker-process.ts';

export interface HostOptions {
  readonly config: Config;
  /** Path and text of the configuration file. */
  readonly file: string;
  readonly text: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly fork: (index: number, handlers: ChildHandlers) => Child;
  /** Cells of worker_starts_total. */
  readonly starts: CellFamily<'worker'>;
}

export interface WorkerSummary {
  readonly worker: number;
  /** Member id. */
  readonly id: string;
  /** null while there is no process. */
  readonly pid: number | null;
  readonly state: WorkerState;
  readonly ready: boolean;
  readonly starts: number;
  /** Reason why it could not start; null once it has started again. */
  readonly failure: { readonly code: string; readonly message: string } | null;
}

/** Milliseconds that a worker may take to answer from memory. */
const QUICK_MS = 2000;
/** Milliseconds of the slowest answer, which waits for the store. */
const PATIENCE_MS = 9000;
/** Milliseconds that a worker may take to apply a new file. */
const RELOAD_MS = 5000;
/** Milliseconds that closing takes at most; then a worker is killed. */
const CLOSING_MS = 15_000;

export class Host {
  readonly #options: HostOptions;
  readonly #workers: readonly WorkerProcess[];
  readonly #settled = Promise.withResolvers<void>();
  readonly #failed = Promise.withResolvers<never>();
  readonly #ended = Promise.withResolvers<void>();
  #reloaded: string | null = null;
  #pinger: Timer | undefined;
  #killer: Timer | undefined;
  #ending = false;

  constructor(options: HostOptions) {
    const { config, file, text, clock, log, fork, starts } = options;
    this.#options = options;
    // Nothing may be awaiting this promise: an unhandled rejection would end the process.
    this.#failed.promise.catch(() => {});
    this.#workers = Array.from(
      { length: config.workers },
      (_, index) =>
        new WorkerProcess({
          ...{ index, id: workerId(config.member, index), clock, log, fork },
          startMessage: () => ({ kind: 'start', index, file, text, reloaded: this.#reloaded }),
          onChange: () => this.#check(),
          onStart: () => {
            starts.cell({ worker: String(index) }).n++;
          },
        }),
    );
  }

  /** Resolves when each worker has started, or has failed once and is retried. `failed` rejects when none can start. */
  start(): Promise<void> {
    for (const worker of this.#workers) worker.start();
    this.#pinger = this.#options.clock.every(PING_MS, () => {
      for (const worker of this.#workers) worker.ping();
    });
    return this.#settled.promise;
  }

  /** Never resolves. Rejects with a worker's error when every worker has failed to start and none has started since. */
  get failed(): Promise<never> {
    return this.#failed.promise;
  }

  /** Returns whether every worker's event loop answers pings. */
  get answers(): boolean {
    return this.#workers.every((worker) => worker.answers);
  }

  get workers(): readonly WorkerSummary[] {
    return this.#workers.map(({ index, id, pid = null, state, ready, starts, failure }) => ({
      ...{ worker: index, id, pid, state, ready, starts },
      failure: failure ? { code: failure.code, message: failure.message } : null,
    }));
  }

  /** Passes a checked file on. Resolves when all workers have applied it, after `RELOAD_MS` at the latest. */
  async reload(text: string): Promise<void> {
    this.#reloaded = text;
    await Promise.race([
      Promise.all(this.#workers.map((worker) => worker.reload(text))),
      new Promise<void>((resolve) => void this.#options.clock.after(RELOAD_MS, resolve)),
    ]);
  }

  /** Resolves when all workers have ended, each when its calls have. */
  drain(): Promise<void> {
    return this.#end('drain');
  }

  /** Ends all workers now; resolves when they have. */
  quit(): Promise<void> {
    this.#killer ??= this.#options.clock.after(CLOSING_MS, () => {
      for (const worker of this.#workers) worker.kill();
    });
    return this.#end('quit');
  }

  /**
   * Returns ready when at least one worker is. The kernel gives packets to the workers that listen, and each takes any
   * packet.
   */
  async ready(): Promise<Readiness> {
    const answers = await this.askAll({ method: 'GET', url: '/readyz' });
    const told = answers.map(({ worker, answer }) => ({
      id: worker.id,
      state: worker.state,
      readiness: answer ? (JSON.parse(answer.body) as Readiness) : undefined,
    }));
    if (told.some(({ readiness }) => readiness?.ready)) return { ready: true, reasons: [] };
    const reasons = told.flatMap(({ id, state, readiness }) =>
      (readiness?.reasons ?? [state === 'waiting' ? 'the worker has ended and is started again' : 'no answer']).map(
        (reason) => `${id}: ${reason}`,
      ),
    );
    return { ready: false, reasons };
  }

  /** Sends a request to every worker for data in its memory. The answer is null when a worker cannot answer. */
  askAll(question: Question): Promise<{ readonly worker: WorkerSummary; readonly answer: Answer | null }[]> {
    const summaries = this.workers;
    return Promise.all(
      this.#workers.map(async (worker, index) => ({
        worker: summaries[index]!,
        answer: await worker.ask(question, QUICK_MS),
      })),
    );
  }

  /**
   * Sends a request to the worker of that number, or to the worker most likely to answer. Returns null when none
   * answers. Without a number an unanswered GET goes to the next worker.
   */
  async askOne(question: Question, index?: number): Promise<Answer | null> {
    const rank = (worker: WorkerProcess): number => (worker.ready ? 2 : worker.state === 'started' ? 1 : 0);
    const inOrder =
      index === undefined
        ? [...this.#workers].sort((a, b) => rank(b) - rank(a) || a.index - b.index)
        : this.#workers.slice(index, index + 1);
    for (const worker of inOrder) {
      if (worker.pid === undefined) continue;
      const answer = await worker.ask(question, PATIENCE_MS);
      if (answer || question.method !== 'GET') return answer;
    }
    return null;
  }

  #end(how: 'drain' | 'quit'): Promise<void> {
    this.#ending = true;
    for (const worker of this.#workers) worker.end(how);
    this.#check();
    return this.#ended.promise;
  }

  #check(): void {
    const workers = this.#workers;
    if (this.#ending) {
      if (!workers.every(({ state }) => state === 'ended')) return;
      this.#pinger?.cancel();
      this.#killer?.cancel();
      this.#ended.resolve();
      return;
    }
    if (workers.every(({ failure }) => failure !== undefined)) this.#failed.reject(workers[0]!.failure);
    else if (workers.every(({ state, failure }) => state === 'started' || failure)) this.#settled.resolve();
  }
}
