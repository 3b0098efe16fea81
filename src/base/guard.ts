// Catches faults of this program before they end the process. Each entrance of packets, and each timer that works on
// them, has one `try`. It passes the exception to the guard, and the member continues with the next packet. A packet
// without an exception costs nothing extra.
import type { Clock } from './clock.ts';

/** Source of the work that failed. */
export type PacketEntrance = 'datagram' | 'connection' | 'relay' | 'server' | 'media' | 'timer' | 'records';

export interface Guard {
  /** Records `error`, thrown during the work on `bytes[start..end)`, if any. That packet ends there. Never throws. */
  caught(entrance: PacketEntrance, error: unknown, bytes?: Buffer, start?: number, end?: number): void;
}

/** For parts built without a guard: the exception propagates to the caller. */
export const NO_GUARD: Guard = {
  caught(_entrance, error) {
    throw error;
  },
};

/** Returns the clock for rooms with timers that work on packets: the guard catches what they throw. */
export function guardedClock(clock: Clock, guard: Guard): Clock {
  const guarded = (run: () => void) => (): void => {
    try {
      run();
    } catch (error) {
      guard.caught('timer', error);
    }
  };
  return {
    now: () => clock.now(),
    wall: () => clock.wall(),
    after: (ms, run) => clock.after(ms, guarded(run)),
    every: (ms, run) => clock.every(ms, guarded(run)),
  };
}
