import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CellFamily, cellsBy } from '../../../src/metrics/counters.ts';

const family = (): CellFamily<'verdict' | 'reason'> =>
  new CellFamily({ name: 'verdicts_total', help: '', labels: ['verdict', 'reason'] });

test('each value of the label has its cell from the start', () => {
  const verdicts = family();
  const drops = cellsBy(verdicts, 'reason', ['no-via', 'fenced'], { verdict: 'drop' });
  drops.fenced.n += 2;
  assert.deepEqual(
    [...verdicts.entries()],
    [
      { labels: { verdict: 'drop', reason: 'no-via' }, value: 0 },
      { labels: { verdict: 'drop', reason: 'fenced' }, value: 2 },
    ],
  );
});

test('a cell of the record is the cell of the family', () => {
  const verdicts = family();
  const drops = cellsBy(verdicts, 'reason', ['no-via'], { verdict: 'drop' });
  assert.equal(drops['no-via'], verdicts.cell({ verdict: 'drop', reason: 'no-via' }));
  assert.notEqual(drops['no-via'], verdicts.cell({ verdict: 'reply', reason: 'no-via' }));
});
