// A test file that hangs is ended and named, and the run goes on. It runs in its own process, because a run within a
// run does nothing.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';

const HANGS = `
import { test } from 'node:test';
test('is quick', () => {});
test('waits for ever', { timeout: 1 }, async () => {
  for (;;) await new Promise((resolve) => setTimeout(resolve, 10));
});`;
const FOLLOWS = `
import { test } from 'node:test';
test('comes after', () => {});`;
/** The limit of the file ends after its test has reached the test's own limit. */
const RUNS = `
import { run } from 'node:test';
const { limitFiles } = await import(process.argv[2]);
const files = process.argv.slice(3);
const limits = [];
const tests = run({ files, concurrency: 1 });
limitFiles(tests, 1000, (text) => console.log(text), (ms, run) => {
  limits.push(run);
  return { cancel() {} };
});
tests.on('test:fail', ({ name }) => {
  console.log('failed: ' + name);
  if (name === 'waits for ever') limits[0]();
});
tests.on('test:pass', ({ name }) => console.log('passed: ' + name));
tests.resume();`;

test('a test file that exceeds its time is ended with the name of the hanging test, and the run goes on', async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), 'sipfarm-limit-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const [hangs, follows, runs] = ['1.test.mjs', '2.test.mjs', 'run.mjs'].map((name) => path.join(folder, name));
  await Promise.all([writeFile(hangs!, HANGS), writeFile(follows!, FOLLOWS), writeFile(runs!, RUNS)]);
  const limit = path.join(import.meta.dirname, '../../file-limit.ts');
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const { stdout } = await promisify(execFile)(process.execPath, [runs!, limit, hangs!, follows!], { env });
  assert.deepEqual(
    stdout.trim().split('\n').toSorted(),
    [
      `${hangs} takes longer than 1 s and is ended. It hangs in: waits for ever (line 4)`,
      'failed: waits for ever',
      'passed: comes after',
      'passed: is quick',
    ].toSorted(),
  );
});

/** The same for the process of a folder, which runs both files. */
const RUNS_FOLDER = `
import { run } from 'node:test';
const { limitFiles } = await import(process.argv[2]);
const [folder, ...files] = process.argv.slice(3);
const limits = [];
const tests = run({ files: [folder], argv: ['unit/some', ...files], concurrency: 1 });
const limit = (ms, run) => {
  limits.push(run);
  return { cancel() {} };
};
limitFiles(tests, 1000, (text) => console.log(text), limit, () => files[0]);
// The first file passes, the second one hangs.
tests.on('test:dequeue', ({ name }) => {
  if (name === 'waits for ever') setImmediate(limits[0]);
});
tests.on('test:pass', ({ name }) => console.log('passed: ' + name));
tests.on('test:fail', ({ name }) => console.log('failed: ' + name));
tests.resume();`;

test('the process of a folder that exceeds its time is ended with file and name of the hanging test', async (t) => {
  const place = await mkdtemp(path.join(tmpdir(), 'sipfarm-limit-'));
  t.after(() => rm(place, { recursive: true, force: true }));
  const [quick, hangs, runs] = ['1.test.mjs', '2.test.mjs', 'run.mjs'].map((name) => path.join(place, name));
  const HANGS_LONG = HANGS.replace('{ timeout: 1 }, ', '');
  await Promise.all([writeFile(quick!, FOLLOWS), writeFile(hangs!, HANGS_LONG), writeFile(runs!, RUNS_FOLDER)]);
  const [limit, folder] = ['file-limit.ts', 'folder.ts'].map((name) => path.join(import.meta.dirname, '../..', name));
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const options = { env, cwd: place };
  const { stdout } = await promisify(execFile)(process.execPath, [runs!, limit!, folder!, quick!, hangs!], options);
  const lines = stdout.trim().split('\n');
  const report = lines.find((line) => line.includes('takes longer')) ?? stdout;
  assert.match(
    report,
    /folder\.ts takes longer than 1 s and is ended\. It hangs in: .*waits for ever \(2\.test\.mjs:4\)/,
  );
  assert.ok(lines.includes('passed: comes after'), stdout);
  assert.ok(lines.includes(`failed: ${folder}`), stdout);
  assert.ok(!lines.includes('passed: waits for ever'), stdout);
});
