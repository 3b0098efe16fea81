// The bounded memory of calls that went to the owner of another dialog.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Redirects } from '../../../src/ownership/redirects.ts';

test('the newest entries are kept, up to the given number', () => {
  const redirects = new Redirects(4096);
  for (let key = 1; key <= 4096; key++) redirects.set(key, 2);
  redirects.set(1, 3);
  redirects.set(4097, 4);
  assert.deepEqual([redirects.get(1), redirects.get(2), redirects.get(4097)], [3, undefined, 4]);
});
