// The states, numbers and counts of paths in the kernel.
import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import type { KernelPath } from '../../../src/media/kernel/kernel-path.ts';
import { type Entry, PathLedger } from '../../../src/media/kernel/path-ledger.ts';

/** The path of the k-th call. */
function path(k: number): KernelPath {
  return {
    from: { address: '203.0.113.5', port: 4000 + k },
    at: { address: '198.51.100.1', port: 20_000 + k },
    by: { address: '10.0.0.11', port: 30_000 + k },
    to: { address: '10.0.0.40', port: 5000 + k },
  };
}

describe('the ledger of paths', () => {
  let ledger: PathLedger;
  beforeEach(() => {
    ledger = new PathLedger(2);
  });

  function add(k: number): Entry {
    const entry = ledger.add(path(k), () => {});
    if (typeof entry === 'string') throw new Error(entry);
    return entry;
  }
  const numbers = (): { add: number[]; stop: number[]; forget: number[] } => {
    const changes = ledger.takeChanges();
    ledger.changed(changes);
    const of = (entries: readonly Entry[]): number[] => entries.map(({ number }) => number);
    return { add: of(changes.add), stop: of(changes.stop), forget: of(changes.forget) };
  };
  function read(...left: readonly [number, number, number][]): void {
    ledger.beginReading();
    for (const counter of left) ledger.left(...counter);
    ledger.endReading();
  }

  it('gives each path a number of its own, and refuses those beyond its capacity', () => {
    assert.deepEqual([add(1).number, add(2).number], [1, 2]);
    assert.equal(
      ledger.add(path(3), () => {}),
      'full',
    );
  });

  it('takes a path to nft in three transactions: in, out, and away after its last counters', () => {
    const entry = add(1);
    assert.deepEqual(numbers(), { add: [1], stop: [], forget: [] });
    ledger.remove(entry);
    assert.deepEqual(numbers(), { add: [], stop: [1], forget: [] });
    assert.equal(ledger.hasChanges, false);
    read([1, 7, 1400]);
    assert.deepEqual(numbers(), { add: [], stop: [], forget: [1] });
    assert.deepEqual([entry.packets, entry.octets, ledger.isEmpty], [7, 1204, true]);
  });

  it('has nothing for nft of a path that is removed before it was in the kernel', async () => {
    const entry = add(1);
    ledger.remove(entry);
    await entry.stopped.promise;
    assert.deepEqual(numbers(), { add: [], stop: [], forget: [] });
    assert.equal(ledger.isEmpty, true);
  });

  it('refuses a path whose packets another one takes, until that one is gone', () => {
    const entry = add(1);
    const sameArrival = { ...path(1), to: path(2).to };
    const sameDeparture = { ...path(1), at: path(2).at };
    const refusals = (): unknown[] => [path(1), sameArrival, sameDeparture].map((each) => ledger.add(each, () => {}));
    assert.deepEqual(refusals(), ['taken', 'taken', 'taken']);
    numbers();
    ledger.remove(entry);
    numbers();
    assert.deepEqual(refusals(), ['taken', 'taken', 'taken']);
    read();
    numbers();
    assert.equal(add(1).number, 1);
  });

  it('makes a reading final only for the paths that had stopped as it began', () => {
    const entry = add(1);
    numbers();
    ledger.beginReading();
    ledger.remove(entry);
    numbers();
    ledger.endReading();
    assert.deepEqual(numbers().forget, []);
    read([1, 9, 900]);
    assert.deepEqual([numbers().forget, entry.packets], [[1], 9]);
  });

  it('does not count for a new path what an old reading has of its number', () => {
    const old = add(1);
    numbers();
    ledger.remove(old);
    numbers();
    read();
    ledger.beginReading();
    numbers();
    const next = add(2);
    assert.equal(next.number, old.number);
    ledger.left(1, 500, 50_000);
    ledger.endReading();
    assert.equal(next.packets, 0);
    read([1, 3, 300]);
    assert.equal(next.packets, 3);
  });

  it('counts packets as lost only when they come and none leaves', () => {
    add(1);
    add(2);
    numbers();
    const lost = (...left: readonly [number, number, number][]): boolean => {
      read(...left);
      return ledger.anyLost;
    };
    assert.equal(lost([1, 100, 0], [2, 0, 0]), false);
    assert.equal(ledger.anyStill, true);
    ledger.came(2, 24);
    assert.equal(ledger.anyLost, false);
    ledger.came(2, 25);
    assert.equal(ledger.anyLost, true);
    // Packets have begun to leave meanwhile.
    ledger.left(2, 20, 0);
    assert.equal(ledger.anyLost, false);
  });

  it('is empty after a fault, and a transaction of before changes nothing in it', async () => {
    const [first, second] = [add(1), add(2)];
    numbers();
    ledger.remove(first);
    const changes = ledger.takeChanges();
    const { all, live } = ledger.clear();
    assert.deepEqual([all, live], [[first, second], [second]]);
    ledger.changed(changes);
    ledger.remove(second);
    read();
    assert.deepEqual([ledger.isEmpty, ledger.size, ledger.hasChanges], [true, 0, false]);
    add(3);
    assert.deepEqual(numbers(), { add: [1], stop: [], forget: [] });
  });
});
