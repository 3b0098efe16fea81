// The fence alone: when it goes up, and the confirmations that lift it.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { pino } from 'pino';
import { Fence } from '../../../src/node/fence.ts';
import { FakeClock } from '../../fake/clock.ts';
import { Ice, IcyClock } from '../../fake/ice.ts';

const ASLEEP_MS = 3000;

/** Returns a fence whose process can stand still, and its requests to the store. */
function fenced(witnesses: 'seated' | 'newer' | 'too few' = 'too few') {
  const clock = new FakeClock();
  const ice = new Ice();
  const asked: PromiseWithResolvers<boolean>[] = [];
  const said = { witnesses, outcast: false };
  const fence = new Fence({
    clock: new IcyClock(clock, ice),
    log: pino({ level: 'silent' }),
    confirm: () => {
      const question = Promise.withResolvers<boolean>();
      asked.push(question);
      return question.promise;
    },
    evicted: () => said.outcast,
    witnesses: () => said.witnesses,
  });
  fence.start();
  return {
    ...{ clock, fence, asked, said },
    sleep: (ms = ASLEEP_MS) => {
      ice.freeze();
      clock.advance(ms);
    },
    wake: () => ice.thaw(),
    /** Resolves the last request to the store. */
    answer: async (seated: boolean) => {
      asked.at(-1)!.resolve(seated);
      await turn();
    },
    /** Rejects the last request to the store. */
    fail: async () => {
      asked.at(-1)!.reject(new Error('away'));
      await turn();
    },
  };
}

describe('the fence', () => {
  test('goes up after 0.75 s without a turn of the clock, before any timer has run', () => {
    const { clock, fence, sleep } = fenced();
    clock.advance(10_000);
    assert.equal(fence.up, false);
    sleep(749);
    assert.equal(fence.up, false);
    clock.advance(1);
    assert.equal(fence.up, true);
  });

  test('is up while peers refuse this member by a newer view, though it never stood still', () => {
    const { clock, fence, said } = fenced();
    clock.advance(1000);
    said.outcast = true;
    assert.deepEqual([fence.up, fence.stoodStill], [true, false]);
    said.outcast = false;
    assert.equal(fence.up, false);
  });

  test('is lifted by the word of the store, and goes up again the next time', async () => {
    const { clock, fence, asked, sleep, wake, answer } = fenced();
    for (let time = 1; time <= 2; time++) {
      sleep();
      wake();
      assert.equal(fence.up, true);
      await answer(true);
      assert.deepEqual([fence.up, asked.length], [false, time]);
      clock.advance(5000);
      assert.equal(fence.up, false);
    }
  });

  test('stays up without a seat, whatever others report, until the member has joined again', async () => {
    const { clock, fence, said, sleep, wake, answer } = fenced();
    sleep();
    wake();
    await answer(false);
    for (const witnesses of ['seated', 'too few'] as const) {
      said.witnesses = witnesses;
      await clock.pass(10_000, 250);
      assert.equal(fence.up, true);
    }
    fence.rejoined();
    assert.equal(fence.up, false);
    // The lost seat has no effect on the next time.
    said.witnesses = 'seated';
    sleep();
    wake();
    await clock.pass(1250, 250);
    assert.equal(fence.up, false);
  });

  test('reads the store again after a failed first read, because a connection may have died meanwhile', async () => {
    const { clock, fence, asked, sleep, wake, answer, fail } = fenced();
    sleep();
    wake();
    await fail();
    await clock.pass(250, 250);
    assert.equal(asked.length, 2);
    await clock.pass(250, 250);
    assert.equal(asked.length, 2, 'one question at a time');
    await answer(false);
    await clock.pass(10_000, 250);
    assert.equal(fence.up, true);
  });

  test('is not lifted by an answer from before another sleep, whichever is noticed first', async () => {
    const { clock, fence, asked, sleep, wake, answer } = fenced();
    sleep();
    wake();
    sleep();
    wake();
    await answer(true);
    assert.equal(fence.up, true);
    assert.equal(asked.length, 2);
    sleep();
    await answer(true);
    fence.rejoined();
    assert.equal(fence.up, true);
    wake();
    await turn();
    assert.deepEqual([fence.up, asked.length], [true, 3]);
    await answer(true);
    assert.equal(fence.up, false);
    clock.advance(1000);
    assert.equal(fence.up, false);
  });

  test('is lifted by a majority after a second without the store, and by the last view after five', async () => {
    const { clock, fence, said, sleep, wake } = fenced();
    sleep();
    wake();
    said.witnesses = 'seated';
    await clock.pass(750, 250);
    assert.equal(fence.up, true);
    await clock.pass(500, 250);
    assert.equal(fence.up, false);
    said.witnesses = 'too few';
    sleep();
    wake();
    await clock.pass(4500, 250);
    assert.equal(fence.up, true);
    await clock.pass(750, 250);
    assert.equal(fence.up, false);
    said.witnesses = 'newer';
    sleep();
    wake();
    await clock.pass(30_000, 250);
    assert.equal(fence.up, true);
  });

  test('stays down in a stopped process', () => {
    const { fence, sleep } = fenced();
    fence.stop();
    sleep();
    assert.equal(fence.up, false);
  });
});
