// The parts of a node in the order in which they start. They stop in an order of their own.
import type { Logger } from 'pino';

/** One step. */
export interface Step {
  /** For the log. */
  readonly name: string;
  run(): unknown;
}

/**
 * Runs the steps one after the other, and ends early once `stopping()`. Resolves to true when all have run. Rejects
 * with the error of a step; later steps have not run.
 */
export async function runInOrder(steps: readonly Step[], stopping: () => boolean): Promise<boolean> {
  for (const { run } of steps) {
    await run();
    if (stopping()) return false;
  }
  return true;
}

/** Runs all steps one after the other, whatever becomes of each. Never rejects. */
export async function runAll(steps: readonly Step[], log: Logger): Promise<void> {
  for (const { name, run } of steps)
    try {
      await run();
    } catch (error) {
      log.warn({ err: error, step: name }, 'while stopping');
    }
}
