// Waiting for events in real time, with a limit. The time limit of a test does not end the test's own loops: without
// this limit the process of the test file would never end.
import { setTimeout as wait } from 'node:timers/promises';

/** Polls until `holds` is true. Throws after `seconds`, with the condition in the message. */
export async function until(holds: () => boolean | Promise<boolean>, seconds = 30): Promise<void> {
  const end = performance.now() + seconds * 1000;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`did not come about in ${seconds} s: ${holds}`);
    await wait(5);
  }
}
