// Handles the signals that end a command in order.

/** Resolves at the next SIGTERM or SIGINT, which then does not end the process. Keeps the process alive. */
export function firstSignal(): Promise<void> {
  return new Promise((resolve) => {
    const alive = setInterval(() => {}, 3_600_000);
    const done = (): void => {
      clearInterval(alive);
      process.off('SIGTERM', done);
      process.off('SIGINT', done);
      resolve();
    };
    process.on('SIGTERM', done);
    process.on('SIGINT', done);
  });
}
