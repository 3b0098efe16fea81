// Worker processes that a test controls: it records the host's messages and decides about answers and exits.

import type { HostMessage, WorkerMessage } from '../../../../src/process/workers/messages.ts';
import type { Child, ChildHandlers } from '../../../../src/process/workers/worker-process.ts';

export class FakeChild implements Child {
  readonly index: number;
  readonly pid: number;
  readonly told: HostMessage[] = [];
  readonly signals: string[] = [];
  /** True: it answers pings and requests. */
  awake = true;
  ready = true;
  /** Bodies by path; other paths cannot be answered. */
  pages: Record<string, string> = {};
  readonly #handlers: ChildHandlers;
  #over = false;

  constructor(index: number, pid: number, handlers: ChildHandlers) {
    this.index = index;
    this.pid = pid;
    this.#handlers = handlers;
  }

  send(message: HostMessage): void {
    this.told.push(message);
    if (this.#over || !this.awake) return;
    if (message.kind === 'ping') this.say({ kind: 'pong', ready: this.ready });
    if (message.kind === 'ask') {
      const body = this.pages[message.question.url];
      const answer = body === undefined ? null : { status: 200, type: 'application/json', body };
      queueMicrotask(() => this.say({ kind: 'answer', id: message.id, answer }));
    }
  }

  kill(signal: NodeJS.Signals): void {
    this.signals.push(signal);
    if (signal === 'SIGKILL') this.end(signal);
  }

  say(message: WorkerMessage): void {
    if (!this.#over) this.#handlers.onMessage(message);
  }

  end(how = 'exit code 0'): void {
    if (this.#over) return;
    this.#over = true;
    this.#handlers.onEnd(how);
  }

  /** Kinds of the received messages, without pings. */
  get orders(): string[] {
    return this.told.map(({ kind }) => kind).filter((kind) => kind !== 'ping');
  }
}
