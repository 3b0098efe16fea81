// Next hop of requests of the server: the table in the documentation equals the decision in the code.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { ONWARD, type Onward } from '../../../../src/service/upstream/onward.ts';

/** Meaning of the words in the table. */
const WORDS: readonly (readonly [RegExp, Onward])[] = [
  [/^(Route|Request-URI)/, 'locate'],
  [/^400, 503$/, 'locate'],
  [/^the (way|connection)$/, 'flow'],
  [/^430/, 'failed'],
];

test('docs/architecture.md shows the decision table of the code', () => {
  const text = readFileSync(new URL('../../../../docs/architecture.md', import.meta.url), 'utf8');
  const [, table = ''] = /## Where a party is now\n[\s\S]*?\n(\|[\s\S]*?)\n\n/.exec(text) ?? [];
  const rows = table.split('\n').slice(2);
  const read = rows.map((row) => {
    const [, ...cells] = row.slice(2, -2).split(' | ');
    return cells.map((cell) => WORDS.find(([words]) => words.test(cell))?.[1]);
  });
  const states = ['none', 'datagram', 'stream', 'gone'] as const;
  const hops = ['route', 'refreshed', 'same', 'unreachable'] as const;
  assert.deepEqual(
    read,
    states.map((state) => hops.map((hop) => ONWARD[state][hop])),
  );
});
