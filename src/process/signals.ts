// Handles the signals that end a command in order.

/**
 * Resolves at the next SIGTERM or SIGINT, which then does not end the process. Keeps the process alive until then, or
 * until `unneeded` is aborted. After an abort it never resolves.
 */
export function firstSignal(unneeded?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const alive = setInterval(() => {}, 3_600_000);
    const forget = (): void => {
      clearInterval(alive);
      process.off('SIGTERM', done);
      process.off('SIGINT', done);
    };
    const done = (): void => {
      forget();
      resolve();
    };
    process.on('SIGTERM', done);
    process.on('SIGINT', done);
    unneeded?.addEventListener('abort', forget, { once: true });
  });
}
