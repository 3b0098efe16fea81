// The table of owned calls: state changes by packets, lifetimes, and the end of a drain.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { CallTable, Step } from '../../../../src/calls/table/call-table.ts';
import { Method } from '../../../../src/sip/scan.ts';

const { INVITE, ACK, BYE, CANCEL, OPTIONS, SUBSCRIBE, UPDATE } = Method;

const CALL = 2 ** 52 + 12345;
const EPOCH = 7;
/** Senders without identity: their packets never count as copies. */
const FIRST = { from: 0, to: 0, cseq: 0 };
const IN_DIALOG = { from: 0, to: 1, cseq: 0 };

function table(maxEntries = 100): CallTable & { evicted: { n: number } } {
  const evicted = { n: 0 };
  return Object.assign(new CallTable({ ringingSeconds: 200, longestCallSeconds: 7200, maxEntries, evicted }), {
    evicted,
  });
}

/** Returns a table with one call that was answered at second 0. */
function talking(): CallTable {
  const calls = table();
  calls.onRequest(CALL, INVITE, FIRST, 0, EPOCH);
  calls.onResponse(CALL, INVITE, 180, 0, 0);
  calls.onResponse(CALL, INVITE, 200, 0, 0);
  calls.onRequest(CALL, ACK, IN_DIALOG, 0, EPOCH);
  return calls;
}

describe('an INVITE after the end of its call', () => {
  const [ALICE, BOB, CAROL] = [11, 22, 33];

  /** Returns a table with an ended call of Alice to Bob, opened with CSeq 5; or refused with `status`. */
  function over(status = 200): CallTable {
    const calls = table();
    calls.onRequest(CALL, INVITE, { from: ALICE, to: 0, cseq: 5 }, 0, EPOCH);
    calls.onResponse(CALL, INVITE, status, status === 200 ? BOB : 0, 10);
    if (status === 200) {
      calls.onRequest(CALL, BYE, { from: ALICE, to: BOB, cseq: 7 }, 20, EPOCH);
      calls.onResponse(CALL, BYE, 200, 0, 30);
    }
    return calls;
  }

  for (const [name, status, sender, counts] of [
    ['that is a copy of the first one', 200, { from: ALICE, to: 0, cseq: 5 }, false],
    ['that is a copy of a re-INVITE', 200, { from: ALICE, to: BOB, cseq: 6 }, false],
    ['that is a re-INVITE of the callee', 200, { from: BOB, to: ALICE, cseq: 1 }, false],
    ['that is a copy of a refused one', 486, { from: ALICE, to: 0, cseq: 5 }, false],
    ['that is the retry with credentials', 401, { from: ALICE, to: 0, cseq: 6 }, true],
    ['that is a new call of the same caller with this Call-ID', 200, { from: ALICE, to: 0, cseq: 8 }, true],
    ['that is a call of another caller with this Call-ID', 200, { from: CAROL, to: 0, cseq: 1 }, true],
    ['that is a re-INVITE in another dialog of a fork', 200, { from: ALICE, to: CAROL, cseq: 6 }, true],
  ] as const)
    test(`${name} ${counts ? 'begins a call' : 'begins nothing, whatever its answer'}`, () => {
      const calls = over(status);
      const step = calls.onRequest(CALL, INVITE, sender, 40, EPOCH);
      assert.deepEqual([step === Step.began, calls.calls], [counts, counts ? 1 : 0]);
      calls.onResponse(CALL, INVITE, status === 200 ? 200 : 486, 0, 50);
      if (!counts) assert.equal(calls.calls, 0);
    });
});

describe('a call', () => {
  test('is inviting, confirmed, ending, ended, and then deleted', () => {
    const calls = table();
    assert.equal(calls.has(CALL), false);
    calls.onRequest(CALL, INVITE, FIRST, 0, EPOCH);
    assert.equal(calls.stateOf(CALL), 'inviting');
    calls.onResponse(CALL, INVITE, 183, 0, 10);
    assert.equal(calls.stateOf(CALL), 'inviting');
    calls.onResponse(CALL, INVITE, 200, 0, 20);
    calls.onRequest(CALL, ACK, IN_DIALOG, 30, EPOCH);
    assert.equal(calls.stateOf(CALL), 'confirmed');
    calls.onRequest(CALL, BYE, IN_DIALOG, 60_000, EPOCH);
    assert.equal(calls.stateOf(CALL), 'ending');
    calls.onResponse(CALL, BYE, 200, 0, 60_000);
    assert.equal(calls.stateOf(CALL), 'ended');
    assert.deepEqual([calls.calls, calls.size, calls.has(CALL)], [0, 1, true]);
    calls.sweep(92_000);
    assert.equal(calls.has(CALL), true, 'lingers 64*T1 for retransmissions');
    calls.sweep(93_000);
    assert.deepEqual([calls.size, calls.has(CALL), calls.stateOf(CALL)], [0, false, undefined]);
  });

  test('that is cancelled ends with its 487', () => {
    const calls = table();
    calls.onRequest(CALL, INVITE, FIRST, 0, EPOCH);
    calls.onRequest(CALL, CANCEL, FIRST, 100, EPOCH);
    calls.onResponse(CALL, CANCEL, 200, 0, 110);
    assert.equal(calls.calls, 1, 'the CANCEL and its answer end nothing');
    calls.onResponse(CALL, INVITE, 487, 0, 120);
    calls.onRequest(CALL, ACK, IN_DIALOG, 130, EPOCH);
    assert.deepEqual([calls.stateOf(CALL), calls.calls], ['failed', 0]);
  });

  for (const status of [401, 407]) {
    test(`answered ${status} is revived by the retry with credentials, with the epoch of the retry`, () => {
      const calls = table();
      calls.onRequest(CALL, INVITE, FIRST, 0, EPOCH);
      calls.onResponse(CALL, INVITE, status, 0, 10);
      calls.onRequest(CALL, ACK, IN_DIALOG, 20, EPOCH);
      assert.deepEqual([calls.stateOf(CALL), calls.oldestEpoch()], ['failed', 0]);
      calls.onRequest(CALL, INVITE, FIRST, 30, EPOCH + 1);
      assert.deepEqual([calls.stateOf(CALL), calls.calls, calls.oldestEpoch()], ['inviting', 1, EPOCH + 1]);
    });
  }

  test('is confirmed by its 200 although the challenge is retransmitted after the retry', () => {
    const calls = table();
    calls.onRequest(CALL, INVITE, FIRST, 0, EPOCH);
    calls.onResponse(CALL, INVITE, 401, 0, 10);
    calls.onRequest(CALL, INVITE, FIRST, 20, EPOCH);
    calls.onResponse(CALL, INVITE, 401, 0, 30);
    calls.onResponse(CALL, INVITE, 200, 0, 40);
    assert.equal(calls.stateOf(CALL), 'confirmed');
  });

  test('outlives a failed re-INVITE, but not one answered 481', () => {
    const calls = talking();
    calls.onRequest(CALL, INVITE, IN_DIALOG, 1000, EPOCH);
    calls.onResponse(CALL, INVITE, 488, 0, 1010);
    assert.equal(calls.stateOf(CALL), 'confirmed');
    calls.onResponse(CALL, INVITE, 481, 0, 1020);
    assert.equal(calls.stateOf(CALL), 'ended');
  });

  test('is not revived by a 200 to its INVITE that is repeated after the BYE', () => {
    const calls = talking();
    calls.onRequest(CALL, BYE, IN_DIALOG, 1000, EPOCH);
    calls.onResponse(CALL, INVITE, 200, 0, 1010);
    assert.equal(calls.stateOf(CALL), 'ending');
    calls.onResponse(CALL, BYE, 200, 0, 1020);
    calls.onResponse(CALL, INVITE, 200, 0, 1030);
    assert.equal(calls.stateOf(CALL), 'ended');
  });

  test('with a challenged BYE ends only when the BYE with credentials is answered', () => {
    const calls = talking();
    calls.onRequest(CALL, BYE, IN_DIALOG, 1000, EPOCH);
    calls.onResponse(CALL, BYE, 407, 0, 1010);
    assert.equal(calls.calls, 1);
    calls.onRequest(CALL, BYE, IN_DIALOG, 1020, EPOCH);
    calls.onResponse(CALL, BYE, 200, 0, 1030);
    assert.equal(calls.calls, 0);
  });

  test('without an answer to its BYE is deleted 64*T1 later', () => {
    const calls = talking();
    calls.onRequest(CALL, BYE, IN_DIALOG, 1000, EPOCH);
    calls.sweep(33_000);
    assert.equal(calls.calls, 1);
    calls.sweep(34_000);
    assert.equal(calls.size, 0);
  });

  test('rings while provisional answers come, and ringingSeconds after the last one', () => {
    const calls = table();
    calls.onRequest(CALL, INVITE, FIRST, 0, EPOCH);
    for (let minute = 1; minute <= 10; minute++) {
      calls.sweep(minute * 60_000);
      calls.onResponse(CALL, INVITE, 180, 0, minute * 60_000);
    }
    calls.sweep(800_000);
    assert.equal(calls.calls, 1);
    calls.sweep(801_000);
    assert.equal(calls.size, 0);
  });

  test('lives longestCallSeconds after its last packet', () => {
    const calls = talking();
    calls.onRequest(CALL, UPDATE, IN_DIALOG, 1_000_000, EPOCH);
    calls.sweep(8_200_000);
    assert.equal(calls.calls, 1);
    calls.sweep(8_201_000);
    assert.equal(calls.size, 0);
  });

  test('takes changed lifetimes at once', () => {
    const calls = talking();
    calls.onRequest(CALL + 1, INVITE, FIRST, 0, EPOCH);
    calls.setLifetimes({ ringingSeconds: 100, longestCallSeconds: 300 });
    calls.sweep(101_000);
    assert.deepEqual([calls.stateOf(CALL), calls.stateOf(CALL + 1)], ['confirmed', undefined]);
    calls.sweep(301_000);
    assert.equal(calls.size, 0);
  });
});

describe('other requests and lifetimes', () => {
  test('keep an entry for 64*T1 that is no call', () => {
    const calls = table();
    calls.onRequest(CALL, OPTIONS, FIRST, 0, EPOCH);
    assert.deepEqual([calls.stateOf(CALL), calls.calls], ['transaction', 0]);
    calls.onResponse(CALL, OPTIONS, 200, 0, 10_000);
    calls.sweep(42_000);
    assert.equal(calls.size, 1);
    calls.sweep(43_000);
    assert.equal(calls.size, 0);
  });

  test('make no entry for a stray ACK, CANCEL or response, because the call may be at another member', () => {
    const calls = table();
    calls.onRequest(CALL, ACK, IN_DIALOG, 0, EPOCH);
    calls.onRequest(CALL, CANCEL, FIRST, 0, EPOCH);
    calls.onResponse(CALL, CANCEL, 481, 0, 0);
    calls.onResponse(CALL, INVITE, 200, 0, 0);
    assert.equal(calls.size, 0);
  });

  test('keep a subscription for 3,900 s after its last packet', () => {
    const calls = table();
    calls.onRequest(CALL, SUBSCRIBE, FIRST, 0, EPOCH);
    assert.equal(calls.stateOf(CALL), 'subscribing');
    calls.onResponse(CALL, SUBSCRIBE, 202, 0, 0);
    assert.deepEqual([calls.stateOf(CALL), calls.calls], ['subscribed', 0]);
    calls.sweep(3_900_000);
    assert.equal(calls.size, 1);
    calls.sweep(3_901_000);
    assert.equal(calls.size, 0);
  });

  test('keep a call or subscription for the time in its 2xx after its last packet, and a refresh sets the time again', () => {
    for (const [seconds, lives] of [
      [122, 128],
      [32, 64],
      [1832, 2048],
      [5032, 7200],
      [999_999, 7200],
      [0, 7200],
    ] as const) {
      const calls = talking();
      calls.setLife(CALL, INVITE, seconds);
      assert.deepEqual([calls.stateOf(CALL), calls.calls], ['confirmed', 1]);
      calls.sweep(lives * 1000);
      assert.equal(calls.size, 1, `${seconds} s`);
      calls.sweep(lives * 1000 + 1000);
      assert.equal(calls.size, 0, `${seconds} s`);
    }
    const calls = talking();
    calls.setLife(CALL, INVITE, 122);
    calls.onRequest(CALL, UPDATE, IN_DIALOG, 100_000, EPOCH);
    calls.onResponse(CALL, UPDATE, 200, 0, 100_000);
    calls.setLife(CALL, UPDATE, 250);
    calls.sweep(350_000);
    assert.equal(calls.size, 1);
    calls.onResponse(CALL, INVITE, 200, 0, 350_000);
    calls.setLife(CALL, INVITE, 0);
    calls.setLife(CALL, SUBSCRIBE, 64);
    calls.sweep(7_000_000);
    assert.equal(calls.size, 1);
    calls.onRequest(CALL, BYE, IN_DIALOG, 7_000_000, EPOCH);
    calls.onResponse(CALL, BYE, 200, 0, 7_000_000);
    calls.setLife(CALL, INVITE, 1832);
    calls.sweep(7_033_000);
    assert.equal(calls.size, 0, 'what is over lingers no longer');
  });

  test('give a subscription a short life at its end and up to a day by Expires', () => {
    const calls = table();
    calls.onRequest(CALL, SUBSCRIBE, FIRST, 0, EPOCH);
    calls.setLife(CALL, SUBSCRIBE, 32);
    calls.onResponse(CALL, SUBSCRIBE, 202, 0, 0);
    calls.setLife(CALL, SUBSCRIBE, 86_432);
    calls.setLife(CALL, INVITE, 64);
    calls.sweep(86_400_000);
    assert.equal(calls.size, 1);
    calls.onResponse(CALL, SUBSCRIBE, 200, 0, 86_400_000);
    calls.setLife(CALL, SUBSCRIBE, 32);
    calls.sweep(86_465_000);
    assert.equal(calls.size, 0);
  });

  test('give a restored call the life in its record', () => {
    const calls = table();
    calls.restore(1, false, true, 122, 0, EPOCH);
    calls.restore(2, true, true, 3632, 0, EPOCH);
    calls.restore(3, false, false, 122, 0, EPOCH);
    calls.restore(4, false, true, 0, 0, EPOCH);
    const left = (second: number): number[] => {
      calls.sweep(second * 1000);
      return [1, 2, 3, 4].filter((key) => calls.has(key));
    };
    assert.deepEqual(
      [left(128), left(129), left(201), left(4096), left(4097), left(7201)],
      [[1, 2, 3, 4], [2, 3, 4], [2, 4], [2, 4], [4], []],
    );
  });

  test('leave a call unchanged by a SUBSCRIBE in it', () => {
    const calls = talking();
    calls.onRequest(CALL, SUBSCRIBE, IN_DIALOG, 0, EPOCH);
    calls.onResponse(CALL, SUBSCRIBE, 489, 0, 0);
    assert.equal(calls.stateOf(CALL), 'confirmed');
  });

  test('make a call of a transaction with the same Call-ID by an INVITE', () => {
    const calls = table();
    calls.onRequest(CALL, OPTIONS, FIRST, 0, EPOCH);
    calls.onRequest(CALL, INVITE, FIRST, 0, EPOCH);
    assert.equal(calls.calls, 1);
  });
});

describe('a dialog that is not known here', () => {
  const [ALICE, BOB, CAROL] = [11, 22, 33];
  const REINVITE = { from: ALICE, to: BOB, cseq: 6 };

  test('counts from its re-INVITE until its BYE is answered, and copies of both bring nothing back', () => {
    const calls = table();
    assert.equal(calls.onRequest(CALL, INVITE, REINVITE, 0, EPOCH), Step.began);
    assert.deepEqual([calls.stateOf(CALL), calls.calls, calls.oldestCallSeconds(9000)], ['renewing', 1, 9]);
    calls.onRequest(CALL, BYE, { ...REINVITE, cseq: 7 }, 10, EPOCH);
    assert.equal(calls.stateOf(CALL), 'ending');
    assert.equal(calls.onResponse(CALL, BYE, 200, 0, 20), Step.over);
    assert.equal(calls.onRequest(CALL, INVITE, REINVITE, 30, EPOCH), Step.none);
    assert.deepEqual([calls.stateOf(CALL), calls.calls], ['ended', 0]);
  });

  test('is confirmed by the 2xx to its re-INVITE, over by an error, and forgotten after the ringing time', () => {
    for (const [status, state] of [
      [200, 'confirmed'],
      [481, 'ended'],
      [488, 'failed'],
    ] as const) {
      const calls = table();
      calls.onRequest(CALL, INVITE, REINVITE, 0, EPOCH);
      calls.onResponse(CALL, INVITE, status, BOB, 10);
      assert.equal(calls.stateOf(CALL), state);
    }
    const calls = table();
    calls.onRequest(CALL, INVITE, REINVITE, 0, EPOCH);
    calls.sweep(201_000);
    assert.equal(calls.size, 0);
  });

  test('is a call by its record, whatever of it came before', () => {
    const calls = table();
    calls.onRequest(1, INVITE, REINVITE, 0, EPOCH);
    calls.onRequest(2, OPTIONS, IN_DIALOG, 0, EPOCH);
    for (const key of [1, 2, 3]) calls.restore(key, false, true, 0, 0, EPOCH);
    assert.deepEqual(
      [1, 2, 3].map((key) => calls.stateOf(key)),
      ['confirmed', 'confirmed', 'confirmed'],
    );
    calls.sweep(7_000_000);
    assert.equal(calls.calls, 3);
  });

  test('has ended with a BYE of either party, and with that of nobody else', () => {
    const calls = table();
    calls.onRequest(1, BYE, { from: BOB, to: ALICE, cseq: 1 }, 0, EPOCH);
    calls.onRequest(2, OPTIONS, IN_DIALOG, 0, EPOCH);
    calls.onRequest(2, BYE, { from: ALICE, to: BOB, cseq: 7 }, 0, EPOCH);
    calls.onRequest(3, BYE, { from: CAROL, to: BOB, cseq: 7 }, 0, EPOCH);
    const early = { from: ALICE, to: 0, cseq: 7 };
    calls.onRequest(4, BYE, early, 0, EPOCH);
    const ended = (): boolean[] => [1, 2, 3, 4, 5].map((key) => calls.hasEnded(key, ALICE, BOB));
    assert.deepEqual([ended(), calls.calls, calls.oldestEpoch()], [[true, true, false, false, false], 0, EPOCH]);
    assert.equal(calls.onRequest(1, INVITE, REINVITE, 10, EPOCH), Step.none, 'a copy of a re-INVITE is late');
    calls.sweep(33_000);
    assert.deepEqual([ended(), calls.size], [[false, false, false, false, false], 0]);
  });
});

describe('a drain', () => {
  test('waits for the last call and then 8*T1 for retransmissions', () => {
    const calls = talking();
    assert.equal(calls.quiet(1_000_000), false);
    calls.onRequest(CALL, BYE, IN_DIALOG, 1_000_000, EPOCH);
    calls.onResponse(CALL, BYE, 200, 0, 1_000_500);
    assert.equal(calls.quiet(1_004_499), false);
    assert.equal(calls.quiet(1_004_500), true);
  });

  test('is over at once at a member without packets', () => {
    assert.equal(table().quiet(0), true);
  });
});

test('the oldest epoch is that of the oldest entry that has not ended', () => {
  const calls = table();
  assert.equal(calls.oldestEpoch(), 0);
  calls.onRequest(1, INVITE, FIRST, 0, 5);
  calls.onRequest(2, OPTIONS, FIRST, 0, 4);
  calls.onRequest(3, INVITE, FIRST, 0, 9);
  assert.equal(calls.oldestEpoch(), 4);
  calls.sweep(33_000);
  assert.equal(calls.oldestEpoch(), 5);
  calls.onResponse(1, INVITE, 486, 0, 33_000);
  assert.equal(calls.oldestEpoch(), 9);
});

describe('a full table', () => {
  test('evicts the transaction with the oldest last packet first, then ringing calls, then confirmed ones, and counts each', () => {
    const calls = table(4);
    calls.onRequest(1, INVITE, FIRST, 0, EPOCH);
    calls.onResponse(1, INVITE, 200, 0, 0);
    calls.onRequest(2, INVITE, FIRST, 0, EPOCH);
    calls.onRequest(3, OPTIONS, FIRST, 0, EPOCH);
    calls.onRequest(4, OPTIONS, FIRST, 0, EPOCH);
    calls.onRequest(3, OPTIONS, FIRST, 2000, EPOCH);
    const held = (): number[] => [1, 2, 3, 4, 5, 6, 7, 8].filter((key) => calls.has(key));
    calls.onRequest(5, INVITE, FIRST, 3000, EPOCH);
    assert.deepEqual(held(), [1, 2, 3, 5]);
    calls.onRequest(6, INVITE, FIRST, 3000, EPOCH);
    assert.deepEqual(held(), [1, 2, 5, 6]);
    calls.onRequest(7, INVITE, FIRST, 3000, EPOCH);
    assert.deepEqual(held(), [1, 5, 6, 7]);
    assert.deepEqual([calls.evicted.n, calls.size, calls.calls], [3, 4, 4]);
  });
});

test('the table agrees with a plain map on every history', () => {
  const step = fc.record({
    key: fc.nat(12).map((n) => n * 2 ** 49 + (n % 3)),
    kind: fc.constantFrom('request', 'response', 'response', 'sweep'),
    life: fc.constantFrom(0, 32, 100, 5000),
    method: fc.constantFrom(INVITE, ACK, BYE, CANCEL, OPTIONS, SUBSCRIBE),
    status: fc.constantFrom(180, 200, 202, 401, 407, 481, 486),
    inDialog: fc.boolean(),
    pause: fc.constantFrom(0, 400, 5000, 40_000, 300_000),
    epoch: fc.integer({ min: 1, max: 4 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const calls = table(8);
      const known = new Map<number, number>();
      let now = 0;
      for (const { key, kind, method, status, inDialog, pause, epoch, life } of steps) {
        now += pause;
        if (kind === 'request') calls.onRequest(key, method, inDialog ? IN_DIALOG : FIRST, now, epoch);
        else if (kind === 'response') {
          calls.onResponse(key, method, status, 0, now);
          calls.setLife(key, method, life);
        } else calls.sweep(now);
        if (calls.has(key) || kind !== 'response') known.set(key, now);
        const states = [...known.keys()].map((at) => calls.stateOf(at)).filter((state) => state !== undefined);
        const count = (...wanted: readonly string[]): number => states.filter((one) => wanted.includes(one)).length;
        assert.equal(states.length, calls.size);
        assert.equal(calls.calls, count('inviting', 'renewing', 'confirmed', 'ending'));
        assert.equal(calls.oldestEpoch() > 0, calls.size > count('failed', 'ended'));
      }
      // This is after the longest life: times from dialogs are rounded up, 5,000 s to 8,192.
      calls.sweep(now + 10_000_000);
      assert.equal(calls.size, 0);
      assert.equal(calls.oldestEpoch(), 0);
    }),
    { numRuns: 300 },
  );
});
