// Waiting for something outside this process, such as another program's socket or its readiness.
import { setTimeout as wait } from 'node:timers/promises';

/** Asks again and again until the answer is true; throws `explain()` after `seconds`. */
export async function until(ask: () => Promise<boolean> | boolean, explain: () => string, seconds = 20): Promise<void> {
  const end = performance.now() + seconds * 1000;
  while (!(await ask())) {
    if (performance.now() > end) throw new Error(explain());
    await wait(100);
  }
}
