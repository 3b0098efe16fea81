// The call journal as part of a node: after a join, calls with a record return to the call table, and a stop writes
// the last records.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { pino } from 'pino';
import { type CallRecord, recordKey } from '../../../src/calls/records/call-record.ts';
import { CallTable } from '../../../src/calls/table/call-table.ts';
import { type Metrics, makeMetrics, makeRegistry } from '../../../src/metrics/metrics.ts';
import { CallRecovery } from '../../../src/node/call-recovery.ts';
import { RoutingState } from '../../../src/node/routing-state.ts';
import { keyring } from '../../../src/ownership/keyring.ts';
import { MemoryFarm, type MemoryStore } from '../../../src/store/memory-store.ts';
import { FakeClock } from '../../fake/clock.ts';
import { clientLeg } from '../calls/records/journal-rig.ts';

const SELF = 3;
/** Milliseconds from the reading of the records to the second one. */
const AGAIN_MS = 5000;
/** Milliseconds that a stop waits for the store. */
const FLUSH_MS = 1000;
/** Time for a write, with its waiting time. */
const WRITTEN_MS = 200;

let clock: FakeClock;
let memory: MemoryFarm;
let store: MemoryStore;
let calls: CallTable;
let routing: RoutingState;
let metrics: Metrics;
let recovery: CallRecovery;
let isolated: boolean;
/** Entries of calls that have ended here, and of those that the service cannot read. */
let ended: number[];
let broken: number[];
/** Entries that were passed on as found; throws that were caught. */
let found: number[];
let caught: string[];
/** A further action when a call is found. */
let onFound: () => void;

beforeEach(() => {
  clock = new FakeClock();
  memory = new MemoryFarm(clock);
  store = memory.open();
  metrics = makeMetrics(makeRegistry(), { version: 'test', dropReasons: [] });
  const lifetimes = { longestCallSeconds: 7200, ringingSeconds: 200 };
  calls = new CallTable({ ...lifetimes, maxEntries: 100, evicted: metrics.evicted });
  routing = new RoutingState(keyring(['11'.repeat(32)]), calls, clock);
  [isolated, ended, broken, found, caught] = [false, [], [], [], []];
  onFound = () => {};
  recovery = new CallRecovery({
    ...{ store, clock, metrics, routing, calls },
    guard: { caught: (entrance, error) => void caught.push(`${entrance}: ${(error as Error).message}`) },
    log: pino({ level: 'silent' }),
    mode: 'calls',
    isolated: () => isolated,
    hasEnded: (entry) => ended.includes(entry),
    onFound: (entry) => {
      if (broken.includes(entry)) throw new Error(`broken ${entry}`);
      found.push(entry);
      onFound();
    },
    mediaOf: () => undefined,
    confirmSeat: async () => true,
  });
  memory.apply([{ key: `calls/${SELF}/mark`, value: { v: 1 } }]);
});
afterEach(async () => {
  const stopped = recovery.stop();
  await clock.pass(FLUSH_MS);
  await stopped;
  assert.equal(clock.timers, 0, 'no timer is left');
});

/** Writes the record of the call `entry` into the store. */
function put(entry: number, state: CallRecord['state'], change: Partial<CallRecord> = {}, owner = SELF): void {
  const legs = [{ from: 'client', flow: clientLeg('').flow, request: 'INVITE sip:b SIP/2.0\r\n' }] as const;
  const since = '2026-01-01T00:00:00Z';
  const parts = { v: 1, method: 'INVITE', callId: `call-${entry}`, incarnation: 1, epoch: 6, since, legs } as const;
  memory.apply([{ key: recordKey(owner, state, entry), value: { ...parts, state, ...change } satisfies CallRecord }]);
}
const remove = (entry: number): void =>
  void memory.apply([{ key: recordKey(SELF, 'confirmed', entry), value: undefined }]);
/** Returns the keys of records in the store. */
const stored = (): string[] =>
  memory
    .readAll(`calls/${SELF}/`)
    .map(({ key }) => key)
    .filter((key) => !key.endsWith('/mark'));

/** Joins under an incarnation, and waits for the reading of the records. */
async function join(incarnation: number): Promise<void> {
  routing.become({ number: SELF, incarnation });
  recovery.joined();
  await clock.pass(20);
}

describe('after a join', () => {
  test('the calls with a record of this member are in call table, journal and service again, and no others', async () => {
    put(11, 'confirmed');
    put(12, 'trying', { epoch: 4 });
    put(13, 'confirmed', {}, SELF + 1);
    await join(1);
    assert.deepEqual(found.sort(), [11, 12]);
    assert.deepEqual(
      [11, 12, 13].map((entry) => [calls.stateOf(entry), recovery.journal.has(entry)]),
      [
        ['confirmed', true],
        ['inviting', true],
        [undefined, false],
      ],
    );
    assert.equal(calls.oldestEpoch(), 4, 'each has the epoch of its record');
  });

  test('a subscription is one again', async () => {
    put(11, 'confirmed', { method: 'SUBSCRIBE' });
    put(12, 'trying', { method: 'SUBSCRIBE' });
    await join(1);
    assert.deepEqual([calls.stateOf(11), calls.stateOf(12)], ['subscribed', 'subscribing']);
  });

  test('a dialog lives as long as its stored answer names', async () => {
    const request = 'INVITE sip:b SIP/2.0\r\n';
    const answer = 'SIP/2.0 200 OK\r\nSession-Expires: 90;refresher=uac\r\n';
    put(11, 'confirmed', { legs: [{ from: 'client', flow: clientLeg('').flow, request, answer }] });
    put(12, 'confirmed');
    await join(1);
    await clock.pass(600_000, 10_000);
    calls.sweep(clock.now());
    assert.deepEqual([calls.has(11), calls.has(12)], [false, true]);
  });

  test('under the same incarnation the records are not read again', async () => {
    await join(1);
    put(11, 'confirmed');
    await join(1);
    await clock.pass(AGAIN_MS - 100, 100);
    assert.deepEqual(found, []);
    await join(2);
    assert.deepEqual(found, [11]);
  });

  test('a call that has ended here is not taken, and its record is deleted', async () => {
    put(11, 'confirmed');
    put(12, 'confirmed');
    ended = [11];
    await join(1);
    assert.deepEqual([found, calls.has(11), recovery.journal.has(11)], [[12], false, false]);
    await clock.pass(WRITTEN_MS);
    assert.deepEqual(stored(), [recordKey(SELF, 'confirmed', 12)]);
  });

  test('a record that makes the service throw does not stop the others', async () => {
    for (const entry of [11, 12, 13]) put(entry, 'confirmed');
    broken = [12];
    await join(1);
    assert.deepEqual([found.sort(), caught], [[11, 13], ['records: broken 12']]);
  });
});

describe('five seconds after the join, the records are read again', () => {
  test('so that a call which has ended elsewhere is forgotten', async () => {
    put(11, 'confirmed');
    put(12, 'confirmed');
    await join(1);
    remove(11);
    await clock.pass(AGAIN_MS - 100, 100);
    assert.equal(calls.has(11), true);
    await clock.pass(200, 100);
    assert.deepEqual([calls.has(11), recovery.journal.has(11)], [false, false]);
    assert.deepEqual([calls.has(12), found.sort()], [true, [11, 12]], 'the other one is not found twice');
  });

  test('so that a call which its last owner has handed over is found', async () => {
    await join(1);
    put(11, 'confirmed');
    await clock.pass(AGAIN_MS + 100, 100);
    assert.deepEqual([calls.has(11), found], [true, [11]]);
  });

  test('not when none was found and the seat is gone, nor after a stop', async () => {
    let pages = 0;
    const page = store.page.bind(store);
    store.page = (...of) => {
      pages++;
      return page(...of);
    };
    await join(1);
    routing.tables = { ...routing.tables, seats: new Map() };
    await clock.pass(2 * AGAIN_MS, 100);
    assert.equal(pages, 1);
    put(11, 'confirmed');
    await join(2);
    await recovery.stop();
    assert.equal(clock.timers, 0);
  });

  test('not when the member stops during the first reading', async () => {
    put(11, 'confirmed');
    onFound = () => void recovery.stop();
    await join(1);
    assert.equal(clock.timers, 0);
  });
});

describe('a stop', () => {
  const begin = (entry: number): void => recovery.journal.began(entry, 'INVITE', `call-${entry}`, clientLeg('x'));

  test('writes the records that wait', async () => {
    await join(1);
    begin(11);
    await recovery.stop();
    assert.deepEqual(stored(), [recordKey(SELF, 'trying', 11)]);
  });

  test('ends after a second when the store does not answer', async () => {
    await join(1);
    begin(11);
    store.commit = () => new Promise(() => {});
    let done = false;
    const stopped = recovery.stop().then(() => {
      done = true;
    });
    await clock.pass(FLUSH_MS - 10);
    assert.equal(done, false);
    await clock.pass(10);
    await stopped;
  });

  test('of an isolated member writes nothing', async () => {
    await join(1);
    isolated = true;
    begin(11);
    await recovery.stop();
    assert.deepEqual(stored(), []);
  });
});

test('the metrics show the calls with a record, and those that wait for a write', async () => {
  await join(1);
  recovery.journal.began(11, 'INVITE', 'call-11', clientLeg('x'));
  const { callRecords, callRecordQueue } = metrics.sources;
  assert.deepEqual([callRecords(), callRecordQueue()], [1, 1]);
  await clock.pass(WRITTEN_MS);
  assert.deepEqual([callRecords(), callRecordQueue()], [1, 0]);
});
