// Starts the thread of the relay and sends it messages.
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { RelayMessage, ThreadData, ThreadMessage } from './relay-messages.ts';

export interface ThreadHandle {
  post(message: RelayMessage): void;
  /** Resolves when the thread has ended. */
  join(): Promise<void>;
}

interface ThreadHandlers {
  /** A packet or a message made the program throw. The thread goes on. */
  onFault(error: unknown): void;
  /** The thread has ended, whether it was stopped or not. */
  onEnd(error: Error): void;
}

export type StartThread = (data: ThreadData, handlers: ThreadHandlers) => Promise<ThreadHandle>;

/** Resolves when the thread receives messages. Rejects when it fails before. */
export const startRelayThread: StartThread = (data, handlers) => {
  const file = new URL(`relay-thread${extname(import.meta.filename)}`, import.meta.url);
  const worker = new Worker(file, { workerData: data, name: 'media relay' });
  const { promise: started, resolve, reject } = Promise.withResolvers<ThreadHandle>();
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  let failure = new Error('the thread has ended');
  worker.on('message', (message: ThreadMessage) => {
    if (message.kind === 'fault') {
      handlers.onFault(message.error);
      return;
    }
    // The listeners of a running member keep the process alive, not this thread.
    worker.unref();
    resolve({
      post: (each) => worker.postMessage(each),
      join() {
        worker.ref();
        return ended;
      },
    });
  });
  worker.once('error', (error) => {
    failure = error instanceof Error ? error : new Error(String(error));
  });
  worker.once('exit', () => {
    reject(failure);
    end();
    handlers.onEnd(failure);
  });
  return started;
};
