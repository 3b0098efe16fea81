// The clock of the host, where it does more than Node.js.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { systemClock } from '../../../src/base/clock.ts';

test('a timer that is due at once fires without the next packet or timer of an idle process', async () => {
  const controller = new AbortController();
  let turns = 0;
  const many = new Promise<string>((resolve) => {
    const next = (): void => {
      if (++turns === 1000) resolve('at once');
      else systemClock.after(0, next);
    };
    next();
  });
  const late = wait(10_000, 'late', { signal: controller.signal });
  const first = await Promise.race([many, late]);
  controller.abort();
  await late.catch(() => {});
  assert.equal(first, 'at once');
});

test('a timer that is due at once can be cancelled', async () => {
  let ran = false;
  systemClock
    .after(0, () => {
      ran = true;
    })
    .cancel();
  await wait(5);
  assert.equal(ran, false);
});
