// A forked worker process: its command line, its environment, its messages and its end.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { forker } from '../../../../src/process/workers/fork-worker.ts';

/** Sends its arguments and variables for each message, and ends when it is to quit. */
const PROGRAM = `
process.on('message', ({ kind }) => {
  if (kind === 'quit') process.exit(3);
  process.send({ args: process.argv.slice(2), names: Object.keys(process.env) });
});
`;

test('a worker gets its member id and no variable of systemd, and its exit code is reported once', {
  timeout: 30_000,
}, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'sipfarm-fork-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const program = join(folder, 'program.js');
  writeFileSync(program, PROGRAM);
  const environment = { SIPFARM_KEY: 'k', NOTIFY_SOCKET: '/x', WATCHDOG_USEC: '1', WATCHDOG_PID: '2' };
  const first = Promise.withResolvers<unknown>();
  const over = Promise.withResolvers<void>();
  const ends: string[] = [];
  const child = forker(
    program,
    'fe1',
    environment,
  )(1, {
    onMessage: first.resolve,
    onEnd: (how) => {
      ends.push(how);
      over.resolve();
    },
  });
  t.after(() => child.kill('SIGKILL'));
  child.send({ kind: 'ping' });
  const { args, names } = (await first.promise) as { readonly args: string[]; readonly names: string[] };
  assert.deepEqual(args, ['worker', 'fe1.1']);
  assert.ok(names.includes('SIPFARM_KEY'));
  assert.deepEqual(
    names.filter((name) => name in environment),
    ['SIPFARM_KEY'],
  );
  child.send({ kind: 'quit' });
  await over.promise;
  child.send({ kind: 'ping' });
  assert.deepEqual(ends, ['exit code 3']);
});
