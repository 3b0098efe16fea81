// Does docs/takeover.md list the outcomes of an adoption that the metric has?
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ADOPTION_OUTCOMES } from '../../../src/calls/adoption/adoption.ts';
import { page, tableOf } from './markdown.ts';

test('the outcomes of docs/takeover.md are the labels of sipfarm_adopted_calls_total, in their order', () => {
  assert.deepEqual(
    tableOf(page('docs/takeover.md'), 'outcome').map(([outcome]) => outcome),
    Object.keys(ADOPTION_OUTCOMES),
  );
});
