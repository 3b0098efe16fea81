// What the host and its workers tell each other, over the channel that comes with a forked process.
import type { Answer, Question } from '../../admin/admin-server.ts';
import type { ErrorCode } from '../../base/errors.ts';

/** From the host to a worker. */
export type HostMessage =
  /** The first. `text`: the configuration file as it was when the host started; `reloaded`: as it was read last since, so that a worker that comes later is as its neighbours. */
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
  /** It has its seat, and its listeners are open. */
  | { readonly kind: 'started' }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string }
  | { readonly kind: 'reloaded' }
  /** To a ping. */
  | { readonly kind: 'pong'; readonly ready: boolean }
  /** null: it could not say. */
  | { readonly kind: 'answer'; readonly id: number; readonly answer: Answer | null };
