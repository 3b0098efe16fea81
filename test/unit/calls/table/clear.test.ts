import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CallTable } from '../../../../src/calls/table/call-table.ts';
import { Method } from '../../../../src/sip/scan.ts';

const FIRST = { from: 0, to: 0, cseq: 0 };

test('a cleared table is empty and accepts calls like a new one', () => {
  const table = new CallTable({ ringingSeconds: 180, longestCallSeconds: 3600, maxEntries: 4, evicted: { n: 0 } });
  for (const key of [1, 2, 3, 5]) table.onRequest(key, Method.INVITE, FIRST, 1000, 7);
  table.onResponse(1, Method.INVITE, 200, 0, 1000);
  table.clear();
  assert.deepEqual([table.size, table.calls, table.oldestEpoch(), table.has(1)], [0, 0, 0, false]);
  table.sweep(1e9);
  for (const key of [5, 9, 13, 17]) table.onRequest(key, Method.INVITE, FIRST, 2000, 9);
  assert.deepEqual([table.size, table.calls, table.oldestEpoch()], [4, 4, 9]);
  table.onRequest(21, Method.INVITE, FIRST, 3000, 9);
  assert.deepEqual([table.size, table.has(5), table.has(21)], [4, false, true]);
  table.sweep(1e9);
  assert.equal(table.size, 0);
});
