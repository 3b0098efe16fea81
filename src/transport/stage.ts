// The stages through which the octets of an accepted connection pass until they are messages:
//
//    socket -> [PROXY header] -> [stages of the listener: TLS, WebSocket] -> framer -> messages
//
// Each stage takes octets and passes octets on. The connection counts the octets that a stage holds, and limits their
// number and time.
import type { CloseReason } from './close-reason.ts';

/** The way out of a stage. Both calls have no effect once the connection takes no more octets. */
export interface StageExit {
  /** Passes octets to the next stage: a part of the chunk, or a buffer of the stage's own. They are not copied. */
  pass(octets: Buffer): void;
  /** Counts the received octets as garbage and closes the connection for `reason`. The stages take no more octets. */
  fail(reason: CloseReason): void;
}

export interface Stage {
  /** Octets held until more arrive. They count for limits.bufferedBytes. Must be 0 when nothing is held. */
  readonly held: number;
  /** Takes the next octets, which belong to the stage. A stage that has nothing left to do must pass them on. */
  take(chunk: Buffer): void;
  /**
   * Called once a second while the connection takes octets; `openMs`: milliseconds since it was opened. A stage without
   * this method may hold octets for limits.halfMessageMs after it last passed some on.
   */
  expire?(openMs: number): void;
  /** Called once, when the connection takes no more messages. */
  ended?(reason: CloseReason): void;
}

/** Makes the stage of one connection. */
export type MakeStage = (exit: StageExit) => Stage;
