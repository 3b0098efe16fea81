// Runs one worker: a member that takes orders from the process that forked it, and ends with that process.
import type { Answer, Question } from '../../admin/admin-server.ts';
import { SipfarmError } from '../../base/errors.ts';
import { type Environment, type Loaded, parseConfig } from '../../config/load.ts';
import { workerConfig } from '../../config/workers.ts';
import { type Member, makeMember } from '../member.ts';
import type { HostMessage, WorkerMessage } from './messages.ts';

type Start = Extract<HostMessage, { readonly kind: 'start' }>;

/** Channel to the host. */
export interface HostChannel {
  /** Resolves when the message has left, or cannot leave any more. */
  send(message: WorkerMessage): Promise<void>;
  onMessage(take: (message: HostMessage) => void): void;
  /** Calls `run` when the host is gone. */
  onLost(run: () => void): void;
}

/** Returns the channel of this process. Throws SF_USAGE when the process was not forked. */
export function processChannel(): HostChannel {
  if (!process.send) throw new SipfarmError('SF_USAGE', 'a worker is started by `sipfarm run`, with workers above 1');
  return {
    send: (message) =>
      new Promise((resolve) => {
        if (process.connected) process.send!(message, undefined, undefined, () => resolve());
        else resolve();
      }),
    onMessage: (take) => void process.on('message', (message) => take(message as HostMessage)),
    onLost: (run) => void process.once('disconnect', run),
  };
}

class Worker {
  readonly #channel: HostChannel;
  readonly #version: string;
  readonly #environment: Environment;
  readonly #start = Promise.withResolvers<Start | undefined>();
  /** Resolved when the worker takes no new calls. */
  readonly #drain = Promise.withResolvers<void>();
  /** Resolved when the worker does not wait for its calls. */
  readonly #quit = Promise.withResolvers<void>();
  #member: Member | undefined;
  #file = '';
  #index = 0;
  #terminations = 0;

  constructor(channel: HostChannel, version: string, environment: Environment) {
    this.#channel = channel;
    this.#version = version;
    this.#environment = environment;
    channel.onMessage((message) => this.#take(message));
    channel.onLost(() => this.#end());
  }

  /** Handles a SIGTERM to this worker alone: it drains, and its host starts it again. */
  terminate(): void {
    if (++this.#terminations > 1) this.#end();
    else this.#drain.resolve();
  }

  /** Resolves when the worker has stopped: false when it could not start. */
  async run(): Promise<boolean> {
    const start = await this.#start.promise;
    if (!start) return true;
    try {
      this.#file = start.file;
      this.#index = start.index;
      this.#member = makeMember(this.#load(start.text), this.#version);
      const { node, log } = this.#member;
      const { reloaded } = start;
      if (reloaded !== null) this.#reload(reloaded);
      const stop = this.#drain.promise;
      await Promise.race([node.start().then(() => this.#channel.send({ kind: 'started' })), stop]);
      await stop;
      log.info('stopping: no new calls from now on');
      await Promise.race([node.drain(), this.#quit.promise]);
    } catch (error) {
      await this.#fail(error);
      return false;
    } finally {
      await this.#member?.close();
    }
    return true;
  }

  #load(text: string): Loaded {
    const { config } = parseConfig(this.#file, text, this.#environment);
    // The host has logged the warnings.
    return { config: workerConfig(config, this.#index), warnings: [] };
  }

  #reload(text: string): void {
    this.#member?.reload(() => this.#load(text).config);
  }

  async #fail(error: unknown): Promise<void> {
    const { code, message } =
      error instanceof SipfarmError
        ? error
        : {
            code: 'SF_INTERNAL' as const,
            message: error instanceof Error ? (error.stack ?? error.message) : String(error),
          };
    await this.#channel.send({ kind: 'failed', code, message });
  }

  #end(): void {
    this.#start.resolve(undefined);
    this.#drain.resolve();
    this.#quit.resolve();
  }

  #take(message: HostMessage): void {
    switch (message.kind) {
      case 'start':
        this.#start.resolve(message);
        break;
      case 'reload':
        this.#reload(message.text);
        void this.#channel.send({ kind: 'reloaded' });
        break;
      case 'drain':
        this.#drain.resolve();
        break;
      case 'quit':
        this.#end();
        break;
      case 'ping':
        void this.#channel.send({ kind: 'pong', ready: this.#member?.node.api.ready().ready ?? false });
        break;
      case 'ask':
        void this.#answer(message.question).then((answer) =>
          this.#channel.send({ kind: 'answer', id: message.id, answer }),
        );
    }
  }

  /** Resolves to null when this worker cannot answer; the host then tries another. */
  async #answer(question: Question): Promise<Answer | null> {
    return this.#member?.node.ask(question).catch(() => null) ?? null;
  }
}

/**
 * Runs a worker until its host ends it, or is gone. Resolves to false when it could not start; the host then has the
 * reason.
 */
export async function runWorker(channel: HostChannel, version: string, environment: Environment): Promise<boolean> {
  const worker = new Worker(channel, version, environment);
  const terminate = (): void => worker.terminate();
  // A terminal sends these signals to host and workers. The host decides what follows.
  const ignore = (): void => {};
  process.on('SIGTERM', terminate).on('SIGINT', ignore).on('SIGHUP', ignore);
  try {
    return await worker.run();
  } finally {
    process.off('SIGTERM', terminate).off('SIGINT', ignore).off('SIGHUP', ignore);
  }
}
