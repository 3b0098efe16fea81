// The program under the Node.js version of a Debian host.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { sipfarm } from './program.ts';

const SYSTEM_NODE = '/usr/bin/node';

/** Returns the reason why the system's Node.js is unsuitable for the test, or false. */
function notOld(): string | false {
  const { status, stdout } = spawnSync(SYSTEM_NODE, ['--version'], { encoding: 'utf8' });
  if (status !== 0) return `there is no ${SYSTEM_NODE}`;
  const [major = 0, minor = 0] = stdout.slice(1).split('.').map(Number);
  return major > 22 || (major === 22 && minor >= 12)
    ? `${SYSTEM_NODE} is ${stdout.trim()}, which is not too old`
    : false;
}

test('an old Node.js of the system gets an error with exit code 1', { skip: notOld() }, async () => {
  for (const args of [['demo'], ['check', '-c', '/nowhere'], []]) {
    const { code, out, err } = await sipfarm(args, { node: SYSTEM_NODE });
    assert.deepEqual([code, out], [1, ''], args.join(' '));
    assert.match(err, /^SF_NODE_TOO_OLD: sipfarm needs Node\.js 22\.12 or newer, this is \d+\.\d+\.\d+\. .+\n$/);
  }
});
