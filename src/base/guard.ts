// The last thing between a fault of ours and the end of the process: where packets enter, and where timers work on them, one `try` hands what was
// thrown to the guard, and the member goes on with the next. Nothing of it costs a packet that throws nothing.
import type { Clock } from './clock.ts';

/** Where what was worked on had come from. */
export type PacketEntrance = 'datagram' | 'connection' | 'relay' | 'server' | 'timer' | 'records';

export interface Guard {
  /** `error` was thrown while `bytes[start..end)`, if any, was worked on, which goes no further. Never throws. */
  caught(entrance: PacketEntrance, error: unknown, bytes?: Buffer, start?: number, end?: number): void;
}

/** For what is put together without a guard: what is thrown goes on to the caller. */
export const NO_GUARD: Guard = {
  caught(_entrance, error) {
    throw error;
  },
};

/** The clock, for rooms whose timers work on packets. */
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
