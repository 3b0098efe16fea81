// Defines the messages between the host and its workers, over the channel of a forked process.
import type { Answer, Question } from '../../admin/admin-server.ts';
import type { ErrorCode } from '../../base/errors.ts';

/** From the host to a worker. */
export type HostMessage =
  /**
   * First message. `text`: the configuration file as the host read it at its start. `reloaded`: the file as last
   * reloaded, so that a worker that starts later has the same settings as the others.
   */
  | {
      readonly kind: 'start';
      readonly index: number;
      readonly file: string;
      readonly text: string;
      readonly reloaded: string | null;
    }
  | { readonly kind: 'reload'; readonly text: string }
  | { readonly kind: 'drain' }
  /** Stop at once. */
  | { readonly kind: 'quit' }
  | { readonly kind: 'ping' }
  | { readonly kind: 'ask'; readonly id: number; readonly question: Question };

/** From a worker to the host. */
export type WorkerMessage =
  /** The worker has its seat, and its listeners are open. */
  | { readonly kind: 'started' }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string }
  | { readonly kind: 'reloaded' }
  /** Answer to a ping. */
  | { readonly kind: 'pong'; readonly ready: boolean }
  /** null: the worker could not answer. */
  | { readonly kind: 'answer'; readonly id: number; readonly answer: Answer | null };
