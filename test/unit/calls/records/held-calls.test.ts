// The calls of the journal in their two forms: changing and resting. No call is in both, and none gets lost in between.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type CallRecord, MAX_LEG_TEXT } from '../../../../src/calls/records/call-record.ts';
import {
  Action,
  BEGUN,
  Flag,
  RESTING,
  Stored,
  storedOf,
  valueOfPacked,
} from '../../../../src/calls/records/durability.ts';
import { HeldCalls } from '../../../../src/calls/records/held-calls.ts';
import type { TrackedCall } from '../../../../src/calls/records/tracked-call.ts';
import { MAX_WAITING } from '../../../../src/calls/records/write-queue.ts';
import { CellFamily } from '../../../../src/metrics/counters.ts';
import { FakeClock } from '../../../fake/clock.ts';
import { clientLeg, ok, serverLeg } from './journal-rig.ts';

function rig() {
  const clock = new FakeClock();
  const self = { incarnation: 5, epoch: 9 };
  const taken: number[] = [];
  const caught: unknown[] = [];
  const counts = { worked: 0, behind: 0 };
  const held = new HeldCalls(
    {
      clock,
      guard: { caught: (entrance, error) => void caught.push(`${entrance}: ${(error as Error).message}`) },
      self: () => self,
      onTaken: (entry) => void taken.push(entry),
      mediaOf: () => undefined,
      dropped: new CellFamily({ name: 'dropped', help: '', labels: ['reason'] }),
    },
    () => counts.worked++,
    () => counts.behind++,
  );
  /** Adds a call with both legs. */
  const begin = (entry: number, callId = `call-${entry}`): TrackedCall => {
    const tracked = held.begin(entry, 'INVITE', callId);
    tracked.addLeg(clientLeg(callId));
    tracked.addLeg(serverLeg(callId));
    return tracked;
  };
  /** Does what a commit of this call does. */
  const write = (tracked: TrackedCall): void => {
    held.prepare(tracked);
    for (const event of ['picked', 'started', 'written'] as const) tracked.apply(event);
    held.settle(tracked);
  };
  /** Adds a call that rests. */
  const rest = (entry: number): void => {
    const tracked = begin(entry);
    tracked.setAnswer('', ok(`call-${entry}`));
    tracked.apply('confirmed');
    write(tracked);
  };
  return { clock, self, taken, caught, counts, held, begin, write, rest };
}

/** Returns the record of a call with `legs` legs of the longest texts. */
function longRecord(state: CallRecord['state'], text = 'x'.repeat(MAX_LEG_TEXT), legs = 8): CallRecord {
  const { flow } = clientLeg('x');
  const leg = { from: 'client', flow, request: text, answer: text } as const;
  return {
    ...{ v: 1, state, method: 'INVITE', callId: 'long', incarnation: 5, epoch: 9, since: '2026-01-01T00:00:00.000Z' },
    legs: Array.from({ length: legs }, () => leg),
  };
}

describe('a call', () => {
  test('changes until its record as a dialog is in the store; then it rests, with the same content', () => {
    const { held, begin, write, clock } = rig();
    const tracked = begin(7);
    assert.deepEqual([held.size, held.has(7), held.get(7) === tracked, held.packed.has(7)], [1, true, true, false]);
    write(tracked);
    assert.equal(held.packed.has(7), false, 'it rings');
    tracked.setAnswer('', ok('call-7'));
    tracked.apply('confirmed');
    held.settle(tracked);
    assert.equal(held.packed.has(7), false, 'its record is out of date');
    held.prepare(tracked);
    const before = held.recordOf(7);
    write(tracked);
    assert.deepEqual([held.size, held.has(7), held.get(7), held.packed.has(7)], [1, true, undefined, true]);
    assert.equal(held.holds(tracked), false);
    assert.deepEqual(held.recordOf(7), before);
    assert.deepEqual([before?.state, before?.epoch, before?.incarnation], ['confirmed', 9, 5]);
    assert.equal(before?.since, new Date(clock.wall()).toISOString());
  });

  test('that rests changes again when it is taken, and is in one form only', () => {
    const { held, rest } = rig();
    rest(7);
    const before = held.recordOf(7);
    const tracked = held.take(7)!;
    assert.deepEqual([held.size, held.get(7) === tracked, held.packed.has(7)], [1, true, false]);
    assert.deepEqual([tracked.durability, held.recordOf(7)], [RESTING, before]);
    assert.equal(held.take(7), tracked);
    assert.deepEqual([held.take(8), held.unpack(7)], [undefined, undefined]);
  });

  test('keeps what is known of its record when it is unpacked, except the mark of a reading', () => {
    const { held, rest } = rig();
    rest(7);
    held.packed.setFlags(7, Flag.maybeStale | Flag.ownershipOpen | Flag.unseen);
    assert.equal(held.unpack(7)?.durability, valueOfPacked(Flag.maybeStale | Flag.ownershipOpen));
  });

  test('has the current incarnation of its owner in its record, and the epoch of its beginning', () => {
    const { held, self, begin, rest } = rig();
    rest(7);
    begin(8);
    self.incarnation = 6;
    self.epoch = 10;
    for (const entry of [7, 8])
      assert.deepEqual([held.recordOf(entry)?.incarnation, held.recordOf(entry)?.epoch], [6, 9]);
  });

  test('that begins anew has nothing of the call before', () => {
    const { held, clock, self, begin, write } = rig();
    const tracked = begin(7);
    tracked.early = true;
    write(tracked);
    clock.advance(60_000);
    self.epoch = 10;
    held.beginAnew(tracked, 'SUBSCRIBE', 'another', false);
    const since = new Date(clock.wall()).toISOString();
    assert.deepEqual(held.recordOf(7), {
      ...{ v: 1, state: 'trying', method: 'SUBSCRIBE', callId: 'another', incarnation: 5, epoch: 10, since, legs: [] },
    });
  });
});

test('a call that begins anew before the records have been read may have lost its old record unnoticed', () => {
  for (const [unread, stored] of [
    [false, Stored.pending],
    [true, Stored.nowhere],
  ] as const) {
    const { held, begin, write } = rig();
    const tracked = begin(7);
    write(tracked);
    held.end(tracked);
    tracked.apply('started');
    tracked.apply('unanswered');
    held.beginAnew(tracked, 'INVITE', 'another', unread);
    assert.equal(storedOf(tracked.durability), stored);
  }
});

describe('a record from the store', () => {
  const RECORD = { ...longRecord('confirmed', 'INVITE sip:b SIP/2.0\r\n', 2), incarnation: 3 };
  const UNPACKABLE = { ...RECORD, callId: 'a call of the future \u{1F4DE}' };
  const CASES = [
    { title: 'of a dialog rests', record: RECORD, rests: true },
    { title: 'of a call without answer changes', record: { ...RECORD, state: 'trying' }, rests: false },
    { title: 'of a call that rings changes', record: { ...RECORD, state: 'early' }, rests: false },
    { title: 'that cannot be packed changes', record: UNPACKABLE, rests: false },
    { title: 'without a legible time gets the present', record: { ...RECORD, since: 'yesterday' }, rests: true },
  ] as const;

  for (const { title, record, rests } of CASES)
    test(`${title}, and is the record of the call again`, () => {
      const { held, clock } = rig();
      held.restore(7, record);
      assert.equal(held.packed.has(7), rests);
      assert.equal(held.get(7) !== undefined, !rests);
      const since = record.since === 'yesterday' ? new Date(clock.wall()).toISOString() : record.since;
      assert.deepEqual(held.recordOf(7), { ...record, since, incarnation: 5 });
      assert.equal(held.get(7)?.is(Flag.dirty) ?? false, false, 'it needs no write');
    });
});

test('the records are those of resting calls, oldest first, then of changing ones; ended calls have none', () => {
  const { held, begin, rest, write } = rig();
  begin(1);
  for (const entry of [4, 3, 2]) rest(entry);
  const ended = begin(5);
  write(ended);
  held.end(ended);
  assert.deepEqual(
    [...held.records()].map(({ entry, record }) => [entry, record.callId]),
    [4, 3, 2, 1].map((entry) => [entry, `call-${entry}`]),
  );
});

describe('a call that ends', () => {
  test('is forgotten at once if it was never written', () => {
    const { held, begin } = rig();
    const tracked = begin(7);
    held.wait(tracked, true);
    held.end(tracked);
    assert.deepEqual([held.size, held.get(7), held.queue.waiting], [0, undefined, 0]);
  });

  test('waits without texts for the deletion of its record, and is forgotten afterwards', () => {
    const { held, begin, write } = rig();
    const tracked = begin(7);
    write(tracked);
    held.end(tracked);
    assert.deepEqual([held.has(7), held.recordOf(7), tracked.octets], [false, undefined, 0]);
    assert.deepEqual([held.get(7) === tracked, held.queue.has(tracked)], [true, true]);
    held.queue.remove(tracked);
    write(tracked);
    assert.equal(held.size, 0);
  });
});

describe('a changed call', () => {
  test('is worked on 20 ms later', () => {
    const { held, clock, counts, begin } = rig();
    held.wait(begin(7));
    clock.advance(20);
    assert.equal(counts.worked, 1);
  });

  test('that finds no room in the queue is counted and reported, and lets go of its messages', () => {
    const { held, counts, begin } = rig();
    for (let entry = 1; entry <= MAX_WAITING; entry++) held.wait(held.begin(entry, 'INVITE', 'c'));
    assert.deepEqual([counts.behind, held.drops.queue.n], [0, 0]);
    const tracked = begin(0);
    held.wait(tracked);
    assert.deepEqual([counts.behind, held.drops.queue.n, held.queue.has(tracked)], [1, 1, false]);
    assert.ok(tracked.octets > 0, 'it has texts in place of messages');
  });

  test('with a request too long for a record ends, and is counted', () => {
    const { held, begin } = rig();
    const tracked = begin(7, 'x'.repeat(MAX_LEG_TEXT));
    assert.equal(held.prepare(tracked), false);
    assert.deepEqual([held.size, held.drops.size.n], [0, 1]);
  });

  test('that makes the code throw gets no texts, and the guard gets the exception', () => {
    const { held, caught, begin } = rig();
    const tracked = begin(7);
    tracked.makeTexts = () => {
      throw new Error('a fault');
    };
    assert.equal(held.prepare(tracked), false);
    assert.deepEqual(caught, ['records: a fault']);
  });

  test('that makes the code throw when it comes to rest goes on as a changing one', () => {
    const { held, caught, begin, write } = rig();
    const tracked = begin(7);
    Object.defineProperty(tracked, 'body', {
      get: () => {
        throw new Error('a fault');
      },
    });
    tracked.apply('confirmed');
    write(tracked);
    assert.deepEqual([caught, held.get(7) === tracked], [['records: a fault'], true]);
  });
});

describe('an action of the durability', () => {
  const CASES = [
    { action: Action.none, kept: true, queued: false },
    { action: Action.queue, kept: true, queued: true },
    { action: Action.drop, kept: false, queued: false },
    { action: Action.pack, kept: false, queued: false, packed: true },
    { action: Action.taken, kept: false, queued: false, taken: [7] },
    { action: Action.kept, kept: true, queued: false },
  ];
  const nameOf = (action: number): string => Object.entries(Action).find(([, value]) => value === action)![0];

  for (const { action, kept, queued, packed = false, taken: expected = [] } of CASES)
    test(`"${nameOf(action)}" has its effect, and none on a call that is no longer held`, () => {
      const { held, taken, begin } = rig();
      const tracked = begin(7);
      held.prepare(tracked);
      held.act(tracked, action);
      assert.deepEqual(
        [held.holds(tracked), held.queue.has(tracked), held.packed.has(7), taken],
        [kept, queued, packed, expected],
      );
      held.drop(tracked);
      held.packed.remove(7);
      taken.length = 0;
      begin(7);
      held.act(tracked, action);
      assert.deepEqual([held.size, held.queue.waiting, held.packed.size, taken], [1, 0, 0, []]);
    });
});

test('a dropped call is in no queue, and a call under its entry since then stays', () => {
  const { held, begin } = rig();
  const earlier = begin(7);
  held.wait(earlier);
  held.drop(earlier);
  assert.deepEqual([held.size, held.queue.waiting, earlier.is(Flag.dirty)], [0, 0, false]);
  const later = begin(7);
  assert.equal(later.durability, BEGUN);
  held.drop(earlier);
  assert.equal(held.get(7), later);
});

describe('the room', () => {
  test('is 512 MiB of texts, and every way out of it gives it back', () => {
    const { held } = rig();
    const octets = 16 * MAX_LEG_TEXT;
    const most = 2 ** 29 / octets;
    const fill = (from: number): void => {
      for (let entry = from; entry <= most; entry++) held.restore(entry, longRecord('trying'));
    };
    fill(2);
    assert.equal(held.full, false);
    held.restore(1, longRecord('trying'));
    assert.equal(held.full, true);
    const leave: ((tracked: TrackedCall) => void)[] = [
      (tracked) => held.drop(tracked),
      (tracked) => held.end(tracked),
      (tracked) => held.beginAnew(tracked, 'INVITE', 'another', false),
    ];
    for (const away of leave) {
      const tracked = held.get(1)!;
      away(tracked);
      assert.equal(held.full, false);
      held.drop(tracked);
      held.restore(1, longRecord('trying'));
      assert.equal(held.full, true);
    }
    held.clear();
    assert.deepEqual([held.full, held.size], [false, 0]);
    fill(2);
    assert.equal(held.full, false);
  });

  test('counts the texts that a changing call gets, and those of its new Contact', () => {
    const { held, begin } = rig();
    for (let entry = 1; entry <= 4095; entry++) held.restore(entry, longRecord('trying'));
    let entry = 5000;
    const step = begin(entry);
    held.prepare(step);
    const { octets } = step;
    const rest = 16 * MAX_LEG_TEXT;
    for (let sum = octets; sum + octets < rest; sum += octets) held.prepare(begin(++entry));
    assert.equal(held.full, false);
    held.setContact(step, 0, `<sip:${'x'.repeat(4 * octets)}@192.0.2.7>`);
    assert.equal(held.full, true);
  });
});

test('a cleared one has no call of either form, and nothing to write', () => {
  const { held, begin, rest } = rig();
  rest(1);
  held.wait(begin(2));
  held.clear();
  assert.deepEqual(
    [held.size, held.has(1), held.has(2), held.queue.waiting, [...held.records()]],
    [0, false, false, 0, []],
  );
});
