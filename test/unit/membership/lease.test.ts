// The lease by the member's own clock.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SipfarmError } from '../../../src/base/errors.ts';
import { type LeaseEnd, LeaseKeeper } from '../../../src/membership/lease.ts';
import { FakeClock } from '../../fake/clock.ts';

const SECONDS = 5;
/** Four fifths of the lease. */
const DEADLINE_MS = 4000;

interface Asked {
  readonly at: number;
  answer(): void;
  refuse(code: 'SF_STORE_CONFLICT' | 'SF_STORE_UNREACHABLE'): void;
}

/** Returns a keeper whose lease the test answers. */
function keeper(clock: FakeClock) {
  const asked: Asked[] = [];
  const ends: LeaseEnd[] = [];
  let kept = 0;
  const start = clock.now();
  const keeper = new LeaseKeeper({
    clock,
    seconds: SECONDS,
    sentAt: start,
    lease: {
      keepAlive: () =>
        new Promise((resolve, reject) => {
          asked.push({
            at: clock.now() - start,
            answer: resolve,
            refuse: (code) => reject(new SipfarmError(code, 'refused by the test')),
          });
        }),
      revoke: async () => {},
    },
    onKept: () => kept++,
    onEnd: (end) => ends.push(end),
  });
  return { keeper, asked, ends, kept: () => kept };
}

describe('the keeper of a lease', () => {
  it('renews the lease every third of its time', async () => {
    const clock = new FakeClock();
    const { keeper: kept, asked, ends } = keeper(clock);
    for (let third = 1; third <= 9; third++) {
      await clock.pass(5000 / 3 + 1, 1000);
      assert.equal(asked.length, third);
      asked.at(-1)!.answer();
      await clock.pass(1, 1);
    }
    assert.deepEqual(ends, []);
    assert.equal(kept.alive, true);
    kept.stop();
    assert.equal(clock.timers, 0);
  });

  it('counts from the sending of a keepalive and not from its answer', async () => {
    const clock = new FakeClock();
    const { asked, ends, keeper: kept } = keeper(clock);
    await clock.pass(3900, 100);
    assert.equal(asked.length, 1);
    asked[0]!.answer();
    await clock.pass(1, 1);
    const left = asked[0]!.at + DEADLINE_MS - 3901;
    await clock.pass(left - 2, 1);
    assert.equal(kept.alive, true);
    assert.deepEqual(ends, []);
    await clock.pass(3, 1);
    assert.equal(kept.alive, false);
    assert.deepEqual(ends, ['deadline']);
  });

  it('ends at the deadline without an answer, and retries until then', async () => {
    const clock = new FakeClock();
    const { asked, ends } = keeper(clock);
    for (let ms = 0; ms < DEADLINE_MS - 10; ms += 10) {
      await clock.pass(10);
      asked.at(-1)?.refuse('SF_STORE_UNREACHABLE');
    }
    assert.deepEqual(ends, []);
    assert.ok(asked.length >= 8, `${asked.length} attempts`);
    await clock.pass(10);
    assert.deepEqual(ends, ['deadline']);
    const attempts = asked.length;
    await clock.pass(10_000, 100);
    assert.equal(asked.length, attempts);
    assert.deepEqual(ends, ['deadline']);
    assert.equal(clock.timers, 0);
  });

  it('ends at once when the store reports that the lease is gone', async () => {
    const clock = new FakeClock();
    const { asked, ends, keeper: kept } = keeper(clock);
    await clock.pass(1700, 100);
    asked[0]!.refuse('SF_STORE_CONFLICT');
    await clock.pass(1, 1);
    assert.deepEqual(ends, ['gone']);
    assert.equal(kept.alive, false);
  });

  it('ignores an answer that comes after the deadline', async () => {
    const clock = new FakeClock();
    const { asked, ends, keeper: kept, kept: times } = keeper(clock);
    await clock.pass(1700, 100);
    // The process is frozen: time has passed, no timer has run, and it reads the old answer first.
    const now = clock.now.bind(clock);
    clock.now = () => now() + 60_000;
    asked[0]!.answer();
    await clock.pass(0);
    assert.equal(kept.alive, false);
    assert.equal(times(), 0);
    clock.now = now;
    await clock.pass(1, 1);
    assert.deepEqual(ends, ['deadline']);
  });

  it('does not use the wall clock', async () => {
    const clock = new FakeClock();
    let jump = 0;
    clock.wall = () => jump;
    const { asked, ends, keeper: kept } = keeper(clock);
    for (const hours of [1, -1, 24, -24]) {
      jump = hours * 3_600_000;
      await clock.pass(1700, 100);
      asked.at(-1)!.answer();
      await clock.pass(1, 1);
    }
    assert.deepEqual(ends, []);
    assert.equal(kept.alive, true);
  });
});
