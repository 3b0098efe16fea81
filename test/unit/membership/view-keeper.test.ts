// One keeper of the view: what it reports, when it proposes the next view, and what it refuses to build on.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { pino } from 'pino';
import { SipfarmError } from '../../../src/base/errors.ts';
import type { MemberRecord } from '../../../src/membership/member-record.ts';
import { ViewKeeper } from '../../../src/membership/view-keeper.ts';
import type { MemberLife, View } from '../../../src/ownership/view.ts';
import { MemoryFarm, type MemoryStore } from '../../../src/store/memory-store.ts';
import { FakeClock } from '../../fake/clock.ts';
import { memberRecord } from './records.ts';

/** Waiting time before a proposal without the random spread; the spread; and both for a suspected member. */
const DAMPING_MS = 300;
const SPREAD_MS = 200;
const URGENT_MS = 100;
/** Waiting time after a failed proposal. */
const RETRY_MS = 1000;
const SINCE = '2026-01-01T00:00:00.000Z';

let clock: FakeClock;
let memory: MemoryFarm;
let store: MemoryStore;
let keeper: ViewKeeper;
/** State of the node that the keeper belongs to: fe1. */
let self: MemberLife | undefined;
let may: boolean;
let inFarm: boolean;
let random: number;
let views: View[];
let records: readonly MemberRecord[];
let orders: string[];
let losses: number;
let badEntries: { n: number };

beforeEach(() => {
  clock = new FakeClock();
  memory = new MemoryFarm(clock);
  store = memory.open();
  [self, may, inFarm, random] = [{ number: 1, incarnation: 1 }, true, true, 0];
  [views, records, orders, losses, badEntries] = [[], [], [], 0, { n: 0 }];
  keeper = new ViewKeeper({
    ...{ store, clock, badEntries },
    random: () => random,
    log: pino({ level: 'silent' }),
    self: () => self,
    mayPropose: () => may,
    inFarm: () => inFarm,
    onView: (view) => void views.push(view),
    onMembers: (read) => {
      records = read;
    },
    onOrders: (read) => {
      orders = [...read].map(([id, { order }]) => `${order} ${id}`);
    },
    onSeatLost: () => losses++,
  });
});
afterEach(() => {
  keeper.stop();
  assert.equal(clock.timers, 0);
});

const put = (key: string, value: unknown): void => void memory.apply([{ key, value }]);
/** Writes records of these members, with their numbers in order. */
const live = (...ids: string[]): void => {
  for (const [i, id] of ids.entries()) put(`members/${id}`, memberRecord(id, i + 1));
};
const order = (id: string, kind: string): void => put(`orders/${id}`, { v: 1, order: kind, since: SINCE, by: 'fe1' });
const stored = (): View | undefined => memory.read('view')?.value as View | undefined;
/** Ids of the seats, with `*` when draining. */
const seats = (view = stored()): string =>
  (view?.seats ?? []).map(({ id, state }) => (state === 'draining' ? `${id}*` : id)).join(' ');
/** Starts the keeper and waits for its first view. */
const begin = async (...ids: string[]): Promise<void> => {
  live(...ids);
  keeper.start();
  await clock.pass(DAMPING_MS);
  assert.equal(seats(), ids.join(' '));
};
/** Milliseconds until the store has another view. */
const untilView = async (): Promise<number> => {
  const before = memory.read('view')?.revision;
  const from = clock.now();
  while (memory.read('view')?.revision === before) await clock.pass(10);
  return clock.now() - from;
};

describe('a proposal', () => {
  test('has the seats of all living members, and is in force here when the store has it', async () => {
    await begin('fe1', 'fe2');
    assert.deepEqual([views, keeper.view], [[stored()], stored()]);
    assert.equal(stored()?.epoch, 1);
    await clock.pass(10_000, 100);
    assert.equal(views.length, 1, 'nothing follows from it');
  });

  for (const spread of [0, 0.5])
    test(`waits 300 ms and a share of 200 ms (${spread}), and has all changes until then`, async () => {
      random = spread;
      keeper.start();
      await clock.pass(100);
      live('fe1');
      await clock.pass(200);
      live('fe1', 'fe2', 'fe3');
      const ms = DAMPING_MS + SPREAD_MS * spread - 200;
      await clock.pass(ms - 10);
      assert.equal(stored(), undefined);
      await clock.pass(10);
      assert.deepEqual([seats(), stored()?.epoch], ['fe1 fe2 fe3', 1]);
    });

  test('is not made when the reason for it goes while it waits', async () => {
    await begin('fe1');
    live('fe1', 'fe2');
    await clock.pass(200);
    put('members/fe2', undefined);
    await clock.pass(1000);
    assert.deepEqual([views.length, clock.timers], [1, 0]);
  });

  const NOT_MADE = [
    {
      title: 'by a member that may not write',
      set: () => {
        may = false;
      },
    },
    {
      title: 'by a node outside the farm beside members',
      set: () => {
        inFarm = false;
      },
    },
  ];
  for (const { title, set } of NOT_MADE)
    test(`is not made ${title}, until that changes`, async () => {
      set();
      live('fe1', 'fe2');
      keeper.start();
      await clock.pass(2000, 50);
      assert.deepEqual([stored(), clock.timers], [undefined, 0]);
      [may, inFarm] = [true, true];
      keeper.reconsider();
      await clock.pass(DAMPING_MS);
      assert.equal(seats(), 'fe1 fe2');
    });

  test('is not made when the right to write goes while the store is read', async () => {
    live('fe1');
    keeper.start();
    await clock.pass(DAMPING_MS - 10);
    const list = store.list.bind(store);
    store.list = (prefix) => {
      may = false;
      return list(prefix);
    };
    await clock.pass(1000);
    assert.equal(stored(), undefined);
  });

  test('is not made while a watch may be behind', async () => {
    for (const late of ['members/', 'view', 'orders/']) {
      const watch = store.watch.bind(store);
      let stale = (): void => {};
      store.watch = (prefix, onChange, onStale) => {
        if (prefix === late) stale = onStale!;
        return watch(prefix, onChange, onStale);
      };
      live('fe1');
      keeper.start();
      await clock.pass(10);
      stale();
      keeper.reconsider();
      await clock.pass(2000, 50);
      assert.equal(stored(), undefined, late);
      keeper.stop();
      store.watch = watch;
    }
  });

  test('is made from a new reading of members, orders and view, because a watch may be late', async () => {
    const watch = store.watch.bind(store);
    let late = false;
    store.watch = (prefix, onChange, onStale) => watch(prefix, (entries) => late || onChange(entries), onStale);
    await begin('fe1', 'fe2', 'fe3');
    live('fe1', 'fe2', 'fe3', 'fe4');
    await clock.pass(10);
    late = true;
    order('fe2', 'drain');
    put('members/fe3', undefined);
    put('view', { ...stored()!, epoch: 7 });
    await clock.pass(DAMPING_MS);
    assert.deepEqual([seats(), stored()?.epoch], ['fe1 fe2* fe4', 8]);
  });

  test('that loses against another one is not in force here, and is repeated on top of the other', async () => {
    await begin('fe1');
    live('fe1', 'fe2');
    const commit = store.commit.bind(store);
    store.commit = (writes) => {
      store.commit = commit;
      put('view', { ...stored()!, epoch: 2 });
      return commit(writes);
    };
    await clock.pass(DAMPING_MS);
    assert.deepEqual([keeper.view?.epoch, seats(keeper.view)], [2, 'fe1']);
    await clock.pass(DAMPING_MS);
    assert.deepEqual([keeper.view?.epoch, seats(keeper.view)], [3, 'fe1 fe2']);
  });

  test('that the store does not answer is repeated after a second', async () => {
    await begin('fe1');
    live('fe1', 'fe2');
    const list = store.list.bind(store);
    store.list = () => Promise.reject(new SipfarmError('SF_STORE_UNREACHABLE', 'no answer'));
    await clock.pass(DAMPING_MS + RETRY_MS - 10);
    store.list = list;
    assert.equal(seats(), 'fe1');
    await clock.pass(10);
    assert.equal(seats(), 'fe1 fe2');
  });
});

describe('a suspected member', () => {
  test('loses its seat after 100 ms and a share of 200 ms, even if other changes already wait', async () => {
    await begin('fe1', 'fe2', 'fe3');
    random = 0.5;
    order('fe2', 'drain');
    await clock.pass(10);
    keeper.suspect(new Set([3]));
    assert.equal(await untilView(), URGENT_MS + 100);
    assert.equal(seats(), 'fe1 fe2*');
  });

  test('has its time kept when the suspicion is repeated', async () => {
    await begin('fe1', 'fe2', 'fe3');
    keeper.suspect(new Set([3]));
    await clock.pass(80);
    keeper.suspect(new Set([3]));
    assert.equal(await untilView(), URGENT_MS - 80);
  });

  test('keeps its seat when the suspicion ends first, and when it is back as a later incarnation', async () => {
    await begin('fe1', 'fe2', 'fe3');
    keeper.suspect(new Set([3]));
    await clock.pass(50);
    keeper.suspect(new Set());
    await clock.pass(1000);
    assert.equal(seats(), 'fe1 fe2 fe3');
    keeper.suspect(new Set([3]));
    put('members/fe3', memberRecord('fe3', 3, { incarnation: 2 }));
    await clock.pass(1000);
    assert.equal(stored()?.seats[2]?.incarnation, 2);
  });

  test('waits a second like all others when the proposal has failed', async () => {
    await begin('fe1', 'fe2', 'fe3');
    const list = store.list.bind(store);
    store.list = () => Promise.reject(new SipfarmError('SF_STORE_UNREACHABLE', 'no answer'));
    keeper.suspect(new Set([3]));
    await clock.pass(URGENT_MS);
    store.list = list;
    assert.equal(await untilView(), RETRY_MS);
  });
});

describe('the view in force', () => {
  test('rises with each newer one of the store and never falls', async () => {
    await begin('fe1');
    const first = stored()!;
    put('view', { ...first, epoch: 5 });
    await clock.pass(10);
    assert.equal(keeper.view?.epoch, 5);
    may = false;
    put('view', { ...first, epoch: 4 });
    await clock.pass(10);
    assert.deepEqual([keeper.view?.epoch, views.map(({ epoch }) => epoch)], [5, [1, 5]]);
  });

  const LOST = [
    { title: 'lost it', value: () => undefined },
    { title: 'something else in its place', value: () => 'nonsense' },
    { title: 'an older one', value: () => ({ ...stored()!, epoch: 1, seats: [] }) },
  ];
  for (const { title, value } of LOST)
    test(`is written again with the next epoch when the store has ${title}`, async () => {
      await begin('fe1');
      put('view', { ...stored()!, epoch: 3 });
      await clock.pass(10);
      const before = keeper.view!;
      put('view', value());
      await untilView();
      assert.deepEqual(stored(), { ...before, epoch: 4 });
      assert.deepEqual(keeper.view, stored());
    });

  test('is read at once on request, in one request to the store', async () => {
    await begin('fe1');
    const get = store.get.bind(store);
    let reads = 0;
    store.get = (key) => {
      reads++;
      return get(key);
    };
    keeper.stop();
    put('view', { ...stored()!, epoch: 5 });
    keeper.refetch();
    keeper.refetch();
    await clock.pass(1, 1);
    assert.deepEqual([keeper.view?.epoch, reads], [5, 1]);
    store.cut();
    keeper.refetch();
    await clock.pass(1, 1);
    store.heal();
    put('view', { ...stored()!, epoch: 6 });
    keeper.refetch();
    await clock.pass(1, 1);
    assert.equal(keeper.view?.epoch, 6, 'also after a read without an answer');
  });
});

describe('the entries of the store', () => {
  test('that are no records and no orders are counted and left out', async () => {
    await begin('fe1');
    put('members/evil', { ...memberRecord('other', 7) });
    await clock.pass(10);
    assert.deepEqual([badEntries.n, records.map(({ id }) => id)], [1, ['fe1']]);
    put('members/evil', undefined);
    order('fe2', 'ban');
    put('orders/fe3', { order: 'sleep' });
    await clock.pass(10);
    assert.deepEqual([badEntries.n, orders], [2, ['ban fe2']]);
  });

  test('that are no view are counted once for each write, and the last view stays', async () => {
    await begin('fe1');
    may = false;
    put('view', 'nonsense');
    await clock.pass(10);
    keeper.refetch();
    await clock.pass(10);
    assert.deepEqual([badEntries.n, views.length], [1, 1]);
    put('view', 'other nonsense');
    await clock.pass(10);
    assert.equal(badEntries.n, 2);
  });

  test('give one record for each number, the one of the latest incarnation, in order', async () => {
    keeper.start();
    put('members/b', memberRecord('b', 2, { incarnation: 4 }));
    put('members/c', memberRecord('c', 2, { incarnation: 3 }));
    put('members/z', memberRecord('z', 1));
    await clock.pass(10);
    assert.deepEqual(
      records.map(({ id }) => id),
      ['z', 'b'],
    );
  });
});

describe('the loss of the own seat', () => {
  const without = (): void => put('view', { ...stored()!, epoch: stored()!.epoch + 1, seats: [] });

  test('is reported once for each incarnation', async () => {
    await begin('fe1');
    may = false;
    without();
    await clock.pass(10);
    without();
    await clock.pass(10);
    assert.equal(losses, 1);
    put('members/fe1', memberRecord('fe1', 1, { incarnation: 2 }));
    [self, may] = [{ number: 1, incarnation: 2 }, true];
    keeper.reconsider();
    await untilView();
    assert.equal(losses, 1, 'it has its seat again');
    may = false;
    without();
    await clock.pass(10);
    assert.equal(losses, 2);
  });

  test('is none before the incarnation has had a seat, nor before the member has joined', async () => {
    await begin('fe1');
    self = undefined;
    without();
    await clock.pass(10);
    self = { number: 1, incarnation: 9 };
    keeper.reconsider();
    await clock.pass(10);
    assert.equal(losses, 0);
  });

  test('is reported once, too, when the seat came and went between two views that were read', async () => {
    await begin('fe1');
    put('members/fe1', memberRecord('fe1', 1, { incarnation: 2 }));
    [self, may] = [{ number: 1, incarnation: 2 }, false];
    const out = [{ number: 1, incarnation: 2 }];
    for (const epochs of [2, 3]) {
      put('view', { ...stored()!, epoch: stored()!.epoch + epochs, seats: [], out });
      await clock.pass(10);
    }
    assert.deepEqual([await keeper.stillSeated(), losses], [false, 1]);
  });

  test('is found by reading the view, which reports it, too', async () => {
    live('fe1');
    assert.equal(await keeper.stillSeated(), true, 'it never had one');
    await begin('fe1');
    assert.equal(await keeper.stillSeated(), true);
    may = false;
    keeper.stop();
    without();
    assert.deepEqual([await keeper.stillSeated(), losses], [false, 1]);
    self = undefined;
    assert.equal(await keeper.stillSeated(), false);
    store.cut();
    await assert.rejects(keeper.stillSeated(), { code: 'SF_STORE_UNREACHABLE' });
  });
});

describe('a departure', () => {
  test('deletes the record and takes the seat in one transaction', async () => {
    await begin('fe1', 'fe2');
    const revision = memory.revision;
    assert.equal(await keeper.depart('fe1', 'claim-of-fe1'), true);
    assert.deepEqual([seats(), memory.read('members/fe1'), memory.revision], ['fe2', undefined, revision + 1n]);
  });

  test('deletes only the record when the view has no seat of the member', async () => {
    await begin('fe1');
    order('fe2', 'ban');
    put('members/fe2', memberRecord('fe2', 2));
    const before = stored();
    assert.equal(await keeper.depart('fe2', 'claim-of-fe2'), true);
    assert.deepEqual([memory.read('members/fe2'), stored()], [undefined, before]);
  });

  test('leaves the record of another process alone', async () => {
    await begin('fe1', 'fe2');
    const before = memory.readAll('');
    for (const id of ['fe1', 'fe9']) assert.equal(await keeper.depart(id, 'another claim'), false);
    assert.deepEqual(memory.readAll(''), before);
  });

  for (const [conflicts, done] of [
    [4, true],
    [5, false],
  ] as const)
    test(`is ${done ? 'done' : 'given up'} after ${conflicts} conflicts with other views`, async () => {
      await begin('fe1', 'fe2');
      const commit = store.commit.bind(store);
      let left: number = conflicts;
      store.commit = (writes) => {
        if (left-- > 0) put('view', { ...stored()!, epoch: stored()!.epoch + 1 });
        return commit(writes);
      };
      assert.equal(await keeper.depart('fe1', 'claim-of-fe1'), done);
      assert.equal(seats(), done ? 'fe2' : 'fe1 fe2');
    });
});

test('a stopped keeper proposes nothing and reports nothing', async () => {
  await begin('fe1');
  live('fe1', 'fe2');
  await clock.pass(10);
  keeper.stop();
  put('view', { ...stored()!, epoch: 9 });
  keeper.reconsider();
  await clock.pass(2000, 50);
  assert.deepEqual([views.length, seats()], [1, 'fe1']);
});
