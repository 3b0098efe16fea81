// Waits for a promise, but no longer than a given time.
import type { Clock } from './clock.ts';

/** Result of `within` when the time is over. */
export const LATE = Symbol('late');

/**
 * Returns the value of `promise`, or LATE after `ms` milliseconds. Rejects as `promise` does. A rejection after LATE
 * has no effect.
 */
export async function within<T>(clock: Clock, ms: number, promise: Promise<T>): Promise<T | typeof LATE> {
  const late = Promise.withResolvers<typeof LATE>();
  const timer = clock.after(ms, () => late.resolve(LATE));
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    timer.cancel();
  }
}
