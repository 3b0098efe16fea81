// Manages one worker process for its host: starts it, watches it, sends it requests, and restarts it after its death.
import type { Logger } from 'pino';
import type { Answer, Question } from '../../admin/admin-server.ts';
import type { Clock, Timer } from '../../base/clock.ts';
import { SipfarmError } from '../../base/errors.ts';
import { LATE, within } from '../../base/within.ts';
import type { HostMessage, WorkerMessage } from './messages.ts';

/** A forked process. */
export interface Child {
  readonly pid: number;
  /** Never throws. A message that cannot be sent is lost, and `onEnd` follows. */
  send(message: HostMessage): void;
  kill(signal: NodeJS.Signals): void;
}

export interface ChildHandlers {
  onMessage(message: WorkerMessage): void;
  /** Called once. `how`: the exit code or signal, in words. */
  onEnd(how: string): void;
}

export interface WorkerProcessOptions {
  readonly index: number;
  /** Member id of the worker. */
  readonly id: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly fork: (index: number, handlers: ChildHandlers) => Child;
  /** Returns the first message: the file as the host read it first, and as it was last reloaded. */
  readonly startMessage: (index: number) => HostMessage;
  /** Called when the worker has started, failed or ended. */
  readonly onChange: () => void;
  readonly onStart: () => void;
}

/** `waiting`: dead, to be started again. `ended`: dead for good. */
export type WorkerState = 'starting' | 'started' | 'waiting' | 'ended';

/** Milliseconds of life after which a dead worker is restarted at once. */
const STABLE_MS = 30_000;
/** Milliseconds before the restart after a first early death; doubled with each further one. */
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;
export const PING_MS = 1000;
/**
 * Unanswered pings after which a worker counts as hung: nothing reads the packets that its sockets take. Less than the
 * unit's watchdog (30 s).
 */
const MOST_UNANSWERED = 15;
/**
 * The same for a process that has not yet sent a message. It loads the program, perhaps at the same time as many
 * others.
 */
const MOST_AT_BIRTH = 60;

export class WorkerProcess {
  readonly index: number;
  readonly id: string;
  readonly #options: WorkerProcessOptions;
  #state: WorkerState = 'waiting';
  #child: Child | undefined;
  /** Value in its last answer to a ping. */
  ready = false;
  /** Reason why it could not start; undefined once it has started again. */
  failure: SipfarmError | undefined;
  /** Starts so far. */
  starts = 0;
  #bornAt = 0;
  /**
   * Pings since its last message. Counting pings, not time, spares workers of a host that was itself stopped for a
   * while.
   */
  #unanswered = 0;
  #heard = false;
  /** Consecutive deaths, each soon after the start. */
  #earlyDeaths = 0;
  #restart: Timer | undefined;
  #mayRestart = true;
  readonly #asked = new Map<number, (answer: Answer | null) => void>();
  #lastAsked = 0;
  #reloaded: (() => void) | undefined;

  constructor(options: WorkerProcessOptions) {
    this.#options = options;
    this.index = options.index;
    this.id = options.id;
  }

  get state(): WorkerState {
    return this.#state;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Returns whether its event loop has answered lately; true when there is no process. */
  get answers(): boolean {
    return !this.#child || this.#unanswered < (this.#heard ? MOST_UNANSWERED : MOST_AT_BIRTH);
  }

  start(): void {
    const { clock, fork, startMessage, onStart } = this.#options;
    this.#state = 'starting';
    this.ready = false;
    this.starts++;
    onStart();
    this.#bornAt = clock.now();
    this.#unanswered = 0;
    this.#heard = false;
    this.#child = fork(this.index, {
      onMessage: (message) => this.#take(message),
      onEnd: (how) => this.#ended(how),
    });
    this.#child.send(startMessage(this.index));
  }

  /** Sends a ping, or kills the worker if it hangs. Must be called every PING_MS. */
  ping(): void {
    if (!this.#child) return;
    if (this.answers) {
      this.#unanswered++;
      this.#child.send({ kind: 'ping' });
    } else {
      this.#options.log.error({ worker: this.index, pid: this.pid }, 'a worker hangs: it is killed');
      this.#child.kill('SIGKILL');
    }
  }

  /** Sends the new text of the file. Resolves when the worker has applied it, or there is no process to apply it. */
  reload(text: string): Promise<void> {
    if (!this.#child) return Promise.resolve();
    this.#reloaded?.();
    return new Promise((resolve) => {
      this.#reloaded = resolve;
      this.#child?.send({ kind: 'reload', text });
    });
  }

  /** Ends the worker without restart: `drain` when its calls have ended, `quit` at once. */
  end(how: 'drain' | 'quit'): void {
    this.#mayRestart = false;
    this.#restart?.cancel();
    if (this.#child) this.#child.send({ kind: how });
    else this.#enter('ended');
  }

  /** Kills the process, whatever its state. */
  kill(): void {
    this.#child?.kill('SIGKILL');
  }

  /** Sends a request to the worker. Resolves to null when it cannot answer, or not within `patienceMs`. */
  async ask(question: Question, patienceMs: number): Promise<Answer | null> {
    const child = this.#child;
    if (!child) return null;
    const id = ++this.#lastAsked;
    const answered = Promise.withResolvers<Answer | null>();
    this.#asked.set(id, answered.resolve);
    child.send({ kind: 'ask', id, question });
    const answer = await within(this.#options.clock, patienceMs, answered.promise);
    this.#asked.delete(id);
    return answer === LATE ? null : answer;
  }

  #take(message: WorkerMessage): void {
    this.#heard = true;
    this.#unanswered = 0;
    switch (message.kind) {
      case 'started':
        this.failure = undefined;
        this.#enter('started');
        break;
      case 'failed':
        this.failure = new SipfarmError(message.code, message.message);
        break;
      case 'reloaded':
        this.#reloaded?.();
        break;
      case 'pong':
        this.ready = message.ready;
        break;
      case 'answer':
        this.#asked.get(message.id)?.(message.answer);
    }
  }

  #ended(how: string): void {
    const { clock, log } = this.#options;
    const before = this.#state;
    const pid = this.pid;
    this.#child = undefined;
    this.ready = false;
    this.#reloaded?.();
    for (const answer of this.#asked.values()) answer(null);
    if (!this.#mayRestart) {
      this.#enter('ended');
      return;
    }
    if (before === 'starting')
      this.failure ??= new SipfarmError('SF_WORKER_DIED', `worker ${this.id} ended before it had started: ${how}`);
    this.#earlyDeaths = clock.now() - this.#bornAt < STABLE_MS ? this.#earlyDeaths + 1 : 0;
    const pause =
      this.#earlyDeaths === 0 ? 0 : Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (this.#earlyDeaths - 1));
    const { code, message } = this.failure ?? {};
    log.error(
      { worker: this.index, pid, how, ...(code && { err: { code, message } }), againInMs: pause },
      before === 'starting' ? 'a worker could not start' : 'a worker has ended; it is started again',
    );
    this.#restart = clock.after(pause, () => this.start());
    this.#enter('waiting');
  }

  #enter(state: WorkerState): void {
    this.#state = state;
    this.#options.onChange();
  }
}
