// The steps of start and stop.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { pino } from 'pino';
import { Late } from '../../../src/node/late.ts';
import { runAll, runInOrder, type Step } from '../../../src/node/lifecycle.ts';

const log = pino({ level: 'silent' });

function steps(done: string[], fails = ''): Step[] {
  return ['first', 'second', 'third'].map((name) => ({
    name,
    run: async () => {
      await Promise.resolve();
      if (name === fails) throw new Error(name);
      done.push(name);
    },
  }));
}

describe('a start', () => {
  test('runs its steps one after the other', async () => {
    const done: string[] = [];
    assert.equal(await runInOrder(steps(done), () => false), true);
    assert.deepEqual(done, ['first', 'second', 'third']);
  });

  test('ends behind the step in which the stop has come', async () => {
    const done: string[] = [];
    assert.equal(await runInOrder(steps(done), () => done.length === 2), false);
    assert.deepEqual(done, ['first', 'second']);
  });

  test('ends with the step that fails', async () => {
    const done: string[] = [];
    await assert.rejects(
      runInOrder(steps(done, 'second'), () => false),
      { message: 'second' },
    );
    assert.deepEqual(done, ['first']);
  });
});

test('a stop runs all its steps, also behind one that fails', async () => {
  const done: string[] = [];
  await runAll(steps(done, 'first'), log);
  assert.deepEqual(done, ['second', 'third']);
});

test('a part of the node is set once, and cannot be read before', () => {
  const part = new Late<number>('the part');
  assert.throws(() => part.it, { code: 'SF_INTERNAL', message: /the part is used before it is built/ });
  part.set(7);
  assert.equal(part.it, 7);
  assert.throws(() => part.set(8), { code: 'SF_INTERNAL' });
});
