import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const BIN = join(import.meta.dirname, '../../../bin/sipfarm.js');

/** Starts the bin in a process that reports Node.js `version`. */
function startAs(version: string): ReturnType<typeof spawnSync> {
  const pretend = `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '${version}' } })`;
  return spawnSync(
    process.execPath,
    ['--import', `data:text/javascript,${encodeURIComponent(pretend)}`, BIN, '--version'],
    {
      encoding: 'utf8',
    },
  );
}

test('an older Node.js gets an error with the remedy, with exit code 1', () => {
  for (const version of ['12.22.12', '20.20.2', '22.11.0']) {
    const { status, stderr } = startAs(version);
    assert.equal(status, 1, version);
    assert.ok(
      String(stderr).startsWith(`SF_NODE_TOO_OLD: sipfarm needs Node.js 22.12 or newer, this is ${version}.`),
      String(stderr),
    );
  }
});

test('a recent Node.js is accepted', () => {
  for (const version of ['22.12.0', '23.0.0', '24.1.0'])
    assert.ok(!String(startAs(version).stderr).includes('SF_NODE_TOO_OLD'), version);
});

test('the script that checks the version uses only syntax that an old Node.js can read', () => {
  const text = readFileSync(BIN, 'utf8');
  for (const modern of [/\?\./, /\?\?/, /^import /m, /\bawait\b/, /#\w/])
    assert.ok(!modern.test(text.replace(/^#!.*/, '')), String(modern));
});
