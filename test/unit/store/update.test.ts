import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryFarm, type MemoryStore } from '../../../src/store/memory-store.ts';
import type { Write } from '../../../src/store/store.ts';
import { update } from '../../../src/store/update.ts';
import { FakeClock } from '../../fake/clock.ts';

const newStore = (): MemoryStore => new MemoryFarm(new FakeClock()).open();

/** Adds one to the number at `key`. `meanwhile` runs between the read and the commit. */
const increment = (store: MemoryStore, meanwhile: () => Promise<unknown>) => async (): Promise<readonly Write[]> => {
  const entry = await store.get('number');
  await meanwhile();
  return [{ key: 'number', value: ((entry?.value as number) ?? 0) + 1, expect: entry?.revision ?? 0n }];
};

test('a change that another write overtakes is decided again, on the new value', async () => {
  const store = newStore();
  let overtaken = 0;
  const meanwhile = async (): Promise<void> => {
    if (++overtaken === 1) await store.commit([{ key: 'number', value: 10 }]);
  };
  assert.equal(await update(store, 5, increment(store, meanwhile)), true);
  assert.equal((await store.get('number'))?.value, 11);
});

test('the last conflict resolves to false, and nothing is written', async () => {
  const store = newStore();
  let calls = 0;
  const meanwhile = () => store.commit([{ key: 'number', value: 100 * ++calls }]);
  assert.equal(await update(store, 3, increment(store, meanwhile)), false);
  assert.equal(calls, 3);
  assert.equal((await store.get('number'))?.value, 300);
});

test('nothing to write is a success, and undefined gives up at once', async () => {
  const store = newStore();
  let calls = 0;
  const change = (writes: readonly Write[] | undefined) => async () => {
    calls++;
    return writes;
  };
  assert.equal(await update(store, 3, change([])), true);
  assert.equal(await update(store, 3, change(undefined)), false);
  assert.equal(calls, 2);
});
