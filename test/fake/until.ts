// Waiting for what comes about in real time. It has an end, because the time limit of a test ends the test but not its waiting: that went on, and the
// process of the test file never ended.
import { setTimeout as wait } from 'node:timers/promises';

/** Asks until the answer is true; throws after `seconds`, with the question in the text. */
export async function until(holds: () => boolean | Promise<boolean>, seconds = 30): Promise<void> {
  const end = performance.now() + seconds * 1000;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`did not come about in ${seconds} s: ${holds}`);
    await wait(5);
  }
}
