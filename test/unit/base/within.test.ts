import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LATE, within } from '../../../src/base/within.ts';
import { FakeClock } from '../../fake/clock.ts';

test('a promise that resolves in time gives its value, and leaves no timer', async () => {
  const clock = new FakeClock();
  assert.equal(await within(clock, 1000, Promise.resolve('value')), 'value');
  assert.equal(clock.timers, 0);
});

test('a promise that takes longer gives LATE at that time', async () => {
  const clock = new FakeClock();
  const slow = Promise.withResolvers<string>();
  const result = within(clock, 1000, slow.promise);
  clock.advance(999);
  assert.equal(clock.timers, 1);
  clock.advance(1);
  assert.equal(await result, LATE);
  slow.reject(new Error('too late to matter'));
});

test('a rejection in time is passed on, and leaves no timer', async () => {
  const clock = new FakeClock();
  await assert.rejects(within(clock, 1000, Promise.reject(new Error('refused'))), /refused/);
  assert.equal(clock.timers, 0);
});
