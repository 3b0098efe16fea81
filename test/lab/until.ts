// Waiting for another process, such as its socket or its readiness.
import { setTimeout as wait } from 'node:timers/promises';

/** Polls until `ask` returns true; throws `explain()` after `seconds`. */
export async function until(ask: () => Promise<boolean> | boolean, explain: () => string, seconds = 60): Promise<void> {
  const end = performance.now() + seconds * 1000;
  while (!(await ask())) {
    if (performance.now() > end) throw new Error(explain());
    await wait(100);
  }
}
