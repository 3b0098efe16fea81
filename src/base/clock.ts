// Time as a parameter: a test's farm uses a clock that the test advances itself.

/** A pending call; `cancel` is idempotent. */
export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Monotonic milliseconds. Every deadline is computed from this, never from the wall clock. */
  now(): number;
  /** Milliseconds since 1970; for log lines and records that people read, never for a deadline. */
  wall(): number;
  /**
   * Calls `run` once after `ms` milliseconds; with 0, after everything else that waits in this turn of the event loop.
   * Does not keep the process alive, except for that turn with 0.
   */
  after(ms: number, run: () => void): Timer;
  /** Calls `run` every `ms` milliseconds. Does not keep the process alive. */
  every(ms: number, run: () => void): Timer;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  after(ms, run) {
    if (ms === 0) {
      // A timer of 0 ms would wait for 1 ms. No unref: the loop would sleep until the next packet or timer before the
      // call.
      const handle = setImmediate(run);
      return { cancel: () => clearImmediate(handle) };
    }
    const handle = setTimeout(run, ms).unref();
    return { cancel: () => clearTimeout(handle) };
  },
  every(ms, run) {
    const handle = setInterval(run, ms).unref();
    return { cancel: () => clearInterval(handle) };
  },
};
