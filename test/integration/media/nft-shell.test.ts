// The process that runs nft, with other programs in the place of nft.
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { systemClock } from '../../../src/base/clock.ts';
import { NftShell } from '../../../src/media/kernel/nft.ts';
import { FakeClock } from '../../fake/clock.ts';

const directory = mkdtempSync(join(tmpdir(), 'sipfarm-nft-'));
after(() => rmSync(directory, { recursive: true }));
let count = 0;

/** Returns the path of a program with this shell script. */
function program(script: string): string {
  const path = join(directory, `nft${count++}`);
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return path;
}

/** Runs in a new shell and closes it. Returns fault and output. */
async function run(script: string, args: string, input: string): Promise<{ fault: string; output: string }> {
  const nft = new NftShell(systemClock, program(script));
  let output = '';
  const fault = await nft.run(args, input, (piece) => {
    output += piece;
  });
  nft.close();
  return { fault, output };
}

describe('the shell that runs nft', () => {
  it('passes the arguments and the whole input on, and returns the output', async () => {
    const input = `${'element '.repeat(50_000)}\nlast line without end`;
    const { fault, output } = await run('printf "%s\\n" "$*"; cat', '-n -j list map inet t m', input);
    assert.deepEqual([fault, output], ['', `-n -j list map inet t m\n${input}`]);
  });

  it('returns the first line of the fault', async () => {
    const { fault } = await run('cat >/dev/null; echo "Error: no such table"; echo "^^^" >&2; exit 1', '-f -', 'x');
    assert.equal(fault, 'Error: no such table');
  });

  it('returns the status of a fault without a text', async () => {
    assert.equal((await run('exit 3', '-f -', '')).fault, 'nft has ended with status 3');
  });

  it('returns the fault of a host without nft', async () => {
    const nft = new NftShell(systemClock, join(directory, 'none'));
    assert.match(await nft.run('-f -', ''), /none.*not found/);
    nft.close();
  });

  it('keeps the runs in order, each with its own result', async () => {
    const nft = new NftShell(systemClock, program('read -r status; echo "run $status"; exit "$status"'));
    const runs = ['0', '4', '0', '5'].map(async (status) => {
      let output = '';
      const fault = await nft.run('-f -', `${status}\n`, (piece) => {
        output += piece;
      });
      return `${fault}|${output}`;
    });
    assert.deepEqual(await Promise.all(runs), ['|run 0\n', 'run 4|run 4\n', '|run 0\n', 'run 5|run 5\n']);
    nft.close();
  });

  it('ends a run that takes too long, and runs the next one', async () => {
    const clock = new FakeClock();
    const nft = new NftShell(clock, program('read -r word; [ "$word" = hang ] && sleep 600; echo done'));
    const hangs = nft.run('-f -', 'hang\n');
    clock.advance(20_000);
    assert.equal(await hangs, 'nft has not ended in 20000 ms');
    assert.equal(await nft.run('-f -', 'go\n'), '');
    nft.close();
  });

  it('starts again after somebody has ended it', async () => {
    const nft = new NftShell(systemClock, program('read -r word; [ "$word" = kill ] && kill -9 "$PPID"; exit 0'));
    assert.equal(await nft.run('-f -', 'kill\n'), 'the shell that runs nft has ended');
    assert.equal(await nft.run('-f -', 'go\n'), '');
    nft.close();
  });

  it('runs nothing after its end, and reports the runs on their way', async () => {
    const nft = new NftShell(systemClock, program('sleep 600'));
    const runs = nft.run('-f -', '');
    nft.close();
    assert.deepEqual([await runs, await nft.run('-f -', '')], Array(2).fill('nft is not run any more'));
  });
});
