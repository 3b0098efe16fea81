// The table of etcd's faults in docs/operations.md equals the cases of the fault suite, row by row.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { ETCD_FAULTS } from '../../faults/etcd-faults.ts';

test('the table of etcd faults has the cases and the assertions of the fault suite', () => {
  const text = readFileSync(new URL('../../../docs/operations.md', import.meta.url), 'utf8');
  const section = text.slice(text.indexOf('## Faults of etcd, one by one'), text.indexOf('## Troubleshooting'));
  const rows = section.split('\n').filter((line) => line.startsWith('| ') && !line.startsWith('| fault |'));
  assert.deepEqual(
    rows.map((row) => row.split('|')).map((cells) => [cells[1]?.trim(), cells.at(-2)?.trim()]),
    ETCD_FAULTS.map(({ fault, holds }) => [fault, holds]),
  );
});
